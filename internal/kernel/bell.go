package kernel

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// bell tells a reader that is asleep that its ring is half full: programs ring it (toRing). A thread waits for it in the kernel, where it costs nothing.
type bell struct {
	rung  chan struct{}
	epoll int
	stop  int    // eventfd
	heard mapped // the reader's page of the kernel's ring buffer
	calls mapped // the programs' page, and the data
	ended chan struct{}
	done  chan struct{}
}

func newBell(r *ring) (b *bell, err error) {
	b = &bell{rung: make(chan struct{}), epoll: -1, stop: -1, ended: make(chan struct{}), done: make(chan struct{})}
	defer func() {
		if err != nil {
			b.release()
			b, err = nil, fmt.Errorf("wake-up of the ring's reader: %w", err)
		}
	}()
	page := os.Getpagesize()
	if b.heard, err = unix.Mmap(r.bell.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return b, err
	}
	if b.calls, err = unix.Mmap(r.bell.FD(), int64(page), page, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return b, err
	}
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return b, err
	}
	if b.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return b, err
	}
	for _, x := range []struct {
		fd     int
		events uint32
	}{{r.bell.FD(), unix.EPOLLIN | unix.EPOLLET}, {b.stop, unix.EPOLLIN}} { // the moments at which it is rung, not whether something is in it
		if err = unix.EpollCtl(b.epoll, unix.EPOLL_CTL_ADD, x.fd, &unix.EpollEvent{Events: x.events, Fd: int32(x.fd)}); err != nil {
			return b, err
		}
	}
	go b.listen()
	return b, nil
}

// listen passes on that the bell was rung until close. It waits until that was heard: a reader that has no time is not called again.
func (b *bell) listen() {
	defer close(b.done)
	events := make([]unix.EpollEvent, 2)
	for {
		n, err := unix.EpollWait(b.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return // the reader looks from time to time
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == b.stop {
				return
			}
			b.heard.u64(0).Store(b.calls.u64(0).Load())
			select {
			case b.rung <- struct{}{}:
			case <-b.ended:
				return
			}
		}
	}
}

func (b *bell) close() {
	if b == nil {
		return
	}
	close(b.ended)
	one := binary.NativeEndian.AppendUint64(nil, 1)
	if _, err := unix.Write(b.stop, one); err == nil {
		<-b.done
	}
	b.release()
}

func (b *bell) release() {
	closeMapped(nil, b.heard, b.calls)
	for _, fd := range []int{b.epoll, b.stop} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
