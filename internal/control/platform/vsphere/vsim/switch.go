package vsim

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// dvSwitch is what a distributed switch knows. Guarded by extension.mu.
type dvSwitch struct {
	ref      ref
	uuid     string
	name     string
	version  int
	nextPort int
	ports    map[string]*dvPort
	sessions []types.VMwareVspanSession
	ipfix    *types.VMwareIpfixConfig
	flowIP   string // address that all hosts export from
	members  []ref
}

// dvGroup is what a distributed port group knows. Guarded by extension.mu.
type dvGroup struct {
	ref     ref
	name    string
	sw      *dvSwitch
	uplink  bool
	version int
	setting *types.VMwareDVSPortSetting
	keys    []string
}

// dvPort is one port. Guarded by extension.mu.
type dvPort struct {
	key       string
	group     *dvGroup
	connectee *types.DistributedVirtualSwitchPortConnectee
	host      *ref
	cookie    int32
	mac       string
	stats     types.DistributedVirtualSwitchPortStatistics
}

const uplinkName = "dvUplink1"

// newPortLocked adds a port to a group.
func (s *dvSwitch) newPortLocked(g *dvGroup) *dvPort {
	p := &dvPort{key: strconv.Itoa(s.nextPort), group: g}
	s.nextPort++
	s.ports[p.key] = p
	g.keys = append(g.keys, p.key)
	return p
}

// sortedLocked returns the ports in the order of their keys.
func (s *dvSwitch) sortedLocked() []*dvPort {
	return slices.SortedFunc(maps.Values(s.ports), func(a, b *dvPort) int {
		return cmp.Or(cmp.Compare(len(a.key), len(b.key)), cmp.Compare(a.key, b.key))
	})
}

func (x *extension) switchByUUIDLocked(uuid string) *dvSwitch {
	for _, s := range x.switches {
		if s.uuid == uuid {
			return s
		}
	}
	return nil
}

// adoptSwitch takes a switch in, and what it has that is new: port groups and hosts.
func (x *extension) adoptSwitch(ctx *simulator.Context, o *simulator.DistributedVirtualSwitch) {
	x.mu.Lock()
	s, known := x.switches[o.Self.Value]
	if !known {
		s = &dvSwitch{ref: o.Self, uuid: o.Uuid, name: o.Name, version: 1, ports: map[string]*dvPort{}}
		x.switches[o.Self.Value] = s
	}
	x.mu.Unlock()
	for _, r := range o.Portgroup {
		if g, ok := x.registry.Get(r).(*simulator.DistributedVirtualPortgroup); ok {
			x.adoptGroup(ctx, s, g)
		}
	}
	x.adoptMembers(ctx, o, s)
	if !known {
		x.publishFirst(ctx, o, s)
	}
}

// publishFirst fills in what vcsim leaves empty.
func (x *extension) publishFirst(ctx *simulator.Context, o *simulator.DistributedVirtualSwitch, s *dvSwitch) {
	config, ok := o.Config.(*types.VMwareDVSConfigInfo)
	if !ok {
		return
	}
	c := *config
	c.ConfigVersion, c.MaxMtu = strconv.Itoa(s.version), max(c.MaxMtu, 1500)
	c.ProductInfo = *o.Summary.ProductInfo
	c.UplinkPortPolicy = &types.DVSNameArrayUplinkPortPolicy{UplinkPortName: []string{uplinkName}}
	x.mu.Lock()
	for _, g := range x.groups {
		if g.sw == s && g.uplink {
			c.UplinkPortgroup = append(c.UplinkPortgroup, g.ref)
		}
	}
	s.ipfix, s.flowIP = c.IpfixConfig, c.SwitchIpAddress
	x.mu.Unlock()
	x.update(ctx, o, types.PropertyChange{Name: "config", Val: &c}, types.PropertyChange{Name: "capability", Val: capability()})
}

// update tells a change of an object under its lock.
func (x *extension) update(ctx *simulator.Context, o mo.Reference, changes ...types.PropertyChange) {
	ctx.WithLock(o, func() { ctx.Update(o, changes) })
}

func capability() types.DVSCapability {
	yes := types.NewBool(true)
	return types.DVSCapability{
		DvsOperationSupported: yes, DvPortGroupOperationSupported: yes, DvPortOperationSupported: yes,
		FeaturesSupported: &types.VMwareDVSFeatureCapability{
			VspanSupported: yes, IpfixSupported: yes,
			IpfixCapability: &types.VMwareDvsIpfixCapability{IpfixSupported: yes, Ipv6ForIpfixSupported: yes, ObservationDomainIdSupported: yes},
			VspanCapability: &types.VMwareDVSVspanCapability{
				MixedDestSupported: true, DvportSupported: true, RemoteSourceSupported: true, RemoteDestSupported: true,
				EncapRemoteSourceSupported: true, ErspanProtocolSupported: yes, MirrorNetstackSupported: yes,
			},
		},
	}
}

// SetCapability changes what a switch says that it can do, for switches of older versions.
func (s *Server) SetCapability(name string, change func(*types.VMwareDVSFeatureCapability)) {
	ctx := s.model.Service.Context
	for _, o := range all[*simulator.DistributedVirtualSwitch](s.x, "DistributedVirtualSwitch") {
		if o.Name != name {
			continue
		}
		c := capability()
		change(c.FeaturesSupported.(*types.VMwareDVSFeatureCapability))
		s.x.update(ctx, o, types.PropertyChange{Name: "capability", Val: c})
	}
}

// adoptMembers gives each new host an uplink port and a proxy switch.
func (x *extension) adoptMembers(ctx *simulator.Context, o *simulator.DistributedVirtualSwitch, s *dvSwitch) {
	for _, r := range o.Summary.HostMember {
		host, ok := x.registry.Get(r).(*simulator.HostSystem)
		x.mu.Lock()
		var up *dvGroup
		for _, g := range x.groups {
			if g.sw == s && g.uplink {
				up = g
			}
		}
		if !ok || up == nil || slices.Contains(s.members, r) {
			x.mu.Unlock()
			continue
		}
		s.members = append(s.members, r)
		p := s.newPortLocked(up)
		p.host = &r
		p.connectee = &types.DistributedVirtualSwitchPortConnectee{ConnectedEntity: &r, NicKey: "vmnic1", Type: string(types.DistributedVirtualSwitchPortConnecteeConnecteeTypePnic)}
		proxy := types.HostProxySwitch{
			DvsUuid: s.uuid, DvsName: s.name, Key: "key-vim.host.HostProxySwitch-" + s.name, Mtu: 1500,
			Pnic: []string{"key-vim.host.PhysicalNic-vmnic1"}, UplinkPort: []types.KeyValue{{Key: p.key, Value: uplinkName}},
		}
		x.mu.Unlock()
		ctx.WithLock(host, func() {
			list := append(slices.Clone(host.Config.Network.ProxySwitch), proxy)
			network := *host.Config.Network // vcsim's hosts share one until they are written to
			host.Config.Network = &network
			ctx.Update(host, []types.PropertyChange{{Name: "config.network.proxySwitch", Val: list}})
		})
	}
}

// switchAPI adds to a distributed switch what vcsim lacks.
type switchAPI struct {
	*simulator.DistributedVirtualSwitch
	x *extension
}

// ReconfigureDvsTask changes the switch. Hosts that join or leave are left to vcsim.
func (s *switchAPI) ReconfigureDvsTask(ctx *simulator.Context, req *types.ReconfigureDvs_Task) soap.HasFault {
	if len(req.Spec.GetDVSConfigSpec().Host) > 0 {
		return s.DistributedVirtualSwitch.ReconfigureDvsTask(ctx, req)
	}
	task := simulator.CreateTask(s.DistributedVirtualSwitch, "reconfigureDvs", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, s.reconfigure(ctx, req.Spec)
	})
	return &methods.ReconfigureDvs_TaskBody{Res: &types.ReconfigureDvs_TaskResponse{Returnval: task.Run(ctx)}}
}

func (s *switchAPI) reconfigure(ctx *simulator.Context, spec types.BaseDVSConfigSpec) types.BaseMethodFault {
	config, ok := s.Config.(*types.VMwareDVSConfigInfo)
	if !ok {
		return &types.NotSupported{}
	}
	next := *config
	x := s.x
	x.mu.Lock()
	sw := x.switches[s.Self.Value]
	fault := x.checkVersionLocked(spec.GetDVSConfigSpec().ConfigVersion, sw.version)
	if fault == nil {
		fault = x.mergeLocked(sw, spec, &next)
	}
	if fault != nil {
		x.mu.Unlock()
		return fault
	}
	sw.version++
	next.ConfigVersion = strconv.Itoa(sw.version)
	next.VspanSession = slices.Clone(sw.sessions)
	next.IpfixConfig, next.SwitchIpAddress = sw.ipfix, sw.flowIP
	var late types.BaseMethodFault
	if len(x.taskFaults) > 0 {
		late, x.taskFaults = x.taskFaults[0], x.taskFaults[1:]
	}
	x.mu.Unlock()
	ctx.Update(s.DistributedVirtualSwitch, []types.PropertyChange{{Name: "config", Val: &next}})
	x.post(ctx, &types.DvsReconfiguredEvent{
		DvsEvent:   types.DvsEvent{Event: types.Event{Dvs: &types.DvsEventArgument{EntityEventArgument: types.EntityEventArgument{Name: s.Name}, Dvs: s.Self}}},
		ConfigSpec: spec,
	})
	return late
}

// checkVersionLocked is the optimistic lock of vSphere.
func (x *extension) checkVersionLocked(got string, have int) types.BaseMethodFault {
	switch {
	case got == "":
		return &types.InvalidArgument{InvalidProperty: "spec.configVersion"}
	case x.conflicts > 0:
		x.conflicts--
		return &types.ConcurrentAccess{}
	case got != strconv.Itoa(have):
		return &types.ConcurrentAccess{}
	}
	return nil
}

// mergeLocked applies what the specification says; the switch changes only when all of it is good.
func (x *extension) mergeLocked(sw *dvSwitch, spec types.BaseDVSConfigSpec, next *types.VMwareDVSConfigInfo) types.BaseMethodFault {
	base := spec.GetDVSConfigSpec()
	flowIP := cmp.Or(base.SwitchIpAddress, sw.flowIP)
	ipfix, sessions := sw.ipfix, sw.sessions
	if v, ok := spec.(*types.VMwareDVSConfigSpec); ok {
		var fault types.BaseMethodFault
		if v.IpfixConfig != nil {
			if ipfix, fault = checkIPFIX(*v.IpfixConfig); fault != nil {
				return fault
			}
		}
		if len(v.VspanConfigSpec) > 0 {
			if sessions, fault = x.editSessionsLocked(sw, v.VspanConfigSpec); fault != nil {
				return fault
			}
		}
		next.MaxMtu = max(next.MaxMtu, v.MaxMtu)
	}
	if base.Description != "" {
		next.Description = base.Description
	}
	sw.flowIP, sw.ipfix, sw.sessions = flowIP, ipfix, sessions
	return nil
}

// FetchDVPorts returns the ports that match.
func (s *switchAPI) FetchDVPorts(_ *simulator.Context, req *types.FetchDVPorts) soap.HasFault {
	c := req.Criteria
	if c == nil {
		c = &types.DistributedVirtualSwitchPortCriteria{}
	}
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	var out []types.DistributedVirtualPort
	for _, p := range s.x.switches[s.Self.Value].sortedLocked() {
		if p.matchesLocked(c) {
			out = append(out, p.wireLocked())
		}
	}
	return &methods.FetchDVPortsBody{Res: &types.FetchDVPortsResponse{Returnval: out}}
}

func (p *dvPort) matchesLocked(c *types.DistributedVirtualSwitchPortCriteria) bool {
	is := func(want *bool, have bool) bool { return want == nil || *want == have }
	inside := c.Inside == nil || len(c.PortgroupKey) == 0 || *c.Inside == slices.Contains(c.PortgroupKey, p.group.ref.Value)
	return is(c.Connected, p.connectee != nil) && is(c.UplinkPort, p.group.uplink) && inside &&
		(len(c.PortKey) == 0 || slices.Contains(c.PortKey, p.key)) &&
		(len(c.Host) == 0 || p.host != nil && slices.Contains(c.Host, *p.host))
}

func (p *dvPort) wireLocked() types.DistributedVirtualPort {
	out := types.DistributedVirtualPort{
		Key: p.key, DvsUuid: p.group.sw.uuid, PortgroupKey: p.group.ref.Value, ProxyHost: p.host, Connectee: p.connectee, ConnectionCookie: p.cookie,
		Config: types.DVPortConfigInfo{Setting: p.group.setting, ConfigVersion: "0"},
	}
	if p.connectee != nil {
		out.State = &types.DVPortState{RuntimeInfo: &types.DVPortStatus{LinkUp: true, Mtu: 1500, MacAddress: p.mac}, Stats: p.stats}
	}
	return out
}

// post adds an event to the history.
func (x *extension) post(ctx *simulator.Context, e types.BaseEvent) {
	if ev := e.GetEvent(); ev.Datacenter == nil {
		if dc := x.registry.Any("Datacenter"); dc != nil {
			ev.Datacenter = &types.DatacenterEventArgument{EntityEventArgument: types.EntityEventArgument{Name: dc.Entity().Name}, Datacenter: dc.Reference()}
		}
	}
	m := x.registry.EventManager()
	ctx.WithLock(m, func() { m.PostEvent(ctx, &types.PostEvent{EventToPost: e}) })
}

func isUplinkGroup(name string) bool { return strings.Contains(name, "-DVUplinks-") }
