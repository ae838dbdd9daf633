// Package plan works out what policies mean on what there is: which sessions each platform shall have so that every packet is copied
// once, what they will cost, what stays unseen, and what is refused and why. It is pure: the same input gives the same plan.
package plan

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
)

// Input is what a plan is made of.
type Input struct {
	Owner     string // of the marks
	Set       *policy.Set
	Was       *policy.Set // in force until now: what there is was made of it; nil for Set
	Snapshots []*platform.Snapshot
	Rates     Rates                // nil: rates are not known
	Applied   map[string]time.Time // when each tap was applied, for its TTL; a tap that is missing is applied now
	Known     map[string]bool      // further policies that the control line knows, such as those being removed
	Prune     bool                 // remove what carries the owner's mark and no policy explains
	Advise    bool                 // warn also of what was probably not meant
	Now       time.Time
}

// Rates tells what machines send and receive, from stored flows.
type Rates interface {
	// Expect returns the rate of the packets of those machines that pass a packet filter; ok is false when nothing is stored.
	Expect(vms []string, macs []flow.MAC, dir platform.Direction, filter string) (r Rate, ok bool)
	// Passing returns which part of what machines send (Ingress) or receive (Egress) passes a packet filter.
	Passing(dir platform.Direction, filter string) Passing
}

// Rate is how much traffic there is, without outer headers.
type Rate struct {
	BPS  float64 `json:"bps"`  // bits each second, average
	Peak float64 `json:"peak"` // bits each second in the busiest minute
	PPS  float64 `json:"pps"`  // packets each second, average
	Of   string  `json:"of"`   // what it was taken from, such as "flows of the last 24 h"
}

// Plan is what shall be, and what it means.
type Plan struct {
	Taps     []Tap                    `json:"taps"`
	Want     map[string]platform.Want `json:"-"` // by platform; a platform that does not answer is missing
	Refusals []platform.Refusal       `json:"refusals"`
	Coverage Coverage                 `json:"coverage"`
}

// State is what a plan makes of a tap.
type State string

// The states.
const (
	Active  State = "active"
	Paused  State = "paused"
	Expired State = "expired"
	Refused State = "refused"  // nothing of it shall be
	NoMatch State = "no-match" // nothing to be seen, now
)

// Tap is one tap in a plan.
type Tap struct {
	Name     string          `json:"name"`
	Owner    string          `json:"owner,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	State    State           `json:"state"`
	Select   string          `json:"select"`         // of a tap from a VLAN the same as From
	From     string          `json:"from,omitempty"` // what it takes in place of machines, such as rspan:99
	Ports    int             `json:"ports"`
	VMs      int             `json:"vms"`
	Expires  time.Time       `json:"expires,omitzero"`
	Places   []Place         `json:"places"`
	Copies   Copies          `json:"copies"`
	Cost     Cost            `json:"cost"`
	MTU      []MTU           `json:"mtu,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Method   platform.Method `json:"method"`
}

// Place is one session of a tap.
type Place struct {
	Platform string          `json:"platform"`
	Host     string          `json:"host"`   // name
	Switch   string          `json:"switch"` // name
	Method   platform.Method `json:"method"`
	Ports    []string        `json:"ports"` // names, at most maxNames
	Count    int             `json:"count"` // of ports
	Session  string          `json:"session"`
	To       []string        `json:"to"`
}

const maxNames = 50

// place is one port with what belongs to it.
type place struct {
	policy.Target
	snap   *platform.Snapshot
	key    groupKey
	agent  *place // the same adapter as an agent sees it; nil for none
	shadow bool   // an interface of an agent that is the way to another place
	of     *place // the place that this one is the way to
}

// groupKey names a switch, or a host without one.
type groupKey struct{ platform, host, sw string }

func (a groupKey) compare(b groupKey) int {
	return cmp.Or(cmp.Compare(a.platform, b.platform), cmp.Compare(a.host, b.host), cmp.Compare(a.sw, b.sw))
}

// builder is one run of Build.
type builder struct {
	in     Input
	places []place // of platforms that answer, in a steady order
	out    *Plan
	uplink map[groupKey]int             // smallest MTU of the uplinks of each host, sw is ""
	remote map[groupKey]bool            // hosts that copies of taps leave or come to over the network, sw is ""
	copied map[string]map[string]string // platform → ports that carry copies → whose they are
	held   map[string]map[string]hold   // platform → policy: what a refusal means for what exists
	spared map[string]map[string]bool   // platform → Mark.Key of sessions that were refused
	at     []spot                       // where each of the plan's refusals is

	found     map[*policy.Tap]*tools
	toolPorts map[[2]string][]string // platform and port → taps that copy to it
	toolAddrs map[string][]string    // address → taps that copy to it

	covers       []cover // that leave something out, from 1
	coverNumbers map[cover]int32
	passes       [2]map[string]*Passing // by direction and filter
	left         []bool                 // of places: those that coverage leaves out
}

func newBuilder(in Input) *builder {
	return &builder{in: in, out: &Plan{Want: map[string]platform.Want{}}, uplink: map[groupKey]int{}, remote: map[groupKey]bool{}, copied: map[string]map[string]string{}, held: map[string]map[string]hold{}, spared: map[string]map[string]bool{},
		found: map[*policy.Tap]*tools{}, toolPorts: map[[2]string][]string{}, toolAddrs: map[string][]string{}}
}

// Build makes the plan.
func Build(in Input) *Plan {
	b := newBuilder(in)
	b.look()
	b.ways()
	b.allTools()
	sessions := map[string][]platform.Session{}
	b.out.Taps = make([]Tap, len(in.Set.Taps))
	for _, i := range inOrder(in.Set.Taps) {
		doc, made := b.tap(in.Set.Taps[i])
		b.out.Taps[i] = doc
		for p, list := range made {
			sessions[p] = append(sessions[p], list...)
			for _, s := range list {
				if s.Method == platform.MethodRemoteMirror {
					b.remote[groupKey{p, s.Host, ""}] = true
				}
			}
		}
	}
	for _, s := range in.Snapshots {
		if s.Lost != nil {
			b.unreachable(s)
			continue
		}
		slices.SortFunc(sessions[s.Platform], func(x, y platform.Session) int { return cmp.Compare(x.Mark.Key(), y.Mark.Key()) })
		b.out.Want[s.Platform] = platform.Want{Owner: in.Owner, Sessions: sessions[s.Platform], Keep: b.keep(s)}
	}
	b.tellKept()
	if in.Advise {
		b.overlaps(sessions)
	}
	b.coverage(b.out.Want)
	return b.out
}

// inOrder returns the order in which taps are planned: those that may have uplinks as sources come last, when it is known which hosts copies
// leave.
func inOrder(taps []*policy.Tap) []int {
	var first, last []int
	for i, t := range taps {
		if t.Allows(policy.AllowUplinks) {
			last = append(last, i)
		} else {
			first = append(first, i)
		}
	}
	return append(first, last...)
}

// look gathers the ports of all platforms.
func (b *builder) look() {
	tenants := newTenants(b.in.Set)
	for _, s := range b.in.Snapshots { // of one that does not answer what was known last: its sessions go on
		b.copied[s.Platform] = map[string]string{}
		for _, o := range s.Objects {
			for _, p := range o.Outputs {
				b.copied[s.Platform][p] = max(b.copied[s.Platform][p], b.whose(o))
			}
			if o.Remote != "" {
				b.remote[groupKey{s.Platform, o.Host, ""}] = true
			}
		}
		first := len(b.places)
		for _, p := range s.Ports {
			b.places = append(b.places, newPlace(s, p, tenants))
			host := groupKey{s.Platform, p.Host, ""}
			if least := b.uplink[host]; p.Kind == platform.PortUplink && p.MTU > 0 && (least == 0 || p.MTU < least) {
				b.uplink[host] = p.MTU
			}
		}
		slices.SortFunc(b.places[first:], func(x, y place) int { return cmp.Or(x.key.compare(y.key), cmp.Compare(x.Port.ID, y.Port.ID)) })
	}
}

// whose says who has made an object that copies.
func (b *builder) whose(o *platform.Object) string {
	switch {
	case o.Mark.Owner == "":
		return "a foreign " + strings.TrimSpace(o.Kind+" "+o.Name)
	case o.Mark.Policy == "" || o.Mark.Policy == platform.Shared:
		return "several taps"
	case o.Mark.Owner == b.in.Owner:
		return "tap " + o.Mark.Policy
	}
	return "tap " + o.Mark.Policy + " of control line " + o.Mark.Owner
}

func newPlace(s *platform.Snapshot, p *platform.Port, tenants *tenants) place {
	pl := place{snap: s, Target: policy.Target{Platform: s.Platform, Port: p, VM: s.VMs[p.VM], Host: s.Hosts[p.Host], Switch: s.Switches[p.Switch]}}
	pl.key = groupKey{s.Platform, p.Host, p.Switch}
	pl.Tenant = tenants.of(&pl.Target)
	return pl
}

func (b *builder) unreachable(s *platform.Snapshot) {
	b.at = append(b.at, spot{platform: s.Platform})
	r := platform.Refusal{
		Host: s.Platform, Reason: platform.ReasonDown, Message: s.Lost.Error(),
		Fix: "see to its address and the way there; what is there stays as it is until it answers",
	}
	if errors.Is(s.Lost, platform.ErrDenied) {
		r.Reason, r.Fix = platform.ReasonPrivilege, "see to the user, password and rights of the Platform resource; what is there stays as it is until they do"
	}
	b.out.Refusals = append(b.out.Refusals, r)
}

// tenants knows whom ports belong to.
type tenants struct {
	segments map[segmentKey]string
	chosen   []*policy.Tenant // by their machines
}

type segmentKey struct {
	fabric  string
	segment flow.Segment
}

func newTenants(set *policy.Set) *tenants {
	t := &tenants{segments: map[segmentKey]string{}}
	for _, r := range set.Tenants {
		for _, s := range r.Segments {
			t.segments[segmentKey{r.Fabric, s}] = r.Name
		}
		if !r.VMs.Empty() {
			t.chosen = append(t.chosen, r)
		}
	}
	return t
}

// TenantsOf returns what tells the tenant of a port by the Tenant resources of a set.
func TenantsOf(set *policy.Set) func(*platform.Snapshot, *platform.Port) string {
	t := newTenants(set)
	return func(s *platform.Snapshot, p *platform.Port) string { return newPlace(s, p, t).Tenant }
}

// of returns a port's tenant: that of its machine by name, of its segment, or what the platform says.
func (t *tenants) of(target *policy.Target) string {
	if target.Port.Kind == platform.PortVM {
		for _, r := range t.chosen {
			if r.VMs.Match(target) {
				return r.Name
			}
		}
	}
	if name, ok := t.segments[segmentKey{target.Port.Fabric, target.Port.Segment}]; ok && target.Port.Segment != 0 {
		return name
	}
	if target.VM != nil {
		return target.VM.Tenant
	}
	return ""
}
