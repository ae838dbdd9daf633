package capture

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/netns"
)

const (
	pollTimeout   = 100 * time.Millisecond // how late the end of ctx is noticed
	lookInterval  = time.Second            // for lost interfaces and the kernel's counters
	blockTimeout  = 10 * time.Millisecond  // after which the kernel hands a block over that is not full
	drainTimeout  = time.Second            // for the next stage to take what is left at the end
	crowdInterval = 5 * time.Millisecond   // between looks at the ring while the next stage is slow

	minPause  = time.Millisecond      // between looks at rings from which something came: each wakes several threads, which costs more than the frames
	maxPause  = 20 * time.Millisecond // and at most
	pauseRate = 2e9                   // bytes a second at which a ring must not fill up in one pause

	liveFrames = 4096 // most frames of a batch
)

// Run captures until ctx ends; then it stops the kernel's side, passes on what is in the rings and
// returns nil. An interface that goes away is captured again when one of its name comes back. Run does not close out.
//
// Nothing here makes the sender of a frame wait. While the next stage is slow, blocks stay in the ring; when
// three quarters of it are waiting, the oldest are shed and counted.
func (l *Live) Run(ctx context.Context, out chan<- frame.Batch) error {
	return l.run(ctx, func(ctx context.Context, r *ring) { l.block(ctx, r, out) })
}

// run captures; pass passes the next block of a ring on.
func (l *Live) run(ctx context.Context, pass func(ctx context.Context, r *ring)) error {
	var err error
	if l.space, err = netns.Open(l.cfg.NetNS); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	defer l.space.Close()
	defer l.close()
	l.openTraffic()
	defer l.closeTraffic()
	for point, name := range l.cfg.Interfaces {
		r, err := l.open(name, uint32(point))
		if err != nil {
			return fmt.Errorf("capture: %w", err)
		}
		l.rings = append(l.rings, r)
	}
	if l.cfg.Ready != nil {
		l.cfg.Ready()
	}
	l.capture(ctx, pass)
	l.drain(pass)
	l.tally()
	return nil
}

func (l *Live) open(name string, point uint32) (*ring, error) {
	r, err := openRing(l.space, &l.cfg, name, point)
	if err != nil {
		return nil, err
	}
	p := &l.points[point]
	p.index.Store(uint32(r.ifindex))
	p.link.Store(uint32(r.link) + 1)
	p.before.Store(l.missed(name))
	if !r.vnet {
		l.log.Warn("no offload information from the kernel: super-frames are counted as one packet", "interface", name)
	}
	l.enlist(r)
	l.log.Info("capturing", "interface", name, "ifindex", r.ifindex, "ring_bytes", len(r.mem))
	return r, nil
}

// capture moves blocks out of the rings.
func (l *Live) capture(ctx context.Context, pass func(context.Context, *ring)) {
	look, pause := time.Now(), minPause
	fds := make([]unix.PollFd, len(l.rings))
	for ctx.Err() == nil {
		l.obey()
		moved, most := 0, 0 // most: quarters of a ring that were full
		for _, r := range l.rings {
			n := l.move(ctx, r, pass)
			moved, most = moved+n, max(most, n*4/r.blocks)
		}
		if now := time.Now(); now.Sub(look) >= lookInterval {
			look = now
			l.look()
		}
		if most > 0 {
			pause = minPause
			continue
		}
		if l.in != nil {
			if l.in.wait(moved > 0, l.waiting) {
				continue
			}
		} else if moved > 0 {
			time.Sleep(pause)
			pause = min(2*pause, l.longest())
			continue
		}
		for i, r := range l.rings {
			fds[i] = unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN | unix.POLLERR}
		}
		timeout := pollTimeout
		if l.in != nil {
			timeout = 0 // it has waited
		}
		n, err := unix.Poll(fds, int(timeout/time.Millisecond))
		if err != nil || n == 0 {
			continue
		}
		if l.failures(fds); !l.waiting() {
			// The kernel calls a ring readable while a block is out with the next stage.
			time.Sleep(pause)
		}
	}
}

// longest returns the longest pause between two looks at the rings: in it not even half of one fills up.
func (l *Live) longest() time.Duration {
	return max(minPause, min(maxPause, time.Duration(float64(l.cfg.RingBytes)/2/pauseRate*float64(time.Second))))
}

// failures handles sockets that have an error to tell: their interface went down or away.
func (l *Live) failures(fds []unix.PollFd) {
	for i, r := range l.rings {
		if fds[i].Revents&unix.POLLERR == 0 {
			continue
		}
		code, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			l.log.Warn("interface is down; capturing goes on when it is up", "interface", r.name, "error", unix.Errno(code))
		}
	}
}

// look reads the kernel's counters and finds interfaces that went away or came back.
func (l *Live) look() {
	l.tally()
	for i, r := range l.rings {
		if r.fd < 0 {
			if again, err := openRing(l.space, &l.cfg, r.name, r.point); err == nil {
				l.rings[i] = again
				l.enlist(again)
				l.points[r.point].index.Store(uint32(again.ifindex))
				l.log.Info("interface is back: capturing again", "interface", r.name, "ifindex", again.ifindex)
			}
			continue
		}
		l.statistics(r)
		if !r.attached() && !r.ready() {
			l.log.Warn("interface is gone; waiting for one of its name", "interface", r.name)
			l.points[r.point].index.Store(0)
			l.retire(r)
		}
	}
}

// statistics adds what the kernel dropped since the last time.
func (l *Live) statistics(r *ring) {
	st, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return
	}
	l.book.In(int(st.Drops))
	l.book.Drop(DropKernel, int(st.Drops))
	l.points[r.point].lost.Add(uint64(st.Drops))
}

func (l *Live) waiting() bool {
	for _, r := range l.rings {
		if r.ready() {
			return true
		}
	}
	return false
}

// move passes the blocks of one ring on that are ready now, at most one round of them.
func (l *Live) move(ctx context.Context, r *ring, pass func(context.Context, *ring)) int {
	n := 0
	for n < r.blocks && r.ready() {
		pass(ctx, r)
		n++
	}
	return n
}

// block passes the next block on.
func (l *Live) block(ctx context.Context, r *ring, out chan<- frame.Batch) {
	l0 := r.take()
	e := r.entries(l0.block)
	l0.frames = e.fill(l0.frames[:0], e.left)
	frames, bad := l0.frames, e.bad
	l.book.In(len(frames) + bad)
	l.book.Drop(DropDevice, bad)
	l.book.Hold(len(frames))
	for len(frames) > 0 {
		n := min(len(frames), liveFrames)
		l0.refs.Add(1)
		b := frame.Batch{Frames: frames[:n:n], Free: l0.free}
		drop := l.send(ctx, r, b, out)
		l.book.Hold(-n)
		if drop < 0 {
			l.book.Out(n)
		} else {
			l.book.Drop(drop, n)
			b.Release()
		}
		frames = frames[n:]
	}
	l0.free()
}

// send offers a batch to the next stage. It returns the reason when the batch has to be dropped instead, else -1.
func (l *Live) send(ctx context.Context, r *ring, b frame.Batch, out chan<- frame.Batch) int {
	select {
	case out <- b:
		return -1
	default:
	}
	t := time.NewTimer(crowdInterval)
	defer t.Stop()
	for {
		if r.crowded() {
			return DropDownstream
		}
		select {
		case out <- b:
			return -1
		case <-t.C:
			t.Reset(crowdInterval)
		case <-ctx.Done():
			return l.last(b, out)
		}
	}
}

// last offers a batch after the end of ctx: not for ever.
func (l *Live) last(b frame.Batch, out chan<- frame.Batch) int {
	if l.giveUp.IsZero() {
		l.giveUp = time.Now().Add(drainTimeout)
	}
	t := time.NewTimer(time.Until(l.giveUp))
	defer t.Stop()
	select {
	case out <- b:
		return -1
	case <-t.C:
		return DropStopped
	}
}

// drain stops the kernel's side of all rings and passes on what they hold.
func (l *Live) drain(pass func(context.Context, *ring)) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for _, r := range l.rings {
		r.stop()
	}
	wait := blockTimeout
	if l.in != nil {
		wait = blockTimeoutInPlace
		l.giveUp = time.Now().Add(drainTimeout)
	}
	time.Sleep(3 * wait) // in which the kernel hands over the blocks that are not full
	for _, r := range l.rings {
		if r.fd >= 0 {
			l.move(done, r, pass)
			l.statistics(r)
		}
	}
}

func (l *Live) close() {
	for _, r := range l.rings {
		l.retire(r)
	}
	l.rings = nil
}
