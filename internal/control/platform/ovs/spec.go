package ovs

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

// What we make on a switch, in words that do not change when rows do. Each is read back from the database, compared, and made again.

// feedKey is where a feed's content stands in the external_ids of its port, beside the mark.
const feedKey = "crosstap-feed"

// kinds of objects.
const (
	kindBridge = "bridge"
	kindOutput = "output"
	kindFeed   = "feed"
	kindMirror = "mirror"
	kindExport = "export"
)

// bridgeSpec is a bridge of our own. It forwards nothing that our flows do not say.
type bridgeSpec struct {
	Name     string `json:"name"`
	Datapath string `json:"datapath"`
	Listen   string `json:"listen,omitempty"` // target of its Controller row, such as pssl:6653
	Mark     string `json:"mark"`
	// What somebody has set by hand: not secure, and others than ours.
	FailMode  string   `json:"fail_mode,omitempty"`
	Protocols []string `json:"protocols,omitempty"`
}

// unset is what a column without a value is set to, where that differs from what we set.
const unset = "none"

// byHand fills in what somebody has set of our bridge: without "secure" the switch forwards as it likes when flows are missing.
func (s *bridgeSpec) byHand(b ovsdb.Row) {
	if mode := b.Text("fail_mode"); mode != "secure" {
		s.FailMode = cmp.Or(mode, unset)
	}
	have := b.Texts("protocols")
	if slices.Sort(have); len(have) > 0 && !slices.Equal(have, protocols) { // none are all
		s.Protocols = have
	}
}

// portSpec is a port of our bridge towards tools: a tunnel, or an interface that is there already (Type "").
type portSpec struct {
	Name    string            `json:"name"`
	Bridge  string            `json:"bridge"`
	Type    string            `json:"type,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Mark    string            `json:"mark"`
}

// feedSpec is where a session's copies come into our bridge: one end of a patch, and the flows that begin there.
type feedSpec struct {
	Name   string      `json:"name"` // of the port
	Bridge string      `json:"bridge"`
	Peer   string      `json:"peer"`
	Mark   string      `json:"mark"`
	What   feedContent `json:"what"`
}

// feedContent is what the flows do.
type feedContent struct {
	Strip   bool     `json:"strip,omitempty"` // the VLAN tag that the tenants' switch puts on copies of its access ports
	Untag   []uint16 `json:"untag,omitempty"` // the VLANs of access ports among others: their tags alone are taken off
	Filter  string   `json:"filter,omitempty"`
	Except  []string `json:"except,omitempty"` // MAC addresses
	Slice   int      `json:"slice,omitempty"`
	To      []string `json:"to,omitempty"` // ports
	Tagged  []tagged `json:"tagged,omitempty"`
	Export  *setSpec `json:"export,omitempty"`
	Timeout int      `json:"timeout,omitempty"` // seconds that the flows live without us
}

// tagged is an output that gets copies with a VLAN tag around them (RSPAN).
type tagged struct {
	Port string `json:"port"`
	VLAN uint16 `json:"vlan"`
}

// setSpec is a collector set, to which flows tell what they see.
type setSpec struct {
	ID       uint32 `json:"id"`
	Target   string `json:"target"`
	Sampling int    `json:"sampling"`
	Active   int    `json:"active"` // seconds
	Domain   uint32 `json:"domain"`
	Point    uint32 `json:"point"`
}

// mirrorSpec is a Mirror row of the tenants' bridge, with the port that it needs there.
type mirrorSpec struct {
	Name   string   `json:"name"`
	Bridge string   `json:"bridge"`
	All    bool     `json:"all,omitempty"`
	Src    []string `json:"src,omitempty"`
	Dst    []string `json:"dst,omitempty"`
	VLANs  []int64  `json:"vlans,omitempty"`
	Output string   `json:"output"`
	// Type and Options are those of an Output port that is made with the mirror; "" for a port that is there.
	Type    string            `json:"type,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Mark    string            `json:"mark"`
	Ours    string            `json:"ours"`              // our bridge of the same datapath
	Snaplen int64             `json:"snaplen,omitempty"` // somebody has set it by hand: into a tunnel every copy is dropped
}

// change is one object as a step has it; null is nothing.
type change struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

// encode writes a spec. Two specs are the same when their bytes are.
func encode(spec any) json.RawMessage {
	b, err := json.Marshal(spec)
	if err != nil {
		panic("ovs: a spec is no JSON: " + err.Error())
	}
	return b
}

// present is everything of an owner that is on the switch: by kind and name.
type present map[[2]string]json.RawMessage

// ours reads what carries an owner's mark.
func (d *db) ours(owner string) present {
	out := present{}
	for _, id := range slices.Sorted(maps.Keys(d.tables["Bridge"])) {
		b := d.tables["Bridge"][id]
		name := b.Text("name")
		if m := markOf(b); m.Owner == owner {
			s := bridgeSpec{Name: name, Datapath: b.Text("datapath_type"), Listen: d.listening(b), Mark: b.TextMap("external_ids")[platform.MarkKey]}
			s.byHand(b)
			out[[2]string{kindBridge, name}] = encode(s)
		}
		for _, p := range b.UUIDs("ports") {
			d.ourPort(out, owner, name, d.tables["Port"][p])
		}
		for _, m := range b.UUIDs("mirrors") {
			if r := d.tables["Mirror"][m]; markOf(r).Owner == owner {
				s := d.mirror(name, r, owner)
				out[[2]string{kindMirror, s.Name}] = encode(s)
			}
		}
		for column, table := range exportTables {
			if r := d.tables[table][b.UUID(column)]; markOf(r).Owner == owner {
				out[[2]string{kindExport, name + "/" + column}] = encode(exportOf(name, column, r))
			}
		}
	}
	return out
}

// listening returns the targets of a bridge's Controller rows.
func (d *db) listening(bridge ovsdb.Row) string {
	var out []string
	for _, id := range bridge.UUIDs("controller") {
		out = append(out, d.tables["Controller"][id].Text("target"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// ourPort reads a port: an output or a feed. The tenants' end of a patch belongs to its mirror.
func (d *db) ourPort(out present, owner, bridge string, port ovsdb.Row) {
	if markOf(port).Owner != owner {
		return
	}
	r, ids := d.iface(port), port.TextMap("external_ids")
	name, mark := port.Text("name"), ids[platform.MarkKey]
	if text, ok := ids[feedKey]; ok {
		s := feedSpec{Name: name, Bridge: bridge, Peer: r.TextMap("options")["peer"], Mark: mark}
		if json.Unmarshal([]byte(text), &s.What) != nil || !d.flowing(&s) || !d.collecting(&s) {
			s.What = feedContent{} // not what we made: it is made again
		}
		out[[2]string{kindFeed, name}] = encode(s)
		return
	}
	if strings.HasPrefix(name, outputPrefix) || r.Text("type") == "" || strings.HasPrefix(name, patchPrefix) && !d.mirrored(bridge, name) {
		out[[2]string{kindOutput, name}] = encode(portSpec{name, bridge, r.Text("type"), r.TextMap("options"), mark})
	}
}

// mirrored reports whether a mirror of the bridge leads to a port.
func (d *db) mirrored(bridge, port string) bool {
	_, b, _ := d.find("Bridge", bridge)
	id, _, _ := d.find("Port", port)
	for _, m := range b.UUIDs("mirrors") {
		if d.tables["Mirror"][m].UUID("output_port") == id {
			return true
		}
	}
	return false
}

// mirror reads a Mirror row.
func (d *db) mirror(bridge string, r ovsdb.Row, owner string) mirrorSpec {
	s := mirrorSpec{
		Name: r.Text("name"), Bridge: bridge, All: r.Bool("select_all"), Src: d.names(r.UUIDs("select_src_port")), Dst: d.names(r.UUIDs("select_dst_port")),
		VLANs: r.Ints("select_vlan"), Mark: r.TextMap("external_ids")[platform.MarkKey],
	}
	slices.Sort(s.VLANs)
	s.Snaplen, _ = r.Int("snaplen")
	if port := d.tables["Port"][r.UUID("output_port")]; port != nil {
		s.Output = port.Text("name")
		if markOf(port).Owner == owner {
			i := d.iface(port)
			s.Type, s.Options = i.Text("type"), i.TextMap("options")
		}
	}
	s.Src, s.Dst = nilIfNone(s.Src), nilIfNone(s.Dst)
	datapath := ""
	if _, b, ok := d.find("Bridge", bridge); ok {
		datapath = b.Text("datapath_type")
	}
	for _, b := range d.tables["Bridge"] {
		if markOf(b).Owner == owner && b.Text("datapath_type") == datapath {
			s.Ours = b.Text("name")
		}
	}
	return s
}

func nilIfNone[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// collecting reports whether a feed's collector set is as it should be.
func (d *db) collecting(s *feedSpec) bool {
	e := s.What.Export
	if e == nil {
		return true
	}
	bridge, _, _ := d.find("Bridge", s.Bridge)
	for _, r := range d.tables["Flow_Sample_Collector_Set"] {
		if id, _ := r.Int("id"); uint32(id) != e.ID || r.UUID("bridge") != bridge {
			continue
		}
		x := d.tables["IPFIX"][r.UUID("ipfix")]
		active, _ := x.Int("cache_active_timeout")
		return slices.Equal(x.Texts("targets"), []string{e.Target}) && int(active) == e.Active
	}
	return false
}
