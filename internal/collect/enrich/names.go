package enrich

import (
	"fmt"

	"crosstap/internal/flow"
)

// maxNames bounds the names that are remembered; beyond it the collection starts anew.
const maxNames = 1 << 14

// names makes the names of tunnel ports, each once.
type names struct {
	tunnels map[place]string
	last    place // met last, with its name
	name    string
}

type place struct {
	observer string
	exporter flow.Addr
	domain   uint32
}

// tunnel names the tunnel port of the record's observer.
func (n *names) tunnel(r *flow.Record) string {
	p := place{observer: r.Observer}
	if p.observer == "" {
		p.exporter, p.domain = r.Exporter, r.Domain
	}
	if n.name == "" || p != n.last {
		n.last, n.name = p, n.find(&p)
	}
	return n.name
}

func (n *names) find(p *place) string {
	if s, ok := n.tunnels[*p]; ok {
		return s
	}
	s := p.observer
	if s == "" {
		s = fmt.Sprintf("%v/%d", p.exporter, p.domain)
	}
	s += " tunnel"
	if n.tunnels == nil || len(n.tunnels) >= maxNames {
		n.tunnels = make(map[place]string)
	}
	n.tunnels[*p] = s
	return s
}
