package vsim

import (
	"slices"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// adoptGroup takes a new port group in, and gives it its ports.
func (x *extension) adoptGroup(ctx *simulator.Context, sw *dvSwitch, o *simulator.DistributedVirtualPortgroup) {
	x.mu.Lock()
	if x.groups[o.Self.Value] != nil {
		x.mu.Unlock()
		return
	}
	setting, _ := o.Config.DefaultPortConfig.(*types.VMwareDVSPortSetting)
	g := &dvGroup{ref: o.Self, name: o.Name, sw: sw, uplink: isUplinkGroup(o.Name), setting: setting, version: 1}
	x.groups[o.Self.Value] = g
	if !g.uplink {
		for range o.Config.NumPorts {
			sw.newPortLocked(g)
		}
	}
	c := o.Config
	c.ConfigVersion, c.Uplink = strconv.Itoa(g.version), &g.uplink
	changes := []types.PropertyChange{{Name: "config", Val: c}, {Name: "portKeys", Val: slices.Clone(g.keys)}}
	if g.uplink {
		changes = append(changes, types.PropertyChange{Name: "tag", Val: []types.Tag{{Key: "SYSTEM/DVS.UPLINKPG"}}})
	}
	x.mu.Unlock()
	x.update(ctx, o, changes...)
}

// groupAPI adds to a distributed port group what vcsim lacks.
type groupAPI struct {
	*simulator.DistributedVirtualPortgroup
	x *extension
}

// ReconfigureDVPortgroupTask changes what the specification names and leaves the rest.
func (p *groupAPI) ReconfigureDVPortgroupTask(ctx *simulator.Context, req *types.ReconfigureDVPortgroup_Task) soap.HasFault {
	task := simulator.CreateTask(p.DistributedVirtualPortgroup, "reconfigureDvPortgroup", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, p.reconfigure(ctx, &req.Spec)
	})
	return &methods.ReconfigureDVPortgroup_TaskBody{Res: &types.ReconfigureDVPortgroup_TaskResponse{Returnval: task.Run(ctx)}}
}

func (p *groupAPI) reconfigure(ctx *simulator.Context, spec *types.DVPortgroupConfigSpec) types.BaseMethodFault {
	x := p.x
	c := p.Config
	x.mu.Lock()
	g := x.groups[p.Self.Value]
	if fault := x.checkVersionLocked(spec.ConfigVersion, g.version); fault != nil {
		x.mu.Unlock()
		return fault
	}
	next := merged(g.setting, spec.DefaultPortConfig)
	if fault := x.checkSettingLocked(g, next); fault != nil {
		x.mu.Unlock()
		return fault
	}
	g.setting = next
	g.version++
	c.ConfigVersion, c.DefaultPortConfig = strconv.Itoa(g.version), next
	x.mu.Unlock()
	mergeGroup(&c, spec)
	ctx.Update(p.DistributedVirtualPortgroup, []types.PropertyChange{{Name: "config", Val: c}})
	x.post(ctx, &types.DVPortgroupReconfiguredEvent{
		DVPortgroupEvent: types.DVPortgroupEvent{Event: types.Event{Net: &types.NetworkEventArgument{EntityEventArgument: types.EntityEventArgument{Name: p.Name}, Network: p.Self}}},
		ConfigSpec:       *spec,
	})
	return nil
}

// mergeGroup takes over what a specification names, apart from the ports' setting.
func mergeGroup(c *types.DVPortgroupConfigInfo, spec *types.DVPortgroupConfigSpec) {
	if spec.Name != "" {
		c.Name = spec.Name
	}
	if spec.Description != "" {
		c.Description = spec.Description
	}
	if spec.NumPorts != 0 {
		c.NumPorts = spec.NumPorts
	}
	if spec.AutoExpand != nil {
		c.AutoExpand = spec.AutoExpand
	}
	if spec.Policy != nil {
		c.Policy = spec.Policy
	}
}

// checkSettingLocked looks at what a new setting of a group's ports breaks.
func (x *extension) checkSettingLocked(g *dvGroup, next *types.VMwareDVSPortSetting) types.BaseMethodFault {
	if on := next.IpfixEnabled; on != nil && on.Value != nil && *on.Value && (g.sw.ipfix == nil || g.sw.ipfix.CollectorIpAddress == "") {
		return &types.InvalidArgument{InvalidProperty: "spec.defaultPortConfig.ipfixEnabled"}
	}
	if !promiscuous(next) || promiscuous(g.setting) {
		return nil
	}
	for _, s := range g.sw.sessions {
		for _, key := range slices.Concat(portsOf(s.SourcePortTransmitted).PortKey, portsOf(s.DestinationPort).PortKey) {
			if slices.Contains(g.keys, key) {
				return &types.VspanPortgroupPromiscChangeFault{PortgroupName: g.name}
			}
		}
	}
	return nil
}

// merged lays the fields that are set over a setting.
func merged(have *types.VMwareDVSPortSetting, with types.BaseDVPortSetting) *types.VMwareDVSPortSetting {
	out := &types.VMwareDVSPortSetting{}
	if have != nil {
		*out = *have
	}
	w, ok := with.(*types.VMwareDVSPortSetting)
	if !ok || w == nil {
		return out
	}
	if w.Vlan != nil {
		out.Vlan = w.Vlan
	}
	if w.SecurityPolicy != nil {
		out.SecurityPolicy = w.SecurityPolicy
	}
	if w.MacManagementPolicy != nil {
		out.MacManagementPolicy = w.MacManagementPolicy
	}
	if w.IpfixEnabled != nil {
		out.IpfixEnabled = w.IpfixEnabled
	}
	return out
}

// DestroyTask refuses to remove a group that something is connected to.
func (p *groupAPI) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	p.x.mu.Lock()
	used := false
	if g := p.x.groups[p.Self.Value]; g != nil {
		used = slices.ContainsFunc(g.keys, func(key string) bool { return g.sw.ports[key] != nil && g.sw.ports[key].connectee != nil })
	}
	p.x.mu.Unlock()
	if !used {
		return p.DistributedVirtualPortgroup.DestroyTask(ctx, req)
	}
	task := simulator.CreateTask(p.DistributedVirtualPortgroup, "destroy", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, &types.ResourceInUse{Type: "DistributedVirtualPortgroup", Name: p.Name}
	})
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task.Run(ctx)}}
}
