package ovs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// Names of what we make, each with eight digits after it: ends of patches in the tenants' bridge and in ours, outputs, and the port
// whose coming and going makes the switch look at its cached flows again.
const (
	patchPrefix  = "ctp"
	feedPrefix   = "ctq"
	outputPrefix = "cto"
	nudgePrefix  = "ctn"
)

// objects is the desired state of a switch, by kind and name.
type objects struct {
	*Platform
	now    *platform.Snapshot
	owner  string
	specs  map[[2]string]json.RawMessage
	policy map[[2]string][2]string // policy and session of each
	about  map[[2]string]string
	refuse []platform.Refusal
	stay   map[string]bool // sessions whose objects stay as they are
	have   present
	direct map[string]string // tunnels in the tenants' bridges, by what they are → session
}

// Steps implements platform.Platform.
func (p *Platform) Steps(now *platform.Snapshot, want platform.Want) ([]platform.Step, []platform.Refusal) {
	o := p.desired(now, want.Owner, want.Sessions)
	if over := o.limits(want.Sessions); len(over) > 0 { // again, without what those alone need
		all := o
		o = p.desired(now, want.Owner, slices.DeleteFunc(slices.Clone(want.Sessions), func(s platform.Session) bool { return over[s.Mark.Key()] }))
		o.refuse, o.stay = all.refuse, all.stay
	}
	o.keep(o.have, want.Keep)
	steps := o.difference(o.have)
	platform.SortSteps(steps)
	return steps, o.refuse
}

// desired is what sessions need.
func (p *Platform) desired(now *platform.Snapshot, owner string, sessions []platform.Session) *objects {
	o := &objects{
		Platform: p, now: now, owner: owner, specs: map[[2]string]json.RawMessage{}, policy: map[[2]string][2]string{},
		about: map[[2]string]string{}, stay: map[string]bool{}, have: presentIn(now, owner), direct: map[string]string{},
	}
	for i := range sessions {
		o.reserve(&sessions[i])
	}
	for i := range sessions {
		o.session(&sessions[i])
	}
	return o
}

// presentIn reads the specs that a snapshot of ours has with its objects.
func presentIn(now *platform.Snapshot, owner string) present {
	out := present{}
	for _, obj := range now.Objects {
		if obj.Mark.Owner == owner && obj.Raw["spec"] != "" {
			out[[2]string{obj.Raw["kind"], obj.Raw["name"]}] = json.RawMessage(obj.Raw["spec"])
		}
	}
	return out
}

func (o *objects) put(kind, name string, spec any, s *platform.Session, about string) {
	key := [2]string{kind, name}
	o.specs[key] = encode(spec)
	o.about[key] = about
	if _, shared := o.policy[key]; !shared {
		o.policy[key] = [2]string{s.Mark.Policy, s.Mark.Key()}
	}
}

func (o *objects) no(s *platform.Session, reason platform.Reason, fix, format string, args ...any) {
	o.stay[s.Mark.Key()] = true
	r := platform.Refusal{Policy: s.Mark.Policy, Host: s.Host, Switch: s.Switch, Reason: reason, Message: fmt.Sprintf(format, args...), Fix: fix}
	o.refuse = append(o.refuse, r)
}

// session works out the objects of one session.
func (o *objects) session(s *platform.Session) {
	sw := o.now.Switches[s.Switch]
	switch {
	case sw == nil:
		o.no(s, platform.ReasonDown, "", "there is no bridge %s", s.Switch)
		return
	case !slices.Contains(sw.Can.Methods, s.Method):
		o.no(s, platform.ReasonCapability, "use mirror, remote-mirror, promiscuous or flows-only", "Open vSwitch has no method %q", s.Method)
		return
	case sw.Owner != "":
		o.no(s, platform.ReasonLoop, "select the tenants' bridges", "bridge %s carries copies", s.Switch)
		return
	}
	datapath := o.datapath(s.Switch)
	ours := o.ourBridge(o.owner, datapath)
	if other := o.now.Switches[ours]; other != nil && other.Owner != o.owner {
		o.no(s, platform.ReasonConflict, "give ours another name (options: {bridge: NAME})", "bridge %s is not ours", ours)
		return
	}
	if s.Method == platform.MethodFlowsOnly && (s.Flows.Protocol != "ipfix" || o.cfg.Exports.IPFIXBridge || !o.hasOpenFlow()) {
		o.export(s)
		return
	}
	m := mirrorSpec{Name: platform.MarkPrefix + s.Mark.Key(), Bridge: s.Switch, Mark: s.Mark.Text(), Ours: ours}
	m.select_(s)
	if len(m.Src)+len(m.Dst) == 0 && !m.All {
		o.no(s, platform.ReasonNoMatch, "", "session %s selects no port", s.Mark.Key())
		return
	}
	straight, ok := o.straight(s, &m)
	if !ok || !straight && !o.through(s, &m, ours) {
		return
	}
	o.put(kindBridge, ours, bridgeSpec{
		Name: ours, Datapath: datapath, Listen: o.listen(datapath), Mark: platform.Mark{Owner: o.owner, Policy: platform.Shared}.Text(),
	}, s, "bridge for copies")
	o.put(kindMirror, m.Name, m, s, o.sentence(s, &m))
}

func (o *objects) datapath(bridge string) string { return o.now.Switches[bridge].Type }

func (m *mirrorSpec) select_(s *platform.Session) {
	m.All = s.Method == platform.MethodPromiscuous || len(s.Sources) == 0 && len(s.VLANs) > 0 // RSPAN: whatever is in the VLAN
	for _, src := range s.Sources {
		if m.All {
			break
		}
		if src.Dir&platform.Ingress != 0 {
			m.Src = append(m.Src, src.Port)
		}
		if src.Dir&platform.Egress != 0 {
			m.Dst = append(m.Dst, src.Port)
		}
	}
	for _, v := range s.VLANs {
		m.VLANs = append(m.VLANs, int64(v))
	}
	slices.Sort(m.Src)
	slices.Sort(m.Dst)
	slices.Sort(m.VLANs)
}

// plain reports whether copies leave as they are.
func plain(s *platform.Session) bool {
	return s.Filter == "" && s.Slice == 0 && len(s.ExceptFrom) == 0 && s.Flows == nil && s.Lease.TTL == 0
}

// isDirect reports whether copies go to a tunnel in the tenants' bridge: as they are, to one address, because flows cannot be put into our
// bridge, or could not when the tap was made: a switch has no two tunnels that are the same, so it cannot be made anew in our bridge first.
func (o *objects) isDirect(s *platform.Session) bool {
	if !plain(s) || len(s.Outputs) != 1 || s.Outputs[0].Encap == "" || !s.Outputs[0].Addr.IsValid() {
		return false
	}
	if !o.hasOpenFlow() {
		return true
	}
	m := read[mirrorSpec](o.have[[2]string{kindMirror, platform.MarkPrefix + s.Mark.Key()}])
	typ, options := tunnel(s.Outputs[0])
	return m.Type == typ && encodeEqual(m.Options, options)
}

// tunnelID names a tunnel by what it is.
func tunnelID(out platform.Output) string {
	typ, options := tunnel(out)
	return typ + string(encode(options))
}

// reserve notes who has a tunnel in a tenants' bridge.
func (o *objects) reserve(s *platform.Session) {
	if o.isDirect(s) {
		if id := tunnelID(s.Outputs[0]); o.direct[id] == "" {
			o.direct[id] = s.Mark.Key()
		}
	}
}

// apart refuses a tunnel that another session has in a tenants' bridge.
func (o *objects) apart(s *platform.Session, out platform.Output) bool {
	if who := o.direct[tunnelID(out)]; who != "" && who != s.Mark.Key() {
		o.no(s, platform.ReasonConflict, "give the destination of one of them another VNI, key or session, or let both go through our bridge (openflow) and remove "+who+" first",
			"the copies of %s leave bridge %s through a tunnel to %s of the same kind and number: a switch has no two that are the same", who, s.Switch, out.Addr)
		return false
	}
	return true
}

// straight handles copies that go from the mirror to a port of the same bridge, or, when our bridge's flows cannot be reached, to a tunnel
// there. ok is false when the session is refused.
func (o *objects) straight(s *platform.Session, m *mirrorSpec) (is, ok bool) {
	if len(s.Outputs) != 1 {
		return false, true
	}
	out := s.Outputs[0]
	local := out.Encap == "" && !strings.HasPrefix(out.URL, "iface:")
	switch {
	case local && !plain(s):
		o.no(s, platform.ReasonCapability, "use a destination with an address, or iface: with an interface that is on no bridge, or method: agent",
			"copies to port %s of the same bridge cannot be filtered, cut, leased or freed of others' copies", out.Port)
		return true, false
	case local:
		port := o.now.Ports[out.Port]
		if port == nil || port.Switch != s.Switch {
			o.no(s, platform.ReasonCapability, "", "port %s is not on bridge %s", out.Port, s.Switch)
			return true, false
		}
		m.Output = out.Port
		return true, true
	case !o.isDirect(s):
		return false, true
	}
	if !o.reachable(s, out) || !o.apart(s, out) {
		return true, false
	}
	m.Type, m.Options = tunnel(out)
	m.Output = patchPrefix + hash(o.owner, s.Mark.Key())
	return true, true
}

// through handles copies that go through our bridge.
func (o *objects) through(s *platform.Session, m *mirrorSpec, ours string) bool {
	if !o.hasOpenFlow() {
		o.no(s, platform.ReasonCapability, o.way(), "what is filtered, cut, leased or for several destinations needs flows, and the database alone cannot bring them into our bridge")
		return false
	}
	if h := o.now.Hosts[o.hostID()]; h != nil && h.Tags[tagFlows] != "" {
		_, at := o.flowsAt(ours)
		o.no(s, platform.ReasonDown, "let this machine reach "+at+" on the switch's host, or take openflow out of the resource", "flows cannot be put into our bridge: %s", h.Tags[tagFlows])
		return false
	}
	id := hash(o.owner, s.Mark.Key())
	f := feedSpec{Name: feedPrefix + id, Bridge: ours, Peer: patchPrefix + id, Mark: s.Mark.Text()}
	f.What = feedContent{Filter: s.Filter, Slice: s.Slice, Timeout: timeout(s.Lease.TTL.Seconds())}
	f.What.Strip, f.What.Untag = o.access(s)
	for _, mac := range s.ExceptFrom {
		f.What.Except = append(f.What.Except, mac.String())
	}
	for _, out := range s.Outputs {
		if !o.output(s, &f, out, ours) {
			return false
		}
	}
	slices.Sort(f.What.To)
	slices.SortFunc(f.What.Tagged, func(a, b tagged) int { return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.VLAN, b.VLAN)) })
	if s.Flows != nil {
		f.What.Export = collectorSet(s, id)
	}
	if _, err := f.flows(); err != nil {
		o.no(s, platform.ReasonCapability, "shorten the filter", "%v", err)
		return false
	}
	m.Output, m.Type, m.Options = f.Peer, "patch", map[string]string{"peer": f.Name}
	o.put(kindFeed, f.Name, f, s, "flows of "+s.Mark.Key())
	return true
}

// access reports whether all sources are access ports: their machines' frames have no VLAN tag, and copies should have none. Where only some
// are it returns their VLANs.
func (o *objects) access(s *platform.Session) (all bool, some []uint16) {
	all = len(s.Sources) > 0
	for _, src := range s.Sources {
		if p := o.now.Ports[src.Port]; p != nil && p.VLAN != 0 && len(p.Trunk) == 0 {
			some = append(some, p.VLAN)
		} else {
			all = false
		}
	}
	slices.Sort(some)
	if all || len(some) == 0 {
		return all, nil
	}
	return false, slices.Compact(some)
}

// output puts one output into our bridge.
func (o *objects) output(s *platform.Session, f *feedSpec, out platform.Output, ours string) bool {
	mark := platform.Mark{Owner: o.owner, Policy: platform.Shared}.Text()
	switch p := o.now.Ports[out.Port]; {
	case out.Encap == platform.EncapVLAN && p != nil && p.Switch != ours:
		o.no(s, platform.ReasonCapability, "name an adapter that is on no bridge, or send the copies in a tunnel (vxlan://, gre://, erspan2://)",
			"uplink %s is on bridge %s: only that bridge can send through it, and it would flood copies in VLAN %d to every port that takes the VLAN and learn addresses from them", out.Port, p.Switch, out.VLAN)
		return false
	case out.Encap == "" && p != nil && p.Switch != ours:
		o.no(s, platform.ReasonConflict, "name an interface that is on no bridge", "interface %s is on bridge %s", out.Port, p.Switch)
		return false
	case out.Encap == "" || out.Encap == platform.EncapVLAN:
		o.put(kindOutput, out.Port, portSpec{Name: out.Port, Bridge: ours, Mark: mark}, s, "output to interface "+out.Port)
		if out.Encap == "" {
			f.What.To = append(f.What.To, out.Port)
		} else {
			f.What.Tagged = append(f.What.Tagged, tagged{out.Port, out.VLAN})
		}
		return true
	}
	if !o.reachable(s, out) || !o.apart(s, out) {
		return false
	}
	typ, options := tunnel(out)
	name := outputPrefix + hash(o.owner, typ, fmt.Sprint(slices.Sorted(maps.Keys(options))), string(encode(options)))
	o.put(kindOutput, name, portSpec{name, ours, typ, options, mark}, s, fmt.Sprintf("output to %s %s", out.Encap, out.Addr))
	f.What.To = append(f.What.To, name)
	return true
}

// tunnel is the interface that encapsulates for an output (ovs-vswitchd.conf.db(5), Interface).
func tunnel(out platform.Output) (typ string, options map[string]string) {
	options = map[string]string{"remote_ip": out.Addr.String(), "key": fmt.Sprint(out.Key)}
	if out.DSCP > 0 {
		options["tos"] = fmt.Sprint(int(out.DSCP) << 2)
	}
	six := out.Addr.Is6()
	switch out.Encap {
	case platform.EncapGRE:
		typ = "gre"
		if six {
			typ = "ip6gre"
		}
	case platform.EncapERSPAN2, platform.EncapERSPAN3:
		typ = "erspan"
		if six {
			typ = "ip6erspan"
		}
		if options["erspan_ver"] = "1"; out.Encap == platform.EncapERSPAN3 {
			options["erspan_ver"], options["erspan_dir"], options["erspan_hwid"] = "2", "0", "0"
		} else {
			options["erspan_idx"] = "0"
		}
	default:
		typ = string(out.Encap)
		if out.UDP != 0 {
			options["dst_port"] = fmt.Sprint(out.UDP)
		}
	}
	return typ, options
}

// reachable refuses tunnels that would bring copies back to tenants, and those that somebody else has.
func (o *objects) reachable(s *platform.Session, out platform.Output) bool {
	if !out.Addr.IsValid() {
		o.no(s, platform.ReasonCapability, "give the destination an address", "destination %s has no address", out.Name)
		return false
	}
	for _, h := range o.now.Hosts {
		if slices.Contains(h.VTEPs, flow.FromNetip(out.Addr)) {
			o.no(s, platform.ReasonLoop, "send copies to a tool's address", "destination %s (%s) is this host's own tunnel endpoint: copies would come back into its switch", out.Name, out.Addr)
			return false
		}
	}
	typ, options := tunnel(out)
	for _, port := range platform.Sorted(o.now.Ports) {
		if port.Kind != platform.PortTunnel || port.Owner != "" || port.Raw["type"] != typ || port.Raw["remote_ip"] != out.Addr.String() ||
			port.Raw["dst_port"] != options["dst_port"] {
			continue
		}
		o.no(s, platform.ReasonLoop, "send copies to another address, port or with another encapsulation",
			"destination %s (%s %s) is where the tenants' tunnel %s ends: copies would go into their network", out.Name, out.Encap, out.Addr, port.Name)
		return false
	}
	return true
}

// collectorSet is where a feed's flow records go.
func collectorSet(s *platform.Session, id string) *setSpec {
	var n uint32
	_, _ = fmt.Sscanf(id, "%08x", &n)
	active := int(s.Flows.Active.Seconds())
	return &setSpec{
		ID: n, Target: target(s.Flows.To), Sampling: max(s.Flows.Sampling, 1), Active: cmp.Or(min(active, 4200), 60), Domain: s.Flows.Domain, Point: n,
	}
}
