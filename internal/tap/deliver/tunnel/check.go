package tunnel

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/wire"
)

// check compares the path with the longest frame and the route with the interfaces that are tapped.
func (s *Sink) check() error {
	t, w := &s.cfg.Target, &s.way
	r := Report{
		Source: w.source.String(), Tool: t.address(), Interface: w.route.name, PathMTU: w.mtu, Overhead: w.overhead, Fits: w.mtu - w.overhead,
		Exclusion: t.exclusion(w.source, w.tool),
	}
	if t.Host != w.tool.String() {
		r.Tool += " (" + w.tool.String() + ")"
	}
	tapped, err := lookUp(s.cfg.Tapped, s.cfg.TappedNetNS)
	if err != nil {
		return err
	}
	r.Largest = tapped.largest()
	if err := tapped.loop(t, w); err != nil {
		return err
	}
	if s.cfg.TappedNetNS == t.NetNS && slices.Contains(s.cfg.Tapped, w.route.name) {
		s.log.Warn("the way to the tool leads through a tapped interface: our copies are kept out of the capture, and take their room on it", "to", s.Where(), "interface", w.route.name)
	}
	if err := s.fit(&r); err != nil {
		return err
	}
	s.keep(r)
	s.log.Info("destination", "to", s.Where(), "source", r.Source, "interface", r.Interface, "path_mtu", r.PathMTU, "overhead", r.Overhead,
		"frame_fits", r.Fits, "longest_frame", r.Largest, "too_long", r.Decision)
	return nil
}

func (s *Sink) keep(r Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = r
}

// fit decides what happens to frames that are too long for the path.
func (s *Sink) fit(r *Report) error {
	if r.Fits < wire.EthernetLen {
		return fmt.Errorf("path MTU %d: the headers take %d of it", r.PathMTU, r.Overhead)
	}
	s.limit = r.Fits
	long := r.Largest > r.Fits
	switch s.cfg.Target.MTU {
	case Slice:
		r.Decision = fmt.Sprintf("slice: frames above %d bytes are cut to that", r.Fits)
	case Refuse:
		r.Decision = fmt.Sprintf("refuse: frames above %d bytes are dropped", r.Fits)
		if long {
			return fmt.Errorf("frames of the tapped interfaces have up to %d bytes, and %d fit through the path to %s (MTU %d, less %d of encapsulation): raise the MTU of the path to %d, or give mtu=slice or mtu=fragment",
				r.Largest, r.Fits, s.way.tool, r.PathMTU, r.Overhead, r.Largest+r.Overhead)
		}
	default:
		r.Decision = fmt.Sprintf("fragment: a frame above %d bytes travels in several packets, and the tool must put them together", r.Fits)
		if long {
			s.log.Warn("copies of long frames will be fragmented: raise the path's MTU, or give mtu=slice or mtu=refuse", "to", s.Where(),
				"frame_fits", r.Fits, "longest_frame", r.Largest, "path_mtu", r.PathMTU, "overhead", r.Overhead)
		}
	}
	return nil
}

// narrow takes notice of a path that is narrower than was known.
func (s *Sink) narrow(mtu int) {
	if mtu >= s.way.mtu || mtu-s.way.overhead < wire.EthernetLen {
		return
	}
	s.log.Warn("the path to the tool is narrower than it was", "to", s.Where(), "path_mtu", mtu, "before", s.way.mtu)
	s.way.mtu, s.limit = mtu, mtu-s.way.overhead
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.PathMTU, s.report.Fits = mtu, s.limit
}

// answerTime is how long a host may take to say that nothing listens.
const answerTime = 250 * time.Millisecond

// ask finds out whether something listens at the tool, as far as its host tells: no answer is a good sign, and no proof.
func (s *Sink) ask() {
	l := s.lanes[0]
	s.probe(l)
	fds := []unix.PollFd{{Fd: int32(l.fd)}} // errors are always told
	if n, _ := unix.Poll(fds, int(answerTime/time.Millisecond)); n > 0 {
		s.drain(l)
		_, _ = unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	}
}

// checkInterface does for an interface what check does for a tool.
func (s *Sink) checkInterface() error {
	t, w := &s.cfg.Target, &s.way
	const tag = wire.VLANLen
	r := Report{Tool: "iface:" + t.Host, Interface: w.route.name, PathMTU: w.mtu, Fits: w.mtu + wire.EthernetLen}
	tapped, err := lookUp(s.cfg.Tapped, s.cfg.TappedNetNS)
	if err != nil {
		return err
	}
	if err := tapped.injection(t, w.route, s.cfg.IngressOnly); err != nil {
		return err
	}
	r.Largest = tapped.largest()
	r.Decision = fmt.Sprintf("drop: frames above %d bytes are dropped", r.Fits)
	if t.MTU == Slice {
		s.limit, r.Decision = r.Fits, fmt.Sprintf("slice: frames above %d bytes are cut to that", r.Fits)
	}
	if t.MTU == Refuse && r.Largest > r.Fits+tag {
		return fmt.Errorf("frames of the tapped interfaces have up to %d bytes, and %s takes %d: raise its MTU, or give mtu=slice", r.Largest, t.Host, r.Fits)
	}
	s.keep(r)
	s.log.Info("destination", "to", s.Where(), "mtu", w.mtu, "too_long", r.Decision)
	return nil
}
