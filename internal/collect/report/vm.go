package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/report/filter"
	"crosstap/internal/collect/store"
)

// Side is the traffic of one direction.
type Side struct {
	Octets      uint64 `json:"octets"`
	OctetsError uint64 `json:"octets_error"` // half width of the 95 % interval; 0 when counted
	Packets     uint64 `json:"packets"`
}

// Placement says where a machine was seen, and with which address.
type Placement struct {
	Host      string    `json:"host"`
	Segment   string    `json:"segment"`
	Tenant    string    `json:"tenant"`
	Addr      string    `json:"addr"`
	Name      string    `json:"name"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

// Peer is a workload at the other end.
type Peer struct {
	Segment        string    `json:"segment"`
	Name           string    `json:"name"`
	ID             string    `json:"id"`
	Addr           string    `json:"addr"`
	Tenant         string    `json:"tenant"`
	Host           string    `json:"host"`
	SameHost       bool      `json:"same_host"`
	Known          bool      `json:"known"` // inventory knows it: east-west
	OctetsSent     uint64    `json:"octets_sent"`
	OctetsReceived uint64    `json:"octets_received"`
	Packets        uint64    `json:"packets"`
	OctetsBefore   uint64    `json:"octets_before"` // both ways, in the period before
	State          string    `json:"state"`         // "new", "gone" or ""
	FirstSeen      time.Time `json:"first_seen"`
	LastSeen       time.Time `json:"last_seen"`
}

// Service is a port that is served or used.
type Service struct {
	Proto        string `json:"proto"`
	Port         uint16 `json:"port"`
	App          string `json:"app"`
	Peers        uint64 `json:"peers"`
	Octets       uint64 `json:"octets"`
	Packets      uint64 `json:"packets"`
	OctetsBefore uint64 `json:"octets_before"`
	State        string `json:"state"` // "new", "gone" or ""
}

// Change is something that the period before did not have, or had.
type Change struct {
	Kind string    `json:"kind"` // new_peer, gone_peer, new_service, gone_service, new_use, gone_use, moved, renamed, volume
	At   time.Time `json:"at"`   // when it was first or last seen
	Text string    `json:"text"`
}

// VMPage is the answer about one machine.
type VMPage struct {
	Meta           Meta        `json:"meta"`
	Name           string      `json:"name"` // the name it had last; the address of a machine that inventory does not know
	ID             string      `json:"id"`
	Fabric         string      `json:"fabric"`
	Tenants        []string    `json:"tenants"`
	Segments       []string    `json:"segments"`
	Addrs          []string    `json:"addrs"`
	Host           string      `json:"host"` // where it was seen last
	Places         []Placement `json:"places"`
	Sent           Side        `json:"sent"`
	Received       Side        `json:"received"`
	SentBefore     Side        `json:"sent_before"` // in the period of equal length before
	ReceivedBefore Side        `json:"received_before"`
	BeforeFrom     time.Time   `json:"before_from"`
	BeforeTo       time.Time   `json:"before_to"`
	EastWest       uint64      `json:"octets_east_west"` // with machines that inventory knows
	NorthSouth     uint64      `json:"octets_north_south"`
	SameHost       uint64      `json:"octets_same_host"`
	Retransmits    uint64      `json:"retransmits"`
	ZeroWindows    uint64      `json:"zero_windows"`
	StepMS         int64       `json:"step_ms"`
	Times          []time.Time `json:"times"`
	SentSeries     []uint64    `json:"sent_series"` // octets that ended in each step
	ReceivedSeries []uint64    `json:"received_series"`
	BeforeSeries   []uint64    `json:"before_series"` // both ways, in the same steps of the period before
	PeersTotal     uint64      `json:"peers_total"`
	Peers          []Peer      `json:"peers"`
	Served         []Service   `json:"served"`
	Used           []Service   `json:"used"`
	Changes        []Change    `json:"changes"`
}

const (
	defaultPeers = 20
	maxServices  = 50
	maxVMBuckets = 48
)

// vmAsk is a checked question.
type vmAsk struct {
	*ask
	before span
	me     identityOf
	stepMS int64
	at     []string // roll-ups: addresses of which rows that matter have one
	seen   []seenAt // roll-ups: what rows tell of the end with such an address
	page   *VMPage
}

// seenAt is the name and id of the workload at an address, as some row in that segment tells them.
type seenAt struct {
	segment  uint64
	name, id string
}

// identityOf is who the page is about.
type identityOf struct {
	fabric, who string
	addr        string // UUID; of a machine that has no name
	addrs       []string
}

// VM implements Reporter. The machine is found by name, by stable id or by address. Times are of t_end.
func (r *Reports) VM(ctx context.Context, q Query) (VMPage, error) {
	if strings.TrimSpace(q.Name) == "" {
		return VMPage{}, &QueryError{"name", "no machine is named", "give a name, an id or an address"}
	}
	q.Sort = ""
	a, err := check(q, defaultPeers)
	if err != nil {
		return VMPage{}, err
	}
	a.need = []string{"fabric", "segment", "tenant", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id", "src_host", "dst_host", "app"}
	if err := a.useRollup(true); err != nil {
		return VMPage{}, err
	}
	v := &vmAsk{ask: a}
	if v.before, err = a.base(true); err != nil {
		return VMPage{}, err
	}
	v.steps()
	var out VMPage
	err = r.with(ctx, a, func() error {
		out, err = v.answer(ctx, r)
		return err
	})
	return out, err
}

// steps chooses the width of the bars.
func (v *vmAsk) steps() {
	span := v.untilMS - v.sinceMS
	for _, s := range steps {
		if v.stepMS = s.Milliseconds(); span/v.stepMS <= maxVMBuckets && s >= v.step {
			return
		}
	}
	for span/v.stepMS > maxVMBuckets {
		v.stepMS *= 2
	}
}

func (v *vmAsk) answer(ctx context.Context, r *Reports) (VMPage, error) {
	v.page = &VMPage{Tenants: []string{}, Segments: []string{}, Addrs: []string{}, Places: []Placement{}, Times: []time.Time{}, Peers: []Peer{}, Served: []Service{}, Used: []Service{},
		Changes: []Change{}, StepMS: v.stepMS, BeforeFrom: msTime(v.before.from), BeforeTo: msTime(v.before.to)}
	first := floorDiv(v.sinceMS, v.stepMS)
	for n := first; n*v.stepMS < v.untilMS; n++ {
		v.page.Times = append(v.page.Times, msTime(n*v.stepMS))
	}
	n := len(v.page.Times)
	v.page.SentSeries, v.page.ReceivedSeries, v.page.BeforeSeries = make([]uint64, n), make([]uint64, n), make([]uint64, n)
	if err := v.identify(ctx); err != nil {
		return VMPage{}, err
	}
	var total sums
	var sampled, ambiguous uint64
	if len(v.me.addrs) > 0 {
		var err error
		if total, sampled, ambiguous, err = v.traffic(ctx); err != nil {
			return VMPage{}, err
		}
	}
	v.changes()
	v.notes = append(v.notes, "flows are not counted; a peer or service is new when the period before did not have it")
	m, err := v.meta(ctx, r, "vm", total, sampled, ambiguous)
	if m.Empty != nil && len(v.me.addrs) == 0 && m.Empty.Cause != "no_exporter" {
		m.Empty = &Empty{"unknown_machine", "No flow of the range or of the period before has a machine " + quoteName(v.Name) + ".",
			`List machines with "crosstap get vms", or choose a longer range.`}
	}
	v.page.Meta = m
	return *v.page, err
}

// identify finds the machine, its addresses and places.
func (v *vmAsk) identify(ctx context.Context) error {
	name, byAddr := filter.AddrText(filter.DuckDB, v.Name)
	if !byAddr {
		name = v.Name
	}
	if err := v.findSegments(ctx, name, byAddr); err != nil {
		return err
	}
	v.narrow(func(s *seenAt) bool { return byAddr || s.name == name || s.id == name })
	v.args = nil
	name = v.arg(name)
	at := name + "::UUID"
	table, first, last := v.view.Table(), "t_start", "t_end"
	when := fmt.Sprintf("t_end >= %s AND t_end < %s", ts(v.before.from), ts(v.untilMS))
	if v.step != 0 {
		table, first, last, when = v.rollupPart(store.Part{Links: !byAddr, Single: true, Segments: v.segments, Addrs: v.at, Within: v.within}, v.before.from, v.untilMS), "first_seen", "last_seen", "rows > 0"+and(v.within)
	}
	fits := map[string]string{} // condition that an end is the machine's
	for _, side := range []string{"src", "dst"} {
		if fits[side] = side + " = " + at; !byAddr {
			fits[side] = name + " IN (" + side + "_vm, " + side + "_vm_id)"
		}
	}
	end := func(side string) string {
		return fmt.Sprintf("SELECT fabric, segment, tenant, %[1]s AS addr, %[1]s_vm AS name, %[1]s_vm_id AS id, %[1]s_host AS host, first, last FROM e WHERE %[2]s", side, fits[side])
	}
	query := fmt.Sprintf("WITH e AS MATERIALIZED (SELECT fabric, segment, tenant, src, src_vm, src_vm_id, src_host, dst, dst_vm, dst_vm_id, dst_host, %s AS first, %s AS last FROM %s WHERE %s AND (%s OR %s)) ", first, last, table, when, fits["src"], fits["dst"]) +
		"SELECT fabric, segment, tenant, addr::VARCHAR, name, id, host, min(first), max(last) FROM (" + end("src") + " UNION ALL " + end("dst") +
		") GROUP BY fabric, segment, tenant, addr, name, id, host ORDER BY max(last) DESC, fabric, segment, tenant, addr, name, id, host"
	found := newFinder(v)
	if err := v.each(ctx, query, found.row); err != nil {
		return err
	}
	return found.choose()
}

// maxSegments is in how many segments the machine's rows are looked for by the segment, maxSeen how much rows may tell of its addresses.
const (
	maxSegments = 64
	maxSeen     = 1000
)

// findSegments tells in which segments an address is, or the addresses that a name or id was seen at, and who is there: what lies elsewhere need not be read.
func (v *vmAsk) findSegments(ctx context.Context, name string, byAddr bool) error {
	v.args, v.at, v.seen = nil, nil, nil
	if _, ok := v.view.(store.PartView); !ok || v.step == 0 {
		return nil
	}
	table := v.rollupPart(store.Part{Links: !byAddr, Bare: true}, v.before.from, v.untilMS)
	at := []string{name}
	if !byAddr {
		at = nil
		n := v.arg(name)
		query := fmt.Sprintf("SELECT DISTINCT if(%[1]s IN (src_vm, src_vm_id), src::VARCHAR, ''), if(%[1]s IN (dst_vm, dst_vm_id), dst::VARCHAR, '') FROM %[2]s WHERE %[1]s IN (src_vm, src_vm_id, dst_vm, dst_vm_id)", n, table)
		if err := v.each(ctx, query, func(rows *sql.Rows) error {
			var src, dst string
			err := rows.Scan(&src, &dst)
			at = append(at, src, dst)
			return err
		}); err != nil {
			return err
		}
	}
	slices.Sort(at)
	at = slices.DeleteFunc(slices.Compact(at), func(a string) bool { return a == "" })
	if len(at) == 0 || len(at) > maxSegments {
		return nil
	}
	v.args, v.at = nil, at
	bound := make([]string, len(at))
	for i := range at {
		bound[i] = v.arg(at[i]) + "::UUID"
	}
	table = v.rollupPart(store.Part{Links: !byAddr, Bare: true, Addrs: at}, v.before.from, v.untilMS)
	query := fmt.Sprintf("SELECT DISTINCT segment, src IN (%[2]s) AS s, dst IN (%[2]s) AS d, if(s, src_vm, ''), if(s, src_vm_id, ''), if(d, dst_vm, ''), if(d, dst_vm_id, '') FROM %[1]s WHERE src IN (%[2]s) OR dst IN (%[2]s) LIMIT %[3]d",
		table, strings.Join(bound, ", "), maxSeen)
	err := v.each(ctx, query, func(rows *sql.Rows) error {
		var segment uint64
		var isSrc, isDst bool
		var src, dst seenAt
		err := rows.Scan(&segment, &isSrc, &isDst, &src.name, &src.id, &dst.name, &dst.id)
		src.segment, dst.segment = segment, segment
		if isSrc {
			v.seen = append(v.seen, src)
		}
		if isDst {
			v.seen = append(v.seen, dst)
		}
		return err
	})
	if len(v.seen) >= maxSeen {
		v.seen = nil
	}
	return err
}

// narrow restricts what is read to the segments where the machine may be: those in which its end was seen as fits, or without name and id, which other rows
// may tell. What a cut hour's rows tell may be less than what the hour does: segment 0 is always among those of rows.
func (v *vmAsk) narrow(fits func(*seenAt) bool) {
	v.segments, v.within = "", ""
	var all []uint64
	for i := range v.seen {
		if s := &v.seen[i]; fits(s) || s.name == "" && s.id == "" {
			all = append(all, s.segment)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == 0 || len(all) > maxSegments {
		return
	}
	if all[0] != 0 {
		v.segments = "segment IN (" + numbers(all) + ")"
	}
	v.within = "segment IN (0, " + numbers(all) + ")"
}

// me is a condition: the machine is at that end.
func (v *vmAsk) isMe(side, who string) string {
	if v.me.who != "" {
		return "fabric = " + v.arg(v.me.fabric) + " AND " + who + " = " + v.arg(v.me.who)
	}
	return "fabric = " + v.arg(v.me.fabric) + " AND " + side + " = " + v.arg(v.me.addr) + "::UUID AND " + who + " = ''"
}

// traffic reads all sections in one go: the machine's facts are worked out once.
func (v *vmAsk) traffic(ctx context.Context) (sums, uint64, uint64, error) {
	v.narrow(func(s *seenAt) bool { return cmp.Or(s.id, s.name) == v.me.who })
	v.args = nil
	list := v.addrList()
	v.addrs, v.kept, v.single = v.me.addrs, true, true
	v.only = "(src IN (" + list + ") OR dst IN (" + list + "))" + and(v.within)
	at := "epoch_ms(t_end)"
	if v.step != 0 {
		at = "greatest(epoch_ms(bucket), if(cur, " + fmt.Sprint(v.sinceMS) + ", " + fmt.Sprint(v.before.from) + "))"
	}
	end := func(me, other string, out bool) string {
		who := map[string]string{"src": srcWho, "dst": dstWho}
		serves := "turn"
		if !out {
			serves = "NOT turn"
		}
		return fmt.Sprintf(`SELECT cur, %[1]t AS out, %[2]s AS serves, (if(cur, (%[3]s) // %[4]d - %[5]d, ((%[3]s) - %[6]d) // %[4]d))::BIGINT AS bar, segment, tenant, %[7]s AS addr, %[8]s AS who, %[7]s_vm AS name, %[7]s_vm_id AS id,
  %[7]s_host AS host, src_host = dst_host AND src_host <> '' AS same, proto, service_port, app, octets, packets, variance, retransmits, zero_windows, first, last, sampled_rows, ambiguous_rows FROM x WHERE %[9]s`,
			out, serves, at, v.stepMS, floorDiv(v.sinceMS, v.stepMS), v.before.from, other, who[other], v.isMe(me, who[me]))
	}
	query := v.factsOf(span{v.sinceMS, v.untilMS}, v.before) + ",\ny AS MATERIALIZED (" + end("src", "dst", true) + "\n  UNION ALL " + end("dst", "src", false) + ")," + vmSections(v.Limit)
	s := vmScan{v: v}
	err := v.each(ctx, query, s.row)
	return s.total, s.sampled, s.ambiguous, err
}

// addrList binds the machine's addresses.
func (v *vmAsk) addrList() string {
	var in []string
	for _, a := range v.me.addrs {
		in = append(in, v.arg(a)+"::UUID")
	}
	return strings.Join(in, ", ")
}

// numbers is a list of numbers in SQL.
func numbers(all []uint64) string {
	text := make([]string, len(all))
	for i, n := range all {
		text[i] = fmt.Sprintf("%d::UBIGINT", n)
	}
	return strings.Join(text, ", ")
}
