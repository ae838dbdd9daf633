package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/report/filter"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// fake answers with fixed rows and remembers the question. A filter with "?" is wrong, "slow" waits for the
// deadline, "broken" fails, "panic" panics.
type fake struct{ last atomic.Pointer[report.Query] }

func (f *fake) meta(ctx context.Context, name string, q report.Query) (report.Meta, error) {
	f.last.Store(&q)
	switch {
	case strings.Contains(q.Filter, "?"):
		return report.Meta{}, fmt.Errorf("report: %w", &report.FilterError{Pos: strings.Index(q.Filter, "?"), Len: 1, Message: "unexpected ?", Suggestion: "take it away"})
	case q.Filter == "slow":
		<-ctx.Done()
		return report.Meta{}, errors.New("interrupted")
	case slices.Contains(q.By, "colour"):
		return report.Meta{}, &report.QueryError{Field: "by", Message: "no column colour", Suggestion: "use app"}
	case q.Filter == "broken":
		return report.Meta{}, errors.New("store: file 7: short read")
	case q.Filter == "panic":
		panic("boom")
	}
	full := 0.9998
	return report.Meta{
		Schema: report.SchemaVersion, Report: name, Since: q.Since, Until: q.Until, Filter: q.Filter, Sort: "-octets", Limit: q.Limit,
		Total: report.Total{Rows: 1500, Octets: 527e9, Packets: 18446744073709551615, Flows: new(uint64(3))}, DataFrom: &q.Since, DataUntil: &q.Until, Resolution: "raw",
		Completeness: report.Completeness{Ratio: &full, LostRecords: 2, SampledRows: 1, Gaps: []report.Gap{{From: noon, To: noon.Add(8 * time.Second), Scope: "collector", Reason: "was down\n# not a line", LostRecords: 2}}},
	}, nil
}

func (f *fake) pair() report.Pair {
	return report.Pair{
		Ends: report.Ends{Segment: "vxlan:5001", VNI: 5001, Fabric: "default", Tenant: "blue", SrcVTEP: "10.200.0.1", SrcHost: "h1", SrcVM: `web "1"`, SrcAddr: "10.0.0.1",
			DstAddr: "10.0.0.2", DstVM: "db<1>", DstHost: "h2", DstVTEP: "10.200.0.2"},
		Counts: report.Counts{OctetsFwd: 18446744073709551615, OctetsRev: 1, Octets: 18446744073709551615, PacketsFwd: 7, Share: 0.25, FirstSeen: noon, LastSeen: noon.Add(1500 * time.Millisecond),
			SeenBy: []string{"h1 mirror", "h1 vtep"}, Marks: []string{"guess"}},
		Conversations: 2, Apps: []string{"http", "postgres"}, Spark: []uint64{1, 2, 3},
	}
}

func (f *fake) Pairs(ctx context.Context, q report.Query) (report.Pairs, error) {
	m, err := f.meta(ctx, "pairs", q)
	return report.Pairs{Meta: m, Rows: []report.Pair{f.pair()}}, err
}

func (f *fake) Conversations(ctx context.Context, q report.Query) (report.Conversations, error) {
	m, err := f.meta(ctx, "conversations", q)
	p := f.pair()
	return report.Conversations{Meta: m, Rows: []report.Conversation{{Ends: p.Ends, Counts: p.Counts, Proto: "tcp", SrcPort: 40000, DstPort: 443, App: "https", TCPFlags: "SAPF"}}}, err
}

func (f *fake) Flows(ctx context.Context, q report.Query) (report.Flows, error) {
	m, err := f.meta(ctx, "flows", q)
	return report.Flows{Meta: m, Rows: []report.Flow{{Start: noon, End: noon, Received: noon, Observer: "h1, mirror", Packets: 1, Octets: 98, FlowID: "00000000000000ff"}}}, err
}

func (f *fake) Series(ctx context.Context, q report.Query) (report.Series, error) {
	m, err := f.meta(ctx, "series", q)
	return report.Series{Meta: m, By: q.By, Metric: q.Metric, Unit: "bit/s", StepMS: 1000, Times: []time.Time{noon, noon.Add(time.Second)},
		Lines: []report.Line{{Key: []string{"web-1", "db-1"}, Values: []float64{1.5, 2}, Total: 3}, {Key: []string{"other"}, Values: []float64{0, 0.1}}}}, err
}

func (f *fake) Sankey(ctx context.Context, q report.Query) (report.Sankey, error) {
	m, err := f.meta(ctx, "sankey", q)
	return report.Sankey{Meta: m, Links: []report.Link{{SrcVTEP: "10.200.0.1 (h1)", Segment: "vxlan:5001", Tenant: "blue", DstVTEP: "same host", Octets: 9, Packets: 1}}}, err
}

func (f *fake) Overview(ctx context.Context, q report.Query) (report.Overview, error) {
	m, err := f.meta(ctx, "overview", q)
	return report.Overview{Meta: m, Pairs: 3, TopPairs: []report.Pair{f.pair()}}, err
}

func (f *fake) Networks(ctx context.Context, q report.Query) (report.Networks, error) {
	m, err := f.meta(ctx, "networks", q)
	return report.Networks{Meta: m, MTU: 1500, Rows: []report.Network{{Segment: "vxlan:5001", VNI: 5001, Fabric: "default", Tenant: "blue", Known: true, VTEPs: []string{"10.200.0.1", "10.200.0.2"}, Hosts: []string{"h1"},
		VMs: 3, Pairs: 2, Octets: 9, Packets: 1, MaxPacket: 1500, NeededMTU: 1550, MTURisk: "exceeds", FirstSeen: noon, LastSeen: noon}}}, err
}

func (f *fake) Top(ctx context.Context, q report.Query) (report.Top, error) {
	m, err := f.meta(ctx, "top", q)
	n, rtt := uint64(7), 1500.5
	return report.Top{Meta: m, By: q.By, Per: q.Per, PeriodMS: q.Period.Milliseconds(), Metric: q.Metric, Rows: []report.TopRow{{Period: &noon, Key: append(append([]string{}, q.Per...), q.By...), Octets: 10, OctetsSent: &n,
		RTTAvgUS: &rtt, RTTMaxUS: &n, FirstSeen: noon, LastSeen: noon, Marks: []string{"sampled"}}}}, err
}

func (f *fake) Things(ctx context.Context, kind string, q report.Query) (report.Things, error) {
	m, err := f.meta(ctx, kind, q)
	return report.Things{Meta: m, Kind: kind, Rows: []report.Thing{{Name: "web-1", ID: "id-1", Fabric: "default", Tenants: []string{"blue"}, Segments: []string{"vxlan:5001"}, Hosts: []string{"h1", "h2"},
		Addrs: []string{"10.0.0.1"}, OctetsSent: 1, Peers: 2, FirstSeen: noon, LastSeen: noon}}}, err
}

func (f *fake) VM(ctx context.Context, q report.Query) (report.VMPage, error) {
	m, err := f.meta(ctx, "vm", q)
	return report.VMPage{Meta: m, Name: q.Name, Peers: []report.Peer{{Name: "db-1", Addr: "10.0.0.2", State: "new"}}}, err
}

func (f *fake) Map(ctx context.Context, q report.Query) (report.Map, error) {
	m, err := f.meta(ctx, "map", q)
	m.Completeness.Gaps = nil
	return report.Map{Meta: m, By: []string{"tenant", "tier"}, Expanded: []string{}, Width: 600, Height: 200,
		Nodes: []report.MapNode{{ID: "blue/web", Kind: "group", Label: "blue / web", Group: []string{"blue", "web"}, Members: 2, Octets: 1000, X: 120, Y: 92},
			{ID: "red/<db>", Kind: "group", Label: `red / <"db">`, Group: []string{"red", "<db>"}, Members: 1, Octets: 1000, Layer: 1, X: 410, Y: 92}},
		Edges: []report.MapEdge{{Src: "blue/web", Dst: "red/<db>", Services: []report.MapService{{Proto: "tcp", Port: 5432, App: "postgres", Octets: 1000, State: "new"}}, ServicesTotal: 3, OctetsFwd: 400,
			OctetsRev: 600, Octets: 1000, Packets: 9, Links: 1, NewLinks: 1, CrossTenant: true, State: "new", FirstSeen: noon, LastSeen: noon}}}, err
}

func (f *fake) AllowList(ctx context.Context, q report.Query) (report.AllowList, error) {
	m, err := f.meta(ctx, "allow-list", q)
	row := report.AllowRow{Fabric: "default", Segment: "vxlan:5001", VNI: 5001, Tenant: "blue", SrcVM: "web-1", SrcAddr: "10.0.0.1", DstVM: `db "1"`, DstAddr: "10.0.0.2", Proto: "tcp", Port: 5432, App: "postgres",
		Octets: 9, Packets: 1, FirstSeen: noon, LastSeen: noon}
	second, six := row, row
	second.SrcAddr, six.SrcAddr, six.DstAddr, six.Proto, six.Port = "10.0.0.9", "fd00::1", "fd00::2", "icmp6", 0
	return report.AllowList{Meta: m, Rows: []report.AllowRow{row, second, six}}, err
}

func (f *fake) Observers(ctx context.Context, q report.Query) (report.Observers, error) {
	m, err := f.meta(ctx, "observers", q)
	p := f.pair()
	lost := 0.1
	return report.Observers{Meta: m, Rows: []report.Observed{{Conversation: report.Conversation{Ends: p.Ends, Counts: p.Counts, Proto: "tcp", DstPort: 443}, Loss: "1 of 10 packets between a and b",
		Sights: []report.Sight{{Observer: "a", Way: "fwd", Packets: 10}, {Observer: "b", Way: "fwd", Packets: 9, Lost: 1, LostRatio: &lost}}}}}, err
}

func (f *fake) Carriers(ctx context.Context, q report.Query) (report.Carriers, error) {
	m, err := f.meta(ctx, "underlay", q)
	return report.Carriers{Meta: m, Rows: []report.Carrier{{SrcVTEP: "10.200.0.1", DstVTEP: "10.200.0.2", OuterDstPort: 4789, OuterProto: "udp", Match: "vteps", OverlayPackets: 9, UnderlayPkts: 9}}}, err
}

func (f *fake) Carried(ctx context.Context, q report.Query) (report.Carriers, error) {
	return f.Carriers(ctx, q)
}

func (f *fake) Coverage(ctx context.Context, q report.Query) (report.Coverage, error) {
	m, err := f.meta(ctx, "coverage", q)
	return report.Coverage{Meta: m, By: "vm", Reason: "unknown: no vNIC counters from any source", Observed: 9, Rows: []report.CoverageRow{{VM: "web-1", Observed: 9, Reasons: []string{"unknown: no counter of this machine"}}}}, err
}

func (f *fake) Irregular(ctx context.Context, q report.Query) (report.Irregular, error) {
	m, err := f.meta(ctx, "irregular", q)
	return report.Irregular{Meta: m, Kinds: report.IrregularKinds, BaseSince: q.BaseSince, BaseUntil: q.BaseUntil, Rows: []report.Irregularity{{Kind: "host_scan", Score: 2.5, Fabric: "default", Segment: "vxlan:5001", Tenant: "blue",
		SrcVM: "web-1", SrcAddr: "10.0.0.1", Proto: "tcp", Port: 22, Octets: 3000, Targets: 75, FirstSeen: noon, LastSeen: noon, Text: "web-1 tried 75 addresses at tcp port 22 that gave nothing"}}}, err
}

func (f *fake) Complete(_ context.Context, expr string, pos int, until time.Time) (report.Completion, error) {
	o := filter.Option{Text: "after " + expr[:pos], Kind: "field", Doc: until.String()}
	return report.Completion{From: pos, To: pos, Options: []filter.Option{o, o, o, o}}, nil
}

func testStatus() Status {
	return Status{
		Schema: 1, Version: "test", Healthy: true, Now: noon, StartedAt: noon.Add(-time.Hour),
		Listeners: []Listener{{Name: "flows", Address: "127.0.0.1:4739", Network: "udp", Datagrams: 5, DroppedDatagrams: 1}},
		Stages:    []ledger.Statement{{Stage: "decode", Unit: ledger.Datagrams, In: 5, Out: 4, Dropped: []ledger.Count{{Reason: "truncated", N: 1}}}},
		Store:     Store{Dir: "data", Rows: 10, DataFrom: &noon, DataUntil: &noon},
		Exporters: []Exporter{{Address: "10.201.0.1", Domain: 1, Name: "h1 vtep", Protocol: "ipfix", State: "active", FirstSeen: noon, LastSeen: noon, Datagrams: 5, Records: 40, LostRecords: 2}},
		Findings:  []Finding{{Level: "warn", What: "socket", Why: "1 datagram dropped", Action: "raise net.core.rmem_max"}},
	}
}

// newTest returns an API over fakes, changed by with.
func newTest(t *testing.T, with func(*Config)) (*API, *fake) {
	t.Helper()
	f := &fake{}
	cfg := Config{Reporter: f, Status: testStatus, Version: "test", Now: func() time.Time { return noon }}
	if with != nil {
		with(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a, f
}

// get asks the API in process.
func get(a *API, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	a, _ := newTest(t, nil)
	f := func(path, kind, file string) {
		t.Helper()
		w := get(a, path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind {
			t.Fatalf("%s: %d %s: %s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		testkit.Golden(t, file, w.Body.Bytes())
	}
	const csv = "text/csv; charset=utf-8; header=present"
	f("/api/v1/pairs", "application/json", "pairs.json")
	f("/api/v1/pairs?format=jsonl", "application/jsonl", "pairs.jsonl")
	f("/api/v1/pairs?format=csv&f=vni+%3D+5001&from=2026-01-02T00:00:00Z&to=1767355200", csv, "pairs.csv")
	f("/api/v1/conversations", "application/json", "conversations.json")
	f("/api/v1/conversations?format=csv", csv, "conversations.csv")
	f("/api/v1/flows?sort=-octets&limit=5", "application/json", "flows.json")
	f("/api/v1/flows?format=csv", csv, "flows.csv")
	f("/api/v1/series?by=src_vm&by=dst_vm&step=1s&metric=packets", "application/json", "series.json")
	f("/api/v1/series?by=src_vm&by=dst_vm&format=csv", csv, "series.csv")
	f("/api/v1/sankey", "application/json", "sankey.json")
	f("/api/v1/sankey?format=csv", csv, "sankey.csv")
	f("/api/v1/overview", "application/json", "overview.json")
	f("/api/v1/networks?mtu=9000&sort=-pairs", "application/json", "networks.json")
	f("/api/v1/networks?format=csv", csv, "networks.csv")
	f("/api/v1/top?by=src.vm&by=dst.port&per=observer&period=1d&having=bytes+%3E+1", "application/json", "top.json")
	f("/api/v1/top?by=src.vm&by=dst.port&period=1d&format=csv", csv, "top.csv")
	f("/api/v1/top?by=src.vm&format=jsonl", "application/jsonl", "top.jsonl")
	f("/api/v1/vms?name=web-1", "application/json", "vms.json")
	f("/api/v1/hosts?format=csv", csv, "hosts.csv")
	f("/api/v1/vm?name=web-1&base_from=now-7d&base_to=now-6d", "application/json", "vm.json")
	f("/api/v1/map?expand=blue%2Fweb&focus=x&hops=2", "application/json", "map.json")
	f("/api/v1/map?format=csv", csv, "map.csv")
	f("/api/v1/map?format=svg", "image/svg+xml", "map.svg")
	f("/api/v1/map?format=dot", "text/vnd.graphviz; charset=utf-8", "map.dot")
	f("/api/v1/map?format=mermaid", "text/vnd.mermaid; charset=utf-8", "map.mmd")
	f("/api/v1/allow-list", "application/json", "allow-list.json")
	f("/api/v1/allow-list?format=nft", "text/plain; charset=utf-8", "allow-list.nft")
	f("/api/v1/observers?sort=-packets", "application/json", "observers.json")
	f("/api/v1/underlay", "application/json", "underlay.json")
	f("/api/v1/overlay?format=csv", csv, "overlay.csv")
	f("/api/v1/coverage?by=host", "application/json", "coverage.json")
	f("/api/v1/irregular?kind=host_scan&base_from=now-3d&base_to=now-24h", "application/json", "irregular.json")
	f("/api/v1/irregular?format=csv", csv, "irregular.csv")
	f("/api/v1/filter/packets?f=tcp+port+443+and+bytes+%3E+1", "application/json", "packets.json")
	f("/api/v1/status", "application/json", "status.json")
	f("/api/v1/exporters", "application/json", "exporters.json")
	f("/api/v1/exporters?format=csv", csv, "exporters.csv")
	f("/api/v1/filter/check?f=vni+%3D+5001", "application/json", "check-ok.json")
	f("/api/v1/filter/check?f=vni+%3F", "application/json", "check-wrong.json")
	f("/api/v1/filter/complete?f=sr&limit=3", "application/json", "complete.json")
	f("/healthz", "text/plain; charset=utf-8", "healthz.txt")
	f("/openapi.json", "application/openapi+json", "openapi.json")
}

func TestQuestion(t *testing.T) {
	a, fake := newTest(t, nil)
	f := func(query string, want report.Query) {
		t.Helper()
		if w := get(a, "/api/v1/"+query); w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		if diff := cmp.Diff(want, *fake.last.Load()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	hour := report.Query{Since: noon.Add(-time.Hour), Until: noon}
	f("pairs", hour)
	f("pairs?from=&to=", hour)
	f("pairs?from=now-15m&to=now-1m&f=a+b&sort=-octets&limit=7", report.Query{Since: noon.Add(-15 * time.Minute), Until: noon.Add(-time.Minute), Filter: "a b", Sort: "-octets", Limit: 7})
	f("pairs?from=1767350000&to=2026-01-02T13:00:00.5%2B01:00", report.Query{Since: time.Unix(1767350000, 0).UTC(), Until: noon.Add(500 * time.Millisecond)})
	f("pairs?resolution=1h", report.Query{Since: hour.Since, Until: noon, Resolution: "1h"})
	f("pairs?sort=-bytes_rev", report.Query{Since: hour.Since, Until: noon, Sort: "-octets_rev"})
	f("series?by=src_vm,tenant", report.Query{Since: hour.Since, Until: noon, By: []string{"src_vm", "tenant"}, Metric: "octets"})
	f("top?by=src.vm,%20dst.port&by=app&per=observer,vni", report.Query{Since: hour.Since, Until: noon, By: []string{"src.vm", "dst.port", "app"}, Per: []string{"observer", "vni"}, Metric: "octets"})
	f("map?by=tenant,app", report.Query{Since: hour.Since, Until: noon, By: []string{"tenant", "app"}})
	f("irregular?kind=beacon&kind=volume&limit=3&f=tcp", report.Query{Since: noon.Add(-24 * time.Hour), Until: noon, By: []string{"beacon", "volume"}, Limit: 3, Filter: "tcp"})
	f("series?by=src_vm&by=tenant&step=90s&metric=flows&limit=3", report.Query{Since: hour.Since, Until: noon, By: []string{"src_vm", "tenant"}, Step: 90 * time.Second, Metric: "flows", Limit: 3})
}

func TestProblems(t *testing.T) {
	a, _ := newTest(t, nil)
	f := func(path string, status int, location, text string) {
		t.Helper()
		w := get(a, path)
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatalf("%s: %v: %s", path, err, w.Body)
		}
		if w.Code != status || p.Status != status || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d (%d in the body), type %q, want %d", path, w.Code, p.Status, w.Header().Get("Content-Type"), status)
		}
		if location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != location) || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s: want %q with %q, got %s", path, location, text, w.Body)
		}
	}
	const bad = http.StatusUnprocessableEntity
	f("/api/v1/pairs?from=yesterday", bad, "query.from", "expected")
	f("/api/v1/pairs?from=now&to=now", bad, "query.from", "the range is empty")
	f("/api/v1/pairs?from=now%2B1d", bad, "query.from", "the range is empty")
	f("/api/v1/pairs?from=99999999999999999999", bad, "query.from", "expected")
	f("/api/v1/pairs?to=2900-01-01T00:00:00Z", bad, "query.to", "year")
	f("/api/v1/pairs?limit=-1", bad, "query.limit", ">= 0")
	f("/api/v1/pairs?limit=100001", bad, "query.limit", "100000")
	f("/api/v1/pairs?limit=ten", bad, "query.limit", "integer")
	f("/api/v1/pairs?format=xml", bad, "query.format", "json")
	f("/api/v1/pairs?sort=octet", bad, "query.sort", `\"octets\"`)
	f("/api/v1/pairs?sort=spark", bad, "query.sort", "no column")
	f("/api/v1/pairs?sort=octets;drop+table", bad, "query.sort", "") // ";" separates nothing in a query
	f("/api/v1/pairs?fliter=x", bad, "query.fliter", "unknown query parameter")
	f("/api/v1/pairs?form=x", bad, "query.form", `"suggestion":"from"`)
	f("/api/v1/pairs?f="+strings.Repeat("a", 9000), bad, "query.f", "8192")
	f("/api/v1/pairs?f=%00", bad, "query.f", "NUL")
	f("/api/v1/pairs?f=a+%3F", bad, "query.f", `"pos":2,"len":1,"suggestion":"take it away"`)
	f("/api/v1/pairs?f=a+%3F&format=csv", bad, "query.f", `"pos":2`)
	f("/api/v1/top?period=soon", bad, "query.period", "expected")
	f("/api/v1/top?metric=bits", bad, "query.metric", "octets")
	f("/api/v1/vm", bad, "query.name", "required")
	f("/api/v1/vm?name=a&base_from=x&base_to=now", bad, "query.base_from", "expected")
	f("/api/v1/map?hops=11", bad, "query.hops", "10")
	f("/api/v1/map?format=png", bad, "query.format", "svg")
	f("/api/v1/networks?resolution=5m", bad, "query.resolution", "raw")
	f("/api/v1/irregular?kind=odd", bad, "query.kind[0]", "beacon")
	f("/api/v1/coverage?f=tcp", bad, "query.f", "this question has no such parameter")
	f("/api/v1/filter/packets?f=vnii+%3D+5", bad, "query.f", `"pos":0,"len":4`)
	f("/api/v1/series?by=a&by=b&by=c&by=d&by=e", bad, "query.by", "4")
	f("/api/v1/series?by=colour", bad, "query.by", `"suggestion":"use app"`)
	f("/api/v1/series?by=tenant&by=app&by=proto&by=src.vm&by=dst.vm", bad, "query.by", "at most 4 can be named")
	f("/api/v1/series?step=1ms", bad, "query.step", "expected")
	f("/api/v1/series?step=0.5s", bad, "query.step", "at least 1s")
	f("/api/v1/series?from=now-30d&step=1s", bad, "query.step", "longer step")
	f("/api/v1/series?metric=bits", bad, "query.metric", "octets")
	f("/api/v1/filter/complete?f=ab&pos=3", bad, "query.pos", "2 bytes")
	f("/api/v1/pairs?f=broken", http.StatusInternalServerError, "", `short read","instance":"urn:uuid:`)
	f("/api/v1/pairs?f=panic", http.StatusInternalServerError, "", "error in crosstap")
	f("/api/v1/nothing", http.StatusNotFound, "", "no such path")
	a, _ = newTest(t, func(c *Config) { c.QueryTimeout = 20 * time.Millisecond })
	f("/api/v1/pairs?f=slow", http.StatusGatewayTimeout, "", "shorter range")
}

func TestBusy(t *testing.T) {
	a, _ := newTest(t, func(c *Config) { c.Queries = 1 })
	for range cap(a.waiting) {
		a.waiting <- struct{}{}
	}
	w := get(a, "/api/v1/pairs")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

func FuzzQuestion(f *testing.F) {
	for _, q := range []string{"", "from=now-15m&to=now", "f=a%00", "limit=-1&sort=-octets", "by=a&by=b", "step=1s&metric=x", "from=1e300", "from=now-99999999999999d"} {
		f.Add(q)
	}
	a, err := New(Config{Reporter: &fake{}, Status: testStatus, QueryTimeout: time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if strings.Contains(query, "panic") || strings.Contains(query, "broken") {
			return
		}
		for _, path := range []string{"pairs", "series", "filter/complete", "sankey"} {
			r := httptest.NewRequest(http.MethodGet, "/api/v1/"+path, nil)
			r.URL = &url.URL{Path: r.URL.Path, RawQuery: query}
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if w.Code == http.StatusInternalServerError || !json.Valid(w.Body.Bytes()) && w.Header().Get("Content-Type") == "application/json" {
				t.Errorf("%s?%s: %d %s", path, query, w.Code, w.Body)
			}
		}
	})
}
