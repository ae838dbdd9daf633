package identity

import (
	"fmt"
	"time"
)

// historyKept is how long an ended item stays: no flow arrives later than that.
const historyKept = 7 * 24 * time.Hour

// Succeed returns the inventory that follows old when a source says next at nowNS. What next no
// longer tells ends (at nowNS, or where its successor says it begins) but stays, so that flows of
// the past are still explained; what next tells without a begin, and what somebody else had
// before, begins where that ended. The result shares no slice headers with its arguments.
func Succeed(old, next Inventory, nowNS int64) Inventory {
	return Inventory{
		VNICs: succeed(old.VNICs, next.VNICs, nowNS, kind[VNIC, any]{
			span: func(v *VNIC) *Span { return &v.Span },
			claims: func(v *VNIC, yield func(any)) {
				if v.MAC != 0 {
					yield(v.MAC)
				}
				for _, a := range v.Addrs {
					yield(placeKey{v.Segment, a})
				}
			},
		}),
		Hosts: succeed(old.Hosts, next.Hosts, nowNS, kind[Host, any]{
			span: func(h *Host) *Span { return &h.Span },
			claims: func(h *Host, yield func(any)) {
				for _, a := range h.VTEPs {
					yield(a)
				}
			},
		}),
		Observers: succeed(old.Observers, next.Observers, nowNS, kind[Observer, any]{
			span:   func(o *Observer) *Span { return &o.Span },
			claims: func(o *Observer, yield func(any)) { yield(observerKey{o.Exporter, o.Domain, o.Point}) },
		}),
		Tenants: succeed(old.Tenants, next.Tenants, nowNS, kind[Tenant, any]{
			span: func(t *Tenant) *Span { return &t.Span },
			claims: func(t *Tenant, yield func(any)) {
				for _, s := range t.Segments {
					yield(segmentKey{t.Fabric, s})
				}
			},
		}),
	}
}

// kind says how to handle one type of item: its span, and the keys that only one item has at a time.
type kind[T any, K comparable] struct {
	span   func(*T) *Span
	claims func(*T, func(K))
}

// content is everything an item says except when.
func (k kind[T, K]) content(item T) string {
	*k.span(&item) = Span{}
	return fmt.Sprintf("%#v", item)
}

func succeed[T any, K comparable](old, next []T, nowNS int64, k kind[T, K]) []T {
	out := make([]T, len(next), len(next)+len(old)/8)
	copy(out, next)
	if len(old) == 0 {
		return out
	}
	said := make(map[string][]int, len(next))
	begins := map[K][]int64{} // declared begins of the new items
	for i := range out {
		c := k.content(out[i])
		said[c] = append(said[c], i)
		if from := k.span(&out[i]).FromNS; from != 0 {
			k.claims(&out[i], func(key K) { begins[key] = append(begins[key], from) })
		}
	}
	known := make([]bool, len(out)) // continues an old item
	ended := map[K]int64{}
	for i := range old {
		item := old[i]
		if k.continues(&item, out, said[k.content(item)], known, nowNS) {
			continue
		}
		s := k.span(&item)
		if s.ToNS == 0 || s.ToNS > nowNS {
			s.ToNS = k.end(&item, begins, nowNS)
		}
		if s.ToNS <= s.FromNS || s.ToNS < nowNS-int64(historyKept) {
			continue
		}
		k.claims(&item, func(key K) { ended[key] = max(ended[key], s.ToNS) })
		out = append(out, item)
	}
	for i := range known {
		s := k.span(&out[i])
		if known[i] || s.FromNS != 0 {
			continue
		}
		from := int64(0)
		k.claims(&out[i], func(key K) { from = max(from, ended[key]) })
		if s.ToNS == 0 || from < s.ToNS {
			s.FromNS = from
		}
	}
	return out
}

// continues reports whether one of the new items with the same content carries an old item on, and
// gives it the old begin when it declares none.
func (k kind[T, K]) continues(item *T, out []T, same []int, known []bool, nowNS int64) bool {
	was := *k.span(item)
	current := was.ToNS == 0 || was.ToNS > nowNS
	for _, i := range same {
		s := k.span(&out[i])
		switch {
		case known[i]:
		case *s == was:
			known[i] = true
			return true
		case current && (s.FromNS == 0 || s.FromNS <= nowNS):
			if s.FromNS == 0 {
				s.FromNS = was.FromNS
			}
			known[i] = true
			return true
		}
	}
	return false
}

// end is when an item that is no longer told ended: now, or before that where a successor begins.
func (k kind[T, K]) end(item *T, begins map[K][]int64, nowNS int64) int64 {
	from, end := k.span(item).FromNS, nowNS
	k.claims(item, func(key K) {
		for _, b := range begins[key] {
			if b > from && b < end {
				end = b
			}
		}
	})
	return end
}
