package tunnel

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
)

// laneFrames is the number of frames that one system call sends at most.
const laneFrames = 64

// lane is a socket and what waits for its next system call. All copies of one conversation take the same lane, so that they
// stay in order.
type lane struct {
	fd    int
	n     int // messages waiting
	msgs  [laneFrames]mmsghdr
	parts [laneFrames][3]unix.Iovec // encapsulation, link header, frame
	heads [laneFrames][maxHeader]byte
	to    *unix.RawSockaddrLinklayer // of an interface
}

// mmsghdr is struct mmsghdr of sendmmsg(2). The compiler pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

func newLane(fd int) *lane {
	l := &lane{fd: fd}
	for i := range l.msgs {
		h := &l.msgs[i].hdr
		h.Iov = &l.parts[i][0]
	}
	return l
}

// address makes the lane send to an address of the link layer.
func (l *lane) address(to *unix.RawSockaddrLinklayer) {
	l.to = to
	for i := range l.msgs {
		h := &l.msgs[i].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(to)), unix.SizeofSockaddrLinklayer
	}
}

func (l *lane) close() {
	if l.fd >= 0 {
		_ = unix.Close(l.fd)
		l.fd = -1
	}
}

// add puts a copy of f into the lane; data is what to send of its bytes, link what goes before them. It reports whether the lane is
// full. The bytes are used until flush.
func (l *lane) add(e *encap, f *frame.Frame, link, data []byte, cut bool) (full bool) {
	i := l.n
	parts, k := &l.parts[i], 0
	if n := e.put(l.heads[i][:], f, cut); n > 0 {
		parts[k].Base = &l.heads[i][0]
		parts[k].SetLen(n)
		k++
	}
	if len(link) > 0 {
		parts[k].Base = &link[0]
		parts[k].SetLen(len(link))
		k++
	}
	if len(data) > 0 {
		parts[k].Base = &data[0]
		parts[k].SetLen(len(data))
		k++
	}
	l.msgs[i].hdr.SetIovlen(k)
	l.n++
	return l.n == laneFrames
}

// send gives the kernel the messages from index i on and returns how many it took.
func (l *lane) send(i int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(l.fd), uintptr(unsafe.Pointer(&l.msgs[i])), uintptr(l.n-i), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// How long a live sink waits for room in the kernel's queues, and how often one of a file looks again.
const (
	patience     = 5 * time.Millisecond
	pollInterval = 10 * time.Millisecond
	retries      = 8 // for one message, of errors that belong to earlier ones
)

// flush sends what waits in a lane.
func (s *Sink) flush(ctx context.Context, l *lane) {
	for i, again := 0, 0; i < l.n; {
		n, err := l.send(i)
		if n > 0 {
			s.sent(n)
			i, again = i+n, 0
			continue
		}
		switch again++; {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && s.room(ctx, l):
		case pending(err) && again < retries && (s.complained(l, err) || s.shorten(l, i)):
		default:
			drop := s.refusal(err)
			s.drop(drop, 1)
			i, again = i+1, 0
		}
	}
	l.n = 0
}

// shorten cuts the frame of a message to a path that has become narrower since. It reports whether that helps.
func (s *Sink) shorten(l *lane, i int) bool {
	if s.cfg.Target.MTU != Slice {
		return false
	}
	last := &l.parts[i][l.msgs[i].hdr.Iovlen-1]
	most := s.limit
	if s.encap.n == 0 && l.msgs[i].hdr.Iovlen == 2 || l.msgs[i].hdr.Iovlen == 3 {
		most -= len(bareIPv4) // a link header stands in front
	}
	if int(last.Len) <= most || most < 0 {
		return false
	}
	last.SetLen(most)
	switch s.cfg.Target.Kind {
	case ERSPAN2, ERSPAN3:
		const t = 0x04 // truncated
		l.heads[i][greSeqLen+2] |= t
	}
	s.sliced.Add(1)
	return true
}

// room waits for room in the socket's buffer and reports whether to try again.
func (s *Sink) room(ctx context.Context, l *lane) bool {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLOUT}}
	n, _ := unix.Poll(fds, int(patience/time.Millisecond))
	for n == 0 && s.cfg.Patient && ctx.Err() == nil {
		n, _ = unix.Poll(fds, int(pollInterval/time.Millisecond))
	}
	return n > 0
}

// pending reports whether an error of a send tells of an earlier packet: an ICMP error that has come since.
func pending(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EHOSTUNREACH) ||
		errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EPROTO) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EACCES)
}

// refusal returns the reason for a message that the kernel did not take.
func (s *Sink) refusal(err error) int {
	reason := DropSend
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		reason = DropTooBig
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		reason = DropRoute
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOPROTOOPT):
		reason = DropRefused
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM):
		reason = DropBuffers
	}
	s.warn(reason, err)
	if reason == DropRoute || reason == DropSend {
		s.failure.begin(fmt.Errorf("%s: %w", reasonsOf[reason], err))
	}
	return reason
}
