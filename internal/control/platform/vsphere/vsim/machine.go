package vsim

import (
	"reflect"
	"slices"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// dvBacking returns the distributed port that an adapter is attached to.
func dvBacking(d types.BaseVirtualDevice) (*types.VirtualEthernetCard, *types.VirtualEthernetCardDistributedVirtualPortBackingInfo) {
	n, ok := d.(types.BaseVirtualEthernetCard)
	if !ok {
		return nil, nil
	}
	card := n.GetVirtualEthernetCard()
	b, _ := card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo)
	return card, b
}

// bind gives each adapter on a distributed switch a port, and frees the ports that the VM no longer has.
func (x *extension) bind(ctx *simulator.Context, vm *mo.VirtualMachine) {
	if vm.Config == nil {
		return
	}
	devices := slices.Clone(vm.Config.Hardware.Device)
	changed := false
	keep := map[*dvPort]bool{}
	x.mu.Lock()
	for i, d := range devices {
		card, b := dvBacking(d)
		if b == nil {
			continue
		}
		sw, g := x.switchByUUIDLocked(b.Port.SwitchUuid), x.groups[b.Port.PortgroupKey]
		if sw == nil || g == nil {
			continue
		}
		p := sw.ports[b.Port.PortKey]
		if p == nil || !p.servesLocked(vm.Self, card.Key, g) {
			p = sw.freePortLocked(g)
			self := vm.Self
			p.connectee = &types.DistributedVirtualSwitchPortConnectee{
				ConnectedEntity: &self, NicKey: strconv.Itoa(int(card.Key)), Type: string(types.DistributedVirtualSwitchPortConnecteeConnecteeTypeVmVnic),
			}
			p.cookie++
			p.stats = types.DistributedVirtualSwitchPortStatistics{}
			devices[i] = withPort(d, p)
			changed = true
		}
		p.host, p.mac = vm.Runtime.Host, card.MacAddress
		keep[p] = true
	}
	x.releaseLocked(vm.Self, keep)
	x.mu.Unlock()
	if !changed {
		return
	}
	if o, ok := x.registry.Get(vm.Self).(*simulator.VirtualMachine); ok {
		ctx.Update(o, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
		x.mu.Lock()
		cloning := x.cloning > 0 // vcsim changes a clone without its lock; it is told when it is ready
		x.mu.Unlock()
		if !cloning {
			go x.tellAgain(o)
		}
	}
}

// tellAgain tells the adapters once more when whoever is changing them has finished: their ports were found while the change was being
// told, and those who watch may have heard of it in the wrong order.
func (x *extension) tellAgain(vm *simulator.VirtualMachine) {
	ctx := &simulator.Context{Map: x.registry}
	ctx.WithLock(vm, func() {
		ctx.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: slices.Clone(vm.Config.Hardware.Device)}})
	})
}

func (p *dvPort) servesLocked(vm ref, nic int32, g *dvGroup) bool {
	return p.group == g && p.connectee != nil && *p.connectee.ConnectedEntity == vm && p.connectee.NicKey == strconv.Itoa(int(nic))
}

// freePortLocked returns a port of the group that nothing is connected to; the group grows when there is none.
func (s *dvSwitch) freePortLocked(g *dvGroup) *dvPort {
	for _, p := range s.sortedLocked() {
		if p.group == g && p.connectee == nil {
			return p
		}
	}
	return s.newPortLocked(g)
}

// releaseLocked frees the ports of a VM, apart from those to keep.
func (x *extension) releaseLocked(vm ref, keep map[*dvPort]bool) {
	for _, s := range x.switches {
		for _, p := range s.ports {
			if p.connectee != nil && p.connectee.ConnectedEntity != nil && *p.connectee.ConnectedEntity == vm && !keep[p] {
				p.connectee, p.host, p.mac = nil, nil, ""
			}
		}
	}
}

// withPort returns a copy of an adapter that is attached to a port: others may be reading the old one.
func withPort(d types.BaseVirtualDevice, p *dvPort) types.BaseVirtualDevice {
	v := reflect.New(reflect.TypeOf(d).Elem())
	v.Elem().Set(reflect.ValueOf(d).Elem())
	out := v.Interface().(types.BaseVirtualDevice)
	card, b := dvBacking(out)
	backing := *b
	backing.Port.PortKey, backing.Port.ConnectionCookie = p.key, p.cookie
	card.Backing = &backing
	return out
}

// machineAPI adds to a VM what vcsim lacks.
type machineAPI struct {
	*simulator.VirtualMachine
	x *extension
}

// MigrateVMTask moves the VM to another host.
func (v *machineAPI) MigrateVMTask(ctx *simulator.Context, req *types.MigrateVM_Task) soap.HasFault {
	task := simulator.CreateTask(v.VirtualMachine, "migrate", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if req.Host == nil {
			return nil, &types.InvalidArgument{InvalidProperty: "host"}
		}
		return nil, v.migrate(ctx, *req.Host)
	})
	return &methods.MigrateVM_TaskBody{Res: &types.MigrateVM_TaskResponse{Returnval: task.Run(ctx)}}
}

// RelocateVMTask moves the VM to another host; relocations with more in them are left to vcsim.
func (v *machineAPI) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	if s := req.Spec; s.Host == nil || len(s.DeviceChange) > 0 || s.Datastore != nil || s.Pool != nil || s.Folder != nil {
		return v.VirtualMachine.RelocateVMTask(ctx, req)
	}
	task := simulator.CreateTask(v.VirtualMachine, "relocate", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, v.migrate(ctx, *req.Spec.Host)
	})
	return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{Returnval: task.Run(ctx)}}
}

func (v *machineAPI) migrate(ctx *simulator.Context, to ref) types.BaseMethodFault {
	src, _ := v.x.registry.Get(*v.Runtime.Host).(*simulator.HostSystem)
	dst, ok := v.x.registry.Get(to).(*simulator.HostSystem)
	if !ok || src == nil {
		return &types.ManagedObjectNotFound{Obj: to}
	}
	ctx.WithLock(src, func() {
		left := slices.DeleteFunc(slices.Clone(src.Vm), func(r ref) bool { return r == v.Self })
		ctx.Update(src, []types.PropertyChange{{Name: "vm", Val: left}})
	})
	ctx.WithLock(dst, func() {
		ctx.Update(dst, []types.PropertyChange{{Name: "vm", Val: append(slices.Clone(dst.Vm), v.Self)}})
	})
	ctx.Update(v.VirtualMachine, []types.PropertyChange{{Name: "runtime.host", Val: &to}, {Name: "summary.runtime.host", Val: &to}})
	v.x.bind(ctx, &v.VirtualMachine.VirtualMachine)
	arg := func(h *simulator.HostSystem) *types.HostEventArgument {
		return &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: h.Name}, Host: h.Self}
	}
	v.x.post(ctx, &types.VmMigratedEvent{
		VmEvent: types.VmEvent{Event: types.Event{
			Host: arg(dst), Vm: &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: v.Name}, Vm: v.Self}, Ds: &types.DatastoreEventArgument{},
		}},
		SourceHost: *arg(src), SourceDatastore: &types.DatastoreEventArgument{},
	})
	return nil
}

// CloneVMTask clones the VM. vcsim leaves the notes of the specification aside.
func (v *machineAPI) CloneVMTask(ctx *simulator.Context, req *types.CloneVM_Task) soap.HasFault {
	task := simulator.CreateTask(v.VirtualMachine, "cloneVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		made, fault := v.clone(ctx, req)
		if vm, ok := v.x.registry.Get(made).(*simulator.VirtualMachine); ok && fault == nil {
			ctx.WithLock(vm, func() {
				changes := []types.PropertyChange{{Name: "config.hardware.device", Val: slices.Clone(vm.Config.Hardware.Device)}}
				if c := req.Spec.Config; c != nil && c.Annotation != "" {
					changes = append(changes, types.PropertyChange{Name: "config.annotation", Val: c.Annotation})
				}
				ctx.Update(vm, changes)
			})
		}
		return made, fault
	})
	return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{Returnval: task.Run(ctx)}}
}

// clone lets vcsim clone, and waits until it has.
func (v *machineAPI) clone(ctx *simulator.Context, req *types.CloneVM_Task) (made ref, fault types.BaseMethodFault) {
	v.x.count(&v.x.cloning, 1)
	defer v.x.count(&v.x.cloning, -1)
	body, ok := v.VirtualMachine.CloneVMTask(ctx, req).(*methods.CloneVM_TaskBody)
	if !ok || body.Fault_ != nil {
		return made, &types.InvalidArgument{InvalidProperty: "folder"}
	}
	inner, ok := v.x.registry.Get(body.Res.Returnval).(*simulator.Task)
	if !ok {
		return made, &types.NotFound{}
	}
	inner.Wait()
	if inner.Info.Error != nil {
		return made, inner.Info.Error.Fault
	}
	made, _ = inner.Info.Result.(ref)
	return made, nil
}

// count adds to a number of the extension.
func (x *extension) count(n *int, by int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	*n += by
}
