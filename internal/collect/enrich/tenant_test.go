package enrich

import (
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

// TestTenantAt: a machine is its own tenant's, else that of its segment.
func TestTenantAt(t *testing.T) {
	seg := flow.NewSegment(flow.KindVXLAN, 5001)
	book := identity.NewBook(identity.Inventory{Tenants: []identity.Tenant{{Name: "blue", Segments: []flow.Segment{seg}}}})
	f := func(v *identity.VNIC, want string) {
		t.Helper()
		if got := tenantAt(&flow.Record{EndNS: 1}, "", book, v); got != want {
			t.Errorf("%+v: %q, want %q", v, got, want)
		}
	}
	f(nil, "")
	f(&identity.VNIC{Segment: seg, Fabric: "default"}, "blue")
	f(&identity.VNIC{Segment: seg, Fabric: "default", Tenant: "red"}, "red")
	f(&identity.VNIC{Fabric: "default"}, "")
	f(&identity.VNIC{Segment: seg, Fabric: "other"}, "")
}
