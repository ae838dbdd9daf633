package plan

import (
	"cmp"
	"maps"
	"slices"

	"crosstap/internal/control/platform"
)

// Coverage says how much of what machines send and receive is seen by taps: now, and when the plan is done. Each direction of a port weighs its
// bytes; where no port has counters, all directions weigh the same. A tap that copies one packet in N sees that part of them, one with a filter
// what stored flows say. Ports of tools are left out: taps never copy them.
type Coverage struct {
	Ports  int `json:"ports"` // of machines
	OneWay int `json:"one_way"`
	Seen
	Hosts        []HostCoverage `json:"hosts"` // the blindest first, at most maxNames
	LeftOutPorts int            `json:"left_out_ports,omitempty"`
	LeftOut      []LeftOut      `json:"left_out,omitempty"` // of them, at most maxNames
}

// LeftOut is a port of a machine that coverage does not weigh.
type LeftOut struct {
	Platform string          `json:"platform"`
	Host     string          `json:"host"`
	VM       string          `json:"vm"`
	Port     string          `json:"port"`
	Reason   platform.Reason `json:"reason"`
	Why      string          `json:"why"`
}

// Seen is a part of all bytes, within bounds: what is copied at a port of one direction alone, and what comes from or goes to ports that are
// tapped in part, cannot be told from the counters of ports; nor what passes a filter, without flows.
type Seen struct {
	Before     float64  `json:"before"` // at least
	BeforeMost float64  `json:"before_most"`
	BeforeWhy  []string `json:"before_why,omitempty"` // what taps leave out, and why there are bounds
	After      float64  `json:"after"`                // at least
	AfterMost  float64  `json:"after_most"`
	AfterWhy   []string `json:"after_why,omitempty"`
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
	b.allTools()
	want := maps.Clone(p.Want)
	for on, w := range want {
		w.Sessions = slices.DeleteFunc(slices.Clone(w.Sessions), func(s platform.Session) bool { return taps[s.Mark.Policy] })
		want[on] = w
	}
	b.coverage(want)
	p.Coverage = b.out.Coverage
}

// nowAndThen returns what the owner's objects copy now, and what will be copied: by what is wanted, by what is kept, and by all that is on a
// platform that does not answer.
func (b *builder) nowAndThen(want map[string]platform.Want) (before, after taken) {
	before, after = taken{}, taken{}
	for _, s := range b.in.Snapshots {
		w, answers := want[s.Platform]
		sessions := map[string]*platform.Session{}
		for i := range w.Sessions {
			made := &w.Sessions[i]
			sessions[made.Mark.Key()] = made
			after.add(s.Platform, made.Sources, b.number(ofSession(made)))
		}
		for _, o := range s.Objects {
			if o.Mark.Owner != b.in.Owner {
				continue
			}
			if len(o.Sources) == 0 {
				continue
			}
			is := b.number(b.ofObject(o, sessions[o.Mark.Key()]))
			before.add(s.Platform, o.Sources, is)
			if !answers || w.Keep[o.Mark.Policy] || w.Keep[o.Mark.Key()] {
				after.add(s.Platform, o.Sources, is)
			}
		}
	}
	return before, after
}

// coverage compares what is seen with what will be.
func (b *builder) coverage(want map[string]platform.Want) {
	c := Coverage{Hosts: []HostCoverage{}}
	b.leaveOut(&c)
	now, then := b.nowAndThen(want)
	before, all := b.seen(now)
	after, allAfter := b.seen(then)
	c.Ports, c.OneWay, c.Seen = all.ports, allAfter.oneWay, all.to(&allAfter)
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

// leaveOut notes the ports of machines that taps never copy: those that copies come to.
func (b *builder) leaveOut(c *Coverage) {
	b.left = make([]bool, len(b.places))
	for i := range b.places {
		p := &b.places[i]
		carries := p.Port.Kind == platform.PortMirror && p.Port.VM != ""
		if p.shadow || p.Port.Owner != "" || p.Port.Kind != platform.PortVM && !carries {
			continue
		}
		one := LeftOut{Platform: p.snap.Platform, Host: p.hostName(), VM: p.vmName(), Port: p.Port.Name, Reason: platform.ReasonDestination}
		switch tap := b.toolOf(p); {
		case tap != "":
			one.Why = "a destination of tap " + tap + ": what comes to it are copies"
		case carries:
			one.Reason = platform.ReasonMirrorPort
			one.Why = "it carries the copies of " + cmp.Or(b.copied[p.snap.Platform][p.Port.ID], "a mirror session")
		default:
			continue
		}
		b.left[i] = true
		if c.LeftOutPorts++; len(c.LeftOut) < maxNames {
			c.LeftOut = append(c.LeftOut, one)
		}
	}
}
