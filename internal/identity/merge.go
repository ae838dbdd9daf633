package identity

import (
	"cmp"
	"slices"

	"crosstap/internal/flow"
)

// Merge puts together what several sources tell, the first of which is believed most: where a later one speaks of an adapter, a tunnel
// endpoint or a segment that an earlier one has at the same time, the earlier one's word holds, and the later one fills in what it
// leaves open. The result shares no slice headers with its arguments.
func Merge(sources ...Inventory) Inventory {
	var out Inventory
	macs := map[flow.MAC][]int{} // VNICs of earlier sources by MAC
	hosts, segments := claims[any]{}, claims[any]{}
	for _, s := range sources {
		first := len(out.VNICs)
		for _, v := range s.VNICs {
			earlier := macs[v.MAC]
			if at := slices.IndexFunc(earlier, func(i int) bool { return sameAdapter(&out.VNICs[i], &v) }); at >= 0 {
				complete(&out.VNICs[earlier[at]], &v)
				continue
			}
			v.Addrs = slices.Clone(v.Addrs)
			out.VNICs = append(out.VNICs, v)
		}
		for i := first; i < len(out.VNICs); i++ {
			if m := out.VNICs[i].MAC; m != 0 {
				macs[m] = append(macs[m], i)
			}
		}
		for _, h := range s.Hosts {
			all := h.VTEPs
			h.VTEPs = nil
			for _, a := range all {
				if other, taken := hosts.claim(a, h.Span, h.Name); !taken || other == h.Name {
					h.VTEPs = append(h.VTEPs, a)
				}
			}
			out.Hosts = append(out.Hosts, h)
		}
		for _, t := range s.Tenants {
			all := t.Segments
			t.Segments, t.Fabric = nil, cmp.Or(t.Fabric, DefaultFabric)
			for _, g := range all {
				if _, taken := segments.claim(segmentKey{t.Fabric, g}, t.Span, t.Name); !taken {
					t.Segments = append(t.Segments, g)
				}
			}
			if len(t.Segments) > 0 || len(all) == 0 {
				out.Tenants = append(out.Tenants, t)
			}
		}
		out.Observers = append(out.Observers, s.Observers...)
	}
	return out
}

// sameAdapter reports whether two sources speak of one adapter: one MAC at one time, and no word of two machines or two places.
func sameAdapter(a, b *VNIC) bool {
	differ := func(x, y string) bool { return x != "" && y != "" && x != y }
	return a.Span.overlap(b.Span) && !differ(a.VMID, b.VMID) && !differ(a.Host, b.Host)
}

// complete fills in what an adapter's record leaves open.
func complete(v, from *VNIC) {
	v.VM, v.VMID, v.Host, v.Port = cmp.Or(v.VM, from.VM), cmp.Or(v.VMID, from.VMID), cmp.Or(v.Host, from.Host), cmp.Or(v.Port, from.Port)
	v.Tenant, v.Segment = cmp.Or(v.Tenant, from.Tenant), cmp.Or(v.Segment, from.Segment)
	if v.Fabric == "" {
		v.Fabric = from.Fabric
	}
	for _, a := range from.Addrs {
		if !slices.Contains(v.Addrs, a) {
			v.Addrs = append(v.Addrs, a)
		}
	}
}
