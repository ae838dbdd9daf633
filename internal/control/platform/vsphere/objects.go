package vsphere

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// The kinds of objects, and of what steps change.
const (
	kindSession   = "mirror session"
	kindIPFIX     = "IPFIX"
	kindGroup     = "port group"
	kindHostGroup = "standard port group"
	kindMachine   = "capture VM"
	kindAdapters  = "adapters of capture VM" // only in steps: a part of the capture VM's object
)

func sessionID(sw, key string) string        { return sw + "/session/" + key }
func ipfixID(sw string) string               { return sw + "/ipfix" }
func hostGroupID(host, name string) string   { return host + "/portgroup/" + name }
func machineID(ref string) string            { return "vm/" + ref }
func portKey(sw, port string) (string, bool) { return strings.CutPrefix(port, sw+"/") }

func (m *model) sessionObject(s *dvSwitch, vs *types.VMwareVspanSession) platform.Object {
	f := sessionFields(vs)
	o := platform.Object{
		ID: sessionID(s.ref, vs.Key), Name: vs.Name, Kind: kindSession, Switch: s.ref, Mark: platform.ParseMark(vs.Description),
		Remote: f["to-addresses"], About: aboutSession(f), Raw: f,
	}
	dirs := map[string]platform.Direction{}
	for _, key := range split(f["received"]) {
		dirs[key] |= platform.Ingress
	}
	for _, key := range split(f["transmitted"]) {
		dirs[key] |= platform.Egress
	}
	for _, key := range slices.Sorted(maps.Keys(dirs)) {
		o.Sources = append(o.Sources, platform.Source{Port: s.ref + "/" + key, Dir: dirs[key]})
	}
	for _, key := range split(f["to-ports"]) {
		o.Outputs = append(o.Outputs, s.ref+"/"+key)
	}
	return o
}

func aboutSession(f fields) string {
	var b strings.Builder
	b.WriteString(f["type"])
	for _, part := range []string{"received", "transmitted"} {
		if n := len(split(f[part])); n > 0 {
			fmt.Fprintf(&b, ", %s of %d", part, n)
		}
	}
	if vlans := f["vlans"]; vlans != "" {
		b.WriteString(", from VLAN " + vlans)
	}
	if to := f["to-addresses"]; to != "" {
		fmt.Fprintf(&b, " > %s %s", f["encapsulation"], to)
	}
	if to := f["to-uplinks"]; to != "" {
		fmt.Fprintf(&b, " > VLAN %s of %s", f["to-vlan"], strings.Join(splitNames(to), ", "))
	}
	if to := f["to-ports"]; to != "" {
		fmt.Fprintf(&b, " > ports %s", to)
	}
	if f["enabled"] != "yes" {
		b.WriteString(", disabled")
	}
	return b.String()
}

// ipfixFields writes the flow export of a switch: one for all its port groups. attribute is the value of our custom attribute: a mark,
// the port groups that are ours, and what the collector was before us. Without a mark all port groups are told.
func ipfixFields(c *types.VMwareIpfixConfig, switchIP string, groups []string, attribute string) fields {
	out := fields{}
	if attribute != "" {
		own := noteList(attribute, "groups")
		groups = slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return !slices.Contains(own, g) })
		out["mark"], out["was"] = platform.ParseMark(attribute).Text(), noteWord(attribute, "was")
	}
	out["groups"] = joinNames(groups)
	if c != nil && c.CollectorIpAddress != "" {
		out["collector"], out["port"], out["domain"] = c.CollectorIpAddress, number(c.CollectorPort), number(c.ObservationDomainId)
		out["active"], out["idle"], out["sampling"] = number(c.ActiveFlowTimeout), number(c.IdleFlowTimeout), number(c.SamplingRate)
		out["internal"], out["switch-ip"] = flag(c.InternalFlowsOnly), switchIP
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// ipfix is the inverse of ipfixFields. A server refuses an active timeout of 0.
func (f fields) ipfix() *types.VMwareIpfixConfig {
	domain, _ := strconv.ParseInt(f["domain"], 10, 64)
	return &types.VMwareIpfixConfig{
		CollectorIpAddress: f["collector"], CollectorPort: parseNumber(f["port"]), ObservationDomainId: domain, ActiveFlowTimeout: cmp.Or(parseNumber(f["active"]), 60),
		IdleFlowTimeout: parseNumber(f["idle"]), SamplingRate: parseNumber(f["sampling"]), InternalFlowsOnly: f["internal"] == "yes",
	}
}

// flowGroups returns the names of the switch's port groups that export flows.
func (m *model) flowGroups(sw string) (out []string) {
	for _, g := range m.groups {
		if g.sw == sw && g.flows {
			out = append(out, g.name)
		}
	}
	return out
}

// ipfixObject returns the flow export of a switch, when there is one: a port group exports, or it is marked.
func (m *model) ipfixObject(s *dvSwitch) (platform.Object, bool) {
	groups := m.flowGroups(s.ref)
	if s.config == nil || len(groups) == 0 && s.mark == "" {
		return platform.Object{}, false
	}
	f := ipfixFields(s.config.IpfixConfig, s.config.SwitchIpAddress, groups, s.mark)
	return platform.Object{
		ID: ipfixID(s.ref), Name: s.name, Kind: kindIPFIX, Switch: s.ref, Mark: platform.ParseMark(s.mark), Remote: f["collector"], Raw: f,
		About: fmt.Sprintf("flows of %d port groups to %s:%s, %s", len(groups), f["collector"], cmp.Or(f["port"], "0"), aboutSampling(f["sampling"])),
	}, true
}

func aboutSampling(rate string) string {
	if rate == "" || rate == "1" {
		return "every packet"
	}
	return "one packet in " + rate
}

// trunkAll is what a capture port on a distributed switch gets.
const trunkAll = "0-4094"

// groupFields writes a distributed port group as far as it matters to us.
func groupFields(c *types.DVPortgroupConfigInfo) fields {
	out := fields{"name": unescape(c.Name), "description": c.Description, "type": c.Type}
	s, _ := c.DefaultPortConfig.(*types.VMwareDVSPortSetting)
	if s == nil {
		return out
	}
	out["promiscuous"] = flag(isPromiscuous(s))
	switch v := s.Vlan.(type) {
	case *types.VmwareDistributedVirtualSwitchTrunkVlanSpec:
		ranges := make([]string, len(v.VlanId))
		for i, r := range v.VlanId {
			ranges[i] = fmt.Sprintf("%d-%d", r.Start, r.End)
		}
		out["vlans"] = strings.Join(ranges, ",")
	case *types.VmwareDistributedVirtualSwitchVlanIdSpec:
		out["vlans"] = strconv.Itoa(int(v.VlanId))
	case *types.VmwareDistributedVirtualSwitchPvlanSpec:
		out["vlans"] = "private " + strconv.Itoa(int(v.PvlanId))
	}
	return out
}

func (m *model) groupObject(g *dvGroup) platform.Object {
	o := platform.Object{ID: g.ref, Name: g.name, Kind: kindGroup, Switch: g.sw, Raw: groupFields(&g.config)}
	if strings.HasPrefix(g.name, platform.MarkPrefix) {
		o.Mark = platform.ParseMark(g.note)
	}
	o.About = "its ports get the traffic of all others, VLANs " + o.Raw["vlans"]
	if !g.promisc {
		o.About = "for capture, and not promiscuous"
	}
	return o
}

// hostGroupFields writes a standard port group.
func hostGroupFields(s *types.HostPortGroupSpec) fields {
	sec := s.Policy.Security
	return fields{
		"name": s.Name, "switch": s.VswitchName, "vlan": strconv.Itoa(int(s.VlanId)),
		"promiscuous": flag(sec != nil && sec.AllowPromiscuous != nil && *sec.AllowPromiscuous),
	}
}

func hostGroupObject(h *host, s *types.HostPortGroupSpec, mark platform.Mark) platform.Object {
	o := platform.Object{
		ID: hostGroupID(h.ref, s.Name), Name: s.Name, Kind: kindHostGroup, Host: h.ref, Switch: standardID(h.ref, s.VswitchName), Mark: mark, Raw: hostGroupFields(s),
	}
	o.About = fmt.Sprintf("its ports get the traffic of all others, VLAN %d", s.VlanId)
	if mark.IsZero() && strings.HasPrefix(s.Name, platform.MarkPrefix) {
		o.About += "; left over from a capture VM that is gone"
	}
	return o
}

// captureObject tells a capture VM, which carries its mark in its notes.
func (m *model) captureObject(v *machine, mark platform.Mark) platform.Object {
	f := fields{"name": v.name, "ref": v.ref, "note": v.note, "host": v.host, "power": "off"}
	if v.on {
		f["power"] = "on"
	}
	var groups []string
	for i := range v.nics {
		groups = append(groups, m.networkName(&v.nics[i]))
	}
	f["adapters"] = joinNames(groups)
	return platform.Object{ID: machineID(v.ref), Name: v.name, Kind: kindMachine, Host: v.host, Mark: mark, Raw: f, About: fmt.Sprintf("%d adapters, power %s", len(groups), f["power"])}
}

// networkName returns the name of the port group that an adapter is attached to.
func (m *model) networkName(n *nic) string {
	if n.kind == platform.SwitchDistributed {
		if g := m.groups[n.group]; g != nil {
			return g.name
		}
	}
	return n.group
}
