package report

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/nearest"
)

// Thing is a machine, host, tunnel endpoint, … as the flows of the time range know it.
type Thing struct {
	Name            string    `json:"name"`
	ID              string    `json:"id"` // stable id of a VM, "" when not known
	Fabric          string    `json:"fabric"`
	Tenants         []string  `json:"tenants"`
	Segments        []string  `json:"segments"`
	Hosts           []string  `json:"hosts"`
	Addrs           []string  `json:"addrs"` // at most 16
	OctetsSent      uint64    `json:"octets_sent"`
	OctetsReceived  uint64    `json:"octets_received"`
	PacketsSent     uint64    `json:"packets_sent"`
	PacketsReceived uint64    `json:"packets_received"`
	Peers           uint64    `json:"peers"` // workloads at the other end; of apps and tenants all
	FirstSeen       time.Time `json:"first_seen"`
	LastSeen        time.Time `json:"last_seen"`
}

// Things is a list of things of one kind.
type Things struct {
	Meta Meta    `json:"meta"`
	Kind string  `json:"kind"`
	Rows []Thing `json:"rows"`
}

// thingKinds gives for each kind what is one: its key and name at one end, with %s for src or dst.
var thingKinds = map[string]struct {
	key, name string
	raw       bool // roll-ups do not know it
	one       bool // the same for both ends: who sends is the client's side
}{
	"vms":     {key: "if(%[1]s_vm_id <> '', %[1]s_vm_id, %[1]s_vm)", name: "%[1]s_vm"},
	"hosts":   {key: "%[1]s_host", name: "%[1]s_host"},
	"vteps":   {key: "if(outer_%[1]s = " + zeroAddr + ", '', outer_%[1]s::VARCHAR)", name: "outer_%[1]s::VARCHAR", raw: true},
	"tenants": {key: "tenant", name: "tenant", one: true},
	"apps":    {key: "app", name: "app", one: true},
}

// ThingKinds lists the kinds that Things knows.
func ThingKinds() []string { return slices.Sorted(maps.Keys(thingKinds)) }

var thingSort = names("name", "id", "fabric", "octets_sent", "octets_received", "packets_sent", "packets_received", "peers", "first_seen", "last_seen")

// Things implements Reporter.
func (r *Reports) Things(ctx context.Context, kind string, q Query) (Things, error) {
	k, ok := thingKinds[kind]
	if !ok {
		return Things{}, &QueryError{"kind", "there is no kind " + quoteName(kind), nearest.Hint(kind, ThingKinds(), "one of "+strings.Join(ThingKinds(), ", "))}
	}
	a, err := check(q, defaultLimit)
	if err != nil {
		return Things{}, err
	}
	order, err := a.order(thingSort, "-octets", "fabric, key")
	if a.Sort == "-octets" {
		order, err = "octets_sent + octets_received DESC, fabric, key", nil
	}
	if err != nil {
		return Things{}, err
	}
	a.vteps = k.raw
	if k.one {
		a.notes = append(a.notes, "sent is what clients sent, received what servers sent back")
	}
	a.need = []string{"fabric", "segment", "tenant", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id", "src_host", "dst_host", "app"}
	if err := a.useRollup(!k.raw); err != nil {
		return Things{}, err
	}
	var out Things
	err = r.with(ctx, a, func() error {
		out, err = a.things(ctx, r, kind, order)
		return err
	})
	return out, err
}

// thingEnds gives the step y: each fact at each of its ends.
func (a *ask) thingEnds(kind string) string {
	k := thingKinds[kind]
	end := func(me, other string, sent bool) string {
		value := func(col string, on bool) string {
			if on {
				return col
			}
			return "0::UBIGINT"
		}
		return fmt.Sprintf(`SELECT fabric, %[1]s AS key, %[2]s AS name, %[3]s_vm_id AS id, tenant, segment, %[3]s_host AS host, %[3]s AS addr,
  (fabric, segment, %[4]s, if(%[4]s_vm_id <> '', %[4]s_vm_id, %[4]s_vm)) AS peer, %[5]s AS o_sent, %[6]s AS o_recv, %[7]s AS p_sent, %[8]s AS p_recv, first, last,
  sampled_rows, ambiguous_rows, octets, packets, %[9]t AS sends FROM x`, endSQL(k.key, me), endSQL(k.name, me), me, other, value("octets", sent), value("octets", !sent),
			value("packets", sent), value("packets", !sent), sent || k.one)
	}
	if k.one { // one end of each fact: the client's
		return end("src", "dst", true) + " WHERE NOT turn UNION ALL " + end("dst", "src", false) + " WHERE turn"
	}
	return end("src", "dst", true) + " UNION ALL " + end("dst", "src", false)
}

// named is a condition: the thing goes by the name that is asked for.
func (a *ask) named(kind string) string {
	if a.Name == "" {
		return ""
	}
	name := a.Name
	if p, ok := filter.AddrText(filter.DuckDB, a.Name); ok && kind == "vteps" {
		name = p
	}
	return " AND (" + a.arg(name) + " IN (name, id, key))"
}

// endSQL puts src or dst into an expression that has a place for it.
func endSQL(expr, end string) string { return strings.ReplaceAll(expr, "%[1]s", end) }

// maxAddrs bounds the addresses shown of one thing.
const maxAddrs = 16

func (a *ask) things(ctx context.Context, r *Reports, kind, order string) (Things, error) {
	out := Things{Kind: kind, Rows: []Thing{}}
	a.args = nil
	query := a.facts(a.sinceMS, a.untilMS) + ",\ny AS NOT MATERIALIZED (" + a.thingEnds(kind) + fmt.Sprintf(`),
q0 AS MATERIALIZED (SELECT fabric, key, arg_max(name, (last, name)) AS name, max(id) AS id, list_sort(list(DISTINCT tenant) FILTER (tenant <> '')) AS tenants,
  list_sort(list(DISTINCT segment) FILTER (segment <> 0)) AS segments, list_sort(list(DISTINCT host) FILTER (host <> '')) AS hosts,
  list_sort(list(DISTINCT addr) FILTER (addr <> %s)) AS addrs, sum(o_sent)::UBIGINT AS octets_sent, sum(o_recv)::UBIGINT AS octets_received,
  sum(p_sent)::UBIGINT AS packets_sent, sum(p_recv)::UBIGINT AS packets_received, count(DISTINCT peer)::UBIGINT AS peers, min(first) AS first_seen, max(last) AS last_seen,
  coalesce(sum(octets) FILTER (sends), 0) AS octets, coalesce(sum(packets) FILTER (sends), 0) AS packets, coalesce(sum(sampled_rows) FILTER (sends), 0) AS sampled, coalesce(sum(ambiguous_rows) FILTER (sends), 0) AS ambiguous
  FROM y GROUP BY fabric, key),
q AS NOT MATERIALIZED (SELECT * FROM q0 WHERE key <> ''%s),
s AS MATERIALIZED (SELECT coalesce(sum(octets), 0)::UBIGINT AS octets, coalesce(sum(packets), 0)::UBIGINT AS packets, coalesce(sum(sampled), 0)::UBIGINT AS sampled, coalesce(sum(ambiguous), 0)::UBIGINT AS ambiguous FROM q0)
SELECT name, id, fabric, to_json(coalesce(tenants, []))::VARCHAR, to_json(coalesce(segments, []))::VARCHAR, to_json(coalesce(hosts, []))::VARCHAR, to_json(coalesce(addrs[1:%d], []))::VARCHAR,
  octets_sent, octets_received, packets_sent, packets_received, peers, first_seen, last_seen, (SELECT count(*) FROM q), s.octets, s.packets, s.sampled, s.ambiguous
  FROM q, s ORDER BY %s LIMIT %d`, zeroAddr, a.named(kind), maxAddrs, order, a.Limit)
	var total sums
	var sampled, ambiguous uint64
	err := a.each(ctx, query, func(rows *sql.Rows) error {
		var t Thing
		var tenants, segments, hosts, addrs string
		if err := rows.Scan(&t.Name, &t.ID, &t.Fabric, &tenants, &segments, &hosts, &addrs, &t.OctetsSent, &t.OctetsReceived, &t.PacketsSent, &t.PacketsReceived,
			&t.Peers, &t.FirstSeen, &t.LastSeen, &total.Rows, &total.Octets, &total.Packets, &sampled, &ambiguous); err != nil {
			return err
		}
		t.FirstSeen, t.LastSeen = t.FirstSeen.UTC(), t.LastSeen.UTC()
		if kind == "vteps" {
			t.Name = addrText(t.Name)
		}
		if kind != "vms" {
			t.ID = ""
		}
		var l lists
		t.Tenants, t.Hosts, t.Segments, t.Addrs = l.texts(tenants), l.texts(hosts), l.segments(segments), l.addrs(addrs)
		out.Rows = append(out.Rows, t)
		return l.err
	})
	if err != nil {
		return Things{}, err
	}
	out.Meta, err = a.meta(ctx, r, kind, total, sampled, ambiguous)
	return out, err
}
