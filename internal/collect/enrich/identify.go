package enrich

import (
	"slices"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

// identify fills in who the record is of and who made it, as it was when the flow ended. It reports whether two
// answers fitted.
func (e *Enricher) identify(r *flow.Record, book identity.Book) (ambiguous bool) {
	o := book.ObserverOf(r.Exporter, r.Domain, r.Point, r.EndNS)
	e.observer(r, o)
	r.Fabric = identity.DefaultFabric
	if o != nil {
		r.Fabric = o.Fabric
	}
	if r.Segment != 0 {
		e.known.learn(r)
	} else {
		ambiguous = e.segment(r, o, book)
	}
	two := ends(r, book)
	r.ObserverHost = observerHost(r, o, book)
	return ambiguous || two
}

// ends fills in the machines and hosts at both ends, and whose the segment is.
func ends(r *flow.Record, book identity.Book) (ambiguous bool) {
	src, twoSrc := owner(book, r, r.SrcMAC, r.Src)
	dst, twoDst := owner(book, r, r.DstMAC, r.Dst)
	r.Fabric = fabricOf(r, src, dst)
	if src != nil {
		r.SrcVM, r.SrcVMID, r.SrcHost = src.VM, src.VMID, src.Host
	}
	if dst != nil {
		r.DstVM, r.DstVMID, r.DstHost = dst.VM, dst.VMID, dst.Host
	}
	if r.SrcHost == "" {
		r.SrcHost = hostName(book, r.Tunnel.Src, r.EndNS)
	}
	if r.DstHost == "" {
		r.DstHost = hostName(book, r.Tunnel.Dst, r.EndNS)
	}
	own := ""
	if r.Segment != 0 {
		own = tenantName(book, r.Fabric, r.Segment, r.EndNS)
	}
	r.Tenant = tenantOf(own, src, dst)
	r.SrcTenant, r.DstTenant = tenantAt(r, own, book, src), tenantAt(r, own, book, dst)
	return twoSrc || twoDst
}

func byMAC(book identity.Book, m flow.MAC, at int64) *identity.VNIC {
	if m == 0 || m.Group() {
		return nil
	}
	return book.ByMAC(m, at)
}

// observer names the place and says what kind it is. What the inventory says of its kind goes before what the record looks like: a named
// point is taken for a switch's port. A switch that reports a tunnel's header reports from its tunnel port, another place than its
// virtual machines' ports.
func (e *Enricher) observer(r *flow.Record, o *identity.Observer) {
	if o != nil {
		r.Observer = o.Name
		if o.Role != flow.RoleUnknown && (r.Role == flow.RoleUnknown || r.Role == flow.RolePort) {
			r.Role = o.Role
		}
	}
	if (r.Role == flow.RoleUnknown || r.Role == flow.RolePort) && r.Tunnel != (flow.Tunnel{}) {
		r.Role = flow.RoleTunnel
		r.Observer = e.names.tunnel(r)
	}
}

// segment finds the segment of a record that does not tell it: from its observer, the adapters with its MAC
// addresses, its VLAN tag, where other observers saw these MAC addresses, or addresses that are used in one
// segment only.
func (e *Enricher) segment(r *flow.Record, o *identity.Observer, book identity.Book) (ambiguous bool) {
	s, ok := placeSegment(r, o, book)
	if s != 0 || !ok {
		r.Segment = s
		return !ok
	}
	if r.VLAN != 0 {
		r.Segment = flow.NewSegment(flow.KindVLAN, uint32(r.VLAN))
		return false
	}
	if r.Segment = e.known.segment(r); r.Segment != 0 {
		return false
	}
	r.Segment, ok = addrSegment(r, book)
	return !ok
}

// placeSegment is the segment of the record's observer or of the adapters with its MAC addresses; ok is false when these are in two.
func placeSegment(r *flow.Record, o *identity.Observer, book identity.Book) (s flow.Segment, ok bool) {
	if o != nil && o.Segment != 0 {
		return o.Segment, true
	}
	return oneSegment(byMAC(book, r.SrcMAC, r.EndNS), byMAC(book, r.DstMAC, r.EndNS))
}

// addrSegment is the segment of the adapters with addresses that are used in one segment only; ok is false when two fit.
func addrSegment(r *flow.Record, book identity.Book) (s flow.Segment, ok bool) {
	src, twoSrc := byAddr(book, 0, r.Src, r.EndNS)
	dst, twoDst := byAddr(book, 0, r.Dst, r.EndNS)
	if s, ok = oneSegment(src, dst); twoSrc || twoDst || !ok {
		return 0, false
	}
	return s, true
}

// inventorySegment is what the inventory alone says.
func inventorySegment(r *flow.Record, o *identity.Observer, book identity.Book) (s flow.Segment, ok bool) {
	if s, ok = placeSegment(r, o, book); s != 0 || !ok {
		return s, ok
	}
	return addrSegment(r, book)
}

// oneSegment is the segment of the adapters that are known; ok is false when they are in two.
func oneSegment(a, b *identity.VNIC) (s flow.Segment, ok bool) {
	for _, v := range [...]*identity.VNIC{a, b} {
		if v == nil || v.Segment == 0 {
			continue
		}
		if s != 0 && s != v.Segment {
			return 0, false
		}
		s = v.Segment
	}
	return s, true
}

func byAddr(book identity.Book, s flow.Segment, a flow.Addr, at int64) (*identity.VNIC, bool) {
	if a.IsZero() || unowned(a) {
		return nil, false
	}
	return book.ByAddr(s, a, at)
}

// unowned reports whether no single adapter can have the address: multicast and the limited broadcast.
func unowned(a flow.Addr) bool {
	if a.Is4() {
		return a[12] >= 224
	}
	return a[0] == 0xff
}

// linkLocal reports whether an adapter has the address without anybody having assigned it (RFC 3927, RFC 4291,
// section 2.5.6).
func linkLocal(a flow.Addr) bool {
	if a.Is4() {
		return a[12] == 169 && a[13] == 254
	}
	return a[0] == 0xfe && a[1]&0xc0 == 0x80
}

// owner is the adapter at one end. The one with the MAC address is not always it: behind a router's MAC address are
// others' IP addresses.
func owner(book identity.Book, r *flow.Record, m flow.MAC, a flow.Addr) (*identity.VNIC, bool) {
	v := byMAC(book, m, r.EndNS)
	here := v != nil && (r.Segment == 0 || v.Segment == 0 || v.Segment == r.Segment)
	if here && (a.IsZero() || len(v.Addrs) == 0 || linkLocal(a) || slices.Contains(v.Addrs, a)) {
		return v, false
	}
	if r.Segment == 0 {
		v, _ = byAddr(book, 0, a, r.EndNS)
		if v == nil || v.Segment != 0 {
			return nil, false // segment has tried; where tenants may overlap an address alone says nothing
		}
		return v, false
	}
	found, two := byAddr(book, r.Segment, a, r.EndNS)
	if found != nil || two {
		return found, two
	}
	return routed(book, r, a), false
}

// routed is the adapter of another segment of the same tenant that has the address, when it is the only one.
func routed(book identity.Book, r *flow.Record, a flow.Addr) *identity.VNIC {
	v, _ := byAddr(book, 0, a, r.EndNS)
	if v == nil || v.Segment == 0 {
		return nil
	}
	here, there := book.TenantOf(r.Fabric, r.Segment, r.EndNS), book.TenantOf(v.Fabric, v.Segment, r.EndNS)
	if here == nil || there == nil || here.Name != there.Name {
		return nil
	}
	return v
}

// fabricOf is the observer's fabric, else that of an adapter in the record's segment.
func fabricOf(r *flow.Record, ends ...*identity.VNIC) string {
	if r.Fabric != "" && r.Fabric != identity.DefaultFabric {
		return r.Fabric
	}
	for _, v := range ends {
		if v != nil && v.Fabric != "" && (r.Segment == 0 || v.Segment == r.Segment) {
			return v.Fabric
		}
	}
	return identity.DefaultFabric
}

// tenantName is whose a segment is, "" for nobody's.
func tenantName(book identity.Book, fabric string, s flow.Segment, at int64) string {
	if t := book.TenantOf(fabric, s, at); t != nil {
		return t.Name
	}
	return ""
}

// tenantOf is whose the segment is (own), else whom the machines themselves are given to, when that is one.
func tenantOf(own string, src, dst *identity.VNIC) string {
	if own != "" {
		return own
	}
	name := ""
	for _, v := range [...]*identity.VNIC{src, dst} {
		if v == nil || v.Tenant == "" {
			continue
		}
		if name != "" && name != v.Tenant {
			return ""
		}
		name = v.Tenant
	}
	return name
}

// tenantAt is whom the machine of an adapter is given to, else whose its segment is, which is own when it is the record's.
func tenantAt(r *flow.Record, own string, book identity.Book, v *identity.VNIC) string {
	switch {
	case v == nil:
		return ""
	case v.Tenant != "" || v.Segment == 0:
		return v.Tenant
	case v.Segment == r.Segment && v.Fabric == r.Fabric:
		return own
	}
	return tenantName(book, v.Fabric, v.Segment, r.EndNS)
}

// observerHost is where the observer is: the inventory says so, or the end of the tunnel that it is at, or the
// exporter's own address.
func observerHost(r *flow.Record, o *identity.Observer, book identity.Book) string {
	if o != nil && o.Host != "" {
		return o.Host
	}
	near := r.Exporter
	if r.Role == flow.RoleTunnel && r.Direction == 0 {
		near = r.Tunnel.Dst
	} else if r.Role == flow.RoleTunnel && r.Direction == 1 {
		near = r.Tunnel.Src
	}
	return hostName(book, near, r.EndNS)
}

func hostName(book identity.Book, a flow.Addr, at int64) string {
	if a.IsZero() {
		return ""
	}
	if h := book.HostByVTEP(a, at); h != nil {
		return h.Name
	}
	return ""
}
