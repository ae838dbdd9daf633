package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// Who takes batches where they are made waits for the kernel to hand a block over, and for nothing else. Each time costs more than hundreds of
// frames, so blocks are large and retire late.
const (
	maxBlkInPlace       = 2 << 20
	blockTimeoutInPlace = 20 * time.Millisecond

	// framesInPlace is how many frames are given at a time. The processor fetches ahead of who reads the ring's memory, which another processor has
	// written, and begins anew each time: of 64 frames at a time each takes 21 ns, of 1,024 13. What is read of them stays in the second cache.
	framesInPlace = 1024
)

// inPlace is what Each needs beside what Run does.
type inPlace struct {
	frames [framesInPlace]frame.Frame
	take   func(frame.Batch) bool
	cancel context.CancelFunc
	epoll  *os.File // of the rings' sockets
	conn   syscall.RawConn
	until  time.Time // when wait gives up
}

// Each is Run for one who takes the batches where they are made. The frames of a batch are gone when take returns. An empty batch comes while
// there are no frames, so that take knows that time goes by. When take reports false, it has not taken the batch over, and Each stops as when ctx
// ends. Who has to wait in take calls Relieve meanwhile.
func (l *Live) Each(ctx context.Context, take func(frame.Batch) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or else Go's poller does not take it
		_ = unix.Close(fd)
		return fmt.Errorf("capture: %w", err)
	}
	in := &inPlace{take: take, cancel: cancel, epoll: os.NewFile(uintptr(fd), "epoll")}
	defer in.epoll.Close()
	if in.conn, err = in.epoll.SyscallConn(); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	l.cfg.inPlace, l.in = true, in
	return l.run(ctx, func(_ context.Context, r *ring) { l.give(r) })
}

// watch has wait return when the kernel hands over a block of a ring. Closing the ring's socket ends it.
func (in *inPlace) watch(r *ring) (err error) {
	failed := in.conn.Control(func(fd uintptr) {
		err = unix.EpollCtl(int(fd), unix.EPOLL_CTL_ADD, r.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(r.fd)})
	})
	return errors.Join(failed, err)
}

// wait waits until ready says so, and reports whether it did. It gives up after pollTimeout at most.
//
// It waits in Go's own poller. In a system call of its own, the goroutine would keep a processor, which Go takes away after 10 ms; and each time
// it comes back, Go wakes the thread that looks after such goroutines, which then looks every 20 µs.
func (in *inPlace) wait(moved bool, ready func() bool) bool {
	if ready() {
		return true
	}
	if !moved {
		in.take(frame.Batch{})
	}
	if now := time.Now(); !now.Before(in.until) { // not for each wait: a new timer wakes another thread, which looks after it
		in.until = now.Add(pollTimeout)
		if err := in.epoll.SetReadDeadline(in.until); err != nil {
			time.Sleep(minPause)
			return false
		}
	}
	there := false
	_ = in.conn.Read(func(uintptr) bool { there = ready(); return there }) // its error is that time is up
	return there
}

// give gives the frames of the next block.
func (l *Live) give(r *ring) {
	b := r.take()
	defer b.free()
	e := r.entries(b.block)
	for e.left > 0 {
		frames := e.fill(l.in.frames[:0], framesInPlace)
		n := len(frames)
		l.book.In(n)
		l.book.Hold(n)
		taken := l.in.take(frame.Batch{Frames: frames})
		l.book.Hold(-n)
		if !taken {
			l.book.Drop(DropStopped, n)
			l.book.In(e.left)
			l.book.Drop(DropStopped, e.left)
			l.in.cancel()
			return
		}
		l.book.Out(n)
	}
	l.book.In(e.bad)
	l.book.Drop(DropDevice, e.bad)
}

// Relieve sheds what Run would shed while the next stage is slow: the oldest blocks that wait, when the ring is nearly full, and after the end of
// ctx all of them, when that was some time ago. It is for the function that Each calls.
func (l *Live) Relieve() {
	late := !l.giveUp.IsZero() && time.Now().After(l.giveUp)
	for _, r := range l.rings {
		for n := 0; n < r.blocks && r.ready() && (late || r.crowded()); n++ {
			reason := DropDownstream
			if late {
				reason = DropStopped
			}
			b := r.take()
			e := r.entries(b.block)
			l.book.In(e.left)
			l.book.Drop(reason, e.left)
			b.free()
		}
	}
}
