package report_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"
)

// t0 is the start of the test's time: 2026-11-21 10:00:00 UTC.
var t0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// TestMain closes the store that tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	if shared.close != nil {
		shared.close()
	}
	os.Exit(code)
}

var shared struct {
	once    sync.Once
	recs    []flow.Record
	reports *report.Reports
	close   func()
}

// sharedLab is a store that tests share, and its records; they change neither.
func sharedLab(t testing.TB) ([]flow.Record, *report.Reports) {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "crosstap-report-test-")
		if err != nil {
			t.Fatal(err)
		}
		recs := lab(1, 400)
		s, err := segment.Open(segment.Config{Dir: dir, MinFree: -1, QueryMemory: 128 << 20, Now: func() time.Time { return t0 }})
		if err == nil {
			err = errors.Join(s.Append(t.Context(), recs), s.Flush(t.Context()))
		}
		if err != nil {
			t.Fatal(err)
		}
		shared.recs, shared.reports, shared.close = recs, report.New(s), func() { s.Close(); os.RemoveAll(dir) }
	})
	if shared.reports == nil {
		t.Fatal("the store that tests share could not be made")
	}
	return slices.Clone(shared.recs), shared.reports
}

func stored(t testing.TB, recs []flow.Record) *report.Reports {
	t.Helper()
	return storedInParts(t, recs, 1)
}

// opened is an empty store for which it is now. It ends with the test.
func opened(t testing.TB, now time.Time) *segment.Store {
	t.Helper()
	s, err := segment.Open(segment.Config{Dir: t.TempDir(), MinFree: -1, QueryMemory: 128 << 20, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put puts records into a file of a store.
func put(t testing.TB, s *segment.Store, recs []flow.Record) {
	t.Helper()
	if err := errors.Join(s.Append(t.Context(), recs), s.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// storedInParts puts the records into several files. The clock stands at their time, so that the hour is
// not sealed.
func storedInParts(t testing.TB, recs []flow.Record, parts int) *report.Reports {
	t.Helper()
	s := opened(t, t0)
	for part := range slices.Chunk(recs, len(recs)/parts+1) {
		put(t, s, part)
	}
	return report.New(s)
}

func mustAddr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

func TestThreeObserversCountOnce(t *testing.T) {
	web, db := flow.V4([]byte{10, 0, 0, 1}), flow.V4([]byte{10, 0, 0, 2})
	vtep1, vtep2 := flow.V4([]byte{10, 200, 0, 1}), flow.V4([]byte{10, 200, 0, 2})
	fwd := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(10 * time.Second).UnixNano(), Proto: 6, Src: web, Dst: db, SrcPort: 40000, DstPort: 5432,
		Packets: 10, Octets: 1000, FlowID: 1, Segment: flow.NewSegment(flow.KindVXLAN, 5001), Client: flow.ClientSrc, SrcVM: "web-1", DstVM: "db-1",
		SrcHost: "h1", DstHost: "h2", Tenant: "blue", Fabric: "default", App: "postgres", Observer: "h1 mirror", Role: flow.RoleMirror, Marks: flow.MarkCanonical, TCPFlags: 0x1b}
	tun := fwd
	tun.Observer, tun.Role, tun.Marks, tun.Tunnel, tun.Segment = "h2 tunnel", flow.RoleTunnel, 0, flow.Tunnel{Src: vtep1, Dst: vtep2}, fwd.Segment
	vnic := fwd
	vnic.Observer, vnic.Role, vnic.Marks, vnic.SrcVM, vnic.Segment = "db-1 agent", flow.RoleVNIC, 0, "", 0
	rev := fwd
	rev.Src, rev.Dst, rev.SrcPort, rev.DstPort, rev.SrcVM, rev.DstVM, rev.SrcHost, rev.DstHost = db, web, 5432, 40000, "db-1", "web-1", "h2", "h1"
	rev.FlowID, rev.Packets, rev.Octets, rev.Client = 2, 5, 5000, flow.ClientDst
	r := stored(t, []flow.Record{fwd, tun, vnic, rev})
	got, err := r.Pairs(t.Context(), report.Query{Since: t0, Until: t0.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	spark := make([]uint64, 24)
	spark[0] = 6000
	want := []report.Pair{{
		Ends: report.Ends{Segment: "vxlan:5001", VNI: 5001, Fabric: "default", Tenant: "blue", SrcVTEP: "10.200.0.1", SrcHost: "h1", SrcVM: "web-1",
			SrcAddr: "10.0.0.1", DstAddr: "10.0.0.2", DstVM: "db-1", DstHost: "h2", DstVTEP: "10.200.0.2"},
		Counts: report.Counts{OctetsFwd: 1000, OctetsRev: 5000, PacketsFwd: 10, PacketsRev: 5, Octets: 6000, Packets: 15, Flows: 1, Share: 1,
			FirstSeen: t0, LastSeen: t0.Add(10 * time.Second), SeenBy: []string{"h1 mirror", "db-1 agent", "h2 tunnel"}, Duplicates: 20, Marks: []string{}},
		Conversations: 1, Apps: []string{"postgres"}, Spark: spark}}
	compare(t, "pairs", got.Rows, want)
}

// TestOctetsErrorFits: of many pairs whose packets were sampled, the true octets lie within the error of the estimate for
// about 95 in 100.
func TestOctetsErrorFits(t *testing.T) {
	const pairs, packets, rate = 1000, 4000, 20
	rnd := rand.New(rand.NewPCG(1, 2))
	truth := map[string]uint64{}
	var recs []flow.Record
	for i := range pairs {
		r := flow.Record{EndNS: t0.UnixNano(), StartNS: t0.UnixNano(), Src: flow.V4([]byte{10, 1, byte(i >> 8), byte(i)}), Dst: mustAddr("10.0.0.2"), Proto: 17, SrcPort: 4000, DstPort: 53,
			FlowID: uint64(i + 1), Sampling: rate, Marks: flow.MarkCanonical | flow.MarkSampled}
		for range packets {
			size := uint64(900 + rnd.IntN(600))
			truth[r.Src.String()] += size
			if rnd.IntN(rate) == 0 {
				r.Packets, r.Octets = r.Packets+rate, r.Octets+rate*size
			}
		}
		recs = append(recs, r)
	}
	got, err := stored(t, recs).Pairs(t.Context(), report.Query{Since: t0, Until: t0.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	inside := 0
	for _, p := range got.Rows {
		if d := int64(p.Octets - truth[p.SrcAddr]); d <= int64(p.OctetsError) && -d <= int64(p.OctetsError) {
			inside++
		}
	}
	if len(got.Rows) != pairs || inside < 930 || inside > 970 {
		t.Errorf("%d of %d pairs within the error, want about 950 of %d", inside, len(got.Rows), pairs)
	}
}

// TestRenamedVM: a VM with an id stays one through a new name, and shows that; without an id the names are two.
func TestRenamedVM(t *testing.T) {
	rec := flow.Record{Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: 40000, DstPort: 22, Packets: 1, Octets: 100, FlowID: 1,
		Client: flow.ClientSrc, SrcVM: "web-1", DstVM: "db-1", Fabric: "default", Observer: "h1", Marks: flow.MarkCanonical}
	f := func(id string, want ...string) {
		t.Helper()
		before, after := rec, rec
		before.EndNS, after.EndNS = t0.Add(time.Minute).UnixNano(), t0.Add(2*time.Minute).UnixNano()
		before.StartNS, after.StartNS = before.EndNS, after.EndNS
		before.SrcVMID, after.SrcVMID, after.SrcVM = id, id, "www-1"
		got, err := stored(t, []flow.Record{before, after}).Pairs(t.Context(), report.Query{Since: t0, Until: t0.Add(time.Hour), Sort: "src_vm"})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range got.Rows {
			names = append(names, p.SrcVM)
			if p.SrcVMID != id {
				t.Errorf("id %q, want %q", p.SrcVMID, id)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("id %q: %q, want %q", id, names, want)
		}
	}
	f("3f0c", "www-1")
	f("", "web-1", "www-1")
}
