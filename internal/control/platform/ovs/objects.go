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

// objects lists what copies and exports: ours, whoever's line it is of, and foreign mirrors and exports.
func (p *Platform) objects(d *db, host string) (out []platform.Object) {
	owners := map[string]bool{}
	for _, table := range []string{"Bridge", "Port", "Mirror", "IPFIX", "NetFlow", "sFlow"} {
		for _, r := range d.tables[table] {
			if m := markOf(r); m.Owner != "" {
				owners[m.Owner] = true
			}
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(owners)) {
		ours := d.ours(owner)
		for _, key := range slices.SortedFunc(maps.Keys(ours), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }) {
			out = append(out, objectOf(host, key, ours[key]))
		}
	}
	return append(out, d.foreign(host)...)
}

// objectOf tells an object of ours.
func objectOf(host string, key [2]string, spec json.RawMessage) platform.Object {
	o := platform.Object{ID: key[0] + ":" + key[1], Name: key[1], Kind: key[0], Host: host}
	o.Raw = map[string]string{"kind": key[0], "name": key[1], "spec": string(spec)}
	var any struct {
		Mark, Bridge, Output, Column string
		Src, Dst, Targets            []string
		Options                      map[string]string
	}
	_ = json.Unmarshal(spec, &any) // our own bytes
	o.Mark, o.Switch, o.Remote = platform.ParseMark(any.Mark), any.Bridge, any.Options["remote_ip"]
	if key[0] == kindMirror {
		o.Kind, o.Sources = "Mirror", sources(any.Src, any.Dst)
		if any.Output != "" {
			o.Outputs = []string{any.Output}
		}
	}
	if any.Column != "" {
		o.Raw["column"], o.Remote = any.Column, strings.Join(any.Targets, ", ")
	}
	return o
}

func sources(src, dst []string) (out []platform.Source) {
	dirs := map[string]platform.Direction{}
	for _, s := range src {
		dirs[s] |= platform.Ingress
	}
	for _, s := range dst {
		dirs[s] |= platform.Egress
	}
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		out = append(out, platform.Source{Port: name, Dir: dirs[name]})
	}
	return out
}

// foreign lists the mirrors and exports of others.
func (d *db) foreign(host string) (out []platform.Object) {
	for _, b := range sortedRows(d.tables["Bridge"]) {
		for _, id := range b.UUIDs("mirrors") {
			if r := d.tables["Mirror"][id]; r != nil && markOf(r).Owner == "" {
				out = append(out, d.foreignMirror(host, b.Text("name"), string(id), r))
			}
		}
		for _, column := range slices.Sorted(maps.Keys(exportTables)) {
			r := d.tables[exportTables[column]][b.UUID(column)]
			if r == nil || markOf(r).Owner != "" {
				continue
			}
			out = append(out, platform.Object{
				ID: column + ":" + string(b.UUID(column)), Name: b.Text("name") + "/" + column, Kind: exportTables[column], Host: host, Switch: b.Text("name"),
				Remote: strings.Join(r.Texts("targets"), ", "), About: foreignExport(r, b.Text("name"), column), Raw: map[string]string{"column": column, "row": rowText(r)},
			})
		}
	}
	return out
}

func (d *db) foreignMirror(host, bridge, id string, r ovsdb.Row) platform.Object {
	o := platform.Object{
		ID: "mirror:" + id, Name: r.Text("name"), Kind: "Mirror", Host: host, Switch: bridge, Raw: map[string]string{"row": rowText(r)},
		Sources: sources(d.names(r.UUIDs("select_src_port")), d.names(r.UUIDs("select_dst_port"))),
	}
	o.About = "mirror " + o.Name + " of bridge " + bridge
	if port := d.tables["Port"][r.UUID("output_port")]; port != nil {
		o.Outputs, o.Remote = []string{port.Text("name")}, d.iface(port).TextMap("options")["remote_ip"]
		o.About += " to port " + port.Text("name")
	}
	return o
}

// rowText is a row for people and for comparisons.
func rowText(r ovsdb.Row) string {
	clean := maps.Clone(r)
	delete(clean, "statistics")
	b, err := json.Marshal(clean)
	if err != nil {
		return ""
	}
	return string(b)
}
