//go:build linux

package linux

import (
	"context"
	"fmt"
	"time"

	"crosstap/internal/control/platform"
)

// Gap is what passed a port before its copies began.
type Gap struct {
	Port    string
	Session string // Mark.Key is not known to the kernel: the handle of its filters, as tc shows it
	// Packets from and to the VM since the interface exists; those of the moment of the change are counted, so the true number is
	// not greater.
	Packets uint64
	At      time.Time
}

// ethernetHeader is not in the count of what is copied on ingress: there the header is already taken off.
const ethernetHeader = 14

// Counters implements platform.Platform.
func (p *Platform) Counters(ctx context.Context, owner string) (map[string]platform.Counter, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	s, err := p.read()
	if err != nil {
		return nil, fmt.Errorf("linux: %s: %w", p.cfg.Name, err)
	}
	now := p.snapshot(s, nil, time.Now().UnixNano())
	keys := map[uint32]string{}
	out := map[string]platform.Counter{}
	at := time.Now()
	for _, o := range now.Objects {
		if o.Kind == kindTap && o.Mark.Owner == owner {
			keys[cookieOf(o.Mark, false).session] = o.Mark.Key()
			out[o.Mark.Key()] = platform.Counter{At: at}
		}
	}
	for _, list := range s.filters {
		for i := range list {
			f := &list[i]
			if len(f.mirrors) == 0 || f.preference != preference {
				continue
			}
			c, ours := parseCookie(fmt.Sprintf("%x", f.mirrors[0].cookie))
			key := keys[c.session]
			if !ours || c.owner != ownerHash(owner) || key == "" {
				continue
			}
			out[key] = f.add(out[key])
		}
	}
	return out, nil
}

// add adds what a filter has copied. Every output gets every packet; the first one's count stands for all.
func (f *tcFilter) add(c platform.Counter) platform.Counter {
	m := f.mirrors[0]
	c.Packets += m.packets
	c.Bytes += m.bytes
	if f.dir == platform.Ingress {
		c.Bytes += ethernetHeader * m.packets
	}
	for _, m := range f.mirrors {
		c.Drops += m.drops
	}
	return c
}

// arrived returns the port's packet count before its first filter of a session is made; -1 when it had one.
func (p *Platform) arrived(s *portStep) int64 {
	if len(s.Set) == 0 {
		return -1
	}
	l, err := p.link(s.Port)
	if err != nil || l == nil || l.Attrs().Statistics == nil {
		return -1
	}
	return int64(l.Attrs().Statistics.RxPackets + l.Attrs().Statistics.TxPackets)
}

// note tells what passed a port before its copies began: with a VM that has just arrived, all of it was missed.
func (p *Platform) note(s *portStep, arrived int64) {
	if arrived < 0 || p.cfg.Gap == nil {
		return
	}
	p.cfg.Gap(Gap{Port: s.Port, Session: fmt.Sprintf("%#x", s.Set[0].Handle), Packets: uint64(arrived), At: time.Now()})
}
