package report

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// Over long ranges what links know of networks comes from these. The rest, which is about addresses outside and tunnel endpoints, is counted by the store itself, or asked
// for slice by slice.

// networkKey tells networks apart.
type networkKey struct {
	fabric  string
	segment uint64
}

// networksSliced gives all networks, without an order. Without parts the store counts.
func (a *ask) networksSliced(ctx context.Context, parts []slice) (out []Network, total sums, sampled, ambiguous uint64, err error) {
	all := map[networkKey]*Network{}
	a.args, a.linked = nil, true
	err = a.each(ctx, a.networksKnown(), func(rows *sql.Rows) error {
		var k networkKey
		var n Network
		var hosts string
		var s, m uint64
		if err := rows.Scan(&k.fabric, &k.segment, &n.Tenant, &hosts, &n.VMs, &n.Pairs, &n.Octets, &n.Packets, &n.OctetsSameHost, &n.MaxPacket, &n.Fragments, &n.FirstSeen, &n.LastSeen, &s, &m); err != nil {
			return err
		}
		var l lists
		n.VTEPs, n.Hosts = []string{}, l.texts(hosts)
		all[k] = &n
		total.Octets, total.Packets, sampled, ambiguous = total.Octets+n.Octets, total.Packets+n.Packets, sampled+s, ambiguous+m
		return l.err
	})
	if a.linked = false; err != nil {
		return nil, total, 0, 0, err
	}
	outside := func(k networkKey, pairs, addrs uint64, vteps []string) {
		if n := all[k]; n != nil {
			n.Pairs, n.UnknownAddrs, n.VTEPs = n.Pairs+pairs, n.UnknownAddrs+addrs, append(n.VTEPs, vteps...)
		}
	}
	if len(parts) == 0 {
		if err = a.outsideStored(ctx, outside); errors.Is(err, store.ErrNotSummed) {
			parts, err = a.slices(ctx, span{a.sinceMS, a.untilMS})
		}
	}
	if err == nil {
		err = a.overSlices(parts, func() error { return a.outsideAsked(ctx, outside) })
	}
	for k, n := range all {
		n.name(flow.Segment(k.segment), k.fabric, uint64(a.MTU))
		out = append(out, *n)
	}
	total.Rows = uint64(len(out))
	return out, total, sampled, ambiguous, err
}

// outsideAsked asks the engine for what is outside, in some segments.
func (a *ask) outsideAsked(ctx context.Context, found func(k networkKey, pairs, addrs uint64, vteps []string)) error {
	return a.each(ctx, a.networksOutside(), func(rows *sql.Rows) error {
		var k networkKey
		var pairs, unknown uint64
		var vteps string
		if err := rows.Scan(&k.fabric, &k.segment, &pairs, &unknown, &vteps); err != nil {
			return err
		}
		var l lists
		found(k, pairs, unknown, l.addrs(vteps))
		return l.err
	})
}

// outsideStored has the store count what is outside. What stored roll-ups do not have of the range it is told.
func (a *ask) outsideStored(ctx context.Context, found func(k networkKey, pairs, addrs uint64, vteps []string)) error {
	v, ok := a.summing()
	if !ok {
		return store.ErrNotSummed
	}
	from, to := clampNS(a.sinceMS), clampNS(a.untilMS)
	vteps := map[networkKey][]flow.Addr{}
	rest, err := a.restOutside(ctx, v.PairsRest(from, to), vteps)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var all []store.Outside
	err = v.SumOutside(ctx, from, to, rest, func(some []store.Outside) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, some...)
	})
	if err != nil { // of some of them it may have told
		return err
	}
	for i := range all {
		o := &all[i]
		k := networkKey{o.Fabric, o.Segment}
		found(k, o.Pairs, o.Addrs, nil)
		for _, addr := range o.VTEPs {
			vteps[k] = append(vteps[k], addr)
		}
	}
	for k, all := range vteps {
		slices.SortFunc(all, func(x, y flow.Addr) int { return bytes.Compare(x[:], y[:]) })
		var texts []string
		for _, addr := range slices.Compact(all) {
			texts = append(texts, addr.String())
		}
		found(k, 0, 0, texts)
	}
	return nil
}

// restOutside gives the pairs with an end that has no name that a table of roll-ups has, in the order of segments, and adds its tunnel endpoints.
func (a *ask) restOutside(ctx context.Context, table string, vteps map[networkKey][]flow.Addr) (rest []store.PairSums, err error) {
	if table == "" {
		return nil, nil
	}
	defer func(was string) { a.table = was }(a.table)
	a.args, a.table = nil, table
	query := a.outsideEnds() + fmt.Sprintf(`
SELECT fabric, segment, a::VARCHAR, a_who, b::VARCHAR, b_who, false AS tunnel FROM d
UNION ALL SELECT fabric, segment, outer_src::VARCHAR, '', outer_dst::VARCHAR, '', true FROM v ORDER BY segment LIMIT %d`, mostRest)
	n := 0
	err = a.each(ctx, query, func(rows *sql.Rows) error {
		var s store.PairSums
		var one, other string
		var tunnel bool
		n++
		if err := rows.Scan(&s.Fabric, &s.Segment, &one, &s.AWho, &other, &s.BWho, &tunnel); err != nil {
			return err
		}
		a, errA := uuid.Parse(one)
		b, errB := uuid.Parse(other)
		if s.A, s.B = a, b; !tunnel {
			rest = append(rest, s)
			return errors.Join(errA, errB)
		}
		k := networkKey{s.Fabric, s.Segment}
		for _, addr := range []flow.Addr{s.A, s.B} {
			if addr != (flow.Addr{}) {
				vteps[k] = append(vteps[k], addr)
			}
		}
		return errors.Join(errA, errB)
	})
	if n == mostRest {
		return nil, store.ErrNotSummed
	}
	return rest, err
}

// name says what network it is, and whether its packets fit.
func (n *Network) name(s flow.Segment, fabric string, mtu uint64) {
	n.number = uint64(s)
	n.Segment, n.VNI, n.Fabric, n.Known = segmentText(s), s.Number(), fabric, n.Tenant != ""
	n.FirstSeen, n.LastSeen = n.FirstSeen.UTC(), n.LastSeen.UTC()
	n.risk(s.Kind(), mtu)
}

// networksKnown asks for what does not depend on the addresses of workloads without a name: pairs are those between workloads with one.
func (a *ask) networksKnown() string {
	return a.facts(a.sinceMS, a.untilMS) + `,
e AS NOT MATERIALIZED (SELECT fabric, segment, ` + srcWho + ` AS who, src_host AS host FROM x UNION ALL SELECT fabric, segment, ` + dstWho + `, dst_host FROM x),
w AS MATERIALIZED (SELECT fabric, segment, count(DISTINCT who) FILTER (who <> '')::UBIGINT AS vms, list_sort(list(DISTINCT host) FILTER (host <> '')) AS hosts FROM e GROUP BY fabric, segment),
n AS MATERIALIZED (SELECT fabric, segment, count(*)::UBIGINT AS pairs FROM (SELECT DISTINCT ` + pairKey + ` FROM x WHERE ` + srcWho + ` <> '' AND ` + dstWho + ` <> '') GROUP BY fabric, segment),
g AS MATERIALIZED (SELECT fabric, segment, ` + networkSums + ` FROM x GROUP BY fabric, segment)
SELECT g.fabric, g.segment, tenant, to_json(coalesce(hosts, []))::VARCHAR, vms, coalesce(pairs, 0)::UBIGINT, octets, packets, octets_same_host, max_packet, fragments, first_seen, last_seen, sampled_rows, ambiguous_rows
  FROM g JOIN w ON g.fabric = w.fabric AND g.segment = w.segment LEFT JOIN n ON g.fabric = n.fabric AND g.segment = n.segment`
}

// outsideEnds gives the steps d, the pairs with an end that has no name, and v, the tunnel endpoints of rows.
func (a *ask) outsideEnds() string {
	return a.facts(a.sinceMS, a.untilMS) + `,
d AS MATERIALIZED (SELECT DISTINCT fabric, segment, if(` + swappedEnds + `, dst, src) AS a, if(` + swappedEnds + `, ` + dstWho + `, ` + srcWho + `) AS a_who, if(` + swappedEnds + `, src, dst) AS b,
  if(` + swappedEnds + `, ` + srcWho + `, ` + dstWho + `) AS b_who FROM x WHERE ` + srcWho + ` = '' OR ` + dstWho + ` = ''),
v AS MATERIALIZED (SELECT DISTINCT fabric, segment, outer_src, outer_dst FROM x)`
}

// networksOutside asks for the pairs with an end that has no name, the addresses of these ends, and the tunnel endpoints.
func (a *ask) networksOutside() string {
	return a.outsideEnds() + `
SELECT fabric, segment, count(*)::UBIGINT, 0::UBIGINT, '[]' FROM d GROUP BY fabric, segment
UNION ALL SELECT fabric, segment, 0::UBIGINT, count(DISTINCT addr)::UBIGINT, '[]' FROM (SELECT fabric, segment, a AS addr FROM d WHERE a_who = '' UNION ALL SELECT fabric, segment, b FROM d WHERE b_who = '') WHERE addr <> ` + zeroAddr + ` GROUP BY fabric, segment
UNION ALL SELECT fabric, segment, 0::UBIGINT, 0::UBIGINT, to_json(list_sort(list(DISTINCT vtep)))::VARCHAR FROM (SELECT fabric, segment, outer_src AS vtep FROM v UNION ALL SELECT fabric, segment, outer_dst FROM v) WHERE vtep <> ` + zeroAddr + ` GROUP BY fabric, segment`
}

// compareNetworks is the order by a column.
func compareNetworks(column string) func(x, y *Network) int {
	switch column {
	case "segment":
		return func(x, y *Network) int { return cmp.Compare(x.number, y.number) }
	case "vni":
		return func(x, y *Network) int { return cmp.Compare(x.VNI, y.VNI) }
	case "fabric":
		return func(x, y *Network) int { return cmp.Compare(x.Fabric, y.Fabric) }
	case "tenant":
		return func(x, y *Network) int { return cmp.Compare(x.Tenant, y.Tenant) }
	case "first_seen":
		return func(x, y *Network) int { return x.FirstSeen.Compare(y.FirstSeen) }
	case "last_seen":
		return func(x, y *Network) int { return x.LastSeen.Compare(y.LastSeen) }
	}
	number := map[string]func(*Network) uint64{
		"vms": func(n *Network) uint64 { return n.VMs }, "unknown_addrs": func(n *Network) uint64 { return n.UnknownAddrs }, "pairs": func(n *Network) uint64 { return n.Pairs },
		"octets": func(n *Network) uint64 { return n.Octets }, "packets": func(n *Network) uint64 { return n.Packets }, "octets_same_host": func(n *Network) uint64 { return n.OctetsSameHost },
		"max_packet": func(n *Network) uint64 { return n.MaxPacket }, "fragments": func(n *Network) uint64 { return n.Fragments },
	}[column]
	return func(x, y *Network) int { return cmp.Compare(number(x), number(y)) }
}

// sortNetworks puts networks into the order asked for, those that are equal by fabric and segment.
func (a *ask) sortNetworks(all []Network) {
	name, desc := strings.CutPrefix(a.Sort, "-")
	by := compareNetworks(name)
	slices.SortFunc(all, func(x, y Network) int {
		c := by(&x, &y)
		if desc {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(x.Fabric, y.Fabric), cmp.Compare(x.number, y.number))
	})
}
