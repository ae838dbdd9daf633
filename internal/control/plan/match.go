package plan

import (
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// Matches is what a selector finds, before anything is planned of it: for whoever is still writing it.
type Matches struct {
	VMs     int     `json:"vms"`     // that a tap could copy
	Ports   int     `json:"ports"`   // of them
	Hosts   int     `json:"hosts"`   // that they are on
	Refused int     `json:"refused"` // ports that the selector names and that would not be copied
	Known   int     `json:"known"`   // ports of machines that there are, whatever the selector says
	Rows    []Match `json:"rows"`    // those that are refused first
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
	f := finder{builder: b, tap: t, tools: b.tools(t), tenants: b.tenantsFor(t), hosts: map[groupKey]bool{}, vms: map[[2]string]bool{}, most: most}
	b.wanted(t, f.visit)
	for i := range b.places {
		if p := &b.places[i]; p.Port.Kind == platform.PortVM && !p.shadow {
			f.out.Known++
		}
	}
	f.out.VMs, f.out.Hosts = len(f.vms), len(f.hosts)
	f.out.Rows = append(f.refused, f.good[:min(len(f.good), most-len(f.refused))]...)
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
			f.good = append(f.good, p.match())
		}
		return
	}
	for _, r := range f.builder.out.Refusals[before:] {
		f.out.Refused++
		if len(f.refused) < f.most {
			m := p.match()
			m.Reason, m.Message, m.Fix = r.Reason, r.Message, r.Fix
			f.refused = append(f.refused, m)
		}
	}
}

func (p *place) match() Match {
	m := Match{
		Platform: p.snap.Platform, Host: p.hostName(), Switch: p.switchName(), Port: p.Port.Name, Group: p.Port.Group, Segment: policy.SegmentText(p.Port.Segment),
		VM: p.vmName(), Tenant: p.Tenant,
	}
	if p.Port.MAC != 0 {
		m.MAC = p.Port.MAC.String()
	}
	return m
}
