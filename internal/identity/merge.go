package identity

import (
	"cmp"
	"math"
	"slices"

	"crosstap/internal/flow"
)

// Merge puts together what several sources tell, the first of which is believed most: where a later one speaks of an adapter, a tunnel
// endpoint or a segment that an earlier one has at the same time, the earlier one's word holds, and the later one fills in what it
// leaves open, for as long as it says so. The result shares no slice headers with its arguments.
func Merge(sources ...Inventory) Inventory {
	m := merger{macs: map[flow.MAC][]int{}, vteps: claims[flow.Addr]{}, segments: claims[segmentKey]{}}
	for _, s := range sources {
		m.adapters(s.VNICs)
		for _, h := range s.Hosts {
			m.host(h)
		}
		for _, t := range s.Tenants {
			m.tenant(t)
		}
		m.out.Observers = append(m.out.Observers, s.Observers...)
	}
	return m.out
}

type merger struct {
	out      Inventory
	macs     map[flow.MAC][]int // VNICs of earlier sources by MAC
	vteps    claims[flow.Addr]
	segments claims[segmentKey]
}

// adapters adds the adapters of one source.
func (m *merger) adapters(list []VNIC) {
	var own []int
	for _, v := range list {
		rest := []VNIC{v}
		for _, i := range slices.Clone(m.macs[v.MAC]) {
			var left []VNIC
			for _, r := range rest {
				left = append(left, m.join(i, r)...)
			}
			rest = left
		}
		for _, r := range rest {
			r.Addrs = slices.Clone(r.Addrs)
			own = append(own, len(m.out.VNICs))
			m.out.VNICs = append(m.out.VNICs, r)
		}
	}
	for _, i := range own {
		m.remember(i)
	}
}

// remember has later sources compared with an adapter.
func (m *merger) remember(i int) {
	if mac := m.out.VNICs[i].MAC; mac != 0 {
		m.macs[mac] = append(m.macs[mac], i)
	}
}

// join brings a later word on an adapter together with an earlier one, and returns what of the later one the earlier does not cover.
// Where the later one adds something for a part of the earlier one's time, the other parts stand beside it.
func (m *merger) join(i int, later VNIC) (rest []VNIC) {
	e := m.out.VNICs[i]
	if !e.Span.overlap(later.Span) || !sameAdapter(&e, &later) {
		return []VNIC{later}
	}
	common := both(e.Span, later.Span)
	joined := e
	joined.Addrs = slices.Clone(e.Addrs)
	if complete(&joined, &later) {
		joined.Span = common
		for _, s := range without(e.Span, common) {
			part := e
			part.Span, part.Addrs = s, slices.Clone(e.Addrs)
			m.out.VNICs = append(m.out.VNICs, part)
			m.remember(len(m.out.VNICs) - 1)
		}
		m.out.VNICs[i] = joined
	}
	for _, s := range without(later.Span, common) {
		part := later
		part.Span = s
		rest = append(rest, part)
	}
	return rest
}

// sameAdapter reports whether two sources may speak of one adapter: no word of two machines or two places.
func sameAdapter(a, b *VNIC) bool {
	differ := func(x, y string) bool { return x != "" && y != "" && x != y }
	return !differ(a.VMID, b.VMID) && !differ(a.Host, b.Host)
}

// complete fills in what an adapter's record leaves open, and reports whether there was something.
func complete(v, from *VNIC) (added bool) {
	fill := func(to *string, with string) {
		if *to == "" && with != "" {
			*to, added = with, true
		}
	}
	fill(&v.VM, from.VM)
	fill(&v.VMID, from.VMID)
	fill(&v.Host, from.Host)
	fill(&v.Port, from.Port)
	fill(&v.Tenant, from.Tenant)
	if v.Segment == 0 && from.Segment != 0 {
		v.Segment, v.Fabric, added = from.Segment, from.Fabric, true
	}
	for _, a := range from.Addrs {
		if !slices.Contains(v.Addrs, a) {
			v.Addrs, added = append(v.Addrs, a), true
		}
	}
	return added
}

func (m *merger) host(h Host) {
	all := h.VTEPs
	h.VTEPs = nil
	for _, a := range all {
		if other, taken := m.vteps.claim(a, h.Span, h.Name); !taken || other == h.Name {
			h.VTEPs = append(h.VTEPs, a)
		}
	}
	m.out.Hosts = append(m.out.Hosts, h)
}

func (m *merger) tenant(t Tenant) {
	all := t.Segments
	t.Segments, t.Fabric = nil, cmp.Or(t.Fabric, DefaultFabric)
	for _, g := range all {
		if _, taken := m.segments.claim(segmentKey{t.Fabric, g}, t.Span, t.Name); !taken {
			t.Segments = append(t.Segments, g)
		}
	}
	if len(t.Segments) > 0 || len(all) == 0 {
		m.out.Tenants = append(m.out.Tenants, t)
	}
}

// end is where a span ends, for comparing.
func (s Span) end() int64 {
	if s.ToNS == 0 {
		return math.MaxInt64
	}
	return s.ToNS
}

// spanOf is the span between two moments.
func spanOf(from, end int64) Span {
	if end == math.MaxInt64 {
		end = 0
	}
	return Span{FromNS: from, ToNS: end}
}

// both is what two spans that overlap share.
func both(a, b Span) Span { return spanOf(max(a.FromNS, b.FromNS), min(a.end(), b.end())) }

// without is what is left of a span around a part of it.
func without(s, part Span) (out []Span) {
	if s.FromNS < part.FromNS {
		out = append(out, spanOf(s.FromNS, part.FromNS))
	}
	if part.end() < s.end() {
		out = append(out, spanOf(part.end(), s.end()))
	}
	return out
}
