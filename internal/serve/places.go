package serve

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/serve/api"
)

// fromInventory is the source of what the inventory file tells.
const fromInventory = "inventory"

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
	tenants := newTenantIndex(&inv)
	for i := range inv.VNICs {
		v := &inv.VNICs[i]
		out = append(out, api.Adapter{
			VM: v.VM, VMID: v.VMID, Tenant: tenants.of(v), Host: v.Host, Port: v.Port, Segment: segmentText(v.Segment),
			Fabric: cmp.Or(v.Fabric, identity.DefaultFabric), MAC: macText(v.MAC), Addrs: addrTexts(v.Addrs),
			From: momentOf(v.FromNS), Until: momentOf(v.ToNS), Source: fromInventory,
		})
	}
	return out
}

// topology tells what was attached to what at a moment.
func (s *Server) topology(at time.Time) api.Topology {
	inv := s.contents()
	doc := api.Topology{Sources: []string{}, Hosts: []api.TopologyHost{}, Rows: []api.TopologyPort{}}
	if len(inv.VNICs)+len(inv.Hosts) == 0 {
		return doc
	}
	doc.Sources = append(doc.Sources, fromInventory)
	atNS := at.UnixNano() - 1 // the last moment of the range
	hosts := map[string]*api.TopologyHost{}
	host := func(name string) *api.TopologyHost {
		h := hosts[name]
		if h == nil {
			h = &api.TopologyHost{Name: name, VTEPs: []string{}, Observers: []api.TopologyObserver{}}
			hosts[name] = h
		}
		return h
	}
	for i := range inv.Hosts {
		if h := &inv.Hosts[i]; h.Contains(atNS) {
			into := host(h.Name)
			into.VTEPs = append(into.VTEPs, addrTexts(h.VTEPs)...)
		}
	}
	for i := range inv.Observers {
		if o := &inv.Observers[i]; o.Contains(atNS) && o.Host != "" {
			into := host(o.Host)
			into.Observers = append(into.Observers, api.TopologyObserver{Name: o.Name, Role: o.Role.String()})
		}
	}
	tenants := newTenantIndex(&inv)
	for i := range inv.VNICs {
		v := &inv.VNICs[i]
		if !v.Contains(atNS) {
			continue
		}
		host(v.Host)
		doc.Rows = append(doc.Rows, api.TopologyPort{
			Host: v.Host, Port: v.Port, Kind: "vm", VM: v.VM, VMID: v.VMID, Tenant: tenants.of(v), Segment: segmentText(v.Segment),
			Fabric: cmp.Or(v.Fabric, identity.DefaultFabric), MAC: macText(v.MAC), Addrs: addrTexts(v.Addrs), Taps: []string{},
		})
	}
	for _, h := range hosts {
		doc.Hosts = append(doc.Hosts, *h)
	}
	sortTopology(&doc)
	return doc
}

func sortTopology(doc *api.Topology) {
	slices.SortFunc(doc.Hosts, func(x, y api.TopologyHost) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Platform, y.Platform))
	})
	slices.SortFunc(doc.Rows, func(x, y api.TopologyPort) int {
		return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.Switch, y.Switch), cmp.Compare(x.Port, y.Port), cmp.Compare(x.VM, y.VM), cmp.Compare(x.MAC, y.MAC))
	})
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
