package capture

import (
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// everything is more bytes than any frame has.
const everything = MaxFrame

// Kernel is what the kernel counted of a governed source. Where it cannot count, Exact is false and the rest is 0.
type Kernel struct {
	Exact   bool
	Seen    uint64 // frames at the interfaces
	Matched uint64 // of them by the filter
	Bytes   uint64 // of those
	Passed  uint64 // of those on to the ring
}

// order is a wish for another Shed.
type order struct {
	Shed
	applied func(from time.Time)
}

// SetShed has the kernel leave frames out, or take them again. It takes effect soon; applied is then called with the time from when on
// all frames are captured by it. It is safe for concurrent use with Run.
func (l *Live) SetShed(s Shed, applied func(from time.Time)) { l.wish.Store(&order{s, applied}) }

// obey does what SetShed has asked for since the last time.
func (l *Live) obey() {
	o := l.wish.Swap(nil)
	if o == nil {
		return
	}
	l.shed = o.Shed
	for _, r := range l.rings {
		if err := r.leaveOut(l.shed); err != nil {
			l.log.Warn("kernel not told what to leave out", "interface", r.name, "error", err)
		}
	}
	if o.applied != nil {
		o.applied(time.Now())
	}
}

// enlist has a ring that was opened do what holds for all.
func (l *Live) enlist(r *ring) {
	if l.in != nil {
		if err := l.in.watch(r); err != nil {
			l.log.Warn("the kernel does not tell of frames: they are looked for now and then", "interface", r.name, "error", err)
		}
	}
	if l.cfg.Govern == nil {
		return
	}
	l.mu.Lock()
	if r.governor != nil {
		l.governors = append(l.governors, r.governor)
	} else if l.exact {
		l.exact = false
		l.log.Info("the kernel does not count what it leaves out: that is not in the books", "interface", r.name, "reason", r.refused)
	}
	l.mu.Unlock()
	if l.shed != (Shed{}) {
		if err := r.leaveOut(l.shed); err != nil {
			l.log.Warn("kernel not told what to leave out", "interface", r.name, "error", err)
		}
	}
}

// retire ends a ring; what the kernel counted for it stays.
func (l *Live) retire(r *ring) {
	l.mu.Lock()
	if g := r.governor; g != nil {
		l.gone.add(g.counts())
		l.governors = slices.DeleteFunc(l.governors, func(x *governor) bool { return x == g })
		g.close()
		r.governor = nil
	}
	l.mu.Unlock()
	r.shut()
}

// Kernel returns the kernel's counts since the capture began. It is safe for concurrent use.
func (l *Live) Kernel() Kernel {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := l.gone
	sum.Exact = l.exact
	for _, g := range l.governors {
		sum.add(g.counts())
	}
	return sum
}

func (k *Kernel) add(o Kernel) {
	k.Seen, k.Matched, k.Bytes, k.Passed = k.Seen+o.Seen, k.Matched+o.Matched, k.Bytes+o.Bytes, k.Passed+o.Passed
}

// openTraffic prepares to read the interfaces' own counters.
func (l *Live) openTraffic() {
	if l.cfg.Govern == nil {
		return
	}
	_ = l.space.Do(func() error { // without it the tap comes back later from where nothing is captured
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		l.mu.Lock()
		l.traffic = h
		l.mu.Unlock()
		return err
	})
}

func (l *Live) closeTraffic() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.traffic != nil {
		l.traffic.Close()
		l.traffic = nil
	}
}

// Traffic returns the packets that the interfaces of a governed source have counted themselves, whether they were captured or not. It is safe
// for concurrent use.
func (l *Live) Traffic() (packets uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.traffic == nil {
		return 0
	}
	for i := range l.points {
		link, err := l.traffic.LinkByIndex(int(l.points[i].index.Load()))
		if err != nil || link.Attrs().Statistics == nil {
			continue
		}
		packets += link.Attrs().Statistics.RxPackets
		if !l.cfg.IngressOnly {
			packets += link.Attrs().Statistics.TxPackets
		}
	}
	return packets
}

// tally enters what the kernel left out since the last time into the book.
func (l *Live) tally() {
	if l.cfg.Govern == nil {
		return
	}
	now := l.Kernel()
	filtered := max(int64(now.Seen-now.Matched)-int64(l.told.Seen-l.told.Matched), 0)
	shed := max(int64(now.Matched-now.Passed)-int64(l.told.Matched-l.told.Passed), 0)
	l.book.In(int(filtered + shed))
	l.book.Drop(dropFiltered, int(filtered))
	l.book.Drop(dropShed, int(shed))
	l.told = now
}

// Reasons of a governed source, behind the others.
const (
	dropFiltered = iota + DropStopped + 1
	dropShed
)

// govern puts the program in the place of the filter. Without the privilege to load it the filter itself is changed for each order, and nothing is
// counted.
func (r *ring) govern(to translator) error {
	g, err := newGovernor(r.base, r.link, to)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, g.prog.FD()); err != nil {
		g.close()
		return fmt.Errorf("attach: %w", err)
	}
	r.governor = g
	return nil
}

// leaveOut does what s says.
func (r *ring) leaveOut(s Shed) error {
	if r.fd < 0 {
		return nil
	}
	if s.Off != r.off {
		if err := r.detach(s.Off); err != nil {
			return err
		}
	}
	if r.governor != nil {
		return r.governor.set(s)
	}
	prog, err := shedClassic(r.base, r.link, s)
	if err != nil {
		return err
	}
	if len(prog) == 0 {
		prog = []bpf.RawInstruction{{Op: retConstant, K: everything}}
	}
	return r.attach(prog)
}

// reserved is an Ethernet type that no frame has (IEEE 802 Numbers: 0xffff). A socket for it alone costs other frames nothing.
const reserved = 0xffff

// detach takes the socket off its interface, so that the kernel does nothing for it, or puts it back.
func (r *ring) detach(off bool) error {
	to := unix.SockaddrLinklayer{Ifindex: r.ifindex, Protocol: reserved}
	if !off {
		to.Protocol = allProtocols()
	}
	if err := unix.Bind(r.fd, &to); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	r.off = off
	return nil
}

// shedClassic returns the classic filter with what s leaves out worked in.
func shedClassic(base []bpf.RawInstruction, link frame.LinkType, s Shed) ([]bpf.RawInstruction, error) {
	if s.threshold() == 0 {
		return program(base, s.Snap), nil
	}
	number, err := sampler(link)
	if err != nil {
		return nil, err
	}
	tail := len(number)
	keep := uint32(everything)
	out := []bpf.Instruction{}
	for _, ins := range base {
		if ins.Op == retConstant && ins.K > 0 {
			keep = ins.K
		}
		out = append(out, ins)
	}
	for i, ins := range out { // a match goes on to the sampler
		if raw := ins.(bpf.RawInstruction); raw.Op == retConstant && raw.K > 0 {
			out[i] = bpf.Jump{Skip: uint32(len(out) - i - 1)}
		}
	}
	if s.Snap > 0 {
		keep = min(keep, uint32(s.Snap))
	}
	for i, ins := range number {
		if _, ok := ins.(bpf.RetA); ok {
			number[i] = bpf.Jump{Skip: uint32(tail - i - 1)}
		}
	}
	out = append(append(out, number...), bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: s.threshold(), SkipTrue: 1},
		bpf.RetConstant{Val: keep}, bpf.RetConstant{})
	return bpf.Assemble(out)
}
