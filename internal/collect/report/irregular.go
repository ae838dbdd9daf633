package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"crosstap/internal/flow"
)

// Irregularity is something that the time before did not have, or that machines at work do not do.
type Irregularity struct {
	Kind         string    `json:"kind"`  // one of IrregularKinds
	Score        float64   `json:"score"` // how far beyond what is noticed, from 1 on
	Fabric       string    `json:"fabric"`
	Segment      string    `json:"segment"`
	Tenant       string    `json:"tenant"`
	SrcVM        string    `json:"src_vm"` // the client, or the machine that it is about
	SrcAddr      string    `json:"src_addr"`
	DstVM        string    `json:"dst_vm"` // the server
	DstAddr      string    `json:"dst_addr"`
	Proto        string    `json:"proto"`
	Port         uint16    `json:"port"`
	App          string    `json:"app"`
	Octets       uint64    `json:"octets"`
	OctetsBefore uint64    `json:"octets_before"` // volume: mean of the periods before
	Targets      uint64    `json:"targets"`       // scans: addresses or ports that gave nothing; beacon: times
	PeriodMS     uint64    `json:"period_ms"`     // beacon: between two
	FirstSeen    time.Time `json:"first_seen"`
	LastSeen     time.Time `json:"last_seen"`
	Text         string    `json:"text"`
}

// Irregular is the answer of "What is irregular", the highest score first.
type Irregular struct {
	Meta      Meta           `json:"meta"`
	Kinds     []string       `json:"kinds"` // those that were looked for
	BaseSince time.Time      `json:"base_since"`
	BaseUntil time.Time      `json:"base_until"`
	Rows      []Irregularity `json:"rows"`
}

// IrregularKinds are what is looked for, in the order of equal scores.
var IrregularKinds = []string{"host_scan", "port_scan", "beacon", "new_pair", "volume", "silent", "observer_silent"}

// What is noticed.
const (
	scanTargets    = 30             // addresses or ports that gave nothing
	scanShare      = 0.6            // of all that were tried
	beaconTimes    = 8              // starts of a conversation
	beaconLeast    = 5000           // milliseconds between two
	beaconWithin   = 0.1            // of the median, that most intervals keep to
	beaconShare    = 0.8            // that many
	volumeFactor   = 3.0            // times the mean of the periods before, or a part of it
	volumeSigmas   = 4.0            // and that many standard deviations from it
	volumeOctets   = 10_000_000     // at least, of the greater of both
	volumePeriods  = 3              // of the time before, at least
	beaconRange    = 24 * time.Hour // beacons are looked for in that much at the end of the range
	irregularBase  = 7 * 24 * time.Hour
	irregularLimit = 100
)

// irregularAsk is a checked question.
type irregularAsk struct {
	*ask
	before span
	known  bool // something is stored of the time before
}

// Irregular implements Reporter. By names the kinds to look for, all without. Base is the time to compare with, the seven days before
// the range without.
func (r *Reports) Irregular(ctx context.Context, q Query) (Irregular, error) {
	for _, kind := range q.By {
		if !slices.Contains(IrregularKinds, kind) {
			return Irregular{}, &QueryError{"kind", "there is no kind " + quoteName(kind), "kinds: " + strings.Join(IrregularKinds, ", ")}
		}
	}
	if q.Sort != "" && q.Sort != "-score" {
		return Irregular{}, &QueryError{"sort", "rows are ordered by score", "leave it out"}
	}
	q.Sort = "-score"
	if q.BaseSince.IsZero() && q.BaseUntil.IsZero() {
		q.BaseSince, q.BaseUntil = q.Since.Add(-irregularBase), q.Since
	}
	a, err := check(q, irregularLimit)
	if err != nil {
		return Irregular{}, err
	}
	i := &irregularAsk{ask: a}
	if i.before, err = a.base(true); err != nil {
		return Irregular{}, err
	}
	if err = i.longBase(); err != nil {
		return Irregular{}, err
	}
	var out Irregular
	err = r.with(ctx, a, func() error {
		out, err = i.answer(ctx, r)
		return err
	})
	return out, err
}

// longBase takes roll-ups whenever they know what the filter asks for, also for short ranges: the time before is long.
func (i *irregularAsk) longBase() error {
	asked := i.Resolution
	if asked == "raw" {
		return i.useRollup(true)
	}
	i.Resolution = "1h"
	err := i.useRollup(true)
	if i.Resolution = asked; err != nil && asked != "1h" {
		return nil
	}
	return err
}

func (i *irregularAsk) answer(ctx context.Context, r *Reports) (Irregular, error) {
	out := Irregular{Kinds: i.By, BaseSince: msTime(i.before.from), BaseUntil: msTime(i.before.to), Rows: []Irregularity{}}
	if len(out.Kinds) == 0 {
		out.Kinds = IrregularKinds
	}
	oldest, _, ok := i.view.RollupExtent()
	if i.known = ok && oldest < clampNS(i.before.to); !i.known {
		i.notes = append(i.notes, "nothing is stored of the time before: nothing is new, and volumes have nothing to compare with")
	}
	for _, l := range i.looks() {
		rows, err := i.look(ctx, l, out.Kinds)
		if err != nil {
			return Irregular{}, err
		}
		out.Rows = append(out.Rows, rows...)
	}
	total, err := i.total(ctx)
	if err != nil {
		return Irregular{}, err
	}
	slices.SortStableFunc(out.Rows, func(a, b Irregularity) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(slices.Index(out.Kinds, a.Kind), slices.Index(out.Kinds, b.Kind)))
	})
	out.Meta, err = i.meta(ctx, r, "irregular", total, 0, 0)
	if len(out.Rows) == 0 && out.Meta.Empty == nil {
		i.notes = append(i.notes, "nothing irregular was found")
		out.Meta.Notes = append(out.Meta.Notes, "nothing irregular was found")
	}
	out.Meta.Total.Rows = uint64(len(out.Rows))
	out.Rows = out.Rows[:min(len(out.Rows), i.Limit)]
	return out, err
}

// look is what finds some kinds, from the same steps.
type look struct {
	steps   func() string
	kinds   []string
	selects []string // of each kind
	before  bool     // needs the time before
}

func (i *irregularAsk) looks() []look {
	return []look{
		{func() string { return i.links(span{}, true) }, []string{"host_scan", "port_scan"}, []string{hostScans, portScans}, false},
		{i.starts, []string{"beacon"}, []string{beacons}, false},
		{func() string { return i.links(i.before, false) }, []string{"new_pair"}, []string{newPairs}, true},
		{i.periods, []string{"volume", "silent"}, []string{volumes, silent}, true},
		{i.heard, []string{"observer_silent"}, []string{silentObservers}, true},
	}
}

// look finds those of the kinds that are asked for, the first ones of each, in order.
func (i *irregularAsk) look(ctx context.Context, l look, asked []string) (out []Irregularity, err error) {
	const order = "score DESC, octets DESC, segment, c_addr, s_addr, proto, port, c_vm, s_vm"
	var parts []string
	for n, kind := range l.kinds {
		if slices.Contains(asked, kind) {
			parts = append(parts, fmt.Sprintf("SELECT * FROM (SELECT '%s' AS kind, * FROM (%s) ORDER BY %s LIMIT %d)", kind, l.selects[n], order, i.Limit))
		}
	}
	if len(parts) == 0 || l.before && !i.known {
		return nil, nil
	}
	i.args = nil
	err = i.each(ctx, l.steps()+"\nSELECT * FROM ("+strings.Join(parts, "\nUNION ALL ")+") ORDER BY "+order, func(rows *sql.Rows) error {
		row, err := i.scan(rows)
		out = append(out, row)
		return err
	})
	return out, err
}

// total counts what was looked at.
func (i *irregularAsk) total(ctx context.Context) (t sums, err error) {
	i.args = nil
	err = i.each(ctx, i.facts(i.sinceMS, i.untilMS)+"\nSELECT coalesce(sum(rows), 0)::UBIGINT, coalesce(sum(octets), 0)::UBIGINT, coalesce(sum(packets), 0)::UBIGINT FROM x", func(rows *sql.Rows) error {
		return rows.Scan(&t.Rows, &t.Octets, &t.Packets)
	})
	return t, err
}

func (i *irregularAsk) scan(rows *sql.Rows) (row Irregularity, err error) {
	var segment uint64
	var src, dst string
	var proto uint8
	var first, last time.Time
	err = rows.Scan(&row.Kind, &row.Score, &row.Fabric, &segment, &row.Tenant, &row.SrcVM, &src, &row.DstVM, &dst, &proto, &row.Port, &row.App, &row.Octets, &row.OctetsBefore, &row.Targets, &row.PeriodMS, &first, &last)
	if err != nil {
		return row, err
	}
	row.Score = math.Round(row.Score*1e6) / 1e6 // stores differ in the last digits of a logarithm
	row.Segment, row.SrcAddr, row.DstAddr, row.FirstSeen, row.LastSeen = segmentText(flow.Segment(segment)), addrText(src), addrText(dst), first.UTC(), last.UTC()
	if row.Proto = ""; proto != 0 {
		row.Proto = flow.ProtoText(proto)
	}
	if row.Kind == "observer_silent" {
		row.SrcVM = observerText(row.SrcVM)
	}
	row.Text = row.text()
	return row, nil
}

// text says it in words.
func (row *Irregularity) text() string {
	name := func(vm, addr string) string { return cmp.Or(vm, addr, "outside") }
	src, dst := name(row.SrcVM, row.SrcAddr), name(row.DstVM, row.DstAddr)
	service := serviceText(&Service{Proto: row.Proto, Port: row.Port, App: row.App})
	switch row.Kind {
	case "host_scan":
		return fmt.Sprintf("%s tried %d addresses at %s that gave nothing", src, row.Targets, service)
	case "port_scan":
		return fmt.Sprintf("%s tried %d ports of %s that gave nothing", src, row.Targets, dst)
	case "beacon":
		return fmt.Sprintf("%s speaks to %s at %s every %v, %d times", src, dst, service, (time.Duration(row.PeriodMS) * time.Millisecond).Round(100*time.Millisecond), row.Targets)
	case "new_pair":
		return fmt.Sprintf("%s speaks to %s at %s for the first time", src, dst, service)
	case "volume":
		return fmt.Sprintf("%s sent and received %d octets, %d usually", src, row.Octets, row.OctetsBefore)
	case "silent":
		return fmt.Sprintf("%s is silent, %d octets usually", src, row.OctetsBefore)
	}
	return fmt.Sprintf("observer %s tells nothing any more", row.SrcVM)
}

// inside is true for addresses of private networks (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291): others without a name are one workload
// for each segment.
func inside(addr string) string {
	v4 := func(from, to string) string {
		return fmt.Sprintf("%s BETWEEN '00000000-0000-0000-0000-ffff%s'::UUID AND '00000000-0000-0000-0000-ffff%s'::UUID", addr, from, to)
	}
	v6 := func(from, to string) string {
		return fmt.Sprintf("%s BETWEEN '%s000000-0000-0000-0000-000000000000'::UUID AND '%sffffff-ffff-ffff-ffff-ffffffffffff'::UUID", addr, from, to)
	}
	return "(" + strings.Join([]string{v4("0a000000", "0affffff"), v4("ac100000", "ac1fffff"), v4("c0a80000", "c0a8ffff"), v4("64400000", "647fffff"), v4("a9fe0000", "a9feffff"),
		v6("fc", "fd"), fmt.Sprintf("%s BETWEEN 'fe800000-0000-0000-0000-000000000000'::UUID AND 'febfffff-ffff-ffff-ffff-ffffffffffff'::UUID", addr)}, " OR ") + ")"
}

// links gives the step e: one row for each client, server and service, with the octets and packets each way. Addresses outside
// count as one, unless each counts.
func (i *irregularAsk) links(base span, each bool) string {
	side := func(name, this, that string) string {
		vm, id, addr := fmt.Sprintf("if(turn, %s_vm, %s_vm)", that, this), fmt.Sprintf("if(turn, %s_vm_id, %s_vm_id)", that, this), fmt.Sprintf("if(turn, %s, %s)", that, this)
		if !each {
			addr = fmt.Sprintf("if(%[1]s <> '' OR %[2]s <> '' OR %[3]s, %[4]s, %[5]s)", vm, id, inside(addr), addr, zeroAddr)
		}
		return fmt.Sprintf("%[1]s AS %[4]s_vm, if(%[2]s <> '', %[2]s, %[1]s) AS %[4]s_who, %[3]s AS %[4]s_addr", vm, id, addr, name)
	}
	return i.factsOf(span{i.sinceMS, i.untilMS}, base) + `,
e0 AS NOT MATERIALIZED (SELECT fabric, segment, tenant, ` + side("c", "src", "dst") + `, ` + side("s", "dst", "src") + `, proto, service_port, app, turn, cur, octets, packets, rows, first, last FROM x),
e AS MATERIALIZED (SELECT fabric, segment, c_who, c_addr, s_who, s_addr, proto, service_port AS port, max(tenant) AS tenant, arg_max(c_vm, (last, c_vm)) AS c_vm, arg_max(s_vm, (last, s_vm)) AS s_vm, max(app) AS app,
  coalesce(sum(octets) FILTER (cur AND NOT turn), 0) AS o_fwd, coalesce(sum(octets) FILTER (cur AND turn), 0) AS o_rev, coalesce(sum(packets) FILTER (cur AND NOT turn), 0) AS p_fwd,
  coalesce(sum(packets) FILTER (cur AND turn), 0) AS p_rev, bool_or(cur) AS now, bool_or(NOT cur) AS was, min(first) FILTER (cur) AS first, max(last) FILTER (cur) AS last
  FROM e0 GROUP BY fabric, segment, c_who, c_addr, s_who, s_addr, proto, service_port)`
}

// noValue are attempts that gave nothing: TCP without a byte of payload either way, or datagrams that nobody answered.
const noValue = `(proto = 6 AND o_fwd <= 64 * p_fwd AND o_rev <= 64 * p_rev OR proto <> 6 AND p_rev = 0 AND p_fwd <= 3)`

// What is selected of the steps. All have the same columns: score, fabric, segment, tenant, client, server, protocol, port, application, octets, octets before, targets, period,
// first and last time.
var (
	hostScans = fmt.Sprintf(`SELECT n / %[1]d.0 AS score, fabric, segment, tenant, c_vm, c_addr::VARCHAR AS c_addr, '' AS s_vm, %[4]s::VARCHAR AS s_addr, proto, port, app, octets::UBIGINT AS octets, 0::UBIGINT AS n0, n::UBIGINT AS n1, 0::UBIGINT AS n2, first, last FROM
  (SELECT fabric, segment, c_who, c_addr, proto, port, max(tenant) AS tenant, max(c_vm) AS c_vm, max(app) AS app, sum(o_fwd + o_rev) AS octets, count(DISTINCT s_addr) FILTER (%[3]s) AS n, count(DISTINCT s_addr) AS tried,
  min(first) AS first, max(last) AS last FROM e GROUP BY fabric, segment, c_who, c_addr, proto, port) WHERE n >= %[1]d AND n >= %[2]g * tried`, scanTargets, scanShare, noValue, zeroAddr)

	portScans = fmt.Sprintf(`SELECT n / %[1]d.0 AS score, fabric, segment, tenant, c_vm, c_addr::VARCHAR AS c_addr, s_vm, s_addr::VARCHAR AS s_addr, proto, 0::USMALLINT AS port, '' AS app, octets::UBIGINT AS octets, 0::UBIGINT AS n0, n::UBIGINT AS n1, 0::UBIGINT AS n2, first, last FROM
  (SELECT fabric, segment, c_who, c_addr, s_who, s_addr, proto, max(tenant) AS tenant, max(c_vm) AS c_vm, max(s_vm) AS s_vm, sum(o_fwd + o_rev) AS octets, count(DISTINCT port) FILTER (%[3]s) AS n, count(DISTINCT port) AS tried,
  min(first) AS first, max(last) AS last FROM e GROUP BY fabric, segment, c_who, c_addr, s_who, s_addr, proto) WHERE n >= %[1]d AND n >= %[2]g * tried`, scanTargets, scanShare, noValue)

	// what speaks to what at which service, and did not in the time before. Between tenants it counts for more.
	newPairs = `SELECT (1 + log10(1 + (o_fwd + o_rev) / 1e6))::DOUBLE AS score, fabric, segment, tenant, c_vm, c_addr::VARCHAR AS c_addr, s_vm, s_addr::VARCHAR AS s_addr, proto, port, app, (o_fwd + o_rev)::UBIGINT AS octets, 0::UBIGINT AS n0, 0::UBIGINT AS n1, 0::UBIGINT AS n2,
  first, last FROM e WHERE now AND NOT was AND NOT ` + noValue

	beacons = fmt.Sprintf(`SELECT kept * n / %[1]d AS score, fabric, segment, tenant, c_vm, src::VARCHAR AS c_addr, s_vm, dst::VARCHAR AS s_addr, proto, service_port AS port, app, octets, 0::UBIGINT AS n0, n::UBIGINT AS n1, mid::UBIGINT AS n2, first, last
  FROM (SELECT *, len(list_filter(ds, d -> abs(d - mid) <= %[2]g * mid))::DOUBLE / len(ds) AS kept FROM b2) WHERE kept >= %[3]g`, beaconTimes, beaconWithin, beaconShare)

	volumes = fmt.Sprintf(`SELECT (greatest(octets, mean) / greatest(least(octets, mean), 1) / %[1]g)::DOUBLE AS score, `+volumeOut+` FROM u2
  WHERE octets > 0 AND greatest(octets, mean) >= %[2]d AND abs(octets - mean) >= %[3]g * sd AND (octets >= %[1]g * mean OR mean >= %[1]g * octets)`, volumeFactor, volumeOctets, volumeSigmas)

	// machines that were heard in most of the periods before
	silent = fmt.Sprintf(`SELECT (1 + log10(1 + mean / %[1]d))::DOUBLE AS score, `+volumeOut+` FROM u2 JOIN (SELECT fabric, who, count(*) AS heard FROM m0 WHERE NOT cur GROUP BY fabric, who) h USING (fabric, who) WHERE octets = 0 AND heard >= 0.8 * k`, volumeOctets)

	silentObservers = `SELECT 1::DOUBLE AS score, '' AS fabric, 0::UBIGINT AS segment, '' AS tenant, seen AS c_vm, ` + zeroAddr + `::VARCHAR AS c_addr, '' AS s_vm, ` + zeroAddr + `::VARCHAR AS s_addr, 0::UTINYINT AS proto, 0::USMALLINT AS port, '' AS app, 0::UBIGINT AS octets,
  sum(octets)::UBIGINT AS n0, 0::UBIGINT AS n1, 0::UBIGINT AS n2, min(last) AS first, max(last) AS last FROM v0 GROUP BY seen HAVING NOT bool_or(cur)`
)

const volumeOut = `fabric, 0::UBIGINT AS segment, tenant, coalesce(vm, who) AS c_vm, ` + zeroAddr + `::VARCHAR AS c_addr, '' AS s_vm, ` + zeroAddr + `::VARCHAR AS s_addr, 0::UTINYINT AS proto, 0::USMALLINT AS port, '' AS app, octets::UBIGINT AS octets,
  round(mean)::UBIGINT AS n0, 0::UBIGINT AS n1, 0::UBIGINT AS n2, coalesce(first, last) AS first, last`

// starts gives the step b2: conversations that begin again and again. Their starts are in the rows only.
func (i *irregularAsk) starts() string {
	step, twice := i.step, i.rowwise
	i.step, i.rowwise = 0, true
	from := max(i.sinceMS, i.untilMS-beaconRange.Milliseconds())
	steps := i.facts(from, i.untilMS)
	i.step, i.rowwise = step, twice
	return steps + fmt.Sprintf(`,
b0 AS NOT MATERIALIZED (SELECT fabric, segment, src, dst, proto, service_port, flow_id, max(tenant) AS tenant, max(src_vm) AS c_vm, max(dst_vm) AS s_vm, max(app) AS app, sum(octets) AS octets, min(first) AS first, max(last) AS last
  FROM x WHERE NOT turn AND flow_id <> 0 GROUP BY fabric, segment, src, dst, proto, service_port, flow_id),
b1 AS NOT MATERIALIZED (SELECT *, epoch_ms(first) - lag(epoch_ms(first)) OVER (PARTITION BY fabric, segment, src, dst, proto, service_port ORDER BY first) AS d FROM b0),
b2 AS MATERIALIZED (SELECT fabric, segment, src, dst, proto, service_port, max(tenant) AS tenant, max(c_vm) AS c_vm, max(s_vm) AS s_vm, max(app) AS app, sum(octets)::UBIGINT AS octets, count(*) AS n, median(d) AS mid, list(d) FILTER (d IS NOT NULL) AS ds,
  min(first) AS first, max(last) AS last FROM b1 GROUP BY fabric, segment, src, dst, proto, service_port HAVING n >= %[1]d AND mid >= %[2]d)`, beaconTimes, beaconLeast)
}

// periods gives the step m: of each machine the octets in the range, and in the periods of that length before it.
func (i *irregularAsk) periods() string {
	length := i.untilMS - i.sinceMS
	n := max((i.before.to-i.before.from)/length, 1)
	end := func(me, who string) string {
		return fmt.Sprintf("SELECT fabric, %[1]s_tenant AS tenant, %[2]s AS who, %[1]s_vm AS vm, octets, first, last, cur, (%[3]d - epoch_ms(last)) // %[4]d AS p FROM x WHERE %[2]s <> ''", me, who, i.before.to-1, length)
	}
	return i.factsOf(span{i.sinceMS, i.untilMS}, span{i.before.to - n*length, i.before.to}) + `,
y AS NOT MATERIALIZED (` + end("src", srcWho) + " UNION ALL " + end("dst", dstWho) + fmt.Sprintf(`),
m0 AS MATERIALIZED (SELECT fabric, who, cur, if(cur, -1, p) AS p, sum(octets)::DOUBLE AS n, max(tenant) AS tenant, arg_max(vm, (last, vm)) AS vm, min(first) AS first, max(last) AS last FROM y GROUP BY fabric, who, cur, if(cur, -1, p)),
m AS MATERIALIZED (SELECT fabric, who, max(tenant) AS tenant, arg_max(vm, (last, vm)) AS vm, coalesce(sum(n) FILTER (cur), 0) AS octets, (max(p) + 1)::DOUBLE AS k, coalesce(sum(n) FILTER (NOT cur), 0) AS s1, coalesce(sum(n * n) FILTER (NOT cur), 0) AS s2,
  min(first) FILTER (cur) AS first, max(last) AS last FROM m0 GROUP BY fabric, who HAVING k >= %d),
u2 AS NOT MATERIALIZED (SELECT *, s1 / k AS mean, sqrt(greatest(s2 / k - (s1 / k) * (s1 / k), 0)) AS sd FROM m)`, volumePeriods)
}

// heard gives the step v0: observers whose rows sums read.
func (i *irregularAsk) heard() string {
	names := "unnest(string_split(seen_by, chr(10))) AS seen"
	if i.step == 0 {
		names = observerName + " AS seen"
	}
	return i.factsOf(span{i.sinceMS, i.untilMS}, i.before) + `,
v0 AS NOT MATERIALIZED (SELECT ` + names + `, cur, last, octets FROM x)`
}
