package enrich

import (
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

// TestAmend: a record that came before the inventory knew its machines is brought to what a record that comes now would say, and what
// the inventory does not know stays.
func TestAmend(t *testing.T) {
	book := identity.NewBook(twoTenants())
	rec := func() flow.Record {
		return flow.Record{Exporter: addr10, Domain: 1, Observer: "vnet0", Src: addr10, Dst: addr11, SrcMAC: 0x0201, DstMAC: 0x0202, Proto: 6, SrcPort: 40000, DstPort: 80, StartNS: 1e9, EndNS: 2e9, RecvNS: 2e9, Packets: 1}
	}
	early, now := []flow.Record{rec()}, []flow.Record{rec()}
	enricher(t, nil).Records(early)
	e := enricher(t, nil)
	e.SetInventory(book)
	e.Records(now)
	if now[0].SrcVM == "" || now[0].Segment == 0 || early[0].SrcVM != "" {
		t.Fatalf("the test's inventory says nothing: %+v", now[0])
	}
	r := early[0]
	if !Amend(&r, book) {
		t.Error("nothing changed")
	}
	for _, c := range []struct{ what, got, want string }{
		{"source", r.SrcVM + " " + r.SrcVMID + " " + r.SrcHost + " " + r.SrcTenant, now[0].SrcVM + " " + now[0].SrcVMID + " " + now[0].SrcHost + " " + now[0].SrcTenant},
		{"destination", r.DstVM + " " + r.DstVMID + " " + r.DstHost + " " + r.DstTenant, now[0].DstVM + " " + now[0].DstVMID + " " + now[0].DstHost + " " + now[0].DstTenant},
		{"place", r.Fabric + " " + r.Tenant + " " + r.ObserverHost, now[0].Fabric + " " + now[0].Tenant + " " + now[0].ObserverHost},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	if r.Segment != now[0].Segment || r.FlowID != early[0].FlowID || r.Observer != early[0].Observer {
		t.Errorf("segment %v, want %v; flow %x and observer %q must stay", r.Segment, now[0].Segment, r.FlowID, r.Observer)
	}
	again := r
	if Amend(&again, book) || again != r {
		t.Errorf("a record that agrees changed: %+v", again)
	}
	if Amend(&again, identity.NewBook(identity.Inventory{})) || again != r {
		t.Errorf("an inventory that knows nothing changed a record: %+v", again)
	}
	renamed := twoTenants()
	for i := range renamed.VNICs {
		renamed.VNICs[i].VM += "-new"
	}
	if !Amend(&again, identity.NewBook(renamed)) || again.SrcVM != r.SrcVM+"-new" {
		t.Errorf("source %q, want %q", again.SrcVM, r.SrcVM+"-new")
	}
}
