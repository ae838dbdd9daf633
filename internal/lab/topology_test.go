package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

func TestSeenBy(t *testing.T) {
	topology := Default(false, true)
	f := func(tenant, roleA, roleB, want string) {
		t.Helper()
		got := strings.Join(topology.SeenBy(topology.VM(tenant, roleA), topology.VM(tenant, roleB)), "+")
		if got != want {
			t.Errorf("seen by %q, want %q", got, want)
		}
	}
	f("blue", "web", "db", "h1 mirror")                             // same host
	f("blue", "client", "web", "h1 mirror+h2 vtep")                 // across
	f("blue", "db", "client", "h1 mirror+h2 vtep")                  // across, the other way
	f("green", "client", "web", "h1 mirror+h2 vtep+client-2 agent") // all three
	f("green", "web", "db", "h1 mirror+h2 vtep")                    // across, not the agent's VM
	f("green", "client", "db", "client-2 agent")                    // same host without a mirror
}

func TestDefault(t *testing.T) {
	topology := Default(true, true)
	if len(topology.VMs) != 6 || !topology.Offloads || !topology.IPv6 {
		t.Fatalf("%+v", topology)
	}
	macs := map[string]bool{}
	for _, v := range topology.VMs {
		if macs[v.MAC] {
			t.Errorf("%s: %s is used twice", v.Name, v.MAC)
		}
		macs[v.MAC] = true
		other := map[string]string{"blue": "green", "green": "blue"}[v.Tenant]
		if twin := topology.VM(other, v.Role); twin.Addr4 != v.Addr4 || twin.Addr6 != v.Addr6 {
			t.Errorf("%s and %s must have the same addresses", v.Name, twin.Name)
		}
		if got := topology.ByAddr(topology.VNI(v.Tenant), v.Addr6); got == nil || got.Name != v.Name {
			t.Errorf("%s is not found by its address", v.Name)
		}
	}
}

// TestInventory reads the inventory file back as the server does.
func TestInventory(t *testing.T) {
	topology := Default(false, true)
	b, err := topology.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), InventoryFile)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := identity.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	book, now := identity.NewBook(inv), time.Now().UnixNano()
	for _, v := range topology.VMs {
		segment := flow.NewSegment(flow.KindVXLAN, topology.VNI(v.Tenant))
		n, ambiguous := book.ByAddr(segment, flow.FromNetip(v.Addr4), now)
		if n == nil || ambiguous || n.VM != v.Name || n.MAC.String() != v.MAC || n.Host != v.Host || n.Port != v.Port || n.Segment != segment {
			t.Errorf("%s by address: %+v, ambiguous %t", v.Name, n, ambiguous)
		}
	}
	for _, o := range topology.Observers {
		got := book.ObserverOf(flow.FromNetip(o.Exporter), o.Domain, 0, now)
		if got == nil || got.Name != o.Name || got.Role != flow.ParseRole(o.Role) || got.Host != o.Host {
			t.Errorf("observer %s: %+v", o.Name, got)
		}
	}
	for _, h := range topology.Hosts {
		if got := book.HostByVTEP(flow.FromNetip(h.VTEP), now); got == nil || got.Name != h.Name {
			t.Errorf("host %s: %+v", h.Name, got)
		}
	}
}
