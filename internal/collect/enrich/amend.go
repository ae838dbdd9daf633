package enrich

import (
	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

// Amend fills in what a stored record lacks and the inventory knows now, as it was when the flow ended, and puts right what it
// knows otherwise now. What it does not know stays as it is, and so does who the observer is. It reports whether the record
// changed.
func Amend(r *flow.Record, book identity.Book) bool {
	was := *r
	o := book.ObserverOf(r.Exporter, r.Domain, r.Point, r.EndNS)
	if o != nil {
		r.Fabric = o.Fabric
	}
	if r.Segment == 0 {
		r.Segment, _ = inventorySegment(r, o, book)
	}
	now := *r
	clearNames(&now)
	ends(&now, book)
	now.ObserverHost = observerHost(&now, o, book)
	keep := func(to *string, known string) {
		if known != "" {
			*to = known
		}
	}
	if now.SrcVM != "" || now.SrcVMID != "" { // an id goes with its name
		r.SrcVM, r.SrcVMID = now.SrcVM, now.SrcVMID
	}
	if now.DstVM != "" || now.DstVMID != "" {
		r.DstVM, r.DstVMID = now.DstVM, now.DstVMID
	}
	keep(&r.SrcHost, now.SrcHost)
	keep(&r.DstHost, now.DstHost)
	keep(&r.Tenant, now.Tenant)
	keep(&r.SrcTenant, now.SrcTenant)
	keep(&r.DstTenant, now.DstTenant)
	keep(&r.ObserverHost, now.ObserverHost)
	if now.Fabric != identity.DefaultFabric {
		r.Fabric = now.Fabric
	}
	return *r != was
}

// clearNames takes out what ends fills in.
func clearNames(r *flow.Record) {
	r.SrcVM, r.SrcVMID, r.SrcHost, r.SrcTenant, r.DstVM, r.DstVMID, r.DstHost, r.DstTenant, r.Tenant = "", "", "", "", "", "", "", "", ""
}
