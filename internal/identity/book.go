package identity

import (
	"cmp"

	"crosstap/internal/flow"
)

// DefaultFabric is the fabric of everything that names none.
const DefaultFabric = "default"

// chainEnd ends the list of one key.
const chainEnd = -1

// index finds the records of a key, whatever their number, without a slice for each key.
type index[K comparable] struct {
	heads   map[K]int32
	entries []entry
}

type entry struct {
	record int32 // index of the record in the inventory
	next   int32 // next entry of the same key, chainEnd for none
}

func newIndex[K comparable](keys int) index[K] {
	return index[K]{heads: make(map[K]int32, keys), entries: make([]entry, 0, keys)}
}

func (x *index[K]) add(k K, record int) {
	next, ok := x.heads[k]
	if !ok {
		next = chainEnd
	}
	x.heads[k] = int32(len(x.entries))
	x.entries = append(x.entries, entry{record: int32(record), next: next})
}

// head returns the first entry of a key, chainEnd for none.
func (x *index[K]) head(k K) int32 {
	if len(x.entries) == 0 {
		return chainEnd
	}
	if i, ok := x.heads[k]; ok {
		return i
	}
	return chainEnd
}

type placeKey struct {
	segment flow.Segment
	addr    flow.Addr
}

type observerKey struct {
	exporter flow.Addr
	domain   uint32
	point    uint64
}

// shape tells which parts of the key match anything.
func (k observerKey) shape() (bits int) {
	if k.exporter.IsZero() {
		bits |= 1
	}
	if k.point == 0 {
		bits |= 2
	}
	return bits
}

type segmentKey struct {
	fabric  string
	segment flow.Segment
}

// book is the Book of an inventory: hash tables over its slices.
type book struct {
	inv       Inventory
	macs      index[flow.MAC]
	places    index[placeKey]  // VNICs by segment and address
	addrs     index[flow.Addr] // VNICs by address, whatever the segment
	anywhere  bool             // the segment of some VNIC with an address is not known
	vteps     index[flow.Addr]
	observers index[observerKey]
	shapes    [4]bool // which kinds of observer there are: bit 0 with any exporter, bit 1 with any point
	segments  index[segmentKey]
}

// NewBook returns the Book of an inventory. It keeps the inventory's slices and fills in the
// default fabric where none is named. The
// caller does not use them for anything else afterwards.
func NewBook(inv Inventory) Book {
	b := &book{
		inv:       inv,
		macs:      newIndex[flow.MAC](len(inv.VNICs)),
		places:    newIndex[placeKey](len(inv.VNICs)),
		addrs:     newIndex[flow.Addr](len(inv.VNICs)),
		vteps:     newIndex[flow.Addr](len(inv.Hosts)),
		observers: newIndex[observerKey](len(inv.Observers)),
		segments:  newIndex[segmentKey](len(inv.Tenants)),
	}
	b.addTenants()
	b.addVNICs()
	for i := range inv.Hosts {
		for _, a := range inv.Hosts[i].VTEPs {
			b.vteps.add(a, i)
		}
	}
	for i := range inv.Observers {
		o := &inv.Observers[i]
		o.Fabric = cmp.Or(o.Fabric, DefaultFabric)
		k := observerKey{o.Exporter, o.Domain, o.Point}
		b.observers.add(k, i)
		b.shapes[k.shape()] = true
	}
	return b
}

func (b *book) addTenants() {
	for i := range b.inv.Tenants {
		t := &b.inv.Tenants[i]
		t.Fabric = cmp.Or(t.Fabric, DefaultFabric)
		for _, s := range t.Segments {
			b.segments.add(segmentKey{t.Fabric, s}, i)
		}
	}
}

func (b *book) addVNICs() {
	for i := range b.inv.VNICs {
		v := &b.inv.VNICs[i]
		v.Fabric = cmp.Or(v.Fabric, DefaultFabric)
		if v.MAC != 0 {
			b.macs.add(v.MAC, i)
		}
		for _, a := range v.Addrs {
			b.places.add(placeKey{v.Segment, a}, i)
			b.addrs.add(a, i)
			b.anywhere = b.anywhere || v.Segment == 0
		}
	}
}

// ByMAC implements Book. Two virtual machines with one address at one time give nil; of several
// spans of one machine the latest begun holds.
func (b *book) ByMAC(m flow.MAC, atNS int64) *VNIC {
	v, _ := pickVNIC(b, &b.macs, b.macs.head(m), atNS)
	return v
}

// ByAddr implements Book.
func (b *book) ByAddr(s flow.Segment, a flow.Addr, atNS int64) (*VNIC, bool) {
	if s == 0 {
		return pickVNIC(b, &b.addrs, b.addrs.head(a), atNS)
	}
	v, ambiguous := pickVNIC(b, &b.places, b.places.head(placeKey{s, a}), atNS)
	if v != nil || ambiguous || !b.anywhere {
		return v, ambiguous
	}
	return pickVNIC(b, &b.places, b.places.head(placeKey{0, a}), atNS)
}

// pickVNIC walks one key's entries for the adapter that holds at a time.
func pickVNIC[K comparable](b *book, x *index[K], at int32, atNS int64) (*VNIC, bool) {
	var found *VNIC
	for ; at != chainEnd; at = x.entries[at].next {
		v := &b.inv.VNICs[x.entries[at].record]
		switch {
		case !v.Contains(atNS):
		case found == nil:
			found = v
		case !sameVNIC(found, v):
			return nil, true
		case v.FromNS > found.FromNS:
			found = v
		}
	}
	return found, false
}

// sameVNIC reports whether two records tell of one adapter, perhaps at two times or places.
func sameVNIC(a, b *VNIC) bool {
	if a.VMID != "" || b.VMID != "" {
		return a.VMID == b.VMID && a.MAC == b.MAC
	}
	return a.VM == b.VM && a.MAC == b.MAC
}

// HostByVTEP implements Book. Two hosts with one endpoint at one time give nil.
func (b *book) HostByVTEP(a flow.Addr, atNS int64) *Host {
	var found *Host
	for at := b.vteps.head(a); at != chainEnd; at = b.vteps.entries[at].next {
		h := &b.inv.Hosts[b.vteps.entries[at].record]
		switch {
		case !h.Contains(atNS):
		case found == nil:
			found = h
		case found.Name != h.Name:
			return nil
		case h.FromNS > found.FromNS:
			found = h
		}
	}
	return found
}

// ObserverOf implements Book. An exporter's address counts for more than a point.
func (b *book) ObserverOf(exporter flow.Addr, domain uint32, point uint64, atNS int64) *Observer {
	for shape, there := range [...]bool{b.shapes[0], b.shapes[2], b.shapes[1], b.shapes[3]} {
		if !there {
			continue
		}
		k := observerKey{exporter, domain, point}
		if shape&1 != 0 {
			k.point = 0
		}
		if shape&2 != 0 {
			k.exporter = flow.Addr{}
		}
		if o := b.observerAt(k, atNS); o != nil {
			return o
		}
	}
	return nil
}

func (b *book) observerAt(k observerKey, atNS int64) *Observer {
	var found *Observer
	for at := b.observers.head(k); at != chainEnd; at = b.observers.entries[at].next {
		o := &b.inv.Observers[b.observers.entries[at].record]
		if o.Contains(atNS) && (found == nil || o.FromNS > found.FromNS) {
			found = o
		}
	}
	return found
}

// TenantOf implements Book. Of two tenants that claim a segment at one time the later begun has it.
func (b *book) TenantOf(fabric string, s flow.Segment, atNS int64) *Tenant {
	var found *Tenant
	head := b.segments.head(segmentKey{cmp.Or(fabric, DefaultFabric), s})
	for at := head; at != chainEnd; at = b.segments.entries[at].next {
		t := &b.inv.Tenants[b.segments.entries[at].record]
		if t.Contains(atNS) && (found == nil || t.FromNS > found.FromNS) {
			found = t
		}
	}
	return found
}
