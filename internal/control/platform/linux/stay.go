//go:build linux

package linux

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
	"crosstap/internal/kernel"
)

// While a clsact qdisc is made or removed the kernel drops what the interface sends, for the part of a millisecond that it takes. So a qdisc
// of ours is not removed with the last mirror: a filter that no frame of the applications' protocols meets keeps it until the interface has
// been quiet for a while. What begins meanwhile, mirrors and taps of agents, uses it. A qdisc that a mirror made says so itself, and each
// filter at a qdisc of ours by its class, as do those of taps by their names, so that the last one to leave knows; others are foreign.

// Times of qdiscs.
const (
	patience  = time.Second            // for others of ours that work on the filters of the namespace
	quietLong = 100 * time.Millisecond // in which nothing is sent before a qdisc is removed: there is no hurry
	lookFirst = 100 * time.Millisecond // between looks for such a moment; twice as long after each look
	lookLast  = 15 * time.Second
	lookEnd   = 3 * time.Second // in which a quiet moment is looked for when the platform is closed
)

// kept are the interfaces with qdiscs that are no longer needed.
type kept struct {
	mu      sync.Mutex
	indexes map[int]bool
	more    chan struct{} // one has come; nil while nobody looks
}

// claims reports whether a filter says that its qdisc is ours. Earlier versions said so by the cookie alone.
func (f *tcFilter) claims() bool {
	for _, m := range f.mirrors {
		if c, ours := cookieFrom(m.cookie); ours && c.qdisc {
			return true
		}
	}
	return f.kind == "bpf" && kernel.ClaimsQdisc(f.name, f.class)
}

// keeps reports whether a filter only keeps a qdisc of ours, after a mirror or a tap.
func (f *tcFilter) keeps() bool {
	return f.kind == "bpf" && kernel.KeepsQdisc(f.name, f.class, f.protocol)
}

// claimed reports whether the qdisc is ours.
func (n *portNow) claimed() bool {
	return n.made || slices.ContainsFunc(n.filters, func(f tcFilter) bool { return f.claims() })
}

// unkeep removes filters that only keep the qdisc.
func (n *portNow) unkeep() (out []*request) {
	for i := range n.filters {
		if f := &n.filters[i]; f.keeps() {
			out = append(out, &request{kind: unix.RTM_DELTFILTER, about: "delete the filter that keeps the qdisc", parts: []nl.NetlinkRequestData{
				tcMessage(n.index, f.handle, hook(f.dir), filterInfo(f.preference, f.protocol)), nl.NewRtAttr(tcaKind, nl.ZeroTerminated("bpf")),
			}})
		}
	}
	return out
}

// keep makes a filter that keeps a qdisc, and has it looked after.
func (p *Platform) keep(index int) *request {
	p.stays(index)
	options := nl.NewRtAttr(tcaOptions, nil)
	options.AddRtAttr(bpfOpsLen, nl.Uint16Attr(1))
	options.AddRtAttr(bpfOps, []byte{unix.BPF_RET, 0, 0, 0, 0, 0, 0, 0}) // "no"
	options.AddRtAttr(bpfClass, nl.Uint32Attr(kernel.QdiscClass))
	return &request{
		kind: unix.RTM_NEWTFILTER, flags: unix.NLM_F_CREATE, about: "keep the clsact qdisc",
		parts: []nl.NetlinkRequestData{
			tcMessage(index, 1, parentIngress, filterInfo(keepPlace, kernel.KeepProtocol)), nl.NewRtAttr(tcaKind, nl.ZeroTerminated("bpf")), options,
		},
	}
}

// stays notes that an interface has a qdisc that is to go in a quiet moment.
func (p *Platform) stays(index int) {
	k := &p.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.indexes == nil {
		k.indexes = map[int]bool{}
	}
	known := k.indexes[index]
	k.indexes[index] = true
	switch {
	case k.more == nil:
		k.more = make(chan struct{}, 1)
		go p.tend(k.more)
	case !known:
		poke(k.more)
	}
}

// look finds what others have left: a mirror that ended when there was no quiet moment, or a tap.
func (p *Platform) look(now *platform.Snapshot) {
	for _, o := range now.Objects {
		if o.Kind == kindQdisc && (o.Raw[rawStays] != "" || o.Raw[rawIdle] != "") {
			index, _ := strconv.Atoi(o.Raw[rawIndex])
			p.stays(index)
		}
	}
}

// tend looks for quiet moments until nothing is left, or the platform is closed.
func (p *Platform) tend(more <-chan struct{}) {
	for wait := lookFirst; ; wait = min(2*wait, lookLast) {
		select {
		case <-p.life.Done():
			return
		case <-more:
			wait = lookFirst
		case <-time.After(wait):
			if p.dropQdiscs() {
				return
			}
		}
	}
}

// lastQdiscs looks for a quiet moment when the platform is closed, for a while: a command ends right after it has removed a tap. What stays then,
// another one finds, and "agent sweep".
func (p *Platform) lastQdiscs() {
	p.busy.RLock()
	open := p.socket != nil
	p.busy.RUnlock()
	if !open {
		return
	}
	for end := time.Now().Add(lookEnd); !p.dropQdiscs() && time.Now().Before(end); {
		time.Sleep(quietLong)
	}
}

// dropQdiscs removes the qdiscs whose interfaces send nothing for a while. It reports whether nothing is left to be done; then nobody looks any more.
func (p *Platform) dropQdiscs() (done bool) {
	p.kept.mu.Lock()
	all := slices.Sorted(maps.Keys(p.kept.indexes))
	p.kept.mu.Unlock()
	before := map[int]uint64{}
	if len(all) > 0 {
		before = p.sent(all)
		time.Sleep(quietLong)
	}
	for _, index := range all { // each is asked again right before: the removal of the others has taken its time
		if sent, there := p.sent([]int{index})[index]; there && sent != before[index] {
			continue
		}
		err := p.with(func() error { return p.dropQdisc(index) })
		if err != nil && !gone(err) && !errors.Is(err, errNeeded) && !errors.Is(err, unix.EPERM) && p.life.Err() == nil {
			p.log.Warn("a qdisc that no mirror needs stays", "platform", p.cfg.Name, "interface", index, "error", err)
		}
		p.kept.mu.Lock()
		delete(p.kept.indexes, index)
		p.kept.mu.Unlock()
	}
	p.kept.mu.Lock()
	defer p.kept.mu.Unlock()
	if done = len(p.kept.indexes) == 0; done {
		p.kept.more = nil
	}
	return done
}

// sent tells how many packets interfaces have sent; of those that are gone nothing.
func (p *Platform) sent(indexes []int) map[int]uint64 {
	out := map[int]uint64{}
	_ = p.with(func() error {
		for _, i := range indexes {
			if l, err := p.handle.LinkByIndex(i); err == nil && l.Attrs().Statistics != nil {
				out[i] = l.Attrs().Statistics.TxPackets
			}
		}
		return nil
	})
	return out
}

// errNeeded says that a qdisc is in use again.
var errNeeded = errors.New("the qdisc is in use")

// dropQdisc removes the qdisc of an interface if nothing but what keeps it is there.
func (p *Platform) dropQdisc(index int) error {
	defer p.space.Lock(patience)()
	list, err := p.portFilters(index, "clsact")
	if err != nil {
		return err
	}
	now := &portNow{index: index, filters: list}
	keep := now.unkeep()
	switch _, made, err := p.socket.qdiscs(); {
	case err != nil:
		return err
	case len(keep) == 0 && (len(list) > 0 || !made[index]):
		return errNeeded
	case len(keep) < len(list):
		return p.socket.do(keep...)
	}
	return p.socket.do(deleteQdisc(index, "delete the clsact qdisc"))
}
