package report_test

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// listedQuestions is the table of questions that both stores must answer alike.
//
//go:embed testdata/questions.txt
var listedQuestions string

// question is a line of the table.
type question struct {
	line   int
	ci     bool // asked always, not only with CROSSTAP_ALL_QUERIES set
	kind   string
	q      report.Query
	sealed bool // of hours that are settled
	oracle bool // the answer is compared with the oracle too
}

func (q question) String() string {
	return fmt.Sprintf("testdata/questions.txt:%d: %s", q.line, q.kind)
}

// questions reads the table.
func questions(t *testing.T) (out []question) {
	t.Helper()
	for i, line := range strings.Split(listedQuestions, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 7 {
			t.Fatalf("testdata/questions.txt:%d: %q", i+1, line)
		}
		one := question{line: i + 1, ci: f[0] == "ci", kind: f[1], sealed: f[5] == "sealed", oracle: f[6] == "oracle"}
		if err := one.read(f[2], f[3], f[4]); err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		one.q.Filter = strings.Join(f[7:], " ")
		out = append(out, one)
	}
	return out
}

// ranges of the questions; the records lie in the hour from t0 on.
var ranges = map[string][2]time.Duration{
	"hour": {0, time.Hour}, "wide": {-time.Hour, 2 * time.Hour}, "part": {10 * time.Minute, 23*time.Minute + 456*time.Millisecond}, "cut": {-time.Hour, 40 * time.Minute},
}

func (q *question) read(parameters, span, resolution string) (err error) {
	r, ok := ranges[span]
	if !ok {
		return fmt.Errorf("there is no range %q", span)
	}
	q.q.Since, q.q.Until, q.q.Resolution = t0.Add(r[0]), t0.Add(r[1]), resolution
	if resolution == "auto" {
		q.q.Resolution = ""
	}
	if parameters == "-" {
		return nil
	}
	for p := range strings.SplitSeq(parameters, ";") {
		name, v, _ := strings.Cut(p, "=")
		switch name {
		case "by":
			q.q.By = strings.Split(v, ",")
		case "per":
			q.q.Per = strings.Split(v, ",")
		case "expand":
			q.q.Expand = strings.Split(v, ",")
		case "sort":
			q.q.Sort = v
		case "metric":
			q.q.Metric = v
		case "having":
			q.q.Having = v
		case "name":
			q.q.Name = v
		case "focus":
			q.q.Focus = v
		case "limit":
			q.q.Limit, err = strconv.Atoi(v)
		case "step":
			q.q.Step, err = time.ParseDuration(v)
		case "period":
			q.q.Period, err = time.ParseDuration(v)
		case "previous":
			q.q.Previous = true
		case "before":
			q.q.BaseSince, q.q.BaseUntil = q.q.Since.Add(-time.Hour), q.q.Since
		default:
			err = fmt.Errorf("there is no parameter %q", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reportKind is how a report is asked, and what the oracle tells of its answer.
type reportKind struct {
	ask   func(context.Context, report.Reporter, report.Query) (any, error)
	shown func(any) any
	want  func([]flow.Record, report.Query) any // nil without an oracle
}

func kindOf[A any](ask func(report.Reporter, context.Context, report.Query) (A, error), shown func(A) any, want func([]flow.Record, report.Query) any) reportKind {
	return reportKind{
		func(ctx context.Context, r report.Reporter, q report.Query) (any, error) { return ask(r, ctx, q) },
		func(a any) any { return shown(a.(A)) }, //nolint:forcetypeassert // it is what ask gives
		want,
	}
}

func fromFacts(want func(facts, report.Query) any) func([]flow.Record, report.Query) any {
	return func(recs []flow.Record, q report.Query) any { return want(factsOf(recs, q), q) }
}

func thingsKind(kind string) reportKind {
	ask := func(r report.Reporter, ctx context.Context, q report.Query) (report.Things, error) {
		return r.Things(ctx, kind, q)
	}
	if kind == "vms" || kind == "hosts" || kind == "apps" {
		return kindOf(ask, shownThings, fromFacts(wantThings(kind)))
	}
	return kindOf(ask, shownThings, nil)
}

func unjudged[A any](ask func(report.Reporter, context.Context, report.Query) (A, error)) reportKind {
	return kindOf(ask, func(a A) any { return a }, nil)
}

var reportKinds = map[string]reportKind{
	"pairs":         kindOf(report.Reporter.Pairs, func(a report.Pairs) any { return a.Rows }, wantPairs),
	"conversations": kindOf(report.Reporter.Conversations, func(a report.Conversations) any { return a.Rows }, wantConversations),
	"flows":         kindOf(report.Reporter.Flows, shownFlows, wantFlows),
	"series":        kindOf(report.Reporter.Series, shownSeries, wantSeries),
	"sankey":        kindOf(report.Reporter.Sankey, shownSankey, wantSankey),
	"overview":      kindOf(report.Reporter.Overview, shownOverview, wantOverview),
	"networks":      kindOf(report.Reporter.Networks, shownNetworks, fromFacts(wantNetworks)),
	"top":           kindOf(report.Reporter.Top, shownTop, fromFacts(wantTop)),
	"vm":            kindOf(report.Reporter.VM, shownVM, fromFacts(wantVM)),
	"map":           kindOf(report.Reporter.Map, shownMap, fromFacts(wantMap)),
	"allow":         kindOf(report.Reporter.AllowList, shownAllow, fromFacts(wantAllow)),
	"observers":     unjudged(report.Reporter.Observers),
	"carriers":      unjudged(report.Reporter.Carriers),
	"carried":       unjudged(report.Reporter.Carried),
	"coverage":      unjudged(report.Reporter.Coverage),
	"irregular":     unjudged(report.Reporter.Irregular),
	"vms":           thingsKind("vms"), "hosts": thingsKind("hosts"), "apps": thingsKind("apps"),
	"tenants": thingsKind("tenants"), "vteps": thingsKind("vteps"),
}

// sealed puts records into a store directory whose hours are over.
func sealed(t *testing.T, recs []flow.Record) *report.Reports {
	t.Helper()
	s := opened(t, t0.Add(3*time.Hour))
	if err := errors.Join(s.Append(t.Context(), recs), s.Settle(t.Context())); err != nil {
		t.Fatal(err)
	}
	return report.New(s)
}

// same compares the whole documents that two stores answer, and returns the first.
func same(t *testing.T, q question, want, got report.Reporter) any {
	t.Helper()
	k, ok := reportKinds[q.kind]
	if !ok {
		t.Fatalf("%s: there is no such report", q)
	}
	a, err := k.ask(t.Context(), want, q.q)
	b, err2 := k.ask(t.Context(), got, q.q)
	if qe, ok := err.(*report.QueryError); ok && err2 != nil && qe.Error() == err2.Error() && !q.oracle {
		return nil // several machines go by one name, and the like
	}
	if err != nil || err2 != nil {
		t.Errorf("%s: %v; ClickHouse: %v", q, err, err2)
		return nil
	}
	if d := gocmp.Diff(document(t, a), document(t, b)); d != "" {
		t.Errorf("%s: embedded store -, ClickHouse +\n%.2000s", q, d)
	}
	return a
}

// asked reports whether a question is asked: those of CI, all of them with CROSSTAP_ALL_QUERIES=1, and every nth line from the kth on with
// CROSSTAP_ALL_QUERIES=k/n.
func (q question) asked(t *testing.T) bool {
	t.Helper()
	first, of, parts := strings.Cut(os.Getenv("CROSSTAP_ALL_QUERIES"), "/")
	if !parts {
		return q.ci || allQueries()
	}
	k, err := strconv.Atoi(first)
	n, err2 := strconv.Atoi(of)
	if err := errors.Join(err, err2); err != nil || n < 1 {
		t.Fatalf("CROSSTAP_ALL_QUERIES=%s/%s: want k/n", first, of)
	}
	return q.line%n == k%n
}

// TestBothStores asks both stores the listed questions, of rows as they came and of settled hours: the documents are the same, field for
// field, and where it says so what the oracle works out from the records.
func TestBothStores(t *testing.T) {
	srv := chtest.Start(t)
	recs := listedRecords()
	type stores struct {
		recs      []flow.Record // as they shall be
		want, got *report.Reports
	}
	of := map[bool]stores{
		false: {recs, stored(t, recs), inClickHouse(t, srv, "open", recs, false)},
		true:  {elected(recs), sealed(t, recs), inClickHouse(t, srv, "settled", recs, true)},
	}
	n, judged := 0, 0
	for _, q := range questions(t) {
		if !q.asked(t) {
			continue
		}
		n++
		s := of[q.sealed]
		a := same(t, q, s.want, s.got)
		if k := reportKinds[q.kind]; q.oracle && a != nil {
			compare(t, q.String(), k.shown(a), k.want(s.recs, q.q))
			judged++
		}
	}
	if part := os.Getenv("CROSSTAP_ALL_QUERIES"); !strings.Contains(part, "/") && (n < 40 || judged < 40) {
		t.Errorf("%d questions, %d of them with an oracle; want 40", n, judged)
	}
	t.Logf("%d questions, %d of them with an oracle", n, judged)
}

// elected settles the canonical rows, slowly and obviously: of each flow the rows of the best observer count, and of every other one those that
// canonical rows of better ones, a second longer at both ends, cover for less than half of their time, and of which they count less than half of the packets.
func elected(recs []flow.Record) []flow.Record {
	recs = slices.Clone(recs)
	place := func(r *flow.Record) [4]uint64 {
		sampled := uint64(0)
		if r.Sampling > 1 {
			sampled = 1
		}
		return [4]uint64{sampled, uint64(uint8(r.Role) - 1), map[uint8]uint64{0: 0, 1: 2}[r.Direction], r.ObserverID}
	}
	byFlow := map[uint64][]*flow.Record{}
	for i := range recs {
		byFlow[recs[i].FlowID] = append(byFlow[recs[i].FlowID], &recs[i])
	}
	for _, rows := range byFlow {
		slices.SortFunc(rows, func(a, b *flow.Record) int { x, y := place(a), place(b); return slices.Compare(x[:], y[:]) })
		for _, r := range rows {
			from, to, covered := ms(r.StartNS), ms(r.EndNS), int64(0)
			better := func(o *flow.Record) bool {
				p, mine := place(o), place(r)
				return slices.Compare(p[:], mine[:]) < 0 && canon(o)
			}
			counted := 0.0 // packets
			for _, o := range rows {
				switch both := min(to, ms(o.EndNS)) - max(from, ms(o.StartNS)); {
				case !better(o) || both < 0:
				case o.StartNS == o.EndNS:
					counted += float64(o.Packets)
				default:
					counted += float64(o.Packets) * float64(both) / float64(ms(o.EndNS)-ms(o.StartNS))
				}
			}
			in := func(x int64) bool {
				return slices.ContainsFunc(rows, func(o *flow.Record) bool {
					return better(o) && x >= ms(o.StartNS)-1000 && (x < ms(o.EndNS)+1000 || from == to && x == ms(o.EndNS)+1000)
				})
			}
			for x := from; x < to; x++ {
				if in(x) {
					covered++
				}
			}
			r.Marks |= flow.MarkCanonical
			if from == to && in(from) || from < to && (2*covered >= to-from || 2*counted >= float64(r.Packets)) {
				r.Marks &^= flow.MarkCanonical
			}
		}
	}
	return recs
}

// filtered gives the rows of a question about pairs or conversations.
func filtered(recs []flow.Record, q report.Query) []flow.Record {
	for _, f := range filters {
		if f.text != q.Filter {
			continue
		}
		rows := logical(recs, q, f.keep, endsIn(q))
		if f.ends != nil {
			rows = f.ends(rows)
		}
		return rows
	}
	panic("the oracle does not know " + q.Filter)
}

func wantPairs(recs []flow.Record, q report.Query) any {
	all := pairsOf(filtered(recs, q), q)
	slices.SortFunc(all, func(a, b report.Pair) int { return cmp.Or(cmp.Compare(b.Octets, a.Octets), pairLess(a.Ends, b.Ends)) })
	return all
}

func wantConversations(recs []flow.Record, q report.Query) any {
	all := conversationsOf(filtered(recs, q))
	slices.SortFunc(all, func(a, b report.Conversation) int {
		return cmp.Or(cmp.Compare(b.Octets, a.Octets), pairLess(a.Ends, b.Ends), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.SrcPort, b.SrcPort))
	})
	return all
}

func shownFlows(a report.Flows) any {
	out := map[string]string{}
	for _, r := range a.Rows {
		key := fmt.Sprint(r.Start, r.End, r.Observer, r.SrcAddr, r.DstAddr, r.SrcPort, r.DstPort, r.Proto, r.Canonical, r.Octets, r.Packets)
		out[key] += "+"
	}
	return sorted(out)
}

func wantFlows(recs []flow.Record, q report.Query) any {
	out := map[string]string{}
	for i := range recs {
		r := &recs[i]
		if !endsIn(q)(r) || q.Filter == "vni = 5001" && r.Segment.Number() != 5001 {
			continue
		}
		key := fmt.Sprint(at(r.StartNS), at(r.EndNS), r.Observer, r.Src.String(), r.Dst.String(), r.SrcPort, r.DstPort, map[uint8]string{6: "tcp", 17: "udp", 1: "icmp"}[r.Proto], canon(r), r.Octets, r.Packets)
		out[key] += "+"
	}
	return sorted(out)
}

func shownSeries(a report.Series) any {
	out := map[string]string{}
	for _, l := range a.Lines {
		if l.Total > 0 {
			out[strings.Join(l.Key, "|")] = fmt.Sprint(l.Total)
		}
	}
	return sorted(out)
}

// wantSeries gives the totals of lines by tenant and application; TestSeries compares their buckets.
func wantSeries(recs []flow.Record, q report.Query) any {
	sums := map[string]uint64{}
	for _, r := range filtered(recs, q) {
		if canon(&r) {
			sums[r.Tenant+"|"+r.App] += map[string]uint64{"": r.Octets, "packets": r.Packets}[q.Metric]
		}
	}
	out := map[string]string{}
	for k, n := range sums {
		out[k] = fmt.Sprint(n)
	}
	return sorted(out)
}

func shownSankey(a report.Sankey) any {
	sums := map[string]linkSum{}
	for _, l := range a.Links {
		k := l.SrcVTEP + " " + l.Segment + " " + l.Tenant + " " + l.DstVTEP // fabrics are told apart, but not named
		sums[k] = linkSum{sums[k].octets + l.Octets, sums[k].packets + l.Packets}
	}
	return fmt.Sprint(sums)
}

// linkSum is what a link carries.
type linkSum struct{ octets, packets uint64 }

func wantSankey(recs []flow.Record, q report.Query) any {
	sums := map[string]linkSum{}
	host := func(h string) string { return "10.200.0." + h[1:] + " (" + h + ")" } // every host has one VTEP here
	for _, r := range filtered(recs, q) {
		if !canon(&r) {
			continue
		}
		to := host(r.DstHost)
		if r.SrcHost == r.DstHost {
			to = "same host"
		}
		k := host(r.SrcHost) + " " + segText(r.Segment) + " " + r.Tenant + " " + to
		sums[k] = linkSum{sums[k].octets + r.Octets, sums[k].packets + r.Packets}
	}
	return fmt.Sprint(sums)
}

func shownOverview(a report.Overview) any {
	return fmt.Sprint(a.Meta.Total.Octets, a.Meta.Total.Packets, a.Tenants, a.Segments, a.VMs, a.Pairs)
}

func wantOverview(recs []flow.Record, q report.Query) any {
	var octets, packets uint64
	tenants, segments, vms, pairs := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[pairKey]bool{}
	for _, r := range filtered(recs, q) {
		if !canon(&r) {
			continue
		}
		octets, packets, pairs[workloads(r)] = octets+r.Octets, packets+r.Packets, true
		if r.Segment != 0 {
			segments[r.Fabric+segText(r.Segment)] = true
		}
		for name, into := range map[string]map[string]bool{r.Tenant: tenants, who(r.SrcVM, r.SrcVMID): vms, who(r.DstVM, r.DstVMID): vms} {
			if name != "" {
				into[name] = true
			}
		}
	}
	return fmt.Sprint(octets, packets, len(tenants), len(segments), len(vms), len(pairs))
}

// TestQuestionsAreListed: each report is in the table, with and without a filter, and with an oracle where there is one.
func TestQuestionsAreListed(t *testing.T) {
	have := map[string]bool{}
	for _, q := range questions(t) {
		have[q.kind] = true
		if q.q.Filter != "" {
			have[q.kind+" filtered"] = true
		}
		if q.oracle {
			have[q.kind+" with oracle"] = true
		}
	}
	for _, kind := range slices.Concat(slices.Sorted(maps.Keys(reportKinds)), report.ThingKinds()) {
		if !have[kind] || !have[kind+" filtered"] || reportKinds[kind].want != nil && !have[kind+" with oracle"] {
			t.Errorf("%s is not in testdata/questions.txt in all its forms", kind)
		}
	}
	if !bytes.HasPrefix([]byte(listedQuestions), []byte("#")) {
		t.Error("the table does not begin with what its columns are")
	}
}
