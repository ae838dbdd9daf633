package vsim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// hostNetAPI adds to a host's networking what vcsim lacks.
type hostNetAPI struct {
	*simulator.HostNetworkSystem
	x *extension
}

// hostOf returns the host that a network system belongs to.
func (h *hostNetAPI) hostOf() *simulator.HostSystem {
	for _, o := range all[*simulator.HostSystem](h.x, "HostSystem") {
		if n := o.ConfigManager.NetworkSystem; n != nil && *n == h.Self {
			return o
		}
	}
	return nil
}

// tell copies the network system's view into the host's configuration, where clients watch it.
func (h *hostNetAPI) tell(ctx *simulator.Context) {
	host := h.hostOf()
	if host == nil {
		return
	}
	switches := slices.Clone(h.NetworkInfo.Vswitch)
	for i := range switches {
		switches[i].Portgroup = slices.Clone(switches[i].Portgroup)
		for j, name := range switches[i].Portgroup {
			switches[i].Portgroup[j] = "key-vim.host.PortGroup-" + name
		}
	}
	ctx.WithLock(host, func() {
		network := *host.Config.Network
		host.Config.Network = &network
		ctx.Update(host, []types.PropertyChange{
			{Name: "config.network.vswitch", Val: switches},
			{Name: "config.network.portgroup", Val: slices.Clone(h.NetworkInfo.Portgroup)},
		})
	})
}

func (h *hostNetAPI) index(name string) int {
	return slices.IndexFunc(h.NetworkInfo.Portgroup, func(p types.HostPortGroup) bool { return p.Spec.Name == name })
}

// AddPortGroup adds a port group. The same name may be on other hosts: it is then the same network.
func (h *hostNetAPI) AddPortGroup(ctx *simulator.Context, c *types.AddPortGroup) soap.HasFault {
	body := &methods.AddPortGroupBody{}
	sw := slices.IndexFunc(h.NetworkInfo.Vswitch, func(s types.HostVirtualSwitch) bool { return s.Name == c.Portgrp.VswitchName })
	switch {
	case c.Portgrp.Name == "" || c.Portgrp.VlanId < 0 || c.Portgrp.VlanId > 4095:
		body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "portgrp"})
	case sw < 0:
		body.Fault_ = simulator.Fault("", &types.NotFound{})
	case h.index(c.Portgrp.Name) >= 0:
		body.Fault_ = simulator.Fault("", &types.AlreadyExists{Name: c.Portgrp.Name})
	}
	if body.Fault_ != nil {
		return body
	}
	r := h.HostNetworkSystem.AddPortGroup(ctx, c)
	if f := r.Fault(); f != nil {
		if _, elsewhere := f.Detail.Fault.(*types.DuplicateName); !elsewhere {
			return r
		}
		h.NetworkInfo.Vswitch[sw].Portgroup = append(h.NetworkInfo.Vswitch[sw].Portgroup, c.Portgrp.Name)
		h.NetworkInfo.Portgroup = append(h.NetworkInfo.Portgroup, types.HostPortGroup{Key: "key-vim.host.PortGroup-" + c.Portgrp.Name, Spec: c.Portgrp})
	}
	h.tell(ctx)
	body.Res = &types.AddPortGroupResponse{}
	return body
}

// UpdatePortGroup replaces the specification of a port group.
func (h *hostNetAPI) UpdatePortGroup(ctx *simulator.Context, c *types.UpdatePortGroup) soap.HasFault {
	body := &methods.UpdatePortGroupBody{}
	i := h.index(c.PgName)
	if i < 0 {
		body.Fault_ = simulator.Fault("", &types.NotFound{})
		return body
	}
	h.NetworkInfo.Portgroup[i].Spec = c.Portgrp
	h.tell(ctx)
	body.Res = &types.UpdatePortGroupResponse{}
	return body
}

// RemovePortGroup removes a port group that no VM of the host is attached to. The network stays while another host has it.
func (h *hostNetAPI) RemovePortGroup(ctx *simulator.Context, c *types.RemovePortGroup) soap.HasFault {
	body := &methods.RemovePortGroupBody{}
	i := h.index(c.PgName)
	switch {
	case i < 0:
		body.Fault_ = simulator.Fault("", &types.NotFound{})
		return body
	case h.inUse(ctx, c.PgName):
		body.Fault_ = simulator.Fault("", &types.ResourceInUse{Type: "HostPortGroup", Name: c.PgName})
		return body
	case !h.elsewhere(ctx, c.PgName):
		if r := h.HostNetworkSystem.RemovePortGroup(ctx, c); r.Fault() != nil {
			return r
		}
	default:
		h.NetworkInfo.Portgroup = slices.Delete(slices.Clone(h.NetworkInfo.Portgroup), i, i+1)
		for j := range h.NetworkInfo.Vswitch {
			s := &h.NetworkInfo.Vswitch[j]
			s.Portgroup = slices.DeleteFunc(slices.Clone(s.Portgroup), func(name string) bool { return name == c.PgName })
		}
	}
	h.tell(ctx)
	body.Res = &types.RemovePortGroupResponse{}
	return body
}

// elsewhere reports whether another host has a port group of that name.
func (h *hostNetAPI) elsewhere(ctx *simulator.Context, name string) (found bool) {
	mine := h.hostOf()
	for _, o := range all[*simulator.HostSystem](h.x, "HostSystem") {
		if o == mine {
			continue
		}
		ctx.WithLock(o, func() {
			found = found || slices.ContainsFunc(o.Config.Network.Portgroup, func(p types.HostPortGroup) bool { return p.Spec.Name == name })
		})
	}
	return found
}

// inUse reports whether a machine of this host is attached to the port group.
func (h *hostNetAPI) inUse(ctx *simulator.Context, name string) (used bool) {
	host := h.hostOf()
	for _, vm := range all[*simulator.VirtualMachine](h.x, "VirtualMachine") {
		ctx.WithLock(vm, func() {
			if host == nil || vm.Runtime.Host == nil || *vm.Runtime.Host != host.Self {
				return
			}
			used = used || slices.ContainsFunc(vm.Config.Hardware.Device, func(d types.BaseVirtualDevice) bool {
				n, ok := d.(types.BaseVirtualEthernetCard)
				if !ok {
					return false
				}
				b, ok := n.GetVirtualEthernetCard().Backing.(*types.VirtualEthernetCardNetworkBackingInfo)
				return ok && b.DeviceName == name
			})
		})
	}
	return used
}

// AddVMKernel gives a host a vmkernel adapter on a distributed port group, and returns the key of its port.
func (s *Server) AddVMKernel(host, group, device string) (string, error) {
	x := s.x
	for _, h := range all[*simulator.HostSystem](x, "HostSystem") {
		if h.Name != host {
			continue
		}
		x.mu.Lock()
		var p *dvPort
		for _, g := range x.groups {
			if g.name == group {
				p = g.sw.freePortLocked(g)
				self := h.Self
				p.host = &self
				p.connectee = &types.DistributedVirtualSwitchPortConnectee{ConnectedEntity: &self, NicKey: device, Type: string(types.DistributedVirtualSwitchPortConnecteeConnecteeTypeHostVmkVnic)}
			}
		}
		x.mu.Unlock()
		if p == nil {
			return "", fmt.Errorf("vsim: no port group %q", group)
		}
		nic := types.HostVirtualNic{Device: device, Key: "key-vim.host.VirtualNic-" + device, Spec: types.HostVirtualNicSpec{
			Ip: &types.HostIpConfig{IpAddress: "192.0.2.10", SubnetMask: "255.255.255.0"}, Mac: "00:50:56:60:00:01", Mtu: 1500,
			DistributedVirtualPort: &types.DistributedVirtualSwitchPortConnection{SwitchUuid: p.group.sw.uuid, PortgroupKey: p.group.ref.Value, PortKey: p.key},
		}}
		ctx := s.model.Service.Context
		ctx.WithLock(h, func() {
			network := *h.Config.Network
			h.Config.Network = &network
			ctx.Update(h, []types.PropertyChange{{Name: "config.network.vnic", Val: append(slices.Clone(network.Vnic), nic)}})
		})
		return p.key, nil
	}
	return "", fmt.Errorf("vsim: no host %q", host)
}

// fieldsAPI tells changes of custom attributes to clients that watch them.
type fieldsAPI struct {
	*simulator.CustomFieldsManager
	x *extension
}

// SetField sets a custom attribute of an object.
func (f *fieldsAPI) SetField(ctx *simulator.Context, req *types.SetField) soap.HasFault {
	known := slices.ContainsFunc(f.Field, func(d types.CustomFieldDef) bool { return d.Key == req.Key })
	o, ok := f.x.registry.Get(req.Entity).(mo.Entity)
	if !known || !ok {
		return &methods.SetFieldBody{Fault_: simulator.Fault("", &types.InvalidArgument{InvalidProperty: "key"})}
	}
	ctx.WithLock(o, func() {
		values := slices.DeleteFunc(slices.Clone(o.Entity().CustomValue), func(v types.BaseCustomFieldValue) bool { return v.GetCustomFieldValue().Key == req.Key })
		if req.Value != "" {
			values = append(values, &types.CustomFieldStringValue{CustomFieldValue: types.CustomFieldValue{Key: req.Key}, Value: req.Value})
		}
		ctx.Update(o, []types.PropertyChange{{Name: "customValue", Val: values}})
	})
	return &methods.SetFieldBody{Res: &types.SetFieldResponse{}}
}

// authAPI answers for the privileges that users have here.
type authAPI struct {
	*simulator.AuthorizationManager
	x *extension
}

// HasUserPrivilegeOnEntities tells which of the privileges a user has.
func (a *authAPI) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	a.x.mu.Lock()
	defer a.x.mu.Unlock()
	u := a.x.users[req.UserName]
	var out []types.EntityPrivilege
	for _, e := range req.Entities {
		p := types.EntityPrivilege{Entity: e}
		for _, id := range req.PrivId {
			p.PrivAvailability = append(p.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: u.has == nil || u.has[id]})
		}
		out = append(out, p)
	}
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: &types.HasUserPrivilegeOnEntitiesResponse{Returnval: out}}
}

// privileges names what calls need, where it does not depend on what is in them.
var privileges = map[string]string{
	"AddDVPortgroup_Task": "DVPortgroup.Create", "AddPortGroup": "Host.Config.Network", "UpdatePortGroup": "Host.Config.Network",
	"RemovePortGroup": "Host.Config.Network", "CreateVM_Task": "VirtualMachine.Inventory.Create", "CloneVM_Task": "VirtualMachine.Provisioning.Clone",
	"ReconfigVM_Task": "VirtualMachine.Config.EditDevice", "PowerOnVM_Task": "VirtualMachine.Interact.PowerOn",
	"PowerOffVM_Task": "VirtualMachine.Interact.PowerOff", "SetField": "Global.SetCustomField", "AddCustomFieldDef": "Global.ManageCustomFields",
	"ReconfigureDVPortgroup_Task": "DVPortgroup.Modify", "ReconfigureComputeResource_Task": "Host.Inventory.EditCluster",
}

// missingLocked returns the privilege that a call lacks, "" when it may be made.
func (x *extension) missingLocked(name string, m *simulator.Method) string {
	u := x.users[name]
	if u.has == nil {
		return ""
	}
	need := privileges[m.Name]
	switch {
	case m.Name == "ReconfigureDvs_Task":
		need = "DVSwitch.Modify"
		if req, ok := m.Body.(*types.ReconfigureDvs_Task); ok {
			if v, ok := req.Spec.(*types.VMwareDVSConfigSpec); ok && len(v.VspanConfigSpec) > 0 && v.IpfixConfig == nil {
				need = "DVSwitch.Vspan"
			}
		}
	case m.Name == "Destroy_Task" && strings.HasSuffix(m.This.Type, "Portgroup"):
		need = "DVPortgroup.Delete"
	case m.Name == "Destroy_Task" && m.This.Type == "VirtualMachine":
		need = "VirtualMachine.Inventory.Delete"
	}
	if need == "" || u.has[need] {
		return ""
	}
	return need
}
