package control

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/identity"
)

// identityEvery is how often the names of flows are compared with what the platforms tell.
const identityEvery = time.Second

// Identities tells what platforms have in the words of flows: which machine has which adapter where, which hosts end tunnels, and whose
// segments are whose. Platforms that tell of one adapter complete each other, in the order of the list.
func Identities(list []*platform.Snapshot, set *policy.Set) identity.Inventory {
	var parts []identity.Inventory
	for _, s := range list {
		parts = append(parts, identities(s, plan.TenantsOf(set)))
	}
	all := identity.Merge(parts...)
	for _, t := range set.Tenants {
		all.Tenants = append(all.Tenants, identity.Tenant{Name: t.Name, Segments: slices.Clone(t.Segments), Fabric: t.Fabric})
	}
	return all
}

// identities tells the machines and hosts of one platform.
func identities(s *platform.Snapshot, tenant func(*platform.Snapshot, *platform.Port) string) (inv identity.Inventory) {
	for _, h := range platform.Sorted(s.Hosts) {
		if ofAgent(s, h.ID) {
			continue // the machine itself, or one that another platform tells with its tunnel endpoints
		}
		inv.Hosts = append(inv.Hosts, identity.Host{Name: h.Name, VTEPs: slices.Clone(h.VTEPs)})
	}
	for _, p := range platform.Sorted(s.Ports) {
		vm := s.VMs[p.VM]
		if vm == nil || vm.Name == "" || p.MAC == 0 && len(p.Addrs) == 0 {
			continue
		}
		v := identity.VNIC{
			VM: vm.Name, VMID: vm.ID, MAC: p.MAC, Addrs: slices.Clone(p.Addrs), Port: p.Name, Segment: p.Segment, Fabric: p.Fabric, Tenant: tenant(s, p),
		}
		if h := s.Hosts[p.Host]; h != nil && !ofAgent(s, p.Switch) {
			v.Host = h.Name
		}
		inv.VNICs = append(inv.VNICs, v)
	}
	return inv
}

// ofAgent reports whether a switch is the interfaces of an agent; agents and their switches have one ID.
func ofAgent(s *platform.Snapshot, sw string) bool {
	return s.Switches[sw] != nil && s.Switches[sw].Kind == platform.SwitchAgent
}

// WatchIdentities follows what Identities tells until ctx ends. update gets, from one goroutine, each new inventory with the history
// since the watch began: what is no longer told ends but is kept for flows of the past. It sees what Run has seen, and asks no
// platform itself; one that does not answer keeps what it told last.
func (l *Line) WatchIdentities(ctx context.Context, update func(identity.Inventory)) error {
	tick := time.NewTicker(identityEvery)
	defer tick.Stop()
	var w identityWatch
	for {
		from := time.Now()
		if set, err := l.Set(ctx); err == nil { // a store that does not answer is told by Run
			if inv, changed := w.look(l.seen(), set, l.cfg.Now().UnixNano()); changed {
				update(inv)
			}
		}
		tick.Reset(identityEvery + 2*time.Since(from)) // of a data centre it takes long
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// seen is what the watches have told, by name of the platform; those without a resource come last, for others know better what is called how.
func (l *Line) seen() (out []*platform.Snapshot) {
	l.mu.Lock()
	list := slices.Collect(maps.Values(l.platforms))
	l.mu.Unlock()
	slices.SortFunc(list, func(a, b *attached) int {
		if a.own != b.own {
			return map[bool]int{true: 1, false: -1}[a.own]
		}
		return cmp.Compare(a.Name(), b.Name())
	})
	for _, a := range list {
		if s := a.seen(); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// identityWatch is what WatchIdentities remembers from one look to the next.
type identityWatch struct {
	list    []*platform.Snapshot
	tenants string             // texts of the Tenant resources
	told    identity.Inventory // by the platforms, at the last change
	history identity.Inventory
	begun   bool
}

// look compares what is known now with what was known. The inventory that it returns is the caller's.
func (w *identityWatch) look(list []*platform.Snapshot, set *policy.Set, nowNS int64) (identity.Inventory, bool) {
	if len(list) == 0 && !w.begun {
		return identity.Inventory{}, false // nothing has been told yet
	}
	var tenants strings.Builder
	for _, t := range set.Tenants {
		tenants.WriteString(t.Text)
	}
	if w.begun && slices.Equal(list, w.list) && tenants.String() == w.tenants {
		return identity.Inventory{}, false
	}
	w.list, w.tenants = list, tenants.String()
	told := Identities(list, set)
	if w.begun && reflect.DeepEqual(told, w.told) {
		return identity.Inventory{}, false
	}
	w.begun, w.told = true, told
	w.history = identity.Succeed(w.history, told, nowNS)
	return identity.Merge(w.history), true
}
