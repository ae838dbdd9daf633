package tunnel

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// absence knows whether the tool is there. While it is not, copies stop for longer and longer, when the target wants that, and a probe finds out
// how things are at the end of each pause. That nothing listens matters only to a target that wants pauses: other tools read copies off the
// wire.
type absence struct {
	pause  bool // the target wants it
	until  time.Time
	next   time.Duration
	asked  bool          // the probe after the pause was sent
	since  time.Time     // of the last complaint, or of the probe
	quiet  time.Duration // without a complaint, after which the tool is there again
	reason int           // to drop copies for
	gone   atomic.Bool   // for Up
}

const (
	leastPause = time.Second
	mostPause  = 30 * time.Second
	// How soon the answer to a probe comes: at once where a host refuses it, after all attempts to find its address where there is no host (ARP and
	// neighbour discovery make three, a second apart).
	refusedSoon   = 2 * lookInterval
	unreachedSoon = 4 * time.Second
)

func (a *absence) pausing(now time.Time) bool { return !a.until.IsZero() && now.Before(a.until) }

// complain notes that nothing listens, or that there is no way to the tool.
func (a *absence) complain(now time.Time, reason int, soon time.Duration) {
	a.since = now
	if reason == DropRefused && !a.pause || a.pausing(now) {
		return
	}
	a.next = min(max(2*a.next, leastPause), mostPause)
	a.until, a.asked, a.quiet, a.reason = now.Add(a.next), false, soon, reason
	a.gone.Store(true)
}

// settle notes that copies go through again.
func (a *absence) settle(now time.Time) {
	if a.next != 0 && now.Sub(a.since) > a.quiet && !a.pausing(now) {
		a.next, a.until = 0, time.Time{}
		a.gone.Store(false)
	}
}

// Up reports whether the tool is there, as far as is known: false while its host cannot be reached, and with absent=pause while nothing listens.
func (s *Sink) Up() bool { return !s.absent.gone.Load() }

// look reads what the network said about copies, and warns of what happens again and again.
func (s *Sink) look(now time.Time) {
	for _, l := range s.lanes {
		s.drain(l)
	}
	s.find(now)
	if s.absent.until.IsZero() {
		return
	}
	if now.After(s.absent.until) && !s.absent.asked {
		// The pause is over: ask before the copies go on.
		s.absent.asked, s.absent.since = true, now
		s.probe(s.lanes[0])
		return
	}
	s.absent.settle(now)
}

// complained reads what the network said, when a send has told that it said something. It reports whether sending the same message again can
// help.
func (s *Sink) complained(l *lane, err error) bool {
	n := s.drain(l)
	if n == 0 {
		s.complaint(err)
	}
	return !tooLongNow(err)
}

func tooLongNow(err error) bool { return err == unix.EMSGSIZE || err == unix.EACCES }

// drain reads the socket's error queue (IP_RECVERR, ip(7)) and returns the number of errors.
func (s *Sink) drain(l *lane) (n int) {
	var control [256]byte
	var b [64]byte
	for {
		_, cn, _, _, err := unix.Recvmsg(l.fd, b[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return n
		}
		n++
		msgs, err := unix.ParseSocketControlMessage(control[:cn])
		if err != nil {
			continue
		}
		for _, m := range msgs {
			if len(m.Data) >= int(unsafe.Sizeof(unix.SockExtendedErr{})) {
				e := (*unix.SockExtendedErr)(unsafe.Pointer(&m.Data[0]))
				s.extended(e)
			}
		}
	}
}

// extended takes notice of one error.
func (s *Sink) extended(e *unix.SockExtendedErr) {
	if unix.Errno(e.Errno) == unix.EMSGSIZE {
		if mtu := int(e.Info); mtu > 0 {
			s.narrow(mtu)
		}
		return
	}
	s.complaint(unix.Errno(e.Errno))
}

// complaint takes notice of an ICMP error.
func (s *Sink) complaint(err error) {
	switch err {
	case unix.ECONNREFUSED, unix.ENOPROTOOPT, unix.EPROTO:
		now := time.Now()
		s.refusals.Add(1)
		s.absent.complain(now, DropRefused, refusedSoon)
		s.mu.Lock()
		s.report.Refused = true
		s.mu.Unlock()
		s.warn(DropRefused, err)
	case unix.EHOSTUNREACH, unix.ENETUNREACH:
		s.absent.complain(time.Now(), DropRoute, unreachedSoon)
		s.warn(DropRoute, err)
	}
}

// probe sends an empty packet: no decapsulator takes it for a frame, and a host where nothing listens answers it by ICMP. Behind the IP header
// eight bytes are needed for an answer to find its socket: over UDP its header, for GRE our own with nothing in it.
func (s *Sink) probe(l *lane) {
	var b []byte
	if !s.cfg.Target.Kind.overUDP() {
		const least = 8
		b = append(b, s.encap.head[:max(s.encap.n, least)]...)
	}
	_ = unix.Send(l.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// warnings are the words for what is met again and again; the first time and then at most once in warnAgain each.
const warnAgain = time.Minute

var advice = map[int]string{
	DropTooBig:  "copies do not fit through the path: raise its MTU, or give mtu=slice or mtu=fragment",
	DropRoute:   "no way to the tool",
	DropRefused: "nothing listens at the tool: it answers copies with ICMP errors",
	DropBuffers: "the kernel's queues are full: copies are dropped",
	DropSend:    "copies cannot be sent",
}

func (s *Sink) warn(reason int, err error) {
	now := time.Now()
	if t := &s.warnedAt[reason]; t.IsZero() || now.Sub(*t) >= warnAgain {
		*t = now
		s.log.Warn(advice[reason], "to", s.Where(), "error", err)
	}
}
