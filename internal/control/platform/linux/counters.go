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
