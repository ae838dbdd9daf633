package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// What becomes of a pair when nobody watches it.
const (
	FailOpen   = "open"   // it passes everything
	FailClosed = "closed" // it passes nothing
)

// A pair's filters tell by their name what they belong to: nothing else of a pair is kept but in the kernel.
const pairPrefix = filterName + ":inline "

// pairPriority is behind the filters of taps and of others, which see each frame before it is redirected.
const pairPriority = 0xfff0

// pairNote is what the name of a filter says.
type pairNote struct {
	peer    string // name of the other interface
	fail    string
	lease   time.Duration
	qdisc   bool // the qdisc is ours
	promisc bool // promiscuous mode was set for the pair
	lro     bool // large receive offload was switched off for the pair
	apart   bool // links do not follow each other
	second  bool // the interface is the pair's second one
}

func (n pairNote) String() string {
	flags := ""
	for _, f := range []struct {
		set  bool
		text string
	}{{n.qdisc, "q"}, {n.promisc, "p"}, {n.lro, "l"}, {n.apart, "a"}, {n.second, "b"}} {
		if f.set {
			flags += f.text
		}
	}
	return fmt.Sprintf("%speer=%s fail=%s lease=%s flags=%s", pairPrefix, n.peer, n.fail, n.lease, flags)
}

// parseNote reads the name of a filter; false when it is none of a pair.
func parseNote(name string) (n pairNote, ok bool) {
	rest, ok := strings.CutPrefix(name, pairPrefix)
	if !ok {
		return n, false
	}
	for word := range strings.FieldsSeq(rest) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "peer":
			n.peer = value
		case "fail":
			n.fail = value
		case "lease":
			n.lease, _ = time.ParseDuration(value)
		case "flags":
			has := func(flag string) bool { return strings.Contains(value, flag) }
			n.qdisc, n.promisc, n.lro, n.apart, n.second = has("q"), has("p"), has("l"), has("a"), has("b")
		}
	}
	return n, n.peer != ""
}

// qdiscOf reports whether a filter's name says that its qdisc is ours.
func qdiscOf(name string) bool {
	n, ok := parseNote(name)
	word, _, _ := strings.Cut(name, " ")
	return word == qdiscIsOurs || word == qdiscStays || ok && n.qdisc
}

// pairFilter is a program of a pair at its hook.
type pairFilter struct {
	index int
	dir   frame.Direction
	prog  *ebpf.Program
	id    ebpf.ProgramID
}

// putPair puts a program at a hook, in one step in the place of the one that another process has put there.
func putPair(h *netlink.Handle, index int, dir frame.Direction, p *ebpf.Program, note pairNote) (*pairFilter, error) {
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	id, ok := info.ID()
	if !ok {
		return nil, errors.New("the kernel gives programs no numbers")
	}
	defer (*netns.Space)(nil).Lock(patience)()
	switch err := h.QdiscAdd(clsact(index)); {
	case err == nil:
		note.qdisc = true
	case !errors.Is(err, unix.EEXIST):
		return nil, fmt.Errorf("qdisc: %w", err)
	default:
		note.qdisc = claimed(h, index)
	}
	err = h.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parentOf(dir), Priority: pairPriority, Protocol: unix.ETH_P_ALL, Handle: 1},
		Fd:          p.FD(), Name: note.String(), DirectAction: true,
	})
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return &pairFilter{index, dir, p, id}, nil
}

// present reports whether the program is still at its hook.
func (f *pairFilter) present(h *netlink.Handle) bool {
	b, _, ok := pairAt(h, f.index, f.dir)
	return ok && ebpf.ProgramID(b.Id) == f.id
}

// pairAt returns the filter of a pair at a hook.
func pairAt(h *netlink.Handle, index int, dir frame.Direction) (*netlink.BpfFilter, pairNote, bool) {
	list, err := filters(h, index, dir)
	if err != nil {
		return nil, pairNote{}, false
	}
	for _, f := range list {
		b, ok := f.(*netlink.BpfFilter)
		if !ok {
			continue
		}
		if n, ok := parseNote(b.Name); ok {
			return b, n, true
		}
	}
	return nil, pairNote{}, false
}

// clearSide takes a pair's filters away from an interface, and undoes what was set for it.
func clearSide(h *netlink.Handle, index int, note pairNote) error {
	defer (*netns.Space)(nil).Lock(patience)()
	var errs []error
	mine := false
	for _, dir := range directions {
		f, n, ok := pairAt(h, index, dir)
		if !ok {
			continue
		}
		mine = mine || n.qdisc
		if err := h.FilterDel(f); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("filter: %w", err))
		}
	}
	if mine {
		errs = append(errs, dropEmpty(h, index))
	}
	l, err := h.LinkByIndex(index)
	if err != nil {
		return errors.Join(errs...)
	}
	if note.promisc {
		errs = append(errs, h.SetPromiscOff(l))
	}
	if note.lro {
		errs = append(errs, largeReceiveOn(l.Attrs().Name))
	}
	return errors.Join(errs...)
}

func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}

// setLink sets an interface up or down; one that is gone is left alone.
func setLink(h *netlink.Handle, index int, up bool) {
	l, err := h.LinkByIndex(index)
	if err != nil {
		return
	}
	if up {
		_ = h.LinkSetUp(l)
	} else {
		_ = h.LinkSetDown(l)
	}
}

// mapOf opens the map of that name that a program uses.
func mapOf(id ebpf.ProgramID, name string) (*ebpf.Map, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	maps, _ := info.MapIDs()
	for _, id := range maps {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		if info, err := m.Info(); err == nil && info.Name == name {
			return m, nil
		}
		_ = m.Close()
	}
	return nil, os.ErrNotExist
}

// Pair is an inline pair as it stands in the kernel. What has two parts is of A and of B.
type Pair struct {
	A       string        `json:"a"`
	B       string        `json:"b"`
	Fail    string        `json:"fail"` // FailOpen or FailClosed
	Lease   time.Duration `json:"lease_ns"`
	Watched bool          `json:"watched"` // somebody renews its lease
	Up      [2]bool       `json:"up"`      // the interfaces are up, and there is a signal
	In      [2]uint64     `json:"in"`      // frames that were passed on
	Out     [2]uint64     `json:"out"`     // frames of the other one that left
	Alone   uint64        `json:"alone"`   // frames of either that passed while nobody watched
	Stopped uint64        `json:"stopped"` // that were dropped because the lease had ended
	Host    uint64        `json:"host"`    // that the host itself wanted to send
}

// Pairs returns the inline pairs of a network namespace ("" for the process's own), in the order of their names.
func Pairs(space string) (all []Pair, err error) {
	err = netns.Do(space, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		index := map[string]netlink.Link{}
		for _, l := range links {
			index[l.Attrs().Name] = l
		}
		for _, l := range links {
			p, ok := pairOf(h, l, index)
			if ok {
				all = append(all, p)
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Pair) int { return cmp.Compare(a.A, b.A) })
	return all, inlineError(err)
}

// pairOf describes the pair that an interface is the first one of.
func pairOf(h *netlink.Handle, l netlink.Link, links map[string]netlink.Link) (p Pair, ok bool) {
	f, n, ok := pairAt(h, l.Attrs().Index, frame.Ingress)
	if !ok || n.second && links[n.peer] != nil {
		return p, false
	}
	peer := links[n.peer]
	stats, err := mapOf(ebpf.ProgramID(f.Id), pairStatsName)
	if err != nil {
		return p, false
	}
	lines, err := statLines()
	if err != nil {
		return p, false
	}
	defer stats.Close()
	r, err := (&pairStats{stats, lines}).read()
	if err != nil {
		return p, false
	}
	p = Pair{A: l.Attrs().Name, B: n.peer, Fail: n.fail, Lease: n.lease, Watched: watched(ebpf.ProgramID(f.Id))}
	p.Up[0] = signal(l)
	if peer != nil {
		p.Up[1] = signal(peer)
	}
	for i, s := range r.side {
		p.In[i], p.Out[i] = s.in[pairFrames], s.out[pairFrames]
		p.Alone += s.in[pairAlone]
		p.Stopped += s.in[pairStopped]
		p.Host += s.out[pairStopped]
	}
	return p, true
}

// signal reports whether an interface is up and has a carrier.
func signal(l netlink.Link) bool {
	const carrier = unix.IFF_UP | unix.IFF_LOWER_UP
	return l.Attrs().RawFlags&carrier == carrier
}

// watched reports whether the lease that a pair's program looks at has not ended.
func watched(id ebpf.ProgramID) bool {
	for _, name := range []string{leaseName, aliveName} {
		m, err := mapOf(id, name)
		if err != nil {
			continue
		}
		defer m.Close()
		var end uint64
		return m.Lookup(uint32(0), &end) == nil && monotonic() < end
	}
	return false
}

// RemovePair takes a pair apart that nobody watches any more, or with force also one that somebody does: its programs, promiscuous mode, and a
// qdisc that was made for it. From then on nothing passes between the two. The order of the names does not matter.
func RemovePair(space, a, b string, force bool) error {
	return inlineError(netns.Do(space, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		found := false
		for _, names := range [][2]string{{a, b}, {b, a}} {
			l, err := h.LinkByName(names[0])
			if err != nil {
				continue
			}
			f, note, ok := pairAt(h, l.Attrs().Index, frame.Ingress)
			if !ok || note.peer != names[1] {
				continue
			}
			found = true
			if !force && watched(ebpf.ProgramID(f.Id)) {
				return fmt.Errorf("%s and %s are a pair that a tap watches: stop the tap first, or give --force", a, b)
			}
			if err := clearSide(h, l.Attrs().Index, note); err != nil {
				return fmt.Errorf("interface %s: %w", names[0], permission(err))
			}
		}
		if !found {
			return fmt.Errorf("%s and %s are no pair: %w", a, b, os.ErrNotExist)
		}
		return nil
	}))
}
