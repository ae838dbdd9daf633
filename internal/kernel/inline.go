package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/netns"
)

// InlineConfig says which two interfaces are joined so that all frames which come in by the one leave by the other.
type InlineConfig struct {
	A, B  string
	NetNS string // file of the network namespace they are in; "" for the process's own
	// Closed has the pair pass nothing once nobody renews its lease. Else it goes on passing everything, whatever becomes of the process.
	Closed bool
	Lease  time.Duration // 0 for Lease
	// Apart leaves a link up while the other one is down. Else the one follows the other, as the two ends of a wire do.
	Apart  bool
	Keeper []string // command that runs Keep, so that links are set right when this process is killed; nil for none
	Log    *slog.Logger
}

// Limits of InlineConfig.Lease.
const (
	MinPairLease = time.Second
	MaxPairLease = 10 * time.Minute
)

func (c *InlineConfig) validate() error {
	for _, name := range []string{c.A, c.B} {
		if name == "" || len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("inline: interface %q: a name has 1 to %d bytes", name, unix.IFNAMSIZ-1)
		}
	}
	switch {
	case c.A == c.B:
		return fmt.Errorf("inline: %s and %s: a pair has two interfaces", c.A, c.B)
	case c.Lease < MinPairLease || c.Lease > MaxPairLease:
		return fmt.Errorf("inline: lease %s: want %s to %s", c.Lease, MinPairLease, MaxPairLease)
	}
	return nil
}

// Reasons of the book of a pair.
const (
	DropPairLost    = iota // never reached the other interface's way out: it is down or gone
	DropPairPort           // the other interface, or its queue, did not take it
	DropPairClosed         // the lease had ended
	pairSettleLooks = 10   // looks at the counters for which a frame may be between the two interfaces
)

// InlineStage is the name of a pair's account in the ledger.
const InlineStage = "inline"

// Inline is a pair of interfaces that the kernel joins: a program at each one redirects what comes in to the other one. The frames never
// come to this process, which may die without a frame being lost. It keeps the books, renews the lease and has the links follow each other.
type Inline struct {
	cfg  InlineConfig
	log  *slog.Logger
	book *ledger.Book

	h     *netlink.Handle
	sides [2]side
	stats *pairStats
	beat  *lease
	keep  atomic.Pointer[companion]

	mu    sync.Mutex
	base  pairReading // when the pair was taken over
	now   pairReading
	gaps  [pairSettleLooks]uint64 // frames that were between the interfaces at the last looks
	looks int
	last  pairAccount
	held  int       // side that is held down since the other one is, -1 for none
	raise time.Time // when that side was let go
	final bool      // another pair of this process counts from here on
	up    [2]bool

	portBefore uint64 // refused by interfaces that are no more
	trouble    string // why the interfaces are not joined, of Run alone
}

// side is one interface of a pair.
type side struct {
	name    string
	index   int
	at      [2]*pairFilter // by direction
	promisc bool           // we have set it
	lro     bool           // we have switched it off
}

// NewInline returns a pair. All mistakes of its configuration are found here.
func NewInline(c InlineConfig) (*Inline, error) {
	if c.Lease == 0 {
		c.Lease = Lease
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	x := &Inline{cfg: c, log: c.Log, held: -1, book: ledger.New(InlineStage, ledger.Frames, "lost", "refused_by_port", "closed")}
	x.sides[0].name, x.sides[1].name = c.A, c.B
	return x, nil
}

// Book returns the account of the frames that came in by either interface; out are those that left by the other one.
func (x *Inline) Book() *ledger.Book { return x.book }

// Check looks at the two interfaces, and says why they cannot be joined: *Refused when joining them would do harm.
func (x *Inline) Check() error {
	err := netns.Do(x.cfg.NetNS, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		_, err = checkPair(h, x.cfg.A, x.cfg.B)
		return err
	})
	return inlineError(err)
}

func inlineError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("inline: %w", err)
}

// Open joins the interfaces. A pair of the same interfaces that another process has left, or still has, is taken over without a frame being
// lost. Close or Run has to follow.
func (x *Inline) Open() (err error) {
	defer func() {
		if err != nil {
			x.release()
		}
	}()
	return inlineError(netns.Do(x.cfg.NetNS, func() error {
		if x.h, err = netlink.NewHandle(); err != nil {
			return err
		}
		links, err := checkPair(x.h, x.cfg.A, x.cfg.B)
		if err != nil {
			return err
		}
		before := x.inherit(links)
		if err := x.prepare(links, before); err != nil {
			return err
		}
		return x.join(before)
	}))
}

// prepare sets the interfaces up: promiscuous, without large receive offload, which cannot be undone, and up.
func (x *Inline) prepare(links [2]netlink.Link, before [2]inherited) (err error) {
	for i, l := range links {
		s, a := &x.sides[i], l.Attrs()
		s.index, s.promisc, s.lro = a.Index, before[i].note.promisc, before[i].note.lro
		if a.Promisc == 0 || a.RawFlags&unix.IFF_PROMISC == 0 {
			if err := x.h.SetPromiscOn(l); err != nil {
				return fmt.Errorf("interface %s: promiscuous mode: %w", s.name, permission(err))
			}
			s.promisc = true
		}
		off, err := largeReceiveOff(s.name)
		if err != nil {
			return fmt.Errorf("interface %s: large receive offload cannot be switched off, and its super-frames could not leave as they came: %w; \"ethtool -K %s lro off\"", s.name, err, s.name)
		}
		s.lro = s.lro || off
		if err := x.h.LinkSetUp(l); err != nil {
			return fmt.Errorf("interface %s: up: %w", s.name, permission(err))
		}
	}
	return nil
}

// join loads the programs and attaches them: first those that count what leaves, so that nothing is missed there.
func (x *Inline) join(before [2]inherited) (err error) {
	var old *ebpf.Map
	for i := range before {
		if m := before[i].stats; m != nil && old == nil {
			old = m
		} else if m != nil {
			_ = m.Close()
		}
	}
	if x.stats, err = newPairStats(old); err != nil {
		return permission(err)
	}
	name := aliveName
	if x.cfg.Closed {
		name = leaseName
	}
	if x.beat, err = newLeaseOf(name, x.cfg.Lease); err != nil {
		return permission(err)
	}
	if x.base, err = x.stats.read(); err != nil {
		return err
	}
	x.portDrops(&x.base)
	for _, dir := range []frame.Direction{frame.Egress, frame.Ingress} {
		for i := range x.sides {
			if err := x.attach(i, dir); err != nil {
				return fmt.Errorf("interface %s: %w", x.sides[i].name, err)
			}
		}
	}
	x.now = x.base
	x.register()
	x.tellInherited(before)
	x.up = [2]bool{true, true}
	x.raise = time.Now()
	x.startKeeper()
	x.log.Info("inline pair joined", "a", x.cfg.A, "b", x.cfg.B, "fail", x.fail(), "lease", x.cfg.Lease)
	return nil
}

func (x *Inline) fail() string {
	if x.cfg.Closed {
		return FailClosed
	}
	return FailOpen
}

// attach puts the program of a direction at an interface, in the place of one that another process has put there.
func (x *Inline) attach(i int, dir frame.Direction) error {
	s, peer := &x.sides[i], &x.sides[1-i]
	ins, name := pairOut(x.stats.block(i, dir), uint32(peer.index), x.beat), "xt_pair_out"
	if dir == frame.Ingress {
		ins, name = pairIn(x.stats.block(i, dir), uint32(peer.index), x.beat, x.cfg.Closed), "xt_pair_in"
	}
	p, err := load(name, ins)
	if err != nil {
		return err
	}
	note := pairNote{peer: peer.name, fail: x.fail(), lease: x.cfg.Lease, promisc: s.promisc, lro: s.lro, apart: x.cfg.Apart, second: i == 1}
	if s.at[dir], err = putPair(x.h, s.index, dir, p, note); err != nil {
		_ = p.Close()
		return fmt.Errorf("attach at clsact: %w", permission(err))
	}
	return nil
}

// Run keeps the books, renews the lease and has the links follow each other until ctx ends.
func (x *Inline) Run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.beats(ctx)
	}()
	x.follow(ctx)
	<-done
}

// beats renews the lease, and tells the keeper.
func (x *Inline) beats(ctx context.Context) {
	every(ctx, min(time.Second, x.cfg.Lease/5), func() {
		if err := x.beat.renew(); err != nil {
			x.log.Error("inline: lease not renewed", "error", err)
		}
		x.tellKeeper("beat")
	})
}

// Close ends the process's part. A pair that fails open goes on without it: RemovePair ends it. One that fails closed is taken apart, and its
// links are set down. A pair that another process has taken over is left to that.
func (x *Inline) Close() {
	if x.h == nil {
		return
	}
	x.settle()
	_ = netns.Do(x.cfg.NetNS, func() error {
		mine := x.owner()
		switch {
		case !mine:
		case x.cfg.Closed:
			x.takeApart()
		default:
			x.letGo()
			_ = x.beat.m.Put(uint32(0), uint64(0)) // from here on nobody watches
		}
		return nil
	})
	x.dismissKeeper()
	x.release()
}

// release gives back what is held of the kernel by this process alone.
func (x *Inline) release() {
	x.deregister()
	for i := range x.sides {
		for _, f := range x.sides[i].at {
			if f != nil {
				_ = f.prog.Close()
			}
		}
		x.sides[i].at = [2]*pairFilter{}
	}
	if x.beat != nil {
		_ = x.beat.m.Close()
		x.beat = nil
	}
	x.mu.Lock()
	if x.stats != nil {
		_ = x.stats.m.Close()
		x.stats = nil
	}
	x.mu.Unlock()
	if x.h != nil {
		x.h.Close()
		x.h = nil
	}
}

// owner reports whether the programs at the hooks are those of this process.
func (x *Inline) owner() bool {
	for i := range x.sides {
		f := x.sides[i].at[frame.Ingress]
		if f == nil || !f.present(x.h) {
			return false
		}
	}
	return true
}

// takeApart removes the programs, undoes what was set, and sets the links down.
func (x *Inline) takeApart() {
	for i := range x.sides {
		s := &x.sides[i]
		if err := clearSide(x.h, s.index, pairNote{promisc: s.promisc, lro: s.lro}); err != nil {
			x.log.Warn("inline: not all was taken away", "interface", s.name, "error", err)
		}
		setLink(x.h, s.index, false)
	}
}
