package ovs

import (
	"context"
	"slices"
	"time"

	"crosstap/internal/openflow"
	"crosstap/internal/ovsdb"
)

// columns are what is followed of the database. Statistics are left out: they change every few seconds.
var columns = map[string][]string{
	"Open_vSwitch":              {"ovs_version", "external_ids", "bridges", "ssl"},
	"Bridge":                    {"name", "ports", "mirrors", "datapath_type", "external_ids", "ipfix", "netflow", "sflow", "fail_mode", "protocols", "controller"},
	"Controller":                {"target", "external_ids"},
	"Port":                      {"name", "interfaces", "tag", "trunks", "external_ids"},
	"Interface":                 {"name", "type", "options", "external_ids", "ofport", "mac", "mac_in_use", "mtu", "link_state", "status", "error"},
	"Mirror":                    {"name", "select_all", "select_src_port", "select_dst_port", "select_vlan", "output_port", "output_vlan", "snaplen", "external_ids"},
	"IPFIX":                     {"targets", "sampling", "obs_domain_id", "obs_point_id", "cache_active_timeout", "cache_max_flows", "other_config", "external_ids"},
	"NetFlow":                   {"targets", "active_timeout", "engine_id", "engine_type", "add_id_to_interface", "external_ids"},
	"sFlow":                     {"targets", "agent", "sampling", "polling", "header", "external_ids"},
	"Flow_Sample_Collector_Set": {"id", "bridge", "ipfix", "external_ids"},
}

// tableNames are the tables in a steady order.
var tableNames = []string{"Open_vSwitch", "Bridge", "Controller", "Port", "Interface", "Mirror", "IPFIX", "NetFlow", "sFlow", "Flow_Sample_Collector_Set"}

// rows are the rows of one table.
type rows map[ovsdb.UUID]ovsdb.Row

// db is one state of the database, and of the flows in our bridges.
type db struct {
	tables  map[string]rows
	flows   map[string]map[uint64]openflow.Count // bridge → cookie
	flowErr map[string]error                     // bridges of ours whose flows could not be read
	fresh   bool                                 // flows have just been put in: how long they have left does not matter
	noFlows error                                // why flows cannot be put into our bridge, nil when they can
	made    map[string]bool                      // bridges that the next transaction inserts
}

// read reads the database, and what our bridges' flows count.
func (p *Platform) read(ctx context.Context, flows bool) (*db, error) {
	var ops []ovsdb.Operation
	for _, t := range tableNames {
		want := append([]string{"_uuid"}, columns[t]...)
		if t == "Interface" || t == "Mirror" {
			want = append(want, "statistics")
		}
		ops = append(ops, ovsdb.Select(t, nil, want...))
	}
	results, err := p.transact(ctx, ops...)
	if err != nil {
		return nil, err
	}
	d := &db{tables: map[string]rows{}}
	for i, t := range tableNames {
		d.tables[t] = rows{}
		for _, r := range results[i].Rows {
			id := r.UUID("_uuid")
			delete(r, "_uuid")
			d.tables[t][id] = r
		}
	}
	if flows {
		p.readFlows(ctx, d)
	}
	return d, nil
}

// readFlows counts the flows of the bridges that carry a mark.
func (p *Platform) readFlows(ctx context.Context, d *db) {
	d.flows, d.flowErr = map[string]map[uint64]openflow.Count{}, map[string]error{}
	if !p.hasOpenFlow() {
		return
	}
	for _, b := range d.tables["Bridge"] {
		name := b.Text("name")
		if m := markOf(b); m.IsZero() || p.cfg.networked() && name != p.ourBridge(m.Owner, b.Text("datapath_type")) {
			continue
		}
		counts, err := p.countFlows(ctx, name)
		if err != nil {
			d.flowErr[name] = err
			continue
		}
		d.flows[name] = counts
	}
	d.noFlows = p.probe(ctx, d)
}

// countFlows counts the flows of a bridge. One that has not answered is not asked again for a while: what else is followed does not wait.
func (p *Platform) countFlows(ctx context.Context, bridge string) (map[uint64]openflow.Count, error) {
	if f, failed := p.silent(bridge); failed && time.Since(f.at) < lookEvery {
		return nil, f.err
	}
	c, err := p.openflow(ctx, bridge)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Counts(ctx)
}

// find returns the row of a table by its name; ok is false when there is none.
func (d *db) find(table, name string) (ovsdb.UUID, ovsdb.Row, bool) {
	for id, r := range d.tables[table] {
		if r.Text("name") == name {
			return id, r, true
		}
	}
	return "", nil, false
}

// iface returns the first interface of a port.
func (d *db) iface(port ovsdb.Row) ovsdb.Row {
	for _, id := range port.UUIDs("interfaces") {
		if r := d.tables["Interface"][id]; r != nil {
			return r
		}
	}
	return ovsdb.Row{}
}

// ofports returns the OpenFlow numbers of a bridge's ports by the names of their interfaces.
func (d *db) ofports(bridge string) map[string]uint32 {
	out := map[string]uint32{}
	_, b, _ := d.find("Bridge", bridge)
	for _, id := range b.UUIDs("ports") {
		r := d.iface(d.tables["Port"][id])
		if n, ok := r.Int("ofport"); ok && n > 0 {
			out[r.Text("name")] = uint32(n)
		}
	}
	return out
}

// names returns the names of ports by their UUIDs, sorted.
func (d *db) names(ids []ovsdb.UUID) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if r := d.tables["Port"][id]; r != nil {
			out = append(out, r.Text("name"))
		}
	}
	slices.Sort(out)
	return out
}

// root is the row of the switch itself.
func (d *db) root() ovsdb.Row {
	for _, r := range d.tables["Open_vSwitch"] {
		return r
	}
	return ovsdb.Row{}
}
