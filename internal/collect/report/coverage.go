package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// Counted is what a hypervisor's own counters say of a virtual adapter over a time: layer-2 octets and packets as the machine
// sent and received them.
type Counted struct {
	Fabric         string // "" for the default one
	Host           string
	VM             string // name, "" when the source has none
	VMID           string // stable id, "" when the source has none
	Port           string // of the virtual switch, as the source calls it
	From, To       time.Time
	OctetsSent     uint64
	OctetsReceived uint64
	// Reason is why the machine's traffic would not be seen whole, when the source knows: one of Reasons; "" for none.
	Reason string
}

// Counters are the counters of virtual adapters: sFlow interface counters, a platform's statistics. Implementations are safe
// for concurrent use.
type Counters interface {
	// Source names where they come from, such as "sflow" or "libvirt".
	Source() string
	// Counters returns what lies in a time range, cut to it as well as the source can. An empty answer says that nothing is
	// known of that time.
	Counters(ctx context.Context, since, until time.Time) ([]Counted, error)
}

type countersBox struct{ Counters }

// SetCounters gives the reports the counters to compare with; nil takes them away.
func (r *Reports) SetCounters(c Counters) {
	if c == nil {
		r.counters.Store(nil)
		return
	}
	r.counters.Store(&countersBox{c})
}

// Reasons for which traffic is not observed, in the order in which they are named.
const (
	ReasonNoTap     = "no tap"
	ReasonFilter    = "tap filter excludes"
	ReasonSampling  = "sampling"
	ReasonDrops     = "mirror or capture drops"
	ReasonExport    = "export loss"
	ReasonInventory = "not yet inventoried"
)

const noCounters = "unknown: no vNIC counters from any source"

// noCountersIn is the reason where a source has counted nothing in the time range.
func noCountersIn(source string) string {
	return fmt.Sprintf("unknown: no vNIC counters from %s in the range", source)
}

// CoverageRow compares one machine, host or switch.
type CoverageRow struct {
	Fabric   string   `json:"fabric"`
	Host     string   `json:"host"`
	VM       string   `json:"vm"` // "" for a host
	VMID     string   `json:"vm_id"`
	Port     string   `json:"port"`
	Counted  *uint64  `json:"counted_octets"`  // layer 2, by the hypervisor, sent and received; null when not known
	Observed uint64   `json:"observed_octets"` // layer 2, of canonical rows
	Ratio    *float64 `json:"ratio"`           // Observed ÷ Counted; null when that is not known
	Missing  *uint64  `json:"missing_octets"`
	Reasons  []string `json:"reasons"` // for what is missing, or for not knowing it
}

// Coverage is the answer of "Coverage".
type Coverage struct {
	Meta     Meta          `json:"meta"`
	By       string        `json:"by"` // "vm" or "host"
	Source   string        `json:"source"`
	Counted  *uint64       `json:"counted_octets"`
	Observed uint64        `json:"observed_octets"`
	Ratio    *float64      `json:"ratio"` // part of what is counted that was observed, 0 to 1; null when nothing is counted
	Reason   string        `json:"reason"`
	Rows     []CoverageRow `json:"rows"` // the least covered first
}

// observedEnd is what flows say of a machine.
type observedEnd struct {
	fabric, host, vm, id string
	octets               uint64
	sampled, assumed     bool
	otherTime            bool // its counters are of another time
}

// Coverage implements Reporter. Observed are the layer-2 octets of canonical rows with the machine at an end, as its adapter's
// counters would count them: what goes between two machines counts at both.
func (r *Reports) Coverage(ctx context.Context, q Query) (Coverage, error) {
	return r.coverage(ctx, q, false)
}

// coverage is Coverage; with onlyCounted flows are not read where nothing is counted.
func (r *Reports) coverage(ctx context.Context, q Query, onlyCounted bool) (Coverage, error) {
	if len(q.By) == 0 {
		q.By = []string{"vm"}
	}
	if len(q.By) != 1 || q.By[0] != "vm" && q.By[0] != "host" {
		return Coverage{}, &QueryError{"by", "coverage is by vm or by host", `use "vm" or "host"`}
	}
	if q.Filter != "" {
		return Coverage{}, &QueryError{"filter", "counters tell no flows apart, so coverage takes no filter", "leave the filter out"}
	}
	q.Sort = ""
	a, err := check(q, defaultLimit)
	if err != nil {
		return Coverage{}, err
	}
	a.need = []string{"fabric", "segment", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id", "src_host", "dst_host"}
	if err := a.useRollup(true); err != nil {
		return Coverage{}, err
	}
	var out Coverage
	err = r.with(ctx, a, func() error {
		out, err = a.coverage(ctx, r, onlyCounted)
		return err
	})
	return out, err
}

func (a *ask) coverage(ctx context.Context, r *Reports, onlyCounted bool) (Coverage, error) {
	out := Coverage{By: a.By[0], Rows: []CoverageRow{}, Reason: noCounters}
	var counted []Counted
	var err error
	if box := r.counters.Load(); box != nil {
		out.Source = box.Source()
		if counted, err = box.Counters.Counters(ctx, msTime(a.sinceMS), msTime(a.untilMS)); err != nil {
			return Coverage{}, fmt.Errorf("report: counters of %s: %w", out.Source, err)
		}
		if len(counted) == 0 {
			out.Reason = noCountersIn(out.Source)
		}
	}
	if onlyCounted && len(counted) == 0 {
		return out, nil
	}
	when := a.countedSpan(counted)
	ends, total, sampled, ambiguous, err := a.observedEnds(ctx, when)
	if err != nil {
		return Coverage{}, err
	}
	if err := a.ownSpans(ctx, ends, counted, when); err != nil {
		return Coverage{}, err
	}
	out.Meta, err = a.meta(ctx, r, "coverage", total, sampled, ambiguous)
	if when != (span{a.sinceMS, a.untilMS}) {
		out.Meta.Empty = nil // it speaks of the whole range
	}
	out.compare(ends, counted, a.By[0] == "host")
	out.Meta.Total.Rows = uint64(len(out.Rows))
	out.Rows = out.Rows[:min(len(out.Rows), a.Limit)]
	return out, err
}

// observedEnds sums up what flows say of a time, by machine.
func (a *ask) observedEnds(ctx context.Context, when span) (out []observedEnd, total sums, sampled, ambiguous uint64, err error) {
	end := func(side, who string) string {
		return fmt.Sprintf("SELECT fabric, %[1]s_host AS host, %[1]s_vm AS vm, %[1]s_vm_id AS id, %[2]s AS who, if(l2_octets > 0, l2_octets, octets + 14 * packets) AS n, l2_octets = 0 AS assumed, last, sampled_rows, ambiguous_rows, rows, octets, packets, %[3]t AS sends FROM x", side, who, side == "src")
	}
	a.args = nil
	query := a.facts(when.from, when.to) + `,
y AS NOT MATERIALIZED (` + end("src", srcWho) + " UNION ALL " + end("dst", dstWho) + `),
q AS MATERIALIZED (SELECT fabric, who, arg_max(host, (last, host)) AS host, arg_max(vm, (last, vm)) AS vm, max(id) AS id, sum(n)::UBIGINT AS n, sum(sampled_rows) > 0 AS sampled, bool_or(assumed) AS assumed,
  sum(rows) FILTER (sends) AS rows, sum(octets) FILTER (sends) AS octets, sum(packets) FILTER (sends) AS packets, sum(sampled_rows) FILTER (sends) AS sampled_rows, sum(ambiguous_rows) FILTER (sends) AS ambiguous_rows
  FROM y GROUP BY fabric, who)
SELECT fabric, host, vm, id, n, sampled, assumed, (SELECT sum(rows) FROM q)::UBIGINT, (SELECT sum(octets) FROM q)::UBIGINT, (SELECT sum(packets) FROM q)::UBIGINT,
  (SELECT coalesce(sum(sampled_rows), 0) FROM q)::UBIGINT, (SELECT coalesce(sum(ambiguous_rows), 0) FROM q)::UBIGINT FROM q ORDER BY fabric, who`
	err = a.each(ctx, query, func(rows *sql.Rows) error {
		var e observedEnd
		err := rows.Scan(&e.fabric, &e.host, &e.vm, &e.id, &e.octets, &e.sampled, &e.assumed, &total.Rows, &total.Octets, &total.Packets, &sampled, &ambiguous)
		out = append(out, e)
		return err
	})
	return out, total, sampled, ambiguous, err
}

// compare joins both by machine, or by host.
func (c *Coverage) compare(ends []observedEnd, counted []Counted, byHost bool) {
	t := coverTable{rows: map[string]*CoverageRow{}, ids: map[string]string{}, byHost: byHost}
	unknown := false
	for _, e := range ends {
		if e.vm == "" && e.id == "" {
			unknown = unknown || e.octets > 0
			continue
		}
		t.ids[e.fabric+"\x00"+e.vm] = e.id
		row := t.row(e.fabric, e.host, e.vm, e.id)
		row.Observed += e.octets
		c.Observed += e.octets
		if e.sampled {
			row.reason(ReasonSampling)
		}
		if e.assumed {
			row.reason("layer-2 octets estimated from IP octets")
		}
		if e.otherTime {
			row.reason(reasonOtherTime)
		}
	}
	for _, n := range counted {
		t.count(n)
	}
	lost := slices.ContainsFunc(c.Meta.Completeness.Gaps, func(g Gap) bool { return g.LostRecords > 0 })
	for _, row := range t.rows {
		row.judge(lost, unknown)
		c.Rows = append(c.Rows, *row)
	}
	c.settle()
}

// coverTable has the rows by machine or host.
type coverTable struct {
	rows   map[string]*CoverageRow
	ids    map[string]string // of machines that flows know, by fabric and name
	byHost bool
}

func (t *coverTable) row(fabric, host, vm, id string) *CoverageRow {
	key := fabric + "\x00" + cmp.Or(id, vm)
	if t.byHost {
		key, vm, id = fabric+"\x00"+host, "", ""
	}
	if t.rows[key] == nil {
		t.rows[key] = &CoverageRow{Fabric: fabric, Host: host, VM: vm, VMID: id, Reasons: []string{}}
	}
	return t.rows[key]
}

func (t *coverTable) count(n Counted) {
	fabric := cmp.Or(n.Fabric, "default")
	row := t.row(fabric, n.Host, n.VM, cmp.Or(n.VMID, t.ids[fabric+"\x00"+n.VM]))
	total := n.OctetsSent + n.OctetsReceived
	if row.Counted != nil {
		total += *row.Counted
	}
	row.Counted, row.Host = &total, cmp.Or(row.Host, n.Host)
	if !t.byHost {
		row.Port = n.Port
	}
	if n.Reason != "" {
		row.reason(n.Reason)
	}
}

func (r *CoverageRow) reason(why string) {
	if !slices.Contains(r.Reasons, why) {
		r.Reasons = append(r.Reasons, why)
	}
}

// judge compares, and names why something is missing as far as it is known.
func (r *CoverageRow) judge(lost, unknown bool) {
	if r.Counted == nil {
		r.reason("unknown: no counter of this machine")
		return
	}
	missing := *r.Counted - min(*r.Counted, r.Observed)
	r.Missing = &missing
	if *r.Counted > 0 {
		ratio := float64(r.Observed) / float64(*r.Counted)
		r.Ratio = &ratio
	}
	if missing == 0 {
		return
	}
	if r.Observed == 0 && !slices.Contains(r.Reasons, ReasonFilter) {
		r.reason(ReasonNoTap)
	}
	if lost {
		r.reason(ReasonExport)
	}
	if unknown {
		r.reason(ReasonInventory)
	}
	if len(r.Reasons) == 0 {
		r.reason("unknown")
	}
	slices.SortStableFunc(r.Reasons, func(a, b string) int { return cmp.Compare(reasonRank(a), reasonRank(b)) })
}

var reasonOrder = []string{ReasonNoTap, ReasonFilter, ReasonSampling, ReasonDrops, ReasonExport, ReasonInventory}

// reasonRank puts the reasons into their order, others last.
func reasonRank(s string) int {
	if i := slices.Index(reasonOrder, s); i >= 0 {
		return i
	}
	return len(reasonOrder)
}

// settle orders the rows and adds up what is counted: of machines without a counter nothing enters the ratio, and what one has
// above its counter does not stand for what is missing at another.
func (c *Coverage) settle() {
	slices.SortFunc(c.Rows, func(a, b CoverageRow) int {
		return cmp.Or(cmp.Compare(b.missing(), a.missing()), cmp.Compare(a.Fabric, b.Fabric), cmp.Compare(a.Host, b.Host), cmp.Compare(a.VM, b.VM), cmp.Compare(a.VMID, b.VMID))
	})
	var counted, found uint64
	n := 0
	for _, r := range c.Rows {
		if r.Counted != nil {
			counted, found, n = counted+*r.Counted, found+min(*r.Counted, r.Observed), n+1
		}
	}
	if n == 0 {
		return
	}
	c.Counted, c.Reason = &counted, ""
	if counted > 0 {
		ratio := float64(found) / float64(counted)
		c.Ratio = &ratio
	}
	if n < len(c.Rows) {
		c.Reason = fmt.Sprintf("of %d of %d machines or hosts; the others have no counter", n, len(c.Rows))
	}
}

// missing orders rows: what is missing most first, then what is not known.
func (r *CoverageRow) missing() int64 {
	if r.Missing == nil {
		return -1
	}
	return int64(min(*r.Missing, 1<<62))
}
