package ovs

import (
	"encoding/json"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

// ids is a map column with the mark and more.
func ids(mark string, more ...string) ovsdb.Map {
	m := ovsdb.Map{platform.MarkKey: mark}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func textMap(m map[string]string) ovsdb.Map {
	out := ovsdb.Map{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func byName(name string) []ovsdb.Condition { return []ovsdb.Condition{ovsdb.Equal("name", name)} }

// absent lets a transaction go on only while no row of a table has a name.
func absent(table, name string) ovsdb.Operation {
	return ovsdb.Wait(table, byName(name), []string{"name"}, "==", nil, 0)
}

// protocols of our bridge: 1.4 for bundles, the others for people with ovs-ofctl.
var protocols = []string{"OpenFlow10", "OpenFlow13", "OpenFlow14"}

// set makes, changes or removes what a deed is about; nothing when its bridge or a port is gone.
func (d *db) set(g *deed) ([]ovsdb.Operation, error) {
	switch now, want := g.now, g.want.Spec; g.want.Kind {
	case kindBridge:
		return d.setBridge(now, want), nil
	case kindOutput:
		return d.setOutput(now, want), nil
	case kindFeed:
		return d.setFeed(now, want), nil
	case kindMirror:
		return d.setMirror(now, want), nil
	default:
		return d.setExport(g.owner, now, want)
	}
}

// setBridge makes, changes or removes our bridge.
func (d *db) setBridge(now, want json.RawMessage) []ovsdb.Operation {
	if want == nil {
		b := read[bridgeSpec](now)
		id, _, ok := d.find("Bridge", b.Name)
		if !ok {
			return nil
		}
		return []ovsdb.Operation{ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "bridges", Mutator: "delete", Value: ovsdb.Set{id}})}
	}
	s := read[bridgeSpec](want)
	var set ovsdb.Set
	for _, p := range protocols {
		set = append(set, p)
	}
	row := ovsdb.Row{"name": s.Name, "datapath_type": s.Datapath, "fail_mode": "secure", "protocols": set, "external_ids": ids(s.Mark)}
	s.again(row)
	var listen []ovsdb.Operation
	row["controller"] = ovsdb.Set{}
	if s.Listen != "" {
		row["controller"] = symbol("c", s.Name)
		listen = append(listen, ovsdb.Insert("Controller", string(symbol("c", s.Name)), ovsdb.Row{"target": s.Listen, "connection_mode": "out-of-band", "external_ids": ids(s.Mark)}))
	}
	if now != nil {
		delete(row, "name") // it never changes
		return append(listen, ovsdb.Update("Bridge", byName(s.Name), row))
	}
	d.making(s.Name)
	row["ports"] = ovsdb.Set{symbol("p", s.Name)}
	return append(listen,
		absent("Bridge", s.Name), absent("Port", s.Name),
		ovsdb.Insert("Interface", string(symbol("i", s.Name)), ovsdb.Row{"name": s.Name, "type": "internal"}),
		ovsdb.Insert("Port", string(symbol("p", s.Name)), ovsdb.Row{"name": s.Name, "interfaces": symbol("i", s.Name), "external_ids": ids(s.Mark)}),
		ovsdb.Insert("Bridge", string(symbol("b", s.Name)), row),
		ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "bridges", Mutator: "insert", Value: ovsdb.Set{symbol("b", s.Name)}}),
	)
}

// again brings back what somebody had set by hand, when the step that set it right is taken back.
func (s *bridgeSpec) again(row ovsdb.Row) {
	switch s.FailMode {
	case "":
	case unset:
		row["fail_mode"] = ovsdb.Set{}
	default:
		row["fail_mode"] = s.FailMode
	}
	if s.Protocols != nil {
		var set ovsdb.Set
		for _, p := range s.Protocols {
			set = append(set, p)
		}
		row["protocols"] = set
	}
}

// newPort inserts a port with one interface into a bridge.
func newPort(bridge, name, typ string, options map[string]string, external ovsdb.Map) []ovsdb.Operation {
	iface := ovsdb.Row{"name": name, "type": typ, "options": textMap(options)}
	return []ovsdb.Operation{
		absent("Port", name),
		ovsdb.Insert("Interface", string(symbol("i", name)), iface),
		ovsdb.Insert("Port", string(symbol("p", name)), ovsdb.Row{"name": name, "interfaces": symbol("i", name), "external_ids": external}),
		ovsdb.Mutate("Bridge", byName(bridge), ovsdb.Mutation{Column: "ports", Mutator: "insert", Value: ovsdb.Set{symbol("p", name)}}),
	}
}

// symbol names a row within the transaction that inserts it.
func symbol(kind, name string) ovsdb.NamedUUID { return ovsdb.NamedUUID(kind + hash(name)) }

// making notes that the transaction inserts a bridge.
func (d *db) making(bridge string) {
	if d.made == nil {
		d.made = map[string]bool{}
	}
	d.made[bridge] = true
}

// bridge names a bridge that is there, or that the transaction inserts.
func (d *db) bridge(name string) (id any, ok bool) {
	if id, _, ok := d.find("Bridge", name); ok {
		return id, true
	}
	return symbol("b", name), d.made[name]
}

// dropPort takes a port out of a bridge, which removes its rows.
func (d *db) dropPort(bridge, name string) []ovsdb.Operation {
	id, _, ok := d.find("Port", name)
	if !ok {
		return nil
	}
	return []ovsdb.Operation{ovsdb.Mutate("Bridge", byName(bridge), ovsdb.Mutation{Column: "ports", Mutator: "delete", Value: ovsdb.Set{id}})}
}

func (d *db) setOutput(now, want json.RawMessage) []ovsdb.Operation {
	if want == nil {
		s := read[portSpec](now)
		return d.dropPort(s.Bridge, s.Name)
	}
	s := read[portSpec](want)
	if _, ok := d.bridge(s.Bridge); !ok {
		return nil
	}
	if now == nil {
		return newPort(s.Bridge, s.Name, s.Type, s.Options, ids(s.Mark))
	}
	return []ovsdb.Operation{
		ovsdb.Update("Interface", byName(s.Name), ovsdb.Row{"type": s.Type, "options": textMap(s.Options)}),
		ovsdb.Update("Port", byName(s.Name), ovsdb.Row{"external_ids": ids(s.Mark)}),
	}
}

// setFeed makes our end of a patch and its collector set; flows come after it.
func (d *db) setFeed(now, want json.RawMessage) []ovsdb.Operation {
	old := read[feedSpec](now)
	if want == nil {
		return append(d.dropPort(old.Bridge, old.Name), d.dropSet(&old)...)
	}
	s := read[feedSpec](want)
	bridge, ok := d.bridge(s.Bridge)
	if !ok {
		return nil
	}
	external := ids(s.Mark, feedKey, string(encode(s.What)))
	var ops []ovsdb.Operation
	if now == nil {
		ops = newPort(s.Bridge, s.Name, "patch", map[string]string{"peer": s.Peer}, external)
	} else {
		ops = []ovsdb.Operation{
			ovsdb.Update("Interface", byName(s.Name), ovsdb.Row{"type": "patch", "options": ovsdb.Map{"peer": s.Peer}}),
			ovsdb.Update("Port", byName(s.Name), ovsdb.Row{"external_ids": external}),
		}
	}
	ops = append(ops, d.dropSet(&s)...)
	if e := s.What.Export; e != nil {
		ops = append(ops,
			ovsdb.Insert("IPFIX", string(symbol("x", s.Name)), ovsdb.Row{"targets": ovsdb.Set{e.Target}, "cache_active_timeout": e.Active, "external_ids": ids(s.Mark)}),
			ovsdb.Insert("Flow_Sample_Collector_Set", "", ovsdb.Row{"id": int64(e.ID), "bridge": bridge, "ipfix": symbol("x", s.Name), "external_ids": ids(s.Mark)}))
	}
	return ops
}

// dropSet removes the collector sets of a feed: those with its number, on our bridge.
func (d *db) dropSet(s *feedSpec) (ops []ovsdb.Operation) {
	bridge, _, _ := d.find("Bridge", s.Bridge)
	for id, r := range d.tables["Flow_Sample_Collector_Set"] {
		if m := markOf(r); r.UUID("bridge") == bridge && m.Owner != "" && feedPrefix+hash(m.Owner, m.Key()) == s.Name {
			ops = append(ops, ovsdb.Delete("Flow_Sample_Collector_Set", ovsdb.Equal("_uuid", id)))
		}
	}
	return ops
}

// ports returns the UUIDs of ports of a bridge by name; ok is false when one is gone.
func (d *db) portIDs(bridge string, names []string) (out ovsdb.Set, ok bool) {
	out = ovsdb.Set{}
	_, b, found := d.find("Bridge", bridge)
	if !found {
		return nil, false
	}
	for _, name := range names {
		id, _, there := d.find("Port", name)
		if !there || !slices.Contains(b.UUIDs("ports"), id) {
			return nil, false
		}
		out = append(out, id)
	}
	return out, true
}

// setMirror makes, changes or removes a mirror with its port. Whoever does it nudges the bridges of ours that mirrors use.
func (d *db) setMirror(now, want json.RawMessage) []ovsdb.Operation {
	old, s := read[mirrorSpec](now), read[mirrorSpec](want)
	if want == nil {
		return d.dropMirror(&old)
	}
	src, ok1 := d.portIDs(s.Bridge, s.Src)
	dst, ok2 := d.portIDs(s.Bridge, s.Dst)
	if !ok1 || !ok2 {
		return nil
	}
	row := ovsdb.Row{"name": s.Name, "select_all": s.All, "select_src_port": src, "select_dst_port": dst, "external_ids": ids(s.Mark)}
	vlans := ovsdb.Set{}
	for _, v := range s.VLANs {
		vlans = append(vlans, v)
	}
	row["select_vlan"], row["snaplen"] = vlans, ovsdb.Set{}
	if s.Snaplen != 0 {
		row["snaplen"] = s.Snaplen
	}
	var ops []ovsdb.Operation
	if now != nil && old.Type != "" && (old.Output != s.Output || old.Type != s.Type || !encodeEqual(old.Options, s.Options)) {
		ops = append(ops, d.dropPort(old.Bridge, old.Output)...)
	}
	switch id, _, there := d.find("Port", s.Output); {
	case s.Type == "" && !there:
		return nil
	case s.Type == "", there && old.Output == s.Output && old.Type == s.Type && encodeEqual(old.Options, s.Options):
		row["output_port"] = id
		if s.Type != "" {
			ops = append(ops, ovsdb.Update("Port", byName(s.Output), ovsdb.Row{"external_ids": ids(s.Mark)}))
		}
	default:
		if there && markOf(d.tables["Port"][id]).Owner == platform.ParseMark(s.Mark).Owner && len(ops) == 0 {
			ops = append(ops, d.dropPort(s.Bridge, s.Output)...) // left by somebody who removed the mirror alone
		}
		made := newPort(s.Bridge, s.Output, s.Type, s.Options, ids(s.Mark))
		if there {
			made = made[1:]
		}
		ops = append(ops, made...)
		row["output_port"] = symbol("p", s.Output)
	}
	if now != nil {
		ops = append(ops, ovsdb.Update("Mirror", []ovsdb.Condition{ovsdb.Equal("_uuid", d.mirrorID(s.Bridge, s.Name))}, row))
	} else {
		ops = append(ops, absent("Mirror", s.Name), ovsdb.Insert("Mirror", string(symbol("m", s.Name)), row),
			ovsdb.Mutate("Bridge", byName(s.Bridge), ovsdb.Mutation{Column: "mirrors", Mutator: "insert", Value: ovsdb.Set{symbol("m", s.Name)}}))
	}
	return ops
}

func encodeEqual(a, b map[string]string) bool { return string(encode(a)) == string(encode(b)) }

func (d *db) mirrorID(bridge, name string) ovsdb.UUID {
	_, b, _ := d.find("Bridge", bridge)
	for _, id := range b.UUIDs("mirrors") {
		if d.tables["Mirror"][id].Text("name") == name {
			return id
		}
	}
	return ""
}

// dropMirror takes a mirror out of a bridge, with the port that was made with it.
func (d *db) dropMirror(s *mirrorSpec) (ops []ovsdb.Operation) {
	if id := d.mirrorID(s.Bridge, s.Name); id != "" {
		ops = append(ops, ovsdb.Mutate("Bridge", byName(s.Bridge), ovsdb.Mutation{Column: "mirrors", Mutator: "delete", Value: ovsdb.Set{id}}))
	}
	if s.Type != "" {
		ops = append(ops, d.dropPort(s.Bridge, s.Output)...)
	}
	return ops
}

// nudge replaces a port of our bridge that nothing uses. A port that comes or goes is what makes Open vSwitch (3.1.0, 3.7.1) look at all
// cached flows of the datapath again; a change of a mirror alone does not, and copies would begin or end only as flows run out.
func (d *db) nudge(ours string) (ops []ovsdb.Operation) {
	_, b, ok := d.find("Bridge", ours)
	if !ok {
		return nil
	}
	name, used := nudgePrefix+hash(ours), map[string]bool{}
	for _, id := range b.UUIDs("ports") {
		if have := d.tables["Port"][id].Text("name"); strings.HasPrefix(have, name) {
			ops = append(ops, ovsdb.Mutate("Bridge", byName(ours), ovsdb.Mutation{Column: "ports", Mutator: "delete", Value: ovsdb.Set{id}}))
			used[have] = true
		}
	}
	next := name + "a"
	for letter := 'b'; used[next]; letter++ { // whoever types the commands of a plan leaves a second one
		next = name + string(letter)
	}
	return append(ops, newPort(ours, next, "patch", map[string]string{"peer": "none"}, ids(b.TextMap("external_ids")[platform.MarkKey]))...)
}
