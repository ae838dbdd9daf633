package plan

import (
	"cmp"
	"maps"
	"slices"

	"crosstap/internal/control/platform"
)

// Coverage says how much of what machines send and receive is seen by taps: now, and when the plan is done. Each direction of a port weighs its
// bytes; where no port has counters, all directions weigh the same, and one counts when all of it is seen. Filters and samples are not weighed.
type Coverage struct {
	Ports  int `json:"ports"` // of machines
	OneWay int `json:"one_way"`
	Seen
	Hosts []HostCoverage `json:"hosts"` // the blindest first, at most maxNames
}

// Seen is a part of all bytes, within bounds: what is copied at a port of one direction alone, and what comes from or goes to ports that are
// tapped in part, cannot be told from the counters of ports.
type Seen struct {
	Before     float64 `json:"before"` // at least
	BeforeMost float64 `json:"before_most"`
	After      float64 `json:"after"` // at least
	AfterMost  float64 `json:"after_most"`
}

// HostCoverage is the coverage of one host.
type HostCoverage struct {
	Platform string `json:"platform"`
	Host     string `json:"host"`
	Ports    int    `json:"ports"`
	OneWay   int    `json:"one_way"` // ports of which taps will copy one direction, while the other is not known to be seen elsewhere
	Seen
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
	want := maps.Clone(p.Want)
	for on, w := range want {
		w.Sessions = slices.DeleteFunc(slices.Clone(w.Sessions), func(s platform.Session) bool { return taps[s.Mark.Policy] })
		want[on] = w
	}
	b.coverage(want)
	p.Coverage = b.out.Coverage
}

// taken is what of each port is copied, by platform and ID.
type taken map[string]map[string]platform.Direction

func (c taken) add(on string, sources []platform.Source) {
	if c[on] == nil {
		c[on] = map[string]platform.Direction{}
	}
	for _, s := range sources {
		c[on][s.Port] |= s.Dir
	}
}

// at returns what is copied of a port, there and by its agent.
func (c taken) at(p *place) platform.Direction {
	d := c[p.snap.Platform][p.Port.ID]
	if w := p.agent; w != nil {
		d |= c[w.snap.Platform][w.Port.ID]
	}
	return d
}

// nowAndThen returns what the owner's objects copy now, and what will be copied: by what is wanted, by what is kept, and by all that is on a
// platform that does not answer.
func (b *builder) nowAndThen(want map[string]platform.Want) (before, after taken) {
	before, after = taken{}, taken{}
	for _, s := range b.in.Snapshots {
		w, answers := want[s.Platform]
		sessions := map[string]*platform.Session{}
		for i := range w.Sessions {
			sessions[w.Sessions[i].Mark.Key()] = &w.Sessions[i]
			after.add(s.Platform, w.Sessions[i].Sources)
		}
		for _, o := range s.Objects {
			if o.Mark.Owner != b.in.Owner {
				continue
			}
			before.add(s.Platform, sourcesOf(s, o, sessions[o.Mark.Key()]))
			if !answers || w.Keep[o.Mark.Policy] || w.Keep[o.Mark.Key()] {
				after.add(s.Platform, o.Sources)
			}
		}
	}
	return before, after
}

// sourcesOf returns the sources of an object. An agent's does not tell its direction: that of the session that it was made of does.
func sourcesOf(s *platform.Snapshot, o *platform.Object, made *platform.Session) []platform.Source {
	if sw := s.Switches[o.Switch]; made != nil && sw != nil && sw.Kind == platform.SwitchAgent && made.Mark.Digest == o.Mark.Digest {
		return made.Sources
	}
	return o.Sources
}

// coverage compares what is seen with what will be.
func (b *builder) coverage(want map[string]platform.Want) {
	now, then := b.nowAndThen(want)
	before, all := b.seen(now)
	after, allAfter := b.seen(then)
	c := Coverage{Ports: all.ports, OneWay: allAfter.oneWay, Seen: all.to(&allAfter), Hosts: []HostCoverage{}}
	for key, w := range before {
		then := after[key]
		c.Hosts = append(c.Hosts, HostCoverage{Platform: key.platform, Host: w.host, Ports: w.ports, OneWay: then.oneWay, Seen: w.to(then)})
	}
	slices.SortFunc(c.Hosts, func(x, y HostCoverage) int {
		return cmp.Or(cmp.Compare(x.After, y.After), cmp.Compare(x.Platform, y.Platform), cmp.Compare(x.Host, y.Host))
	})
	c.Hosts = c.Hosts[:min(len(c.Hosts), maxNames)]
	b.out.Coverage = c
}
