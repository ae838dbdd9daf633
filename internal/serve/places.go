package serve

import (
	"cmp"
	"strconv"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/serve/api"
)

// Sources of what is told of machines: the file, and platforms.
const (
	fromInventory = "inventory"
	fromPlatforms = "platforms"
)

// contents is the inventory that is in use, with what it was before.
func (s *Server) contents() identity.Inventory {
	v := s.late.now.Load()
	if v == nil {
		return identity.Inventory{}
	}
	return identity.Contents(v.book)
}

// adapters tells where machines are and were.
func (s *Server) adapters() []api.Adapter {
	inv := s.contents()
	out := make([]api.Adapter, 0, len(inv.VNICs))
	tenants, filed := newTenantIndex(&inv), s.filed()
	for i := range inv.VNICs {
		v := &inv.VNICs[i]
		source := fromPlatforms
		if filed[filedAdapter{v.VM, v.MAC}] {
			source = fromInventory
		}
		out = append(out, api.Adapter{
			VM: v.VM, VMID: v.VMID, Tenant: tenants.of(v), Host: v.Host, Port: v.Port, Segment: segmentText(v.Segment),
			Fabric: cmp.Or(v.Fabric, identity.DefaultFabric), MAC: macText(v.MAC), Addrs: addrTexts(v.Addrs),
			From: momentOf(v.FromNS), Until: momentOf(v.ToNS), Source: source,
		})
	}
	return out
}

// filedAdapter names an adapter of the inventory file.
type filedAdapter struct {
	vm  string
	mac flow.MAC
}

// filed are the adapters that the inventory file tells.
func (s *Server) filed() map[filedAdapter]bool {
	s.inventory.mu.Lock()
	defer s.inventory.mu.Unlock()
	out := make(map[filedAdapter]bool, len(s.inventory.file.VNICs))
	for i := range s.inventory.file.VNICs {
		v := &s.inventory.file.VNICs[i]
		out[filedAdapter{v.VM, v.MAC}] = true
	}
	return out
}

// tenantIndex knows whose segments are whose.
type tenantIndex map[tenantPlace][]*identity.Tenant

type tenantPlace struct {
	fabric  string
	segment flow.Segment
}

func newTenantIndex(inv *identity.Inventory) tenantIndex {
	x := tenantIndex{}
	for i := range inv.Tenants {
		t := &inv.Tenants[i]
		for _, s := range t.Segments {
			key := tenantPlace{cmp.Or(t.Fabric, identity.DefaultFabric), s}
			x[key] = append(x[key], t)
		}
	}
	return x
}

// of returns an adapter's tenant: its own, else that of its segment when its span ended or still holds.
func (x tenantIndex) of(v *identity.VNIC) string {
	if v.Tenant != "" || v.Segment == 0 {
		return v.Tenant
	}
	at := time.Now().UnixNano()
	if v.ToNS != 0 {
		at = min(at, v.ToNS-1)
	}
	for _, t := range x[tenantPlace{cmp.Or(v.Fabric, identity.DefaultFabric), v.Segment}] {
		if t.Contains(at) {
			return t.Name
		}
	}
	return ""
}

func segmentText(s flow.Segment) string {
	if s == 0 {
		return ""
	}
	return s.Kind().String() + ":" + strconv.FormatUint(uint64(s.Number()), 10)
}

func macText(m flow.MAC) string {
	if m == 0 {
		return ""
	}
	return m.String()
}

func addrTexts(list []flow.Addr) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}

// momentOf is a time of an inventory, null for one that is not told.
func momentOf(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := time.Unix(0, ns).UTC()
	return &t
}
