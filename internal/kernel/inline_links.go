package kernel

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

// linkSettle is how long an interface that was set up may take to have a carrier.
const linkSettle = 3 * time.Second

// follow looks at the links when the kernel tells of a change, and at the counters now and then, until ctx ends.
func (x *Inline) follow(ctx context.Context) {
	news := make(chan netlink.LinkUpdate, 16)
	done := make(chan struct{})
	defer close(done)
	if err := netns.Do(x.cfg.NetNS, func() error { return netlink.LinkSubscribe(news, done) }); err != nil {
		x.log.Warn("inline: the kernel does not tell of links: they are looked at five times a second", "error", err)
		news = nil
	}
	tick := time.NewTicker(bookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-news:
			if !ok {
				news = nil
			}
		case <-tick.C:
			x.account()
			x.rejoin()
		}
		x.look()
	}
}

// missing returns the sides whose interfaces are gone.
func (x *Inline) missing() (gone []int) {
	for i := range x.sides {
		if l, err := x.h.LinkByIndex(x.sides[i].index); err != nil || l.Attrs().Name != x.sides[i].name {
			gone = append(gone, i)
		}
	}
	return gone
}

// rejoin joins the interfaces again when one that was gone is back, as after a VM's restart.
func (x *Inline) rejoin() {
	gone := x.missing()
	if len(gone) == 0 {
		return
	}
	err := netns.Do(x.cfg.NetNS, func() error {
		links, err := checkPair(x.h, x.cfg.A, x.cfg.B)
		if err != nil {
			return err
		}
		return x.again(links, gone)
	})
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == x.trouble {
		return
	}
	if x.trouble = text; text != "" {
		x.log.Warn("inline: interface is gone: nothing passes until both are there", "a", x.cfg.A, "b", x.cfg.B, "reason", text)
		return
	}
	x.log.Info("inline: interface is back: joined again", "a", x.cfg.A, "b", x.cfg.B)
}

// again attaches the programs to interfaces of which some are new. The counters go on.
func (x *Inline) again(links [2]netlink.Link, gone []int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, i := range gone {
		s := &x.sides[i]
		x.portBefore += x.now.side[i].refused - min(x.base.side[i].refused, x.now.side[i].refused)
		s.promisc, s.lro, s.at = false, false, [2]*pairFilter{}
	}
	if err := x.prepare(links, x.notes()); err != nil {
		return err
	}
	for _, dir := range []frame.Direction{frame.Egress, frame.Ingress} {
		for i := range x.sides {
			if err := x.attach(i, dir); err != nil {
				return fmt.Errorf("interface %s: %w", x.sides[i].name, err)
			}
		}
	}
	fresh := x.now
	x.portDrops(&fresh)
	for _, i := range gone {
		x.base.side[i].refused, x.now.side[i].refused = fresh.side[i].refused, fresh.side[i].refused
	}
	x.held, x.raise = -1, time.Now()
	x.dismissKeeper()
	x.startKeeper()
	return nil
}

// notes returns what was set for the interfaces that are still there.
func (x *Inline) notes() (all [2]inherited) {
	for i := range x.sides {
		all[i].note = pairNote{promisc: x.sides[i].promisc, lro: x.sides[i].lro}
	}
	return all
}

// look has the links follow each other: while one has no signal the other one is held down, so that whoever is there notices.
func (x *Inline) look() {
	var links [2]netlink.Link
	up, there := [2]bool{}, true
	for i := range x.sides {
		l, err := x.h.LinkByIndex(x.sides[i].index)
		links[i], up[i], there = l, err == nil && signal(l), there && err == nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.notice(up)
	if x.cfg.Apart || !there || !x.inOffice() {
		return
	}
	now := time.Now()
	switch {
	case x.held >= 0 && up[1-x.held]:
		x.log.Info("inline: link is back", "interface", x.sides[1-x.held].name, "set_up", x.sides[x.held].name)
		_ = x.h.LinkSetUp(links[x.held])
		x.raise = now
		x.hold(-1)
	case x.held >= 0 || up[0] && up[1] || now.Sub(x.raise) < linkSettle:
	default:
		lost := slices.Index(up[:], false)
		other := 1 - lost
		x.log.Warn("inline: link is down: the other one is set down, too", "interface", x.sides[lost].name, "set_down", x.sides[other].name)
		if err := x.h.LinkSetDown(links[other]); err != nil {
			x.log.Error("inline: link does not follow", "interface", x.sides[other].name, "error", err)
			return
		}
		x.hold(other)
	}
}

// inOffice reports whether no other process has taken the pair over.
func (x *Inline) inOffice() bool {
	f := x.sides[0].at[0]
	return f != nil && f.present(x.h)
}

// hold notes which side is held down. The caller holds mu.
func (x *Inline) hold(side int) {
	x.held = side
	x.tellKeeper(fmt.Sprintf("held %d", side))
}

// notice notes the signals. The caller holds mu.
func (x *Inline) notice(up [2]bool) { x.up = up }

// letGo sets an interface up that was held down: nobody would when the other one comes back.
func (x *Inline) letGo() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.held >= 0 {
		setLink(x.h, x.sides[x.held].index, true)
		x.hold(-1)
	}
}

// portDrops reads what the interfaces and their queues have refused of what was to leave.
func (x *Inline) portDrops(r *pairReading) {
	for i := range x.sides {
		l, err := x.h.LinkByIndex(x.sides[i].index)
		if err != nil {
			r.side[i].refused = x.now.side[i].refused
			continue
		}
		if s := l.Attrs().Statistics; s != nil {
			r.side[i].refused = s.TxDropped
		}
		qdiscs, err := x.h.QdiscList(l)
		if err != nil {
			continue
		}
		for _, q := range qdiscs {
			if a := q.Attrs(); a.Parent == netlink.HANDLE_ROOT && a.Statistics != nil && a.Statistics.Queue != nil {
				r.side[i].refused += uint64(a.Statistics.Queue.Drops)
			}
		}
	}
}

// pairAccount is the state of the books at a moment.
type pairAccount struct{ in, out, lost, port, closed, held uint64 }

// account reads all counters and books the difference to the last time. A frame that has come and not left is lost when it has been so for a
// number of looks; until then it may be between the two programs.
func (x *Inline) account() { x.enter(false) }

// settle does so when nothing moves any more.
func (x *Inline) settle() { x.enter(true) }

func (x *Inline) enter(last bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stats == nil || x.final {
		return
	}
	now, err := x.stats.read()
	if err != nil {
		return
	}
	x.portDrops(&now)
	x.count(now, last)
}

// resign keeps the books up to a moment, and no further.
func (x *Inline) resign(now pairReading) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.count(now, true)
	x.final = true
}

// count enters a reading. The caller holds mu.
func (x *Inline) count(now pairReading, last bool) {
	x.now = now
	d := now.since(x.base)
	a := pairAccount{}
	passed := uint64(0)
	for _, s := range d.side {
		a.in += s.in[pairFrames] + s.in[pairStopped]
		a.closed += s.in[pairStopped]
		passed += s.out[pairFrames]
		a.port += s.refused
	}
	missing := a.in - a.closed
	missing -= min(missing, passed)
	x.gaps[x.looks%pairSettleLooks] = missing
	x.looks++
	switch {
	case last:
		a.lost = missing
	case x.looks >= pairSettleLooks:
		a.lost = min(missing, slices.Min(x.gaps[:]))
	}
	a.held = missing - a.lost
	a.port = min(a.port+x.portBefore, passed)
	a.out = a.in - a.closed - a.lost - a.held - a.port
	x.post(a)
}

// post books the difference to the last account. The caller holds mu.
func (x *Inline) post(a pairAccount) {
	was := x.last
	diff := func(a, b uint64) int { return int(int64(a - b)) }
	x.book.In(diff(a.in, was.in))
	x.book.Drop(DropPairLost, diff(a.lost, was.lost))
	x.book.Drop(DropPairPort, diff(a.port, was.port))
	x.book.Drop(DropPairClosed, diff(a.closed, was.closed))
	x.book.Hold(diff(a.held, was.held))
	x.book.Out(diff(a.out, was.out))
	x.last = a
}

// PairState is how a pair is.
type PairState struct {
	A, B string
	Fail string
	Up   [2]bool // the interfaces have a signal
	Held string  // interface that is held down since the other one has none; "" for none
	// Frames, wire segments and bytes that were passed on from A to B and from B to A.
	Frames, Segments, Bytes [2]uint64
	Lost, Refused, Closed   uint64 // as in the book
	Alone                   uint64 // frames that passed while the lease was not renewed
	Host                    uint64 // frames that the host itself wanted to send, and that were held back
}

// State returns how the pair is, as of the last look at its counters. It is safe for concurrent use.
func (x *Inline) State() PairState {
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.now.since(x.base)
	s := PairState{A: x.cfg.A, B: x.cfg.B, Fail: x.fail(), Up: x.up, Lost: x.last.lost, Refused: x.last.port, Closed: x.last.closed}
	for i := range d.side {
		out := &d.side[1-i].out
		s.Frames[i], s.Segments[i], s.Bytes[i] = out[pairFrames], out[pairSegments], out[pairBytes]
		s.Alone += d.side[i].in[pairAlone]
		s.Host += out[pairStopped]
	}
	if x.held >= 0 {
		s.Held = x.sides[x.held].name
	}
	return s
}

// Summary returns one line about the pair.
func (x *Inline) Summary() string {
	s := x.State()
	var b strings.Builder
	fmt.Fprintf(&b, "%s → %s %d frames (%d segments, %d bytes), %s → %s %d frames (%d segments, %d bytes)", s.A, s.B, s.Frames[0], s.Segments[0], s.Bytes[0], s.B, s.A, s.Frames[1], s.Segments[1], s.Bytes[1])
	for _, c := range []struct {
		n    uint64
		what string
	}{{s.Lost, "lost"}, {s.Refused, "refused by the interface they were to leave by"}, {s.Closed, "dropped since the lease had ended"},
		{s.Alone, "passed while nobody watched"}, {s.Host, "of the host itself held back"}} {
		if c.n > 0 {
			fmt.Fprintf(&b, "; %d %s", c.n, c.what)
		}
	}
	return b.String()
}
