package plan

import (
	"fmt"
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Matches is what a selector finds, before anything is planned of it: for whoever is still writing it.
type Matches struct {
	VMs     int     `json:"vms"`            // that a tap could copy
	Ports   int     `json:"ports"`          // of them
	Hosts   int     `json:"hosts"`          // that they are on
	Refused int     `json:"refused"`        // ports that the selector names and that would not be copied
	Known   int     `json:"known"`          // ports of machines that there are, whatever the selector says
	Rows    []Match `json:"rows"`           // those that are refused first
	Hint    string  `json:"hint,omitempty"` // when nothing is found: what was probably meant
}

// Match is one port that a selector finds.
type Match struct {
	Platform string          `json:"platform"`
	Host     string          `json:"host"`
	Switch   string          `json:"switch"`
	Port     string          `json:"port"`
	Group    string          `json:"group,omitempty"`
	Segment  string          `json:"segment,omitempty"`
	VM       string          `json:"vm"`
	Tenant   string          `json:"tenant,omitempty"`
	MAC      string          `json:"mac,omitempty"`
	Taps     []string        `json:"taps,omitempty"`   // in force, that copy it now
	Reason   platform.Reason `json:"reason,omitempty"` // why it would not be copied
	Message  string          `json:"message,omitempty"`
	Fix      string          `json:"fix,omitempty"`
}

// Find returns what a tap's selector finds, with at most so many rows. It looks at the ports alone: what a switch can do, what it would
// cost and whether each packet is copied once is for Build to say.
func Find(in Input, t *policy.Tap, most int) Matches {
	b := newBuilder(in)
	b.look()
	b.ways()
	b.allTools()
	f := finder{builder: b, tap: t, tools: b.tools(t), tenants: b.tenantsFor(t), hosts: map[groupKey]bool{}, vms: map[[2]string]bool{}, copiedBy: b.copiedBy(), most: most}
	b.wanted(t, f.visit)
	for i := range b.places {
		if p := &b.places[i]; p.Port.Kind == platform.PortVM && !p.shadow {
			f.out.Known++
		}
	}
	f.out.VMs, f.out.Hosts = len(f.vms), len(f.hosts)
	f.out.Rows = append(f.refused, f.good[:min(len(f.good), most-len(f.refused))]...)
	if f.out.Ports+f.out.Refused == 0 {
		f.out.Hint = b.nothing(t)
	}
	return f.out
}

// finder gathers matches.
type finder struct {
	*builder
	tap           *policy.Tap
	tools         *tools
	tenants       map[string]string
	hosts         map[groupKey]bool
	vms           map[[2]string]bool
	copiedBy      map[[2]string][]string
	good, refused []Match
	most          int
	out           Matches
}

func (f *finder) visit(p *place) {
	before := len(f.builder.out.Refusals)
	if f.source(f.tap, p, f.tools) && f.ofTenant(f.tap, p, f.tenants) {
		f.out.Ports++
		f.vms[[2]string{p.snap.Platform, p.Port.VM}] = true
		f.hosts[groupKey{p.snap.Platform, p.Port.Host, ""}] = true
		if len(f.good) < f.most {
			f.good = append(f.good, f.match(p))
		}
		return
	}
	for _, r := range f.builder.out.Refusals[before:] {
		f.out.Refused++
		if len(f.refused) < f.most {
			m := f.match(p)
			m.Reason, m.Message, m.Fix = r.Reason, r.Message, r.Fix
			f.refused = append(f.refused, m)
		}
	}
}

func (f *finder) match(p *place) Match {
	m := Match{
		Platform: p.snap.Platform, Host: p.hostName(), Switch: p.switchName(), Port: p.Port.Name, Group: p.Port.Group, Segment: policy.SegmentText(p.Port.Segment),
		VM: p.vmName(), Tenant: p.Tenant,
	}
	if p.Port.MAC != 0 {
		m.MAC = p.Port.MAC.String()
	}
	m.Taps = f.copiedBy[[2]string{p.snap.Platform, p.Port.ID}]
	if w := p.agent; w != nil {
		m.Taps = slices.Concat(m.Taps, f.copiedBy[[2]string{w.snap.Platform, w.Port.ID}])
	}
	slices.Sort(m.Taps)
	m.Taps = slices.Compact(m.Taps)
	return m
}

// copiedBy tells which taps copy a port now, by platform and port.
func (b *builder) copiedBy() map[[2]string][]string {
	out := map[[2]string][]string{}
	for _, s := range b.in.Snapshots {
		for _, o := range s.Objects {
			if o.Mark.Owner != b.in.Owner || o.Mark.Policy == "" || o.Mark.Policy == platform.Shared {
				continue
			}
			for _, src := range o.Sources {
				key := [2]string{s.Platform, src.Port}
				out[key] = append(out[key], o.Mark.Policy)
			}
		}
	}
	return out
}

// nothing says why a selector finds no port.
func (b *builder) nothing(t *policy.Tap) string {
	var all []*policy.Target
	machines := 0
	for i := range b.places {
		if p := &b.places[i]; !p.shadow {
			all, machines = append(all, &p.Target), machines+count(p.Port.Kind == platform.PortVM)
		}
	}
	if len(all) == 0 {
		return "no machine is known: no platform is named that answers (--platform KIND=ADDRESS, or a Platform resource)"
	}
	if text := t.Select.Unknown(all); text != "" {
		return text
	}
	return fmt.Sprintf("none of the %d ports of machines that are known is selected", machines)
}
