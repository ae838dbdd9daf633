//go:build linux

package linux

import (
	"context"
	"fmt"
	"time"

	"crosstap/internal/control/platform"
)

// ethernetHeader is not in the count of what is copied on ingress: there the header is already taken off.
const ethernetHeader = 14

// Counters implements platform.Platform.
func (p *Platform) Counters(ctx context.Context, owner string) (out map[string]platform.Counter, err error) {
	err = p.with(func() error {
		s, err := p.read()
		if err != nil {
			return fmt.Errorf("linux: %s: %w", p.cfg.Name, err)
		}
		out = counted(s, p.snapshot(s, nil, time.Now().UnixNano()), owner)
		return nil
	})
	return out, err
}

// counted adds up what an owner's filters have copied, by session.
func counted(s *state, now *platform.Snapshot, owner string) map[string]platform.Counter {
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
	return out
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

// arrivalFor is how long an interface counts as one that has just come: a tap that somebody makes later has missed nothing.
const arrivalFor = time.Minute

// arrival notes that an interface has come.
func (p *Platform) arrival(index int) {
	p.fresh.Store(index, time.Now())
}

// OnGap implements platform.Gapper.
func (p *Platform) OnGap(f func(platform.Gap)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onGap = f
}

// passed returns how many packets have passed an interface both ways since it exists, -1 when the kernel does not tell.
func (p *Platform) passed(name string) int64 {
	l, err := p.link(name)
	if err != nil || l == nil || l.Attrs().Statistics == nil {
		return -1
	}
	return int64(l.Attrs().Statistics.RxPackets + l.Attrs().Statistics.TxPackets)
}

// note tells what passed an interface that has just come before its copies began. before is what had passed when they were asked for.
func (p *Platform) note(s *portStep, policy string, before int64) {
	at, fresh := p.fresh.LoadAndDelete(s.Index)
	if !fresh || len(s.Set) == 0 || time.Since(at.(time.Time)) > arrivalFor {
		return
	}
	g := platform.Gap{Platform: p.cfg.Name, Policy: policy, VM: s.VM, Port: s.Port, At: time.Now(), After: time.Since(at.(time.Time)), Packets: p.passed(s.Port)}
	g.Least = max(min(before, g.Packets), 0)
	p.log.Info("copies follow an interface that came", "platform", p.cfg.Name, "port", g.Port, "missed_packets_at_most", g.Packets, "after", g.After)
	p.mu.Lock()
	tell := p.onGap
	p.mu.Unlock()
	if tell != nil {
		tell(g)
	}
}
