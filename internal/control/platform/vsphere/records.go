package vsphere

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// update returns what has changed since the last call; everything after the first sync. ok is false when nothing did.
func (m *model) update(atNS int64) (u platform.Update, ok bool) {
	u.AtNS = atNS
	if m.whole {
		u.Whole = true
		m.told, m.owner = map[string][]platform.Ref{}, map[platform.Ref]string{}
		for _, refs := range [][]string{keys(m.hosts), keys(m.switches), keys(m.groups), keys(m.vms)} {
			for _, r := range refs {
				m.tell(&u, r)
			}
		}
		m.whole = false
		clear(m.dirty)
		return u, true
	}
	if len(m.dirty) == 0 {
		return u, false
	}
	var gone []platform.Ref
	for _, r := range slices.Sorted(maps.Keys(m.dirty)) {
		gone = append(gone, m.tell(&u, r)...)
	}
	clear(m.dirty)
	for _, g := range gone {
		if _, taken := m.owner[g]; !taken {
			u.Gone = append(u.Gone, g)
		}
	}
	return u, len(u.Hosts)+len(u.Switches)+len(u.VMs)+len(u.Ports)+len(u.Objects)+len(u.Gone) > 0
}

func keys[T any](in map[string]T) []string { return slices.Sorted(maps.Keys(in)) }

// tell adds the records of one thing to an update, and returns those that it had and no longer has.
func (m *model) tell(u *platform.Update, r string) (gone []platform.Ref) {
	hosts, switches, vms, ports, objects := len(u.Hosts), len(u.Switches), len(u.VMs), len(u.Ports), len(u.Objects)
	switch {
	case m.vms[r] != nil:
		m.tellVM(u, m.vms[r])
	case m.hosts[r] != nil:
		m.tellHost(u, m.hosts[r])
	case m.switches[r] != nil:
		m.tellSwitch(u, m.switches[r])
	case m.groups[r] != nil:
		m.tellGroup(u, m.groups[r])
	}
	var now []platform.Ref
	add := func(kind platform.RefKind, id string) { now = append(now, platform.Ref{Kind: kind, ID: id}) }
	for i := range u.Hosts[hosts:] {
		add(platform.RefHost, u.Hosts[hosts+i].ID)
	}
	for i := range u.Switches[switches:] {
		add(platform.RefSwitch, u.Switches[switches+i].ID)
	}
	for i := range u.VMs[vms:] {
		add(platform.RefVM, u.VMs[vms+i].ID)
	}
	for i := range u.Ports[ports:] {
		add(platform.RefPort, u.Ports[ports+i].ID)
	}
	for i := range u.Objects[objects:] {
		add(platform.RefObject, u.Objects[objects+i].ID)
	}
	for _, old := range m.told[r] {
		if m.owner[old] == r && !slices.Contains(now, old) {
			delete(m.owner, old)
			gone = append(gone, old)
		}
	}
	for _, n := range now {
		m.owner[n] = r
	}
	if m.told[r] = now; len(now) == 0 {
		delete(m.told, r)
	}
	return gone
}

func (m *model) tellHost(u *platform.Update, h *host) {
	out := platform.Host{ID: h.ref, Name: h.name, Version: h.version, Down: h.down, Tags: m.tags[h.ref]}
	if p := m.places[h.parent]; p.kind == "ClusterComputeResource" {
		out.Cluster = p.name
	}
	for _, k := range h.kernel {
		for _, a := range kernelAddrs(&k.Spec) {
			if k.Spec.NetStackInstanceKey == "vxlan" { // that of NSX's tunnel endpoints
				out.VTEPs = append(out.VTEPs, a)
			} else {
				out.Addrs = append(out.Addrs, a)
			}
		}
	}
	u.Hosts = append(u.Hosts, out)
	for i := range h.switches {
		m.tellStandard(u, h, &h.switches[i])
	}
	for i := range h.kernel {
		m.tellKernel(u, h, &h.kernel[i])
	}
	for i := range h.proxies {
		m.tellUplinks(u, h, &h.proxies[i])
	}
	for i := range h.groups {
		m.tellHostGroup(u, h, &h.groups[i])
	}
}

func kernelAddrs(s *types.HostVirtualNicSpec) (out []flow.Addr) {
	if s.Ip == nil {
		return nil
	}
	texts := []string{s.Ip.IpAddress}
	if s.Ip.IpV6Config != nil {
		for _, a := range s.Ip.IpV6Config.IpV6Address {
			texts = append(texts, a.IpAddress)
		}
	}
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && !a.IsLinkLocalUnicast() && !a.IsUnspecified() {
			out = append(out, flow.FromNetip(a.WithZone("")))
		}
	}
	return out
}

func standardID(host, name string) string { return host + "/" + name }

func (m *model) tellStandard(u *platform.Update, h *host, s *types.HostVirtualSwitch) {
	id := standardID(h.ref, s.Name)
	u.Switches = append(u.Switches, platform.Switch{
		ID: id, Name: s.Name, Kind: platform.SwitchStandard, Hosts: []string{h.ref}, MTU: int(s.Mtu),
		Can: platform.Capability{Methods: []platform.Method{platform.MethodPromiscuous}},
	})
	for _, key := range s.Pnic {
		name := key[strings.LastIndexByte(key, '-')+1:]
		u.Ports = append(u.Ports, platform.Port{
			ID: id + "/" + name, Name: name, Kind: platform.PortUplink, Host: h.ref, Switch: id, MTU: int(s.Mtu), Up: m.linkUp(h, key), MAC: pnicMAC(h, key),
		})
	}
}

// linkUp reports whether a physical adapter has a link.
func (m *model) linkUp(h *host, key string) bool {
	for i := range h.pnics {
		if h.pnics[i].Key == key {
			return h.pnics[i].LinkSpeed != nil
		}
	}
	return true
}

func pnicMAC(h *host, key string) flow.MAC {
	for i := range h.pnics {
		if h.pnics[i].Key == key {
			return parseMAC(h.pnics[i].Mac)
		}
	}
	return 0
}

// tellKernel tells a vmkernel adapter: the host's own traffic.
func (m *model) tellKernel(u *platform.Update, h *host, k *types.HostVirtualNic) {
	p := platform.Port{
		ID: h.ref + "/" + k.Device, Name: k.Device, Kind: platform.PortKernel, Host: h.ref, MAC: parseMAC(k.Spec.Mac), Addrs: kernelAddrs(&k.Spec),
		Up: true, MTU: int(k.Spec.Mtu), Group: k.Portgroup,
	}
	if d := k.Spec.DistributedVirtualPort; d != nil {
		s := m.byUUID[d.SwitchUuid]
		if s == nil || d.PortKey == "" {
			return
		}
		p.ID, p.Switch = s.ref+"/"+d.PortKey, s.ref
		if g := m.groups[d.PortgroupKey]; g != nil {
			g.place(&p, m.set)
		}
		u.Ports = append(u.Ports, p)
		return
	}
	if g := h.group(k.Portgroup); g != nil {
		p.Switch = standardID(h.ref, g.VswitchName)
		m.placeStandard(&p, g)
		u.Ports = append(u.Ports, p)
	}
}

// group returns a standard port group of the host.
func (h *host) group(name string) *types.HostPortGroupSpec {
	for i := range h.groups {
		if h.groups[i].Spec.Name == name {
			return &h.groups[i].Spec
		}
	}
	return nil
}

// tellUplinks tells the uplinks that a distributed switch has on a host.
func (m *model) tellUplinks(u *platform.Update, h *host, proxy *types.HostProxySwitch) {
	s := m.byUUID[proxy.DvsUuid]
	if s == nil {
		return
	}
	for i, up := range proxy.UplinkPort {
		p := platform.Port{ID: s.ref + "/" + up.Key, Name: cmp.Or(up.Value, up.Key), Kind: platform.PortUplink, Host: h.ref, Switch: s.ref, MTU: int(proxy.Mtu), Up: i < len(proxy.Pnic)}
		u.Ports = append(u.Ports, p)
	}
}

// place fills in what a distributed port group says of its ports.
func (g *dvGroup) place(p *platform.Port, set *settings) {
	p.Group, p.VLAN, p.Trunk, p.Segment, p.Fabric, p.Promisc = g.name, g.vlan, g.trunk, g.segment, set.Fabric, g.promisc
	if s, ok := set.Segments[g.name]; ok {
		p.Segment = s
	}
}

// vlanAll is the VLAN of a standard port group that gets all VLANs with their tags.
const vlanAll = 4095

// placeStandard fills in what a standard port group says of its ports.
func (m *model) placeStandard(p *platform.Port, g *types.HostPortGroupSpec) {
	p.Group, p.Fabric = g.Name, m.set.Fabric
	if g.VlanId > 0 && g.VlanId < vlanAll {
		p.VLAN = uint16(g.VlanId)
		p.Segment = flow.NewSegment(flow.KindVLAN, uint32(g.VlanId))
	}
	if s, ok := m.set.Segments[g.VswitchName+"/"+strconv.Itoa(int(g.VlanId))]; ok {
		p.Segment = s
	}
	if s, ok := m.set.Segments[g.Name]; ok {
		p.Segment = s
	}
	if sec := g.Policy.Security; sec != nil && sec.AllowPromiscuous != nil {
		p.Promisc = *sec.AllowPromiscuous
	}
}

func (m *model) tellVM(u *platform.Update, v *machine) {
	if v.template {
		return
	}
	u.VMs = append(u.VMs, platform.VM{ID: v.id, Name: v.name, Host: v.host, Folder: m.path(v.folder), Off: !v.on, Tags: m.tags[v.ref]})
	mark := platform.ParseMark(v.note)
	for i := range v.nics {
		if p, ok := m.port(v, &v.nics[i]); ok {
			if p.Owner = mark.Owner; !mark.IsZero() && p.Promisc {
				p.Kind = platform.PortMirror
			}
			u.Ports = append(u.Ports, p)
		}
	}
	if !mark.IsZero() {
		u.Objects = append(u.Objects, m.captureObject(v, mark))
	}
}

// port returns the port of a virtual adapter; it has none while it is not connected to anything.
func (m *model) port(v *machine, n *nic) (platform.Port, bool) {
	p := platform.Port{
		Kind: platform.PortVM, Host: v.host, VM: v.id, NIC: strconv.Itoa(int(n.key)), MAC: n.mac, Addrs: n.addrs, Up: n.up && v.on,
	}
	switch n.kind {
	case platform.SwitchDistributed:
		s, g := m.byUUID[n.uuid], m.groups[n.group]
		if s == nil || n.port == "" {
			return p, false
		}
		p.ID, p.Name, p.Switch = s.ref+"/"+n.port, n.port, s.ref
		if s.config != nil {
			p.MTU = int(s.config.MaxMtu)
		}
		if g != nil {
			g.place(&p, m.set)
			if seg, ok := m.set.Segments[s.name+"/"+strconv.Itoa(int(g.vlan))]; ok && g.vlan != 0 {
				p.Segment = seg
			}
		}
		if s.outputs[n.port] {
			p.Kind = platform.PortMirror
		}
	case platform.SwitchStandard:
		h := m.hosts[v.host]
		if h == nil {
			return p, false
		}
		g := h.group(n.group)
		if g == nil {
			return p, false
		}
		p.Switch = standardID(h.ref, g.VswitchName)
		p.ID, p.Name = p.Switch+"/"+v.ref+"/"+p.NIC, v.name+" "+p.NIC
		m.placeStandard(&p, g)
	default:
		return p, false // an opaque network has no port that anybody could name
	}
	return p, true
}

func (m *model) tellSwitch(u *platform.Update, s *dvSwitch) {
	out := platform.Switch{ID: s.ref, Name: s.name, Kind: platform.SwitchDistributed, Hosts: s.members, Can: s.can(m.set)}
	if s.config != nil {
		out.MTU = int(s.config.MaxMtu)
		for i := range s.config.VspanSession {
			u.Objects = append(u.Objects, m.sessionObject(s, &s.config.VspanSession[i]))
		}
	}
	u.Switches = append(u.Switches, out)
	if o, ok := m.ipfixObject(s); ok {
		u.Objects = append(u.Objects, o)
	}
}

// tellGroup tells a port group that gets what is not for it.
func (m *model) tellGroup(u *platform.Update, g *dvGroup) {
	if g.uplink || !g.promisc && platform.ParseMark(g.note).IsZero() {
		return
	}
	u.Objects = append(u.Objects, m.groupObject(g))
}

func (m *model) tellHostGroup(u *platform.Update, h *host, g *types.HostPortGroup) {
	sec := g.Spec.Policy.Security
	mark := m.hostGroupMark(h, g.Spec.Name)
	if mark.IsZero() && (sec == nil || sec.AllowPromiscuous == nil || !*sec.AllowPromiscuous) && !strings.HasPrefix(g.Spec.Name, platform.MarkPrefix) {
		return
	}
	u.Objects = append(u.Objects, hostGroupObject(h, &g.Spec, mark))
}

// hostGroupMark returns the mark of a standard port group. It has no place for one: its capture machine's notes name it.
func (m *model) hostGroupMark(h *host, name string) platform.Mark {
	for r := range m.onHost[h.ref] {
		if v := m.vms[r]; v != nil && v.note != "" && slices.Contains(noteList(v.note, "groups"), name) {
			return platform.ParseMark(v.note)
		}
	}
	return platform.Mark{}
}
