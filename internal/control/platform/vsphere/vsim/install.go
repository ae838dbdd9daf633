package vsim

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type ref = types.ManagedObjectReference

// install puts the extension around a model before its server starts.
func install(model *simulator.Model, c Config) *extension {
	x := &extension{
		registry: model.Map(), maxSessions: c.MaxSessions, users: map[string]user{c.User: {password: c.Password}},
		faults: map[string][]types.BaseMethodFault{}, calls: map[string]int{}, registries: map[*simulator.Registry]bool{},
		switches: map[string]*dvSwitch{}, groups: map[string]*dvGroup{},
	}
	ctx := model.Service.Context
	x.registry.SessionManager().ValidLogin = x.validLogin
	for _, s := range all[*simulator.DistributedVirtualSwitch](x, "DistributedVirtualSwitch") {
		x.adoptSwitch(ctx, s)
	}
	x.spread(ctx)
	for _, vm := range all[*simulator.VirtualMachine](x, "VirtualMachine") {
		x.bind(ctx, &vm.VirtualMachine)
	}
	for _, h := range all[*simulator.HostSystem](x, "HostSystem") {
		x.adoptHost(h)
	}
	x.registry.AddHandler(&watcher{Self: ref{Type: "CrosstapWatcher", Value: "crosstap-watcher"}, x: x})
	x.registry.Handler = x.handle
	return x
}

// all returns the entities of a kind in the order of their ids: that of the registry is random.
func all[T mo.Reference](x *extension, kind string) []T {
	var out []T
	for _, e := range x.registry.All(kind) {
		if t, ok := e.(T); ok {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b T) int {
		va, vb := a.Reference().Value, b.Reference().Value
		return cmp.Or(cmp.Compare(len(va), len(vb)), cmp.Compare(va, vb))
	})
	return out
}

// validLogin checks name and password.
func (x *extension) validLogin(req *types.Login) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	u, ok := x.users[req.UserName]
	return ok && u.password == req.Password
}

// spread places the model's VMs on the hosts in turn, where vcsim rolls dice.
func (x *extension) spread(ctx *simulator.Context) {
	hosts := all[*simulator.HostSystem](x, "HostSystem")
	for _, h := range hosts {
		h.Vm = nil
	}
	for i, vm := range all[*simulator.VirtualMachine](x, "VirtualMachine") {
		h := hosts[i%len(hosts)]
		h.Vm = append(h.Vm, vm.Self)
		to := h.Self
		vm.Runtime.Host, vm.Summary.Runtime.Host = &to, &to
	}
}

// adoptHost gives a host's standard switch what a fresh ESXi has: an uplink, and a port group for the vmkernel adapter.
func (x *extension) adoptHost(h *simulator.HostSystem) {
	net, ok := x.registry.Get(*h.ConfigManager.NetworkSystem).(*simulator.HostNetworkSystem)
	if !ok {
		return
	}
	config := *h.Config.Network
	sw := types.HostVirtualSwitch{Name: "vSwitch0", Key: "key-vim.host.VirtualSwitch-vSwitch0", NumPorts: 1536, Mtu: 1500, Pnic: []string{"key-vim.host.PhysicalNic-vmnic0"}}
	for _, g := range config.Portgroup {
		sw.Portgroup = append(sw.Portgroup, "key-vim.host.PortGroup-"+g.Spec.Name)
	}
	config.Vswitch = []types.HostVirtualSwitch{sw}
	config.Portgroup = slices.Clone(config.Portgroup)
	h.Config.Network = &config
	info := types.HostNetworkInfo{Vswitch: slices.Clone(config.Vswitch), Portgroup: slices.Clone(config.Portgroup), Vnic: config.Vnic, Pnic: config.Pnic}
	info.Vswitch[0].Portgroup = nil // vcsim's own methods look for names here
	for _, g := range config.Portgroup {
		info.Vswitch[0].Portgroup = append(info.Vswitch[0].Portgroup, g.Spec.Name)
	}
	net.NetworkInfo = &info
}

// watcher sees every change of an object.
type watcher struct {
	Self ref
	x    *extension
}

func (w *watcher) Reference() ref                             { return w.Self }
func (w *watcher) PutObject(*simulator.Context, mo.Reference) {}
func (w *watcher) RemoveObject(ctx *simulator.Context, r ref) { w.x.forget(ctx, r) }

// UpdateObject gives new adapters their ports and takes new port groups in.
func (w *watcher) UpdateObject(ctx *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	changed := func(name string) bool {
		return slices.ContainsFunc(changes, func(c types.PropertyChange) bool { return c.Name == name })
	}
	switch o := o.(type) {
	case *mo.VirtualMachine:
		if changed("config.hardware.device") {
			w.x.bind(ctx, o)
		}
	case *mo.DistributedVirtualSwitch:
		if s, ok := w.x.registry.Get(o.Self).(*simulator.DistributedVirtualSwitch); ok && (changed("portgroup") || changed("summary.hostMember")) {
			w.x.adoptSwitch(ctx, s)
		}
	}
}

// forget drops our copies of an object that is gone, also the wrappers in the sessions' registries. A session that ends takes its collectors and
// views away with its registry locked: of those there are no copies, and none is looked for.
func (x *extension) forget(ctx *simulator.Context, r ref) {
	switch r.Type {
	case "VirtualMachine", "DistributedVirtualPortgroup", "HostNetworkSystem", "DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch":
	default:
		return
	}
	x.mu.Lock()
	registries := slices.Collect(maps.Keys(x.registries))
	if r.Type == "VirtualMachine" {
		x.releaseLocked(r, nil)
	}
	delete(x.groups, r.Value)
	for _, s := range x.switches {
		for key, p := range s.ports {
			if p.group.ref == r {
				delete(s.ports, key)
			}
		}
	}
	if strings.HasSuffix(r.Type, "DistributedVirtualSwitch") {
		delete(x.switches, r.Value)
	}
	x.mu.Unlock()
	for _, registry := range registries {
		if registry.Get(r) != nil {
			registry.Remove(ctx, r)
		}
	}
}

// handle is asked before each call. It puts our wrapper of the object into the session's registry, where the simulator looks first,
// so that vcsim's own code goes on seeing its own types.
func (x *extension) handle(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if fault := x.admit(ctx, m); fault != nil || ctx.Session == nil {
		return nil, fault
	}
	registry := ctx.Session.Registry
	x.mu.Lock()
	x.registries[registry] = true
	x.mu.Unlock()
	if registry.Get(m.This) != nil {
		return nil, nil
	}
	switch o := ctx.Map.Get(m.This).(type) {
	case *simulator.DistributedVirtualSwitch:
		ctx.WithLock(o, func() { registry.Put(&switchAPI{o, x}) })
	case *simulator.DistributedVirtualPortgroup:
		ctx.WithLock(o, func() { registry.Put(&groupAPI{o, x}) })
	case *simulator.VirtualMachine:
		ctx.WithLock(o, func() { registry.Put(&machineAPI{o, x}) })
	case *simulator.HostNetworkSystem:
		ctx.WithLock(o, func() { registry.Put(&hostNetAPI{o, x}) })
	case *simulator.CustomFieldsManager:
		registry.Put(&fieldsAPI{o, x})
	case *simulator.AuthorizationManager:
		registry.Put(&authAPI{o, x})
	}
	return nil, nil
}

// admit counts a call and refuses what shall be refused: dropped sessions, faults to order, missing privileges.
func (x *extension) admit(ctx *simulator.Context, m *simulator.Method) types.BaseMethodFault {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls[m.Name]++
	if list := x.faults[m.Name]; len(list) > 0 {
		x.faults[m.Name] = list[1:]
		return list[0]
	}
	if ctx.Session == nil {
		if strings.HasPrefix(m.Name, "RetrieveProperties") { // vcsim answers anybody
			return &types.NotAuthenticated{NoPermission: types.NoPermission{Object: &m.This, PrivilegeId: "System.View"}}
		}
		return nil
	}
	if !slices.Contains(x.seen, ctx.Session.Key) {
		x.seen = append(x.seen, ctx.Session.Key)
	}
	if missing := x.missingLocked(ctx.Session.UserName, m); missing != "" {
		return &types.NoPermission{Object: &m.This, PrivilegeId: missing}
	}
	return nil
}
