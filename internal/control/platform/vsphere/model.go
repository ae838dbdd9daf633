package vsphere

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// model is what is known of a vCenter, in a small form of its own: of 100,000 machines little more is kept than of one. Things are
// found by the value of their reference, which is unique in a vCenter. It is for one goroutine.
type model struct {
	set      *settings
	vcenter  bool
	vms      map[string]*machine
	hosts    map[string]*host
	switches map[string]*dvSwitch
	groups   map[string]*dvGroup
	places   map[string]place // folders, datacenters, clusters
	networks map[string]string
	tags     map[string]map[string]string
	field    int32 // key of our custom attribute; noField while there is none

	byUUID map[string]*dvSwitch
	dirty  map[string]struct{}            // by reference, what has changed since the last update
	whole  bool                           // everything has
	told   map[string][]platform.Ref      // by reference, the records that the last update of it had
	owner  map[platform.Ref]string        // which reference told a record last
	onHost map[string]map[string]struct{} // host → machines
	inPG   map[string]map[string]struct{} // port group → machines
}

type machine struct {
	ref      string
	id       string // instance UUID, else ref
	name     string
	host     string
	folder   string
	note     string // of our capture machines only: the annotation
	on       bool
	template bool
	nics     []nic
}

// nic is a virtual adapter.
type nic struct {
	key   int32
	mac   flow.MAC
	up    bool
	group string // key of a distributed port group, or the name of a standard one, or the id of an opaque network
	port  string // key of the distributed port; "" for other networks
	kind  platform.SwitchKind
	uuid  string // of the distributed switch
	addrs []flow.Addr
}

type host struct {
	ref, name, parent, version string
	down                       bool
	switches                   []types.HostVirtualSwitch
	groups                     []types.HostPortGroup
	proxies                    []types.HostProxySwitch
	kernel                     []types.HostVirtualNic
	pnics                      []types.PhysicalNic
}

type dvSwitch struct {
	ref, name, uuid string
	config          *types.VMwareDVSConfigInfo
	capability      *types.DVSCapability
	members         []string
	mark            string          // our custom attribute
	outputs         map[string]bool // keys of ports that are the destination of a session
}

type dvGroup struct {
	ref, name string
	sw        string // reference of its switch
	uplink    bool
	promisc   bool
	flows     bool // IPFIX is on
	note      string
	config    types.DVPortgroupConfigInfo
	vlan      uint16
	trunk     []uint16
	segment   flow.Segment
}

type place struct{ name, parent, kind string }

func newModel(set *settings, vcenter bool) *model {
	return &model{
		set: set, vcenter: vcenter, field: noField, vms: map[string]*machine{}, hosts: map[string]*host{}, switches: map[string]*dvSwitch{}, groups: map[string]*dvGroup{},
		places: map[string]place{}, networks: map[string]string{}, tags: map[string]map[string]string{}, byUUID: map[string]*dvSwitch{},
		dirty: map[string]struct{}{}, whole: true, told: map[string][]platform.Ref{}, owner: map[platform.Ref]string{},
		onHost: map[string]map[string]struct{}{}, inPG: map[string]map[string]struct{}{},
	}
}

// touch notes that the records of a thing may have changed.
func (m *model) touch(refs ...string) {
	if m.whole {
		return
	}
	for _, r := range refs {
		if r != "" {
			m.dirty[r] = struct{}{}
		}
	}
}

func link(in map[string]map[string]struct{}, key, member string) {
	if key == "" {
		return
	}
	if in[key] == nil {
		in[key] = map[string]struct{}{}
	}
	in[key][member] = struct{}{}
}

func unlink(in map[string]map[string]struct{}, key, member string) {
	if delete(in[key], member); len(in[key]) == 0 {
		delete(in, key)
	}
}

// apply takes over one object update of the property collector.
func (m *model) apply(u *types.ObjectUpdate) {
	r := u.Obj.Value
	if u.Kind == types.ObjectUpdateKindLeave {
		m.remove(u.Obj)
		return
	}
	switch u.Obj.Type {
	case "VirtualMachine":
		m.applyVM(r, u.ChangeSet)
	case "HostSystem":
		m.applyHost(r, u.ChangeSet)
	case "DistributedVirtualPortgroup":
		m.applyGroup(r, u.ChangeSet)
	case "OpaqueNetwork":
		each(u.ChangeSet, "name", func(name string) { m.networks[r] = unescape(name) })
	case "Folder", "Datacenter", "ComputeResource", "ClusterComputeResource":
		m.applyPlace(r, u.Obj.Type, u.ChangeSet)
	default:
		if strings.HasSuffix(u.Obj.Type, "DistributedVirtualSwitch") {
			m.applySwitch(r, u.ChangeSet)
		}
	}
}

// each calls f with the value of a property, when it is among the changes. A property that was removed has the zero value.
func each[T any](changes []types.PropertyChange, name string, f func(T)) {
	for i := range changes {
		if changes[i].Name != name {
			continue
		}
		switch val := changes[i].Val.(type) {
		case T:
			f(val)
		case *T:
			f(*val)
		case nil:
			var zero T
			f(zero)
		}
	}
}

// unescape gives the name that people see: vSphere writes / \ and % in names as %2f, %5c and %25.
func unescape(name string) string {
	if !strings.Contains(name, "%") {
		return name
	}
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}

// put sets a field and reports in changed whether it was something else.
func put[T comparable](to *T, value T, changed *bool) {
	if *to != value {
		*to, *changed = value, true
	}
}

func (m *model) applyVM(r string, changes []types.PropertyChange) {
	v, known := m.vms[r]
	if !known {
		v = &machine{ref: r, id: r}
		m.vms[r] = v
	}
	changed := !known
	before := v.host
	each(changes, "name", func(s string) { put(&v.name, unescape(s), &changed) })
	each(changes, "config.instanceUuid", func(s string) {
		if s != "" {
			put(&v.id, s, &changed)
		}
	})
	each(changes, "config.template", func(t bool) { put(&v.template, t, &changed) })
	each(changes, "config.annotation", func(s string) {
		if platform.ParseMark(s).IsZero() {
			s = "" // other people's notes are of no use here
		}
		put(&v.note, s, &changed)
	})
	each(changes, "runtime.host", func(h types.ManagedObjectReference) { put(&v.host, h.Value, &changed) })
	each(changes, "parent", func(p types.ManagedObjectReference) { put(&v.folder, p.Value, &changed) })
	each(changes, "runtime.powerState", func(s types.VirtualMachinePowerState) {
		put(&v.on, s == types.VirtualMachinePowerStatePoweredOn, &changed)
	})
	each(changes, "config.hardware.device", func(d types.ArrayOfVirtualDevice) { m.setNICs(v, d.VirtualDevice, &changed) })
	each(changes, "guest.net", func(a types.ArrayOfGuestNicInfo) { v.setAddrs(a.GuestNicInfo, &changed) })
	if v.host != before {
		unlink(m.onHost, before, r)
		link(m.onHost, v.host, r)
	}
	if changed {
		m.touch(r)
		if v.note != "" {
			m.touch(v.host, before) // standard port groups are marked by their capture machine
		}
	}
}

// setNICs takes the virtual adapters out of a list of devices.
func (m *model) setNICs(v *machine, devices []types.BaseVirtualDevice, changed *bool) {
	var out []nic
	for _, d := range devices {
		card, ok := d.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		n := readNIC(card.GetVirtualEthernetCard())
		if i := slices.IndexFunc(v.nics, func(o nic) bool { return o.key == n.key }); i >= 0 {
			n.addrs = v.nics[i].addrs
		}
		out = append(out, n)
	}
	if slices.EqualFunc(out, v.nics, func(a, b nic) bool {
		return a.key == b.key && a.mac == b.mac && a.up == b.up && a.group == b.group && a.port == b.port && a.uuid == b.uuid
	}) {
		return
	}
	for _, n := range v.nics {
		unlink(m.inPG, n.group, v.ref)
	}
	v.nics, *changed = out, true
	for _, n := range v.nics {
		link(m.inPG, n.group, v.ref)
	}
}

func readNIC(c *types.VirtualEthernetCard) nic {
	n := nic{key: c.Key, mac: parseMAC(c.MacAddress), up: c.Connectable == nil || c.Connectable.Connected}
	switch b := c.Backing.(type) {
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		n.kind, n.uuid, n.group, n.port = platform.SwitchDistributed, b.Port.SwitchUuid, b.Port.PortgroupKey, b.Port.PortKey
	case *types.VirtualEthernetCardNetworkBackingInfo:
		n.kind, n.group = platform.SwitchStandard, b.DeviceName
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		n.kind, n.group = platform.SwitchNone, b.OpaqueNetworkId
	}
	return n
}

func parseMAC(text string) flow.MAC {
	n, err := strconv.ParseUint(strings.ReplaceAll(text, ":", ""), 16, 48)
	if err != nil {
		return 0
	}
	return flow.MAC(n)
}

// setAddrs takes over the addresses that VMware Tools tell of each adapter.
func (v *machine) setAddrs(list []types.GuestNicInfo, changed *bool) {
	for i := range v.nics {
		n := &v.nics[i]
		var addrs []flow.Addr
		for _, g := range list {
			if g.DeviceConfigId == n.key || g.DeviceConfigId <= 0 && parseMAC(g.MacAddress) == n.mac {
				addrs = append(addrs, guestAddrs(&g)...)
			}
		}
		slices.SortFunc(addrs, func(a, b flow.Addr) int { return slices.Compare(a[:], b[:]) })
		addrs = slices.Compact(addrs)
		if !slices.Equal(addrs, n.addrs) {
			n.addrs, *changed = addrs, true
		}
	}
}

func guestAddrs(g *types.GuestNicInfo) (out []flow.Addr) {
	texts := g.IpAddress
	if g.IpConfig != nil && len(g.IpConfig.IpAddress) > 0 {
		texts = nil
		for _, a := range g.IpConfig.IpAddress {
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

func (m *model) applyPlace(r, kind string, changes []types.PropertyChange) {
	was, known := m.places[r]
	p := was
	p.kind = kind
	each(changes, "name", func(s string) { p.name = unescape(s) })
	each(changes, "parent", func(o types.ManagedObjectReference) { p.parent = o.Value })
	m.places[r] = p
	if known && p != was {
		m.whole = true // a path of many machines; seldom
	}
}

// path returns where something stands, such as "/dc1/vm/shop".
func (m *model) path(r string) string {
	var parts []string
	for range 64 {
		p, ok := m.places[r]
		if !ok || p.parent == "" {
			break
		}
		parts = append(parts, p.name)
		r = p.parent
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// remove forgets an object.
func (m *model) remove(o types.ManagedObjectReference) {
	r := o.Value
	m.touch(r)
	if v := m.vms[r]; v != nil {
		unlink(m.onHost, v.host, r)
		for _, n := range v.nics {
			unlink(m.inPG, n.group, r)
		}
		if v.note != "" {
			m.touch(v.host)
		}
	}
	if s := m.switches[r]; s != nil {
		delete(m.byUUID, s.uuid)
	}
	if g := m.groups[r]; g != nil {
		m.touch(g.sw)
	}
	delete(m.vms, r)
	delete(m.hosts, r)
	delete(m.switches, r)
	delete(m.groups, r)
	delete(m.places, r)
	delete(m.networks, r)
	delete(m.tags, r)
}

// setTags replaces all tags.
func (m *model) setTags(tags map[string]map[string]string) {
	for r := range m.tags {
		if !maps.Equal(m.tags[r], tags[r]) {
			m.touch(r)
		}
	}
	for r := range tags {
		if _, had := m.tags[r]; !had {
			m.touch(r)
		}
	}
	m.tags = tags
}
