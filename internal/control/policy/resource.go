// Package policy says what shall be seen: resources in YAML (apiVersion crosstap/v1; kinds Tap, Destination, Platform, Tenant), and
// the expressions that select ports. docs/formats/policy.md describes the files. It does no I/O.
package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// APIVersion stands at the head of each resource.
const APIVersion = "crosstap/v1"

// The kinds of resources.
const (
	KindTap         = "Tap"
	KindDestination = "Destination"
	KindPlatform    = "Platform"
	KindTenant      = "Tenant"
)

// Kinds lists the kinds in the order in which they depend on each other.
func Kinds() []string { return []string{KindPlatform, KindTenant, KindDestination, KindTap} }

// Meta is what every resource has.
type Meta struct {
	Name   string
	Labels map[string]string
	Owner  string // who answers for it; a Tap's owner does not decide whose objects are touched
	Reason string // why it is there, such as the number of a ticket
	// Text is the resource as it was written, one YAML document. It is what is kept and compared.
	Text string
}

// Tap says what shall be seen, how, and where it goes.
type Tap struct {
	Meta
	Select       Selector
	FromVLAN     uint16   // in place of Select: what comes in on this VLAN from switches that mirror into it (RSPAN); 0 for none
	Exclude      Selector // matches of Select that are left out; nothing when it is empty
	Method       platform.Method
	Direction    platform.Direction // as seen by the machine when it was written; Ingress is what it sends
	Filter       string
	VLANs        []uint16
	Slice        int
	Sample       int
	Groom        []string
	Destinations []string // names
	Flows        Flows
	Budget       Budget
	TTL          time.Duration // after it was applied; 0 for ever
	Lease        time.Duration // without a controller; 0 for ever
	Enforce      bool          // what others changed is set right; else it is reported
	Tenant       string        // only machines of this tenant may be seen; "" for no bound
	Allow        []Allowance
	Paused       bool
	Capture      Capture
}

// Allowance is something that a tap does only when it says that it may.
type Allowance string

// The allowances.
const (
	AllowPromiscuous Allowance = "promiscuous"   // a port sees the traffic of all others
	AllowUplinks     Allowance = "uplinks"       // uplinks and tunnels as sources, where the platform can
	AllowTenants     Allowance = "other-tenants" // machines of tenants that are not Tenant
	AllowTwice       Allowance = "copied-twice"  // where the platform cannot keep exactly once
	AllowUnsampled   Allowance = "unsampled"     // flow exports of every packet
	AllowTruncation  Allowance = "cut-copies"    // copies longer than the path takes
)

// Allowances lists them.
func Allowances() []Allowance {
	return []Allowance{AllowPromiscuous, AllowUplinks, AllowTenants, AllowTwice, AllowUnsampled, AllowTruncation}
}

// Allows reports whether the tap says that it may.
func (t *Tap) Allows(a Allowance) bool { return slices.Contains(t.Allow, a) }

// Chosen says what the tap sees, as it was written.
func (t *Tap) Chosen() string {
	if t.FromVLAN != 0 {
		return fmt.Sprintf("%s:%d", schemeRSPAN, t.FromVLAN)
	}
	return t.Select.Text
}

// Flows is what a tap of the method flows-only exports.
type Flows struct {
	Protocol string // ipfix, netflow5, sflow
	Sampling int
	Active   time.Duration
	Idle     time.Duration
	Domain   uint32
}

// Capture names the machines of the method promiscuous.
type Capture struct {
	VM    string // name before the host's; "" for crosstap-capture
	Image string // template to clone, or image of a disk
	Group string // name before the switch's of port groups; "" for crosstap-span
}

// Budget bounds what a tap may cost.
type Budget struct {
	MirrorBPS float64 // bits each second of copies with their outer headers, of the whole tap; 0 for no bound
	CPU       float64 // part of one core of each host, 0.03 for 3 %; 0 for no bound
	OnExceed  string  // refuse, warn, sample, slice
}

// Destination is a tool: where copies or flow records go.
type Destination struct {
	Meta
	URL    string // as "crosstap tap --to" has it; "" for a port
	Port   PortRef
	MTU    int    // of the path, at the IP layer; 0 for what the host's uplinks say
	Tenant string // whose tool it is: only frames of this tenant may reach it
	Output platform.Output
	Export *platform.Export // for collectors of flow records that switches export to: Protocol and To
	// Records says that the URL is one of a collector that only agents export to, such as ipfix+tcp://.
	Records bool
}

// PortRef names a port of a switch: that of a tool's machine. Empty parts match anything; one port must match on each host.
type PortRef struct {
	Platform, Host, Switch, Port, VM string
}

// IsZero reports whether nothing is named.
func (p PortRef) IsZero() bool { return p == PortRef{} }

// String gives the named parts, such as "vm ids-1".
func (p PortRef) String() string {
	var out []string
	for _, part := range [][2]string{{"platform", p.Platform}, {"host", p.Host}, {"switch", p.Switch}, {"port", p.Port}, {"vm", p.VM}} {
		if part[1] != "" {
			out = append(out, part[0]+" "+part[1])
		}
	}
	return strings.Join(out, ", ")
}

// Platform is one control plane and how to reach it.
type Platform struct {
	Meta
	Kind     string // ovs, linux, libvirt, vsphere
	Address  string
	Host     string // name of the host, for platforms of one host; "" for what the platform says
	TLS      TLS
	User     string
	Password Secret
	Segments map[string]string // switch, switch/VLAN or port group → segment, such as br-int/10: vxlan:5001
	OpenFlow string            // ovs: how to reach the OpenFlow socket of our own bridge; "" for beside the database
	Options  map[string]string // of the platform's own
}

// TLS is how both ends prove who they are. Files in PEM.
type TLS struct {
	CA, Cert, Key string
	Thumbprint    string // of the server's certificate, SHA-256 in hexadecimal
	ServerName    string
}

// Secret says where a password is, never what it is.
type Secret struct {
	File, Env string
}

// Tenant is a named set of segments and machines.
type Tenant struct {
	Meta
	Segments []flow.Segment
	Fabric   string
	VMs      Selector
}

// Set is a set of resources, each kind in the order of names.
type Set struct {
	Platforms    []*Platform
	Tenants      []*Tenant
	Destinations []*Destination
	Taps         []*Tap
}

// Resource is one resource as text.
type Resource struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Text string `json:"text"`
}

// Resources lists the set, in the order of Kinds and names.
func (s *Set) Resources() (out []Resource) {
	for _, r := range s.Platforms {
		out = append(out, Resource{KindPlatform, r.Name, r.Text})
	}
	for _, r := range s.Tenants {
		out = append(out, Resource{KindTenant, r.Name, r.Text})
	}
	for _, r := range s.Destinations {
		out = append(out, Resource{KindDestination, r.Name, r.Text})
	}
	for _, r := range s.Taps {
		out = append(out, Resource{KindTap, r.Name, r.Text})
	}
	return out
}

// Destination returns the destination with a name, nil for none.
func (s *Set) Destination(name string) *Destination {
	return named(s.Destinations, name, func(d *Destination) string { return d.Name })
}

// Tap returns the tap with a name, nil for none.
func (s *Set) Tap(name string) *Tap {
	return named(s.Taps, name, func(t *Tap) string { return t.Name })
}

// Tenant returns the tenant with a name, nil for none.
func (s *Set) Tenant(name string) *Tenant {
	return named(s.Tenants, name, func(t *Tenant) string { return t.Name })
}

func named[T any](list []*T, name string, of func(*T) string) *T {
	i := slices.IndexFunc(list, func(t *T) bool { return of(t) == name })
	if i < 0 {
		return nil
	}
	return list[i]
}

// Merged returns the resources of s with those of newer added or in their place.
func (s *Set) Merged(newer *Set) *Set {
	return &Set{
		Platforms:    merged(s.Platforms, newer.Platforms, func(p *Platform) string { return p.Name }),
		Tenants:      merged(s.Tenants, newer.Tenants, func(t *Tenant) string { return t.Name }),
		Destinations: merged(s.Destinations, newer.Destinations, func(d *Destination) string { return d.Name }),
		Taps:         merged(s.Taps, newer.Taps, func(t *Tap) string { return t.Name }),
	}
}

func merged[T any](old, newer []*T, name func(*T) string) []*T {
	all := map[string]*T{}
	for _, list := range [][]*T{old, newer} {
		for _, r := range list {
			all[name(r)] = r
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *T) int { return cmp.Compare(name(a), name(b)) })
}

// Without returns the resources of s without those that gone names by kind and name.
func (s *Set) Without(gone []Resource) *Set {
	has := func(kind, name string) bool {
		return slices.ContainsFunc(gone, func(r Resource) bool { return r.Kind == kind && r.Name == name })
	}
	out := &Set{}
	for _, r := range s.Platforms {
		if !has(KindPlatform, r.Name) {
			out.Platforms = append(out.Platforms, r)
		}
	}
	for _, r := range s.Tenants {
		if !has(KindTenant, r.Name) {
			out.Tenants = append(out.Tenants, r)
		}
	}
	for _, r := range s.Destinations {
		if !has(KindDestination, r.Name) {
			out.Destinations = append(out.Destinations, r)
		}
	}
	for _, r := range s.Taps {
		if !has(KindTap, r.Name) {
			out.Taps = append(out.Taps, r)
		}
	}
	return out
}

// Check reports names that resources use and that nothing has, and destinations that do not fit their taps.
func (s *Set) Check() error {
	for _, t := range s.Taps {
		for _, name := range t.Destinations {
			d := s.Destination(name)
			if d == nil {
				return fmt.Errorf("%w: tap %q: there is no destination %q%s", ErrMistake, t.Name, name, or(name, namesOf(s.Destinations, func(d *Destination) string { return d.Name })))
			}
			if err := fits(t, d); err != nil {
				return fmt.Errorf("%w: tap %q: destination %q: %w", ErrMistake, t.Name, name, err)
			}
		}
		if t.Tenant != "" && s.Tenant(t.Tenant) == nil {
			return fmt.Errorf("%w: tap %q: there is no tenant %q%s", ErrMistake, t.Name, t.Tenant, or(t.Tenant, namesOf(s.Tenants, func(t *Tenant) string { return t.Name })))
		}
	}
	return nil
}

// fits reports whether a destination can take what a tap gives.
func fits(t *Tap, d *Destination) error {
	if t.FromVLAN != 0 && d.Port.IsZero() {
		return fmt.Errorf("what comes in on VLAN %d goes to a port of the switch that it comes to: give the tool as port: {vm: NAME}", t.FromVLAN)
	}
	if t.Method == platform.MethodFlowsOnly && d.Export == nil && !d.Records {
		return fmt.Errorf("flows-only needs a collector of flow records: ipfix://HOST, netflow5://HOST or sflow://HOST")
	}
	if d.Export != nil && t.Method != platform.MethodFlowsOnly && t.Method != platform.MethodAgent && t.Method != platform.MethodAuto {
		return fmt.Errorf("%s takes flow records: only the methods flows-only, agent and auto make them", d.URL)
	}
	switch {
	case t.Method == platform.MethodMirror && d.Output.Encap != "":
		return fmt.Errorf("method mirror copies to a port of the same host; for %s use remote-mirror or auto", d.URL)
	case t.Method == platform.MethodRemoteMirror && d.Output.Encap == "":
		return fmt.Errorf("method remote-mirror copies into a tunnel: give it a url such as vxlan://10.0.0.9?vni=9001")
	}
	return nil
}

func namesOf[T any](list []*T, name func(*T) string) (out []string) {
	for _, r := range list {
		out = append(out, name(r))
	}
	return out
}
