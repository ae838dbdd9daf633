package identity

import (
	"crosstap/internal/flow"
)

// overlap reports whether two spans share a moment.
func (s Span) overlap(o Span) bool {
	return (s.ToNS == 0 || o.FromNS < s.ToNS) && (o.ToNS == 0 || s.FromNS < o.ToNS)
}

// conflicts refuses what would make an answer depend on the order of the file: two hosts with one
// tunnel endpoint, two observers that match the same records, two tenants with one segment, each
// at the same time. Two adapters with one address are no mistake (tenants may overlap, machines
// may be cloned): those look-ups answer that they are ambiguous.
func (c *converter) conflicts(inv *Inventory) error {
	hosts := claims[flow.Addr]{}
	for i, h := range inv.Hosts {
		for j, a := range h.VTEPs {
			place := at(at("$.hosts", i)+".vteps", j)
			if other, ok := hosts.claim(a, h.Span, h.Name); ok {
				c.fail(place, "a tunnel endpoint belongs to one host at a time", "%s is also an endpoint of host %q", a, other)
			}
		}
	}
	observers := claims[observerKey]{}
	for i, o := range inv.Observers {
		if other, ok := observers.claim(observerKey{o.Exporter, o.Domain, o.Point}, o.Span, o.Name); ok {
			c.fail(at("$.observers", i), "tell them apart by exporter, domain or point", "%q matches the same records as %q", o.Name, other)
		}
	}
	tenants := claims[segmentKey]{}
	for i, t := range inv.Tenants {
		for j, s := range t.Segments {
			if other, ok := tenants.claim(segmentKey{t.Fabric, s}, t.Span, t.Name); ok {
				c.fail(at(at("$.tenants", i)+".segments", j), "a segment belongs to one tenant at a time",
					"%s:%d is also a segment of tenant %q", s.Kind(), s.Number(), other)
			}
		}
	}
	return c.err
}

type claimed struct {
	span Span
	name string
}

// claims remembers who had what when.
type claims[K comparable] map[K][]claimed

// claim notes a claim and returns the name of another one that overlaps it.
func (m claims[K]) claim(k K, s Span, name string) (other string, overlaps bool) {
	for _, have := range m[k] {
		if have.span.overlap(s) {
			return have.name, true
		}
	}
	m[k] = append(m[k], claimed{s, name})
	return "", false
}
