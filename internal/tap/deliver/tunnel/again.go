package tunnel

import (
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// failure is the last time that the kernel had no way for copies. It is asked by any goroutine.
type failure struct {
	now  bool      // only for Run
	next time.Time // attempt to find the interface again

	mu            sync.Mutex
	err           error
	at, recovered time.Time
}

// Failure returns when copies could not be sent last, since when they can again, zero while they cannot, and why.
func (s *Sink) Failure() (at, recovered time.Time, why error) {
	f := &s.failure
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at, f.recovered, f.err
}

// begin notes that copies cannot be sent.
func (f *failure) begin(err error) {
	if f.now {
		return
	}
	f.now = true
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.at, f.recovered = err, time.Now(), time.Time{}
}

// end notes that they can.
func (f *failure) end() {
	f.now = false
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recovered = time.Now()
}

const findAgain = time.Second // between attempts to find an interface

// find looks for an interface that was named and is not there any more. One that comes back has another index, and the socket keeps the old one.
func (s *Sink) find(now time.Time) {
	t := &s.cfg.Target
	if !s.failure.now || now.Before(s.failure.next) || t.Kind != Interface && t.Device == "" {
		return
	}
	s.failure.next = now.Add(findAgain)
	err := netns.Do(t.NetNS, func() error {
		if t.Kind == Interface {
			return s.findInterface()
		}
		r, err := routeTo(s.way.tool, t.Device)
		if err != nil || r.index == s.way.route.index {
			return err
		}
		tapped, err := lookUp(s.cfg.Tapped, s.cfg.TappedNetNS)
		if err != nil {
			return err
		}
		w := s.way
		w.route = r
		if err := tapped.loop(t, &w); err != nil {
			return err
		}
		for _, l := range s.lanes {
			if err := unix.BindToDevice(l.fd, t.Device); err != nil {
				return fmt.Errorf("dev %s: %w", t.Device, err)
			}
		}
		s.way.route = r
		s.log.Info("the interface is there again", "to", s.Where(), "interface", t.Device)
		return nil
	})
	if err != nil {
		s.log.Debug("the interface is not there", "to", s.Where(), "error", err)
	}
}

// findInterface goes over to the interface that has the name now, when it may be sent to.
func (s *Sink) findInterface() error {
	link, err := netlink.LinkByName(s.cfg.Target.Host)
	if err != nil {
		return err
	}
	a, old := link.Attrs(), s.way
	if a.Index == old.route.index {
		return nil
	}
	if a.EncapType != "ether" && a.EncapType != "loopback" {
		return fmt.Errorf("its link type is %s", a.EncapType)
	}
	s.way.route, s.way.mtu = route{name: a.Name, index: a.Index}, a.MTU
	if err := s.checkInterface(); err != nil {
		s.way = old
		return err
	}
	s.lanes[0].to.Ifindex = int32(a.Index)
	s.log.Info("the interface is there again", "to", s.Where(), "interface", a.Name)
	return nil
}
