package report_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// filters are expressions with what they mean. keep sees a row with all that is known filled in, and all
// rows of its flow.
var filters = []struct {
	text string
	keep func(r *flow.Record, all []flow.Record) bool
	ends func(rows []flow.Record) []flow.Record // filters on one end
}{
	{"", nil, nil},
	{"vni = 5001", func(r *flow.Record, _ []flow.Record) bool { return r.Segment.Number() == 5001 }, nil},
	{"segment = vxlan:5002 or fabric = lab", func(r *flow.Record, _ []flow.Record) bool { return r.Segment.Number() == 5002 || r.Fabric == "lab" }, nil},
	{"tenant = blue and not vm like \"db%\"", func(r *flow.Record, _ []flow.Record) bool {
		return r.Tenant == "blue" && !strings.HasPrefix(r.SrcVM, "db") && !strings.HasPrefix(r.DstVM, "db")
	}, nil},
	{"ip in 10.0.0.0/30 and port in (443, 53)", func(r *flow.Record, _ []flow.Record) bool {
		return (in30(r.Src) || in30(r.Dst)) && (r.SrcPort == 443 || r.DstPort == 443 || r.SrcPort == 53 || r.DstPort == 53)
	}, nil},
	{"host 10.0.0.2", func(r *flow.Record, _ []flow.Record) bool {
		h := flow.V4([]byte{10, 0, 0, 2})
		return r.Src == h || r.Dst == h
	}, nil},
	{"ip6 and tcp", func(r *flow.Record, _ []flow.Record) bool { return !r.Src.Is4() && r.Proto == 6 }, nil},
	{"src host 10.0.0.1 and dst port 443", nil, byEnds(func(r *flow.Record) bool {
		return r.Src == flow.V4([]byte{10, 0, 0, 1}) && r.DstPort == 443
	})},
	{"vni = 5001 and dst.port = 5432", nil, byEnds(func(r *flow.Record) bool { return r.Segment.Number() == 5001 && r.DstPort == 5432 })},
	{"not src.vm like \"web%\" and (dst.vtep = 10.200.0.2 or outer.src = 10.200.0.1)", nil, byEnds(func(r *flow.Record) bool {
		return !strings.HasPrefix(r.SrcVM, "web") && (r.Tunnel.Dst == flow.V4([]byte{10, 200, 0, 2}) || r.Tunnel.Src == flow.V4([]byte{10, 200, 0, 1}))
	})},
	{"vm_id = id-1 or dst.vm_id = id-0", nil, byEnds(func(r *flow.Record) bool { return r.SrcVMID == "id-1" || r.DstVMID == "id-1" || r.DstVMID == "id-0" })},
	{"src.vm in (web-0, db-1) and bytes > 10 KB", nil, byEnds(func(r *flow.Record) bool {
		return (r.SrcVM == "web-0" || r.SrcVM == "db-1") && r.Octets > 10000
	})},
	{"seen_by = tunnel", func(_ *flow.Record, all []flow.Record) bool {
		return anyRow(all, func(r *flow.Record) bool { return r.Role == flow.RoleTunnel })
	}, nil},
	{"seen_by != \"h1 mirror\"", func(_ *flow.Record, all []flow.Record) bool {
		return !anyRow(all, func(r *flow.Record) bool { return r.Observer == "h1 mirror" })
	}, nil},
	{"seen_by = agent and seen_by = mirror", func(_ *flow.Record, all []flow.Record) bool {
		return anyRow(all, func(r *flow.Record) bool { return r.Role == flow.RoleVNIC }) && anyRow(all, func(r *flow.Record) bool { return r.Role == flow.RoleMirror })
	}, nil},
	{"exporter = 10.201.0.1 and domain = 1", func(_ *flow.Record, all []flow.Record) bool {
		return anyRow(all, func(r *flow.Record) bool { return r.Domain == 1 })
	}, nil},
	{"exporter = 10.201.0.1 and domain = 2", func(*flow.Record, []flow.Record) bool { return false }, nil},
	{"vtep = 10.200.0.2", func(r *flow.Record, _ []flow.Record) bool {
		v := flow.V4([]byte{10, 200, 0, 2})
		return r.Tunnel.Src == v || r.Tunnel.Dst == v
	}, nil},
	{"same_host", func(r *flow.Record, _ []flow.Record) bool { return r.SrcHost == r.DstHost }, nil},
	{"bytes > 20 KB and packets < 40", func(r *flow.Record, _ []flow.Record) bool { return r.Octets > 20000 && r.Packets < 40 }, nil},
	{"duration >= 10s", func(r *flow.Record, _ []flow.Record) bool { return ms(r.EndNS)-ms(r.StartNS) >= 10000 }, nil},
	{"mark = ambiguous or flags has rst", func(r *flow.Record, _ []flow.Record) bool { return r.Is(flow.MarkAmbiguous) || r.TCPFlags&4 != 0 }, nil},
	{"src.port < dst.port", nil, byEnds(func(r *flow.Record) bool { return r.SrcPort < r.DstPort })},
	{"src.host != dst.host and vm ~ '^(web|mq)'", nil, byEnds(func(r *flow.Record) bool {
		m := func(s string) bool { return strings.HasPrefix(s, "web") || strings.HasPrefix(s, "mq") }
		return r.SrcHost != r.DstHost && (m(r.SrcVM) || m(r.DstVM))
	})},
	{"not (udp or icmp) and src.vm = ''", nil, byEnds(func(r *flow.Record) bool { return r.Proto == 6 && r.SrcVM == "" })},
}

func in30(a flow.Addr) bool { return a.Is4() && a[15] < 4 }

func anyRow(all []flow.Record, f func(*flow.Record) bool) bool {
	return slices.ContainsFunc(all, func(r flow.Record) bool { return f(&r) })
}

var times = []report.Query{
	{Since: t0, Until: t0.Add(time.Hour)},
	{Since: t0.Add(10 * time.Minute), Until: t0.Add(23*time.Minute + 456*time.Millisecond)},
}

func pairLess(a, b report.Ends) int {
	return cmp.Or(cmp.Compare(a.Fabric, b.Fabric), cmp.Compare(a.VNI, b.VNI), compareAddr(a.SrcAddr, b.SrcAddr), cmp.Compare(a.SrcVM, b.SrcVM),
		compareAddr(a.DstAddr, b.DstAddr), cmp.Compare(a.DstVM, b.DstVM))
}

func compareAddr(a, b string) int {
	x, y := mustAddr(a), mustAddr(b)
	return bytes.Compare(x[:], y[:])
}

// TestPairsAndConversations compares with the oracle, every field.
func TestPairsAndConversations(t *testing.T) {
	recs, r := sharedLab(t)
	for n, f := range filters {
		for i, q := range times {
			if !allQueries() && (n+i)%2 > 0 {
				continue
			}
			q.Filter = f.text
			rows := logical(recs, q, f.keep, endsIn(q))
			if f.ends != nil {
				rows = f.ends(rows)
			}
			got, err := r.Pairs(t.Context(), q)
			if err != nil {
				t.Errorf("%s: %v", f.text, err)
				continue
			}
			want := pairsOf(rows, q)
			slices.SortFunc(want, func(a, b report.Pair) int { return cmp.Or(cmp.Compare(b.Octets, a.Octets), pairLess(a.Ends, b.Ends)) })
			compare(t, "pairs "+f.text, got.Rows, want)
			conv, err := r.Conversations(t.Context(), q)
			if err != nil {
				t.Errorf("%s: %v", f.text, err)
				continue
			}
			wantConv := conversationsOf(rows)
			slices.SortFunc(wantConv, func(a, b report.Conversation) int {
				return cmp.Or(cmp.Compare(b.Octets, a.Octets), pairLess(a.Ends, b.Ends), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.SrcPort, b.SrcPort))
			})
			compare(t, "conversations "+f.text, conv.Rows, wantConv)
			total := report.Total{Flows: new(uint64(len(wantConv)))}
			for _, c := range wantConv {
				total.Octets, total.Packets = total.Octets+c.Octets, total.Packets+c.Packets
			}
			total.Rows = uint64(len(wantConv))
			compare(t, "total of conversations "+f.text, conv.Meta.Total, total)
			total.Rows = uint64(len(want))
			compare(t, "total of pairs "+f.text, got.Meta.Total, total)
			if !allQueries() && n%3 != i {
				continue
			}
			links, err := r.Sankey(t.Context(), q)
			if err != nil {
				t.Errorf("%s: %v", f.text, err)
				continue
			}
			if n := links.Meta.Total; n.Octets != total.Octets || n.Packets != total.Packets || n.Flows == nil || *n.Flows != *total.Flows {
				t.Errorf("%s: the links are %+v, the conversations %+v", f.text, n, total)
			}
			q.By = []string{"dst.vm"}
			lines, err := r.Series(t.Context(), q)
			if err != nil {
				t.Errorf("%s: %v", f.text, err)
				continue
			}
			if n := lines.Meta.Total; q.Since.Equal(t0) && (n.Octets != total.Octets || n.Packets != total.Packets || n.Flows == nil || *n.Flows != *total.Flows) {
				t.Errorf("%s: the lines are %+v, the conversations %+v", f.text, n, total)
			}
		}
	}
}

func compare[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" && !(isEmpty(want) && isEmpty(got)) {
		if len(diff) > 3000 {
			diff = diff[:3000]
		}
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func isEmpty(v any) bool { text := fmt.Sprint(v); return text == "[]" || text == "<nil>" }

// TestSeries compares each bucket with the oracle.
func TestSeries(t *testing.T) {
	recs, r := sharedLab(t)
	for _, q := range times {
		for _, metric := range []string{"octets", "packets", "flows"} {
			q.Metric, q.By, q.Limit, q.Step = metric, []string{"tenant", "app"}, 3, 90*time.Second
			got, err := r.Series(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			since, until := q.Since.UnixMilli(), q.Until.UnixMilli()
			rows := logical(recs, q, nil, func(r *flow.Record) bool { return ms(r.EndNS) >= since && ms(r.StartNS) < until })
			totals, buckets := map[string]uint64{}, map[string][]float64{}
			n := len(got.Times)
			for _, rec := range rows {
				if !canon(&rec) {
					continue
				}
				key := rec.Tenant + "\x00" + rec.App
				v := map[string]uint64{"octets": rec.Octets, "packets": rec.Packets, "flows": 1}[metric]
				if ms(rec.EndNS) < until {
					totals[key] += v
				}
				if buckets[key] == nil {
					buckets[key] = make([]float64, n)
				}
				for i, at := range got.Times {
					lo, hi := max(at.UnixMilli(), since), min(at.UnixMilli()+90_000, until)
					buckets[key][i] += float64(part(&rec, int64(v)*1000, lo, hi)) / float64(hi-lo)
				}
			}
			keys := make([]string, 0, len(totals))
			for k := range totals {
				keys = append(keys, k)
			}
			slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(totals[b], totals[a]), cmp.Compare(a, b)) })
			factor := map[string]float64{"octets": 8, "packets": 1, "flows": 1}[metric]
			check := func(l report.Line, key []string, members []string) {
				t.Helper()
				var total uint64
				want := make([]float64, n)
				for _, k := range members {
					total += totals[k]
					for i := range want {
						want[i] += buckets[k][i] * factor
					}
				}
				if !slices.Equal(l.Key, key) || l.Total != total {
					t.Errorf("%s: line %q total %d, want %q %d", metric, l.Key, l.Total, key, total)
				}
				for i := range want {
					if d := l.Values[i] - want[i]; d > 1e-6*want[i]+1e-9 || d < -1e-6*want[i]-1e-9 {
						t.Errorf("%s %q bucket %d: %v, want %v", metric, key, i, l.Values[i], want[i])
					}
				}
			}
			if len(got.Lines) != 4 {
				t.Fatalf("%d lines, want 3 and other", len(got.Lines))
			}
			for i, k := range keys[:3] {
				check(got.Lines[i], strings.Split(k, "\x00"), []string{k})
			}
			rest := slices.Clone(keys[3:])
			for k := range buckets {
				if !slices.Contains(keys, k) {
					rest = append(rest, k)
				}
			}
			check(got.Lines[3], []string{"other"}, rest)
		}
	}
}

// TestSeriesByServer: a column of one end is that of the conversation, as the pairs show it; both directions are in its line.
func TestSeriesByServer(t *testing.T) {
	recs, r := sharedLab(t)
	q := times[0]
	q.By, q.Limit = []string{"dst.ip"}, 1000
	want := map[string]uint64{}
	for _, c := range conversationsOf(logical(recs, q, nil, endsIn(q))) {
		want[c.DstAddr] += c.Octets
	}
	got, err := r.Series(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]uint64{}
	for _, l := range got.Lines {
		shown[l.Key[0]] = l.Total
	}
	compare(t, "lines", shown, want)
}

// TestSankeyAndOverviewAddUp: every octet of the canonical rows is in one link, one segment and the total.
func TestSankeyAndOverviewAddUp(t *testing.T) {
	recs, r := sharedLab(t)
	q := times[0]
	var octets, same uint64
	links := map[report.Link]uint64{}
	host := func(h string) string { return "10.200.0." + h[1:] + " (" + h + ")" }
	for _, rec := range logical(recs, q, nil, endsIn(q)) {
		if !canon(&rec) {
			continue
		}
		octets += rec.Octets
		// every host has one VTEP here
		l := report.Link{SrcVTEP: host(rec.SrcHost), DstVTEP: host(rec.DstHost), Segment: segText(rec.Segment), Tenant: rec.Tenant}
		if rec.SrcHost == rec.DstHost {
			same += rec.Octets
			l.DstVTEP = "same host"
		}
		links[l] += rec.Octets
	}
	got, err := r.Sankey(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[report.Link]uint64{}
	for _, l := range got.Links {
		shown[report.Link{SrcVTEP: l.SrcVTEP, DstVTEP: l.DstVTEP, Segment: l.Segment, Tenant: l.Tenant}] += l.Octets
	}
	compare(t, "links", shown, links)
	o, err := r.Overview(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if o.Meta.Total.Octets != octets || got.Meta.Total.Octets != octets || *o.SameHostRatio != float64(same)/float64(octets) {
		t.Errorf("totals %d and %d, same host %v; want %d and %v", o.Meta.Total.Octets, got.Meta.Total.Octets, *o.SameHostRatio, octets, float64(same)/float64(octets))
	}
	var perSegment uint64
	for _, s := range o.TopSegments {
		perSegment += s.Octets
	}
	if perSegment != octets {
		t.Errorf("the segments add up to %d octets, want %d", perSegment, octets)
	}
	if o.Tenants != 2 || o.Segments != 3 || o.VMs != 9 || o.NewPairs != o.Pairs || len(o.Observers) != 3 {
		t.Errorf("%d tenants, %d segments, %d VMs, %d of %d pairs new, %d observers", o.Tenants, o.Segments, o.VMs, o.NewPairs, o.Pairs, len(o.Observers))
	}
}

// TestFlows: rows as stored; observer is a condition on the row, seen_by on its flow.
func TestFlows(t *testing.T) {
	recs, r := sharedLab(t)
	f := func(filter string, keep func(*flow.Record) bool) {
		t.Helper()
		q := report.Query{Since: times[0].Since, Until: times[0].Until, Filter: filter, Limit: 100_000}
		got, err := r.Flows(t.Context(), q)
		if err != nil {
			t.Error(err)
			return
		}
		want := 0
		for i := range recs {
			if keep(&recs[i]) {
				want++
			}
		}
		if len(got.Rows) != want || got.Meta.Total.Rows != uint64(want) || want == 0 {
			t.Errorf("%s: %d rows, total %d, want %d", filter, len(got.Rows), got.Meta.Total.Rows, want)
		}
		if !slices.IsSortedFunc(got.Rows, func(a, b report.Flow) int { return b.End.Compare(a.End) }) {
			t.Errorf("%s: not newest first", filter)
		}
	}
	seen := map[uint64]bool{}
	for i := range recs {
		if recs[i].Role == flow.RoleTunnel {
			seen[recs[i].FlowID] = true
		}
	}
	f("", func(*flow.Record) bool { return true })
	f("observer = tunnel", func(r *flow.Record) bool { return r.Observer == "tunnel" })
	f("role = tunnel and direction = egress", func(r *flow.Record) bool { return r.Role == flow.RoleTunnel && r.Direction == 1 })
	f("seen_by = tunnel", func(r *flow.Record) bool { return seen[r.FlowID] })
	f("not seen_by = tunnel", func(r *flow.Record) bool { return !seen[r.FlowID] })
	f("vni = 5001", func(r *flow.Record) bool { return r.Segment.Number() == 5001 })
	f("mark = canonical", canon)
	f(fmt.Sprintf("flow_id = %016x", recs[0].FlowID), func(r *flow.Record) bool { return r.FlowID == recs[0].FlowID })
}

// TestFlowShowsAll: what a record tells beside addresses and counters is in the row.
func TestFlowShowsAll(t *testing.T) {
	recs := lab(4, 1)[:1]
	x := &recs[0]
	x.SrcTenant, x.DstTenant, x.AppHow, x.AppName, x.MinLen, x.MaxLen = "red", "blue", flow.AppTLS, "db.example", 40, 1500
	x.RTTUS, x.Retransmits, x.ZeroWindows, x.Fragments, x.InnerVLAN, x.SrcVIF, x.DstVIF, x.MPLS = 1200, 6, 9, 5, 7, 3, 4, 16001
	got, err := stored(t, recs).Flows(t.Context(), report.Query{Since: times[0].Since, Until: times[0].Until})
	if err != nil || len(got.Rows) != 1 {
		t.Fatal(len(got.Rows), err)
	}
	g := got.Rows[0]
	compare(t, "row", map[string]any{
		"tenants": g.SrcTenant + " " + g.DstTenant, "how": g.AppHow, "name": g.AppName, "lengths": [2]uint16{g.MinLen, g.MaxLen}, "rtt": g.RTTUS,
		"tcp": [2]uint32{g.Retransmits, g.ZeroWindows}, "fragments": g.Fragments, "vlan": g.InnerVLAN, "vifs": [2]uint16{g.SrcVIF, g.DstVIF}, "mpls": g.MPLS,
	}, map[string]any{
		"tenants": "red blue", "how": "tls", "name": "db.example", "lengths": [2]uint16{40, 1500}, "rtt": uint32(1200),
		"tcp": [2]uint32{6, 9}, "fragments": uint32(5), "vlan": uint16(7), "vifs": [2]uint16{3, 4}, "mpls": uint32(16001),
	})
}

// TestSameQuestionSameBytes: also with every column to sort by, and when the rows lie in other files.
func TestSameQuestionSameBytes(t *testing.T) {
	recs := lab(5, 150)
	one, many := stored(t, recs), storedInParts(t, recs, 7)
	ask := func(r *report.Reports, q report.Query) string {
		t.Helper()
		var all []any
		p, err1 := r.Pairs(t.Context(), q)
		c, err2 := r.Conversations(t.Context(), q)
		for _, err := range []error{err1, err2} {
			var bad *report.QueryError
			if err != nil && !errors.As(err, &bad) {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal(append(all, p, c))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for i, sort := range []string{"", "src_addr", "-flows", "tenant", "seen_by", "-share", "first_seen", "-octets_error", "proto", "src_vtep", "marks", "apps"} {
		if !allQueries() && i%3 > 0 {
			continue
		}
		q := report.Query{Since: t0, Until: t0.Add(time.Hour), Sort: sort, Limit: 20}
		want := ask(one, q)
		for range 2 {
			if got := ask(one, q); got != want {
				t.Errorf("sort %q: two answers to one question", sort)
			}
		}
		if got := ask(many, q); got != want {
			t.Errorf("sort %q: the answer depends on the files", sort)
		}
	}
}

// TestMistakes: what is wrong with a question is named.
func TestMistakes(t *testing.T) {
	r := stored(t, nil)
	f := func(q report.Query, want string) {
		t.Helper()
		if q.Until.IsZero() {
			q.Since, q.Until = t0, t0.Add(time.Hour)
		}
		_, err := r.Pairs(t.Context(), q)
		if q.Metric != "" || q.By != nil || q.Step != 0 {
			_, err = r.Series(t.Context(), q)
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", q, err, want)
		}
	}
	f(report.Query{Sort: "octet"}, `query: sort: there is no column "octet"; columns: apps, `)
	f(report.Query{Limit: -1}, "query: limit: -1 rows asked for")
	f(report.Query{Since: t0, Until: t0}, "query: since: the time range is empty")
	f(report.Query{Filter: "vnii = 5"}, `filter: column 1: there is no field "vnii"; did you mean "vni"?`)
	f(report.Query{Metric: "bytes"}, `query: metric: there is no metric "bytes"`)
	f(report.Query{By: []string{"vm"}}, `query: by: cannot split by "vm"`)
	for _, c := range []struct{ by, per, want string }{
		{"src.vm", "1m", `query: per: cannot split by "1m"; period gives each length of time its own list`},
		{"1m", "src.vm", `query: by: cannot split by "1m"; did you mean "vm"?`},
		{"src.vm", "tennant", `query: per: cannot split by "tennant"; did you mean "tenant"?`},
		{"tennant", "src.vm", `query: by: cannot split by "tennant"; did you mean "tenant"?`},
		{"seen_by", "src.vm", `query: by: cannot split by "seen_by"; observer counts the rows of each by itself`},
		{"seen_bi", "src.vm", `query: by: cannot split by "seen_bi"; such as`},
	} {
		q := hour
		q.By, q.Per = []string{c.by}, []string{c.per}
		if _, err := r.Top(t.Context(), q); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("by %s, per %s: %v, want %s", c.by, c.per, err, c.want)
		}
	}
	f(report.Query{Step: time.Millisecond}, "query: step: a step of 1ms makes 3600000 buckets")
}

// TestEmptyStates: each cause by its name.
func TestEmptyStates(t *testing.T) {
	f := func(r *report.Reports, q report.Query, cause string) {
		t.Helper()
		got, err := r.Pairs(t.Context(), q)
		if err != nil {
			t.Error(err)
			return
		}
		if got.Meta.Empty == nil || got.Meta.Empty.Cause != cause || got.Meta.Empty.Text == "" || got.Meta.Empty.Action == "" {
			t.Errorf("%+v: %+v, want %s", q, got.Meta.Empty, cause)
		}
	}
	hour := func(n int) report.Query {
		return report.Query{Since: t0.Add(time.Duration(n) * time.Hour), Until: t0.Add(time.Duration(n+1) * time.Hour)}
	}
	f(stored(t, nil), hour(0), "no_exporter")
	lossy := opened(t, t0)
	if err := lossy.NoteGap(store.Gap{FromNS: t0.UnixNano(), ToNS: t0.Add(time.Minute).UnixNano(), Scope: "store", Reason: "file damaged", LostRecords: 7}); err != nil {
		t.Fatal(err)
	}
	f(report.New(lossy), hour(0), "not_stored") // somebody has sent
	f(report.New(lossy), hour(1), "no_exporter")
	r := stored(t, lab(6, 10))
	f(r, hour(-3), "before_first_data")
	f(r, hour(5), "exporter_silent")
	q := hour(0)
	q.Filter = "vni = 99 and tcp"
	f(r, q, "filter_excludes")
	got, err := r.Pairs(t.Context(), q)
	if err != nil || !strings.Contains(got.Meta.Empty.Action, "vni = 99 matches 0, tcp matches ") {
		t.Errorf("%v %+v", err, got.Meta.Empty)
	}
}

func TestCompleteValues(t *testing.T) {
	r := stored(t, lab(7, 100))
	f := func(expr string, want ...string) {
		t.Helper()
		got, err := r.Complete(t.Context(), expr, len(expr), t0.Add(time.Hour))
		if err != nil {
			t.Error(err)
			return
		}
		var texts []string
		for _, o := range got.Options {
			texts = append(texts, o.Text)
		}
		slices.Sort(texts)
		if !slices.Equal(texts, want) {
			t.Errorf("%s: %q, want %q", expr, texts, want)
		}
	}
	f("tenant = ", "blue", "red")
	f("tenant = b", "blue")
	f("vni in (50", "5001", "5002")
	f("observer = \"h1", `"h1 mirror"`)
	f("src.vm = web-", "web-0", "web-1", "web-2")
	f("segment = ", "vxlan:5001", "vxlan:5002")
	f("vtep = 10.200.0.", "10.200.0.1", "10.200.0.2")
	f("host 10.0.0.", "10.0.0.1", "10.0.0.2", "10.0.0.3")
}
