package ovs

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/ovsdb"
)

// maxMirrors is how many mirrors a bridge of Open vSwitch takes.
const maxMirrors = 32

// markOf reads the mark of a row.
func markOf(r ovsdb.Row) platform.Mark {
	return platform.ParseMark(r.TextMap("external_ids")[platform.MarkKey])
}

// update makes the inventory of a state of the database.
func (p *Platform) update(d *db, at time.Time) platform.Update {
	u := platform.Update{AtNS: at.UnixNano(), Whole: true}
	host := p.host(d)
	vms := map[string]*platform.VM{}
	for _, b := range sortedRows(d.tables["Bridge"]) {
		sw := p.bridge(host.ID, b)
		segment := d.overlay(b)
		for _, id := range b.UUIDs("ports") {
			row := d.tables["Port"][id]
			if row == nil {
				continue
			}
			port := p.port(d, sw, row, segment, vms)
			sw.MTU = max(sw.MTU, port.MTU)
			u.Ports = append(u.Ports, port)
			if a, err := netip.ParseAddr(d.iface(row).TextMap("options")["local_ip"]); err == nil && !slices.Contains(host.VTEPs, flow.FromNetip(a)) {
				host.VTEPs = append(host.VTEPs, flow.FromNetip(a))
			}
		}
		u.Switches = append(u.Switches, sw)
	}
	for _, vm := range platform.Sorted(vms) {
		u.VMs = append(u.VMs, *vm)
	}
	if d.noFlows != nil {
		host.Tags[tagFlows] = steady(d.noFlows)
	}
	u.Hosts = []platform.Host{host}
	u.Objects = p.objects(d, host.ID)
	return u
}

func sortedRows(r rows) []ovsdb.Row {
	out := make([]ovsdb.Row, 0, len(r))
	for _, row := range r {
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b ovsdb.Row) int { return cmp.Compare(a.Text("name"), b.Text("name")) })
	return out
}

func (p *Platform) host(d *db) platform.Host {
	ids := d.root().TextMap("external_ids")
	name := cmp.Or(p.cfg.Host, ids["hostname"], p.cfg.Name)
	h := platform.Host{ID: name, Name: name, Version: strings.TrimSpace("Open vSwitch " + d.root().Text("ovs_version")), Tags: tags(ids)}
	if a, err := netip.ParseAddr(ids["ovn-encap-ip"]); err == nil {
		h.VTEPs = append(h.VTEPs, flow.FromNetip(a))
	}
	return h
}

func (p *Platform) bridge(host string, b ovsdb.Row) platform.Switch {
	return platform.Switch{
		ID: b.Text("name"), Name: b.Text("name"), Kind: platform.SwitchOVS, Hosts: []string{host}, Owner: markOf(b).Owner, Type: b.Text("datapath_type"), Can: p.capability(),
	}
}

func (p *Platform) capability() platform.Capability {
	c := platform.Capability{
		Methods: []platform.Method{platform.MethodMirror, platform.MethodRemoteMirror, platform.MethodPromiscuous, platform.MethodFlowsOnly},
		Encaps:  []platform.Encap{platform.EncapGRE, platform.EncapERSPAN2, platform.EncapERSPAN3, platform.EncapVXLAN, platform.EncapGeneve},
		VLANs:   true, FromVLAN: true, OncePerPair: true, UplinkSource: true, MaxSessions: maxMirrors,
	}
	if p.hasOpenFlow() { // whether it answers is another matter: Host.Tags, and a refusal of what needs it
		c.Filter, c.ExceptMACs, c.Slice = platform.FilterTuple, true, true
		c.Encaps = append(c.Encaps, platform.EncapVLAN)
	}
	return c
}

// tunnels are the types of interfaces that lead to other hosts.
var tunnels = []string{"vxlan", "geneve", "gre", "ip6gre", "erspan", "ip6erspan", "stt", "lisp", "gtpu", "bareudp", "srv6"}

// port makes the record of a port, and that of the machine behind it.
func (p *Platform) port(d *db, sw platform.Switch, row ovsdb.Row, overlay flow.Segment, vms map[string]*platform.VM) platform.Port {
	r := d.iface(row)
	ids := r.TextMap("external_ids")
	out := platform.Port{
		ID: row.Text("name"), Name: row.Text("name"), Host: sw.Hosts[0], Switch: sw.ID, Group: cmp.Or(ids["network"], ids["network-name"]),
		Kind: kindOf(sw.Name, row, r), Up: r.Text("link_state") == "up", Tags: tags(ids), Owner: cmp.Or(markOf(row).Owner, sw.Owner),
	}
	if n, ok := r.Int("ofport"); !ok || n < 0 {
		out.Up = false
	}
	if tag, ok := row.Int("tag"); ok {
		out.VLAN = uint16(tag)
	}
	for _, v := range row.Ints("trunks") {
		out.Trunk = append(out.Trunk, uint16(v))
	}
	slices.Sort(out.Trunk)
	if mtu, ok := r.Int("mtu"); ok {
		out.MTU = int(mtu)
	}
	stats := r.IntMap("statistics")
	out.RxBytes, out.TxBytes = uint64(max(stats["rx_bytes"], 0)), uint64(max(stats["tx_bytes"], 0))
	if out.Kind == platform.PortTunnel {
		o := r.TextMap("options")
		out.Raw = map[string]string{"type": r.Text("type"), "remote_ip": o["remote_ip"], "dst_port": o["dst_port"], "key": o["key"]}
	}
	out.Segment = p.segment(sw.Name, out.VLAN, overlay)
	if out.Kind == platform.PortVM {
		p.machine(&out, r, ids, vms)
	}
	return out
}

// segment is what the configuration says of a switch and VLAN; else the VLAN, else the one overlay of the switch.
func (p *Platform) segment(sw string, vlan uint16, overlay flow.Segment) flow.Segment {
	if vlan != 0 {
		if s, ok := p.cfg.Segments[sw+"/"+strconv.Itoa(int(vlan))]; ok {
			return s
		}
		return flow.NewSegment(flow.KindVLAN, uint32(vlan))
	}
	if s, ok := p.cfg.Segments[sw]; ok {
		return s
	}
	return overlay
}

// overlay is the segment of a bridge whose tunnels all have the same fixed key.
func (d *db) overlay(b ovsdb.Row) (out flow.Segment) {
	kinds := map[string]flow.SegmentKind{"vxlan": flow.KindVXLAN, "geneve": flow.KindGeneve, "gre": flow.KindGRE}
	for _, id := range b.UUIDs("ports") {
		r := d.iface(d.tables["Port"][id])
		kind, ok := kinds[r.Text("type")]
		if !ok || !markOf(r).IsZero() {
			continue
		}
		key, err := strconv.ParseUint(r.TextMap("options")["key"], 0, 32)
		s := flow.NewSegment(kind, uint32(key))
		if err != nil || out != 0 && out != s {
			return 0
		}
		out = s
	}
	return out
}

// uplinkName is what Linux and people call physical adapters.
var uplinkName = regexp.MustCompile(`^(eth|en[ospx]|bond|team|wl)`)

// kindOf tells what is behind a port, by its type, what its external_ids say, its driver and, at last, its name.
func kindOf(bridge string, row, r ovsdb.Row) platform.PortKind {
	typ, ids := r.Text("type"), r.TextMap("external_ids")
	attached := ids["iface-id"] != "" || ids["vm-uuid"] != "" || ids["vm-id"] != "" || ids["attached-mac"] != "" || ids["xs-vm-uuid"] != ""
	driver := r.TextMap("status")["driver_name"]
	switch {
	case typ == "patch":
		return platform.PortPatch
	case slices.Contains(tunnels, typ):
		return platform.PortTunnel
	case row.Text("name") == bridge:
		return platform.PortKernel
	case attached, strings.HasPrefix(typ, "dpdkvhostuser"):
		return platform.PortVM
	case typ == "internal":
		return platform.PortKernel
	case typ == "dpdk", len(row.UUIDs("interfaces")) > 1:
		return platform.PortUplink
	case driver == "tun":
		return platform.PortVM
	case uplinkName.MatchString(row.Text("name")):
		return platform.PortUplink
	case driver == "veth", strings.HasPrefix(row.Text("name"), "vnet"), strings.HasPrefix(row.Text("name"), "tap"):
		return platform.PortVM
	case driver != "":
		return platform.PortUplink
	}
	return platform.PortOther
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// machine fills in what the port says of its machine.
func (p *Platform) machine(port *platform.Port, r ovsdb.Row, ids map[string]string, vms map[string]*platform.VM) {
	id := cmp.Or(ids["vm-uuid"], ids["vm-id"], ids["xs-vm-uuid"], ids["iface-id"], port.Name)
	name := cmp.Or(ids["vm-name"], ids["name"])
	for _, candidate := range []string{ids["iface-id"], ids["vm-uuid"], ids["vm-id"]} {
		if name == "" && candidate != "" && !uuidForm.MatchString(candidate) {
			name = candidate
		}
	}
	if ids["vm-name"] == "" && ids["vm-uuid"] != "" && !uuidForm.MatchString(ids["vm-uuid"]) {
		name = ids["vm-uuid"] // the machine's own, before that of its port
	}
	port.VM, port.NIC = id, cmp.Or(ids["iface-id"], port.Name)
	port.MAC = macOf(cmp.Or(ids["attached-mac"], r.Text("mac")))
	for _, text := range strings.FieldsFunc(cmp.Or(ids["ip_addresses"], ids["ip"]), func(c rune) bool { return c == ',' || c == ' ' }) {
		if pre, err := netip.ParsePrefix(text); err == nil {
			port.Addrs = append(port.Addrs, flow.FromNetip(pre.Addr()))
		} else if a, err := netip.ParseAddr(text); err == nil {
			port.Addrs = append(port.Addrs, flow.FromNetip(a))
		}
	}
	if vms[id] == nil {
		vms[id] = &platform.VM{ID: id, Name: cmp.Or(name, port.Name), Host: port.Host, Tenant: cmp.Or(ids["tenant"], ids["tenant-name"]), Tags: tags(ids)}
	}
}

// tags are the pairs that are not ours.
func tags(ids map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range ids {
		if k != platform.MarkKey && k != feedKey {
			out[k] = v
		}
	}
	return out
}

func macOf(text string) flow.MAC {
	var b [6]byte
	n, err := fmt.Sscanf(text, "%02x:%02x:%02x:%02x:%02x:%02x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5])
	if err != nil || n != 6 || b[0]&1 == 1 {
		return 0
	}
	return flow.MACFrom(b[:])
}
