package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/collect/store"
)

// pickedPair is one of the first pairs of an answer: its key, and where it stands in the order.
type pickedPair struct {
	fabric, a, aWho, b, bWho         string // addresses as UUIDs
	segment                          uint64
	value                            uint64 // to order by
	srcAddr, srcWho, dstAddr, dstWho string
}

// compare is the order of pickPairs, for descending values.
func (p *pickedPair) compare(o *pickedPair) int {
	return cmp.Or(cmp.Compare(o.value, p.value), p.tie(o))
}

func (p *pickedPair) tie(o *pickedPair) int {
	return cmp.Or(cmp.Compare(p.fabric, o.fabric), cmp.Compare(p.segment, o.segment), cmp.Compare(p.srcAddr, o.srcAddr), cmp.Compare(p.srcWho, o.srcWho),
		cmp.Compare(p.dstAddr, o.dstAddr), cmp.Compare(p.dstWho, o.dstWho))
}

// picked are the first pairs of an answer, found slice by slice, and the totals over all.
type picked struct {
	pairs              []pickedPair
	total              sums
	sampled, ambiguous uint64
	stored             bool            // the store found them, and where their rows are
	at                 []store.Stretch // there
}

// sliced reports whether the first pairs are to be found slice by slice: where sums decide the order, and the answer is short.
func (a *ask) sliced() bool {
	return a.step != 0 && a.Limit <= defaultLimit && a.ordersByNumbers()
}

func (a *ask) ordersByNumbers() bool {
	name, _ := strings.CutPrefix(a.Sort, "-")
	return slices.Contains(byNumbers, name)
}

// pick finds the first pairs; nil when there is one slice only.
func (a *ask) pick(ctx context.Context, order string) (*picked, error) {
	if p, err := a.pickStored(ctx); p != nil || err != nil {
		return p, err
	}
	parts, err := a.slices(ctx, span{a.sinceMS, a.untilMS})
	if err != nil || len(parts) < 2 {
		return nil, err
	}
	p := &picked{}
	name, desc := strings.CutPrefix(a.Sort, "-")
	value := pairSort[name] + "::UBIGINT"
	if strings.HasSuffix(name, "_seen") {
		value = "(epoch_ms(" + name + ")::HUGEINT + 9223372036854775808)::UBIGINT"
	}
	err = a.overSlices(parts, func() error {
		query := a.pairFacts(a.sinceMS, a.untilMS) + a.allPairs() + `
kt AS NOT MATERIALIZED (SELECT ` + pairGroup + ", " + value + ` AS value, src_addr, src_who, dst_addr, dst_who FROM kq ORDER BY ` + order + ", " + pickTie + fmt.Sprintf(" LIMIT %d)", a.Limit) + totals("k") + `
SELECT fabric, segment, a::VARCHAR, a_who, b::VARCHAR, b_who, value, src_addr::VARCHAR, src_who, dst_addr::VARCHAR, dst_who, ` + totalColumns + ` FROM kt CROSS JOIN t`
		var t endsScan
		err := a.each(ctx, query, func(rows *sql.Rows) error {
			var one pickedPair
			p.pairs = append(p.pairs, pickedPair{})
			into := []any{&one.fabric, &one.segment, &one.a, &one.aWho, &one.b, &one.bWho, &one.value, &one.srcAddr, &one.srcWho, &one.dstAddr, &one.dstWho}
			err := rows.Scan(append(into, t.totals()...)...)
			p.pairs[len(p.pairs)-1] = one
			return err
		})
		p.add(&picked{total: t.total, sampled: t.sampled, ambiguous: t.ambiguous})
		p.cut(a.Limit, desc)
		return err
	})
	if len(p.pairs) == 0 {
		return nil, err
	}
	return p, err
}

// add adds the totals of other pairs.
func (p *picked) add(o *picked) {
	p.total.Rows, p.total.Octets, p.total.Packets, p.total.Flows = p.total.Rows+o.total.Rows, p.total.Octets+o.total.Octets, p.total.Packets+o.total.Packets, p.total.Flows+o.total.Flows
	p.sampled, p.ambiguous = p.sampled+o.sampled, p.ambiguous+o.ambiguous
}

// cut keeps the first ones.
func (p *picked) cut(limit int, desc bool) {
	slices.SortFunc(p.pairs, func(x, y pickedPair) int {
		if desc {
			return x.compare(&y)
		}
		return cmp.Or(cmp.Compare(x.value, y.value), x.tie(&y))
	})
	p.pairs = p.pairs[:min(len(p.pairs), limit)]
}

// steps gives kt and ot as pickPairs does, and t.
func (p *picked) steps(a *ask) (pick, total string) {
	var keys []string
	for i := range p.pairs {
		k := &p.pairs[i]
		keys = append(keys, fmt.Sprintf("(%s, %d::UBIGINT, '%s'::UUID, %s, '%s'::UUID, %s)", a.arg(k.fabric), k.segment, k.a, a.arg(k.aWho), k.b, a.arg(k.bWho)))
	}
	pick = `kt AS MATERIALIZED (SELECT * FROM (VALUES ` + strings.Join(keys, ", ") + `) AS picked(` + pairGroup + `)),
ot AS MATERIALIZED (SELECT o.* FROM o JOIN kt USING (` + pairGroup + `)),
`
	total = fmt.Sprintf(`,
t AS NOT MATERIALIZED (SELECT %d::BIGINT AS total_rows, %d::UBIGINT AS total_octets, %d::UBIGINT AS total_packets, %d::UBIGINT AS total_flows, %d::UBIGINT AS total_sampled, %d::UBIGINT AS total_ambiguous)`,
		p.total.Rows, p.total.Octets, p.total.Packets, p.total.Flows, p.sampled, p.ambiguous)
	return pick, total
}

// narrow restricts the question to rows that may be of the pairs.
func (p *picked) narrow(a *ask) {
	var segments []uint64
	var src []string
	for i := range p.pairs {
		segments = append(segments, p.pairs[i].segment)
		src = append(src, p.pairs[i].a, p.pairs[i].b)
	}
	slices.Sort(segments)
	slices.Sort(src)
	segments, src = slices.Compact(segments), slices.Compact(src)
	if len(segments) == 0 {
		return
	}
	in := "segment IN (" + numbers(segments) + ")"
	if segments[0] != 0 {
		a.segments = in
	}
	list := "('" + strings.Join(src, "'::UUID, '") + "'::UUID)"
	a.only = in + " AND src IN " + list + " AND dst IN " + list
}
