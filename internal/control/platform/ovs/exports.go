package ovs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

// An export of a whole bridge is a row in one of three slots of the bridge: NetFlow, sFlow, IPFIX (ovs-vswitchd.conf.db(5)). There is one of
// each, so taps with the same values share it, each with its collector, and a row of somebody else is a refusal.

// Options are what the resource says of our bridge and of exports beyond what a tap does.
type Options struct {
	Listen      string // address of the host at which our bridge takes OpenFlow, when it is not that of OpenFlow (address translation)
	IPFIXBridge bool   // ipfix of whole bridges by the bridge's own row, not by flows in our bridge
	IPFIXFlows  int    // records that the switch keeps before it exports early; 0 for its default
	IPFIXID     string // name of the observation point in each record (virtual_obs_id)
	NetFlowID   bool   // the engine's number stands in the interfaces' numbers
	Engine      int    // type of NetFlow's engine and 1; 0 for the switch's choice
	Agent       string // interface whose address is sFlow's agent; "" for the one that the route to the collector has
	Header      int    // bytes of each packet in sFlow; 0 for 128
	Polling     int    // seconds between sFlow's counters; 0 for 30, -1 for none
}

// Defaults of sFlow, as the switch has them.
const (
	defaultHeader  = 128
	defaultPolling = 30
)

// ParseOptions reads the options of a resource.
func ParseOptions(all map[string]string) (o Options, err error) {
	number := func(key, text string, least, most int, to *int) {
		n, wrong := strconv.Atoi(text)
		if err == nil && (wrong != nil || n < least || n > most) {
			err = fmt.Errorf("option %s: %q: want a number from %d to %d", key, text, least, most)
		}
		*to = n
	}
	truth := func(key, text string, to *bool) {
		b, wrong := strconv.ParseBool(text)
		if err == nil && wrong != nil {
			err = fmt.Errorf("option %s: %q: want true or false", key, text)
		}
		*to = b
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		switch text := all[key]; key {
		case "bridge":
		case "listen":
			if o.Listen = text; err == nil && !isAddr(strings.Trim(text, "[]")) {
				err = fmt.Errorf("option listen: %q: want an address of the switch's host", text)
			}
			if strings.Contains(text, ":") {
				o.Listen = "[" + strings.Trim(text, "[]") + "]"
			}
		case "ipfix":
			if o.IPFIXBridge = text == "bridge"; err == nil && text != "bridge" && text != "flows" {
				err = fmt.Errorf("option ipfix: %q: want flows (of single machines, filtered) or bridge", text)
			}
		case "ipfix-max-flows":
			number(key, text, 0, 1<<24, &o.IPFIXFlows)
		case "ipfix-virtual-obs-id":
			o.IPFIXID = text
		case "netflow-add-id-to-interface":
			truth(key, text, &o.NetFlowID)
		case "netflow-engine-type":
			number(key, text, 0, 255, &o.Engine)
			o.Engine++
		case "sflow-agent":
			o.Agent = text
		case "sflow-header":
			number(key, text, 14, 65535, &o.Header)
		case "sflow-polling":
			if number(key, text, 0, 86400, &o.Polling); o.Polling == 0 {
				o.Polling = -1
			}
		default:
			if err == nil {
				err = fmt.Errorf("option %q is not known: bridge, listen, ipfix, ipfix-max-flows, ipfix-virtual-obs-id, netflow-add-id-to-interface, netflow-engine-type, sflow-agent, sflow-header or sflow-polling", key)
			}
		}
	}
	return o, err
}

// exportSpec is an export of flow records of a whole bridge.
type exportSpec struct {
	Bridge   string   `json:"bridge"`
	Column   string   `json:"column"` // netflow, sflow, ipfix
	Targets  []string `json:"targets"`
	Sampling int      `json:"sampling,omitempty"`
	Active   int      `json:"active,omitempty"` // seconds; of sFlow between counters
	Domain   uint32   `json:"domain,omitempty"` // observation domain, or engine's number
	Point    uint32   `json:"point,omitempty"`  // observation point
	Engine   int      `json:"engine,omitempty"` // its type and 1; 0 for the switch's choice
	AddID    bool     `json:"add_id_to_interface,omitempty"`
	Agent    string   `json:"agent,omitempty"`
	Header   int      `json:"header,omitempty"`
	MaxFlows int      `json:"max_flows,omitempty"`
	Obs      string   `json:"virtual_obs_id,omitempty"`
	Mark     string   `json:"mark"`
}

// exportTables are the tables that the columns of a bridge refer to.
var exportTables = map[string]string{"ipfix": "IPFIX", "netflow": "NetFlow", "sflow": "sFlow"}

// columnOf is the slot for a protocol.
func columnOf(protocol string) string {
	if protocol == "netflow5" {
		return "netflow"
	}
	return protocol
}

// spec is the row for a session.
func (p *Platform) exportSpec(s *platform.Session) exportSpec {
	opt := &p.cfg.Exports
	e := exportSpec{Bridge: s.Switch, Column: columnOf(s.Flows.Protocol), Targets: []string{target(s.Flows.To)}, Mark: s.Mark.Text()}
	active := cmp.Or(int(s.Flows.Active.Seconds()), 60)
	switch e.Column {
	case "netflow":
		e.Active, e.Domain, e.Engine, e.AddID = active, s.Flows.Domain&0xff, opt.Engine, opt.NetFlowID
	case "sflow":
		e.Sampling, e.Active, e.Header, e.Agent = max(s.Flows.Sampling, 1), max(cmp.Or(opt.Polling, defaultPolling), 0), cmp.Or(opt.Header, defaultHeader), opt.Agent
	case "ipfix":
		const most = 4200
		e.Sampling, e.Active, e.Domain, e.Point = max(s.Flows.Sampling, 1), min(active, most), s.Flows.Domain, 1
		e.MaxFlows, e.Obs = opt.IPFIXFlows, opt.IPFIXID
	}
	return e
}

// target is a collector as Open vSwitch writes it: ADDRESS:PORT, IPv6 in brackets.
func target(to netip.AddrPort) string { return to.String() }

// export puts an export of a whole bridge, when the session has all machines of it.
func (o *objects) export(s *platform.Session) {
	e := o.exportSpec(s)
	protocol := s.Flows.Protocol
	way := "use ipfix, which can be exported of single machines, or select the whole bridge"
	if protocol == "ipfix" {
		way = "select the whole bridge without a filter, or let flows of single machines be exported: "
		if way += "leave option ipfix out"; !o.hasOpenFlow() {
			way = "select the whole bridge without a filter, or " + o.way()
		}
	}
	switch {
	case s.Filter != "" || len(s.VLANs) > 0 || !o.all(s):
		o.no(s, platform.ReasonCapability, way, "bridge %s exports %s of all its machines or none", s.Switch, protocol)
		return
	case s.Lease.TTL > 0:
		o.no(s, platform.ReasonCapability, "leave out lease, or use ipfix through flows of our bridge, which end by themselves", "an export of a whole bridge goes on without a controller")
		return
	}
	if who := o.takenBy(s.Switch, e.Column); who != "" {
		o.no(s, platform.ReasonConflict, "let its owner remove it, or use another protocol: each has one place", "bridge %s exports %s for somebody else: %s", s.Switch, protocol, who)
		return
	}
	key := [2]string{kindExport, s.Switch + "/" + e.Column}
	if have := o.specs[key]; have != nil && !o.join(s, &e, read[exportSpec](have)) {
		return
	}
	o.put(kindExport, key[1], e, s, fmt.Sprintf("export %s of bridge %s > %s", protocol, s.Switch, strings.Join(e.Targets, ", ")))
}

// join adds a session's collector to the row that another session has made; false when they differ in more than that.
func (o *objects) join(s *platform.Session, e *exportSpec, have exportSpec) bool {
	same := have
	same.Targets, same.Mark = e.Targets, e.Mark
	if string(encode(same)) != string(encode(*e)) {
		other := platform.ParseMark(have.Mark)
		o.no(s, platform.ReasonConflict, "give both the same flows (sampling, active, domain), or use another protocol", "tap %s exports %s of bridge %s with other values: %s",
			other.Policy, s.Flows.Protocol, s.Switch, why(encode(same), encode(*e)))
		return false
	}
	e.Targets = append(e.Targets, have.Targets...)
	slices.Sort(e.Targets)
	e.Targets, e.Mark = slices.Compact(e.Targets), have.Mark
	return true
}

// takenBy tells whose row is in a slot of a bridge; "" when it is ours or nobody's.
func (o *objects) takenBy(bridge, column string) string {
	for _, obj := range platform.Sorted(o.now.Objects) {
		if obj.Switch != bridge || obj.Raw["column"] != column || obj.Mark.Owner == o.owner {
			continue
		}
		if obj.Mark.Owner != "" {
			return fmt.Sprintf("the control line %s (tap %s) to %s", obj.Mark.Owner, obj.Mark.Policy, obj.Remote)
		}
		return obj.About
	}
	return ""
}

// all reports whether a session has all machines of its bridge.
func (o *objects) all(s *platform.Session) bool {
	n := 0
	for _, p := range o.now.Ports {
		if p.Switch == s.Switch && p.Kind == platform.PortVM && p.Owner == "" {
			n++
		}
	}
	return n == len(s.Sources)
}

// exportOf reads a row.
func exportOf(bridge, column string, r ovsdb.Row) exportSpec {
	n := func(c string) int { v, _ := r.Int(c); return int(v) }
	s := exportSpec{Bridge: bridge, Column: column, Targets: r.Texts("targets"), Sampling: n("sampling"), Mark: r.TextMap("external_ids")[platform.MarkKey]}
	slices.Sort(s.Targets)
	switch column {
	case "netflow":
		s.Active, s.Domain, s.AddID = n("active_timeout"), uint32(n("engine_id")), r.Bool("add_id_to_interface")
		if v, ok := r.Int("engine_type"); ok {
			s.Engine = int(v) + 1
		}
	case "sflow":
		s.Active, s.Header, s.Agent = n("polling"), n("header"), r.Text("agent")
	case "ipfix":
		s.Active, s.Domain, s.Point, s.MaxFlows = n("cache_active_timeout"), uint32(n("obs_domain_id")), uint32(n("obs_point_id")), n("cache_max_flows")
		s.Obs = r.TextMap("other_config")["virtual_obs_id"]
	}
	return s
}

// row is the row of a spec. IPFIX has no keys for input and output sampling: up to 3.1 they mean the opposite of what they say.
func (s *exportSpec) row() ovsdb.Row {
	targets := ovsdb.Set{}
	for _, t := range s.Targets {
		targets = append(targets, t)
	}
	one := func(n int) ovsdb.Set { return ovsdb.Set{int64(n)} }
	row := ovsdb.Row{"targets": targets, "external_ids": ids(s.Mark)}
	switch s.Column {
	case "netflow":
		row["active_timeout"], row["engine_id"], row["add_id_to_interface"] = s.Active, one(int(s.Domain)), s.AddID
		if s.Engine > 0 {
			row["engine_type"] = one(s.Engine - 1)
		}
	case "sflow":
		row["sampling"], row["polling"], row["header"] = one(s.Sampling), one(s.Active), one(s.Header)
		if s.Agent != "" {
			row["agent"] = ovsdb.Set{s.Agent}
		}
	case "ipfix":
		row["sampling"], row["cache_active_timeout"] = one(s.Sampling), one(s.Active)
		row["obs_domain_id"], row["obs_point_id"] = one(int(s.Domain)), one(int(s.Point))
		if s.MaxFlows > 0 {
			row["cache_max_flows"] = one(s.MaxFlows)
		}
		if s.Obs != "" {
			row["other_config"] = ovsdb.Map{"virtual_obs_id": s.Obs}
		}
	}
	return row
}

// setExport makes, changes or removes an export of a whole bridge. A slot that somebody else has taken is left.
func (d *db) setExport(owner string, now, want json.RawMessage) ([]ovsdb.Operation, error) {
	s := read[exportSpec](want)
	if want == nil {
		s = read[exportSpec](now)
	}
	_, b, ok := d.find("Bridge", s.Bridge)
	if !ok {
		return nil, nil
	}
	slot := ovsdb.Set{}
	if id := b.UUID(s.Column); id != "" {
		slot = append(slot, id)
		if r := d.tables[exportTables[s.Column]][id]; markOf(r).Owner != owner {
			return nil, fmt.Errorf("bridge %s exports %s for somebody else by now: %s", s.Bridge, s.Column, foreignExport(r, s.Bridge, s.Column))
		}
	}
	still := ovsdb.Wait("Bridge", byName(s.Bridge), []string{s.Column}, "==", []ovsdb.Row{{s.Column: slot}}, 0)
	if want == nil {
		return []ovsdb.Operation{still, ovsdb.Update("Bridge", byName(s.Bridge), ovsdb.Row{s.Column: ovsdb.Set{}})}, nil
	}
	return []ovsdb.Operation{
		still,
		ovsdb.Insert(exportTables[s.Column], string(symbol("x", s.Bridge+s.Column)), s.row()),
		ovsdb.Update("Bridge", byName(s.Bridge), ovsdb.Row{s.Column: symbol("x", s.Bridge+s.Column)}),
	}, nil
}

// foreignExport tells what an export of somebody else is, and whose, when it says so.
func foreignExport(r ovsdb.Row, bridge, column string) string {
	text := exportTables[column] + " of bridge " + bridge + " to " + strings.Join(r.Texts("targets"), ", ")
	who := r.TextMap("external_ids")
	for _, key := range slices.Sorted(maps.Keys(who)) {
		text += fmt.Sprintf(" (%s=%s)", key, who[key])
	}
	return text
}

func (p *Platform) exportCommands(before, spec json.RawMessage) []string {
	if spec == nil {
		b := read[exportSpec](before)
		return []string{p.vsctl("clear", "bridge", b.Bridge, b.Column)}
	}
	s := read[exportSpec](spec)
	words := []string{"--", "--id=@x", "create", exportTables[s.Column]}
	row := s.row()
	for _, column := range slices.Sorted(maps.Keys(row)) {
		switch v := row[column].(type) {
		case ovsdb.Map:
			for key, value := range v { // each has one
				words = append(words, fmt.Sprintf("%s:%v=%q", column, key, value))
			}
		case ovsdb.Set:
			var all []string
			for _, x := range v {
				if t, ok := x.(string); ok {
					x = strconv.Quote(t)
				}
				all = append(all, fmt.Sprint(x))
			}
			words = append(words, column+"="+strings.Join(all, ","))
		default:
			words = append(words, fmt.Sprintf("%s=%v", column, v))
		}
	}
	return []string{p.vsctl(append(words, "--", "set", "bridge", s.Bridge, s.Column+"=@x")...)}
}
