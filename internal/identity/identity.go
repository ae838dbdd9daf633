// Package identity answers who an address, a port or an exporter was at a given time. Its records are
// valid from one moment to another, so that a flow is explained by what held when it happened.
package identity

import (
	"crosstap/internal/flow"
)

// Span is a half-open interval of time in nanoseconds since the Unix epoch. A zero To means "still".
type Span struct {
	FromNS int64 `json:"from_ns,omitempty"`
	ToNS   int64 `json:"to_ns,omitempty"`
}

// Contains reports whether t lies in the span.
func (s Span) Contains(t int64) bool { return t >= s.FromNS && (s.ToNS == 0 || t < s.ToNS) }

// VNIC is one network adapter of a VM with what it is attached to, valid for a span of time.
type VNIC struct {
	Span
	VM      string // name of the virtual machine
	VMID    string // stable id, such as the instance UUID
	MAC     flow.MAC
	Addrs   []flow.Addr
	Host    string
	Port    string // vSwitch port
	Segment flow.Segment
	Fabric  string
	Tenant  string
}

// Host is one hypervisor.
type Host struct {
	Span
	Name  string
	VTEPs []flow.Addr
}

// Observer is one place that sees packets: an exporter's observation domain, perhaps narrowed to one
// observation point. Zero Exporter matches every address, zero Point every point.
type Observer struct {
	Span
	Name     string
	Role     flow.Role
	Host     string
	Exporter flow.Addr
	Domain   uint32
	Point    uint64
	Segment  flow.Segment // what the place belongs to when the records do not say
	Fabric   string
}

// Tenant is a named set of segments.
type Tenant struct {
	Span
	Name     string
	Segments []flow.Segment
	Fabric   string
}

// Inventory is everything known, with its history.
type Inventory struct {
	VNICs     []VNIC
	Hosts     []Host
	Observers []Observer
	Tenants   []Tenant
}

// Book answers look-ups at a time. It is immutable: a new inventory makes a new Book, which readers
// take from an atomic pointer. Look-ups do not allocate and are safe for concurrent use.
type Book interface {
	// ByMAC returns the adapter with that address at that time, nil when unknown or when two
	// virtual machines have it.
	ByMAC(m flow.MAC, atNS int64) *VNIC
	// ByAddr returns the adapter with that address inside a segment; ambiguous is set when
	// two adapters claim it, and the result is then nil. An adapter whose own segment is not known
	// answers when none in the segment does. Segment zero asks for the address in any segment.
	ByAddr(s flow.Segment, a flow.Addr, atNS int64) (v *VNIC, ambiguous bool)
	// HostByVTEP returns the host that owns the tunnel endpoint, nil when unknown.
	HostByVTEP(a flow.Addr, atNS int64) *Host
	// ObserverOf returns the most specific observer that matches, nil when none does.
	ObserverOf(exporter flow.Addr, domain uint32, point uint64, atNS int64) *Observer
	// TenantOf returns the tenant a segment belongs to, nil when none does.
	TenantOf(fabric string, s flow.Segment, atNS int64) *Tenant
}
