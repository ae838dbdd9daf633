package plan

import (
	"cmp"
	"slices"

	"crosstap/internal/control/platform"
)

// Coverage says how much of the machines' ports is seen by taps: now, and when the plan is done.
type Coverage struct {
	Ports  int            `json:"ports"`  // of machines
	Before float64        `json:"before"` // part of their bytes; of the ports when no port has counters
	After  float64        `json:"after"`
	Hosts  []HostCoverage `json:"hosts"` // the blindest first, at most maxNames
}

// HostCoverage is the coverage of one host.
type HostCoverage struct {
	Platform string  `json:"platform"`
	Host     string  `json:"host"`
	Ports    int     `json:"ports"`
	Before   float64 `json:"before"`
	After    float64 `json:"after"`
}

// weigh adds up ports: by bytes, and by number.
type weigh struct {
	ports, before, after           int
	bytes, bytesBefore, bytesAfter uint64
	platform, host                 string
}

func (w *weigh) add(p *platform.Port, before, after bool) {
	n := p.RxBytes + p.TxBytes
	w.ports++
	w.bytes += n
	if before {
		w.before++
		w.bytesBefore += n
	}
	if after {
		w.after++
		w.bytesAfter += n
	}
}

func (w *weigh) parts() (before, after float64) {
	switch {
	case w.bytes > 0:
		return float64(w.bytesBefore) / float64(w.bytes), float64(w.bytesAfter) / float64(w.bytes)
	case w.ports > 0:
		return float64(w.before) / float64(w.ports), float64(w.after) / float64(w.ports)
	}
	return 0, 0
}

// Refuse says of taps that Build could plan that nothing of them shall be after all, and corrects the coverage. Input is that of Build.
func (p *Plan) Refuse(in Input, taps map[string]bool) {
	changed := false
	for i := range p.Taps {
		if t := &p.Taps[i]; t.State == Active && taps[t.Name] {
			t.State, t.Places, t.Copies, t.Cost, changed = Refused, []Place{}, Copies{}, Cost{}, true
		}
	}
	if !changed {
		return
	}
	b := newBuilder(in)
	b.look()
	b.ways()
	after := map[string]map[string]bool{}
	for on, want := range p.Want {
		after[on] = portsOf(slices.DeleteFunc(slices.Clone(want.Sessions), func(s platform.Session) bool { return taps[s.Mark.Policy] }))
	}
	b.coverage(after)
	p.Coverage = b.out.Coverage
}

// coverage compares what is seen with what will be: before is what sessions with the owner's mark copy now.
func (b *builder) coverage(after map[string]map[string]bool) {
	var all weigh
	hosts := map[groupKey]*weigh{}
	before := map[string]map[string]bool{}
	for _, s := range b.in.Snapshots {
		before[s.Platform] = map[string]bool{}
		for _, o := range s.Objects {
			if o.Mark.Owner != b.in.Owner {
				continue
			}
			for _, src := range o.Sources {
				before[s.Platform][src.Port] = true
			}
		}
	}
	for i := range b.places {
		p := &b.places[i]
		if p.Port.Kind != platform.PortVM || p.Port.Owner != "" || p.shadow {
			continue
		}
		was, will := before[p.snap.Platform][p.Port.ID], after[p.snap.Platform][p.Port.ID]
		if w := p.agent; w != nil {
			was, will = was || before[w.snap.Platform][w.Port.ID], will || after[w.snap.Platform][w.Port.ID]
		}
		all.add(p.Port, was, will)
		key := groupKey{p.snap.Platform, p.Port.Host, ""}
		if hosts[key] == nil {
			hosts[key] = &weigh{platform: p.snap.Platform, host: p.hostName()}
		}
		hosts[key].add(p.Port, was, will)
	}
	c := Coverage{Ports: all.ports, Hosts: []HostCoverage{}}
	c.Before, c.After = all.parts()
	for _, w := range hosts {
		h := HostCoverage{Platform: w.platform, Host: w.host, Ports: w.ports}
		h.Before, h.After = w.parts()
		c.Hosts = append(c.Hosts, h)
	}
	slices.SortFunc(c.Hosts, func(x, y HostCoverage) int {
		return cmp.Or(cmp.Compare(x.After, y.After), cmp.Compare(x.Platform, y.Platform), cmp.Compare(x.Host, y.Host))
	})
	c.Hosts = c.Hosts[:min(len(c.Hosts), maxNames)]
	b.out.Coverage = c
}
