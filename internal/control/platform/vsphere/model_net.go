package vsphere

import (
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

func (m *model) applyHost(r string, changes []types.PropertyChange) {
	h, known := m.hosts[r]
	if !known {
		h = &host{ref: r}
		m.hosts[r] = h
	}
	changed := !known
	each(changes, "name", func(s string) { put(&h.name, unescape(s), &changed) })
	each(changes, "parent", func(p types.ManagedObjectReference) { put(&h.parent, p.Value, &changed) })
	each(changes, "summary.config.product", func(a types.AboutInfo) { put(&h.version, a.FullName, &changed) })
	each(changes, "runtime.connectionState", func(s types.HostSystemConnectionState) {
		put(&h.down, s != types.HostSystemConnectionStateConnected, &changed)
	})
	each(changes, "config.network.vswitch", func(a types.ArrayOfHostVirtualSwitch) { h.switches, changed = a.HostVirtualSwitch, true })
	each(changes, "config.network.portgroup", func(a types.ArrayOfHostPortGroup) {
		h.groups, changed = a.HostPortGroup, true
		m.touch(slices.Collect(maps.Keys(m.onHost[r]))...) // their VLANs may be others
	})
	each(changes, "config.network.proxySwitch", func(a types.ArrayOfHostProxySwitch) { h.proxies, changed = a.HostProxySwitch, true })
	each(changes, "config.network.vnic", func(a types.ArrayOfHostVirtualNic) { h.kernel, changed = a.HostVirtualNic, true })
	each(changes, "config.network.pnic", func(a types.ArrayOfPhysicalNic) { h.pnics, changed = a.PhysicalNic, true })
	if changed {
		m.touch(r)
	}
}

func (m *model) applySwitch(r string, changes []types.PropertyChange) {
	s, known := m.switches[r]
	if !known {
		s = &dvSwitch{ref: r}
		m.switches[r] = s
	}
	each(changes, "name", func(name string) { s.name = unescape(name) })
	each(changes, "uuid", func(u string) {
		delete(m.byUUID, s.uuid)
		s.uuid = u
		m.byUUID[u] = s
	})
	each(changes, "summary.hostMember", func(a types.ArrayOfManagedObjectReference) {
		s.members = s.members[:0:0]
		for _, h := range a.ManagedObjectReference {
			s.members = append(s.members, h.Value)
		}
		slices.Sort(s.members)
	})
	each(changes, "capability", func(c types.DVSCapability) { s.capability = &c })
	each(changes, "config", func(c types.VMwareDVSConfigInfo) {
		s.config = &c
		m.setOutputs(s)
	})
	each(changes, "customValue", func(a types.ArrayOfCustomFieldValue) { s.mark = m.ownField(a.CustomFieldValue) })
	m.touch(r)
}

// ownField returns the value of our custom attribute.
func (m *model) ownField(values []types.BaseCustomFieldValue) string {
	for _, v := range values {
		if s, ok := v.(*types.CustomFieldStringValue); ok && m.field != noField && s.Key == m.field {
			return s.Value
		}
	}
	return ""
}

// setOutputs notes which ports carry copies; what is connected to them is told again.
func (m *model) setOutputs(s *dvSwitch) {
	outputs := map[string]bool{}
	for i := range s.config.VspanSession {
		if to := s.config.VspanSession[i].DestinationPort; to != nil {
			for _, key := range to.PortKey {
				outputs[key] = true
			}
		}
	}
	if maps.Equal(outputs, s.outputs) {
		return
	}
	differ := func(key string) bool { return outputs[key] != s.outputs[key] }
	if !m.whole {
		for r, v := range m.vms {
			if slices.ContainsFunc(v.nics, func(n nic) bool { return n.uuid == s.uuid && differ(n.port) }) {
				m.touch(r)
			}
		}
	}
	s.outputs = outputs
}

func (m *model) applyGroup(r string, changes []types.PropertyChange) {
	g, known := m.groups[r]
	if !known {
		g = &dvGroup{ref: r}
		m.groups[r] = g
	}
	each(changes, "name", func(name string) { g.name = unescape(name) })
	each(changes, "config", func(c types.DVPortgroupConfigInfo) { g.read(c) })
	m.touch(r, g.sw) // the IPFIX of a switch names its port groups
	if known {
		m.touch(slices.Collect(maps.Keys(m.inPG[r]))...)
	}
}

// read takes over a port group's configuration.
func (g *dvGroup) read(c types.DVPortgroupConfigInfo) {
	g.config, g.note = c, c.Description
	if c.Name != "" {
		g.name = unescape(c.Name)
	}
	if c.DistributedVirtualSwitch != nil {
		g.sw = c.DistributedVirtualSwitch.Value
	}
	g.uplink = c.Uplink != nil && *c.Uplink
	g.promisc, g.flows, g.vlan, g.trunk, g.segment = false, false, 0, nil, 0
	s, ok := c.DefaultPortConfig.(*types.VMwareDVSPortSetting)
	if !ok || s == nil {
		return
	}
	g.promisc = isPromiscuous(s)
	g.flows = s.IpfixEnabled != nil && s.IpfixEnabled.Value != nil && *s.IpfixEnabled.Value
	g.readVLAN(s, strings.HasPrefix(c.BackingType, "nsx"))
}

func isPromiscuous(s *types.VMwareDVSPortSetting) bool {
	if p := s.MacManagementPolicy; p != nil && p.AllowPromiscuous != nil {
		return *p.AllowPromiscuous
	}
	p := s.SecurityPolicy
	return p != nil && p.AllowPromiscuous != nil && p.AllowPromiscuous.Value != nil && *p.AllowPromiscuous.Value
}

// readVLAN takes over VLANs and the overlay's number, which comes first: the VLAN of an overlay is that of its transport.
func (g *dvGroup) readVLAN(s *types.VMwareDVSPortSetting, nsx bool) {
	switch v := s.Vlan.(type) {
	case *types.VmwareDistributedVirtualSwitchVlanIdSpec:
		g.vlan = uint16(v.VlanId)
	case *types.VmwareDistributedVirtualSwitchPvlanSpec:
		g.vlan = uint16(v.PvlanId)
	case *types.VmwareDistributedVirtualSwitchTrunkVlanSpec:
		for _, r := range v.VlanId {
			for n := max(r.Start, 0); n <= min(r.End, 4094); n++ {
				g.trunk = append(g.trunk, uint16(n))
			}
		}
	}
	switch {
	case s.VNI != nil && s.VNI.Value > 0 && nsx:
		g.segment = flow.NewSegment(flow.KindGeneve, uint32(s.VNI.Value))
	case s.VNI != nil && s.VNI.Value > 0:
		g.segment = flow.NewSegment(flow.KindVXLAN, uint32(s.VNI.Value))
	case g.vlan != 0:
		g.segment = flow.NewSegment(flow.KindVLAN, uint32(g.vlan))
	}
}

// can says what a distributed switch can do.
func (s *dvSwitch) can(set *settings) platform.Capability {
	out := platform.Capability{Slice: true, Sample: true, Follows: true, MaxSessions: set.maxSessions}
	if s.capability == nil {
		return out
	}
	yes := func(b *bool) bool { return b != nil && *b }
	if yes(s.capability.DvPortGroupOperationSupported) {
		out.Methods = append(out.Methods, platform.MethodPromiscuous)
	}
	f, ok := s.capability.FeaturesSupported.(*types.VMwareDVSFeatureCapability)
	if !ok || f == nil {
		return out
	}
	if c := f.VspanCapability; c != nil {
		if c.DvportSupported || c.MixedDestSupported {
			out.Methods = append(out.Methods, platform.MethodMirror)
		}
		if c.EncapRemoteSourceSupported {
			out.Encaps = append(out.Encaps, platform.EncapGRE)
			if yes(c.ErspanProtocolSupported) {
				out.Encaps = append(out.Encaps, platform.EncapERSPAN2, platform.EncapERSPAN3)
			}
		}
		if c.RemoteSourceSupported {
			out.Encaps = append(out.Encaps, platform.EncapVLAN)
		}
		out.FromVLAN = c.RemoteDestSupported
		if len(out.Encaps) > 0 {
			out.Methods = append(out.Methods, platform.MethodRemoteMirror)
		}
	}
	if yes(f.IpfixSupported) || f.IpfixCapability != nil && yes(f.IpfixCapability.IpfixSupported) {
		out.Methods = append(out.Methods, platform.MethodFlowsOnly)
	}
	return out
}
