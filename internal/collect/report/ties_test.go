package report_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/flow"
)

// ties makes random records of which many end in the same moment and know different things of the same flow.
func ties(seed uint64, n int) []flow.Record {
	rnd := rand.New(rand.NewPCG(seed, 2))
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	vtep := func() flow.Addr {
		return []flow.Addr{{}, flow.V4([]byte{10, 200, 0, 1}), flow.V4([]byte{10, 200, 0, 2})}[rnd.IntN(3)]
	}
	var recs []flow.Record
	for i := range n {
		conversation, observer := rnd.IntN(12), rnd.IntN(4)
		end := t0.Add(time.Duration(1+rnd.IntN(3)) * time.Minute).UnixNano()
		r := flow.Record{
			EndNS: end, StartNS: end - rnd.Int64N(3)*int64(10*time.Second), RecvNS: end + int64(i)*1e6, Fabric: "default", Proto: 6, Client: flow.ClientSrc,
			Src: flow.V4([]byte{10, 0, 0, byte(conversation%3 + 1)}), Dst: flow.V4([]byte{10, 0, 1, 1}), SrcPort: uint16(40000 + conversation), DstPort: 443, FlowID: hash(fmt.Sprint(conversation)),
			Packets: uint64(1 + rnd.IntN(100_000)), ObserverID: uint64(observer + 1), Observer: fmt.Sprint("o", observer), Exporter: flow.V4([]byte{10, 201, 0, byte(observer)}), Role: flow.Role(1 + observer),
			Direction: uint8(rnd.IntN(2)), Segment: []flow.Segment{0, flow.NewSegment(flow.KindVXLAN, 5001), flow.NewSegment(flow.KindVXLAN, 5002)}[rnd.IntN(3)],
			Tenant: one("", "red", "blue", "green"), SrcTenant: one("", "red", "blue"), DstTenant: one("", "red", "blue"), App: one("", "https", "tls"),
			SrcHost: one("", "h1", "h2", "h3"), DstHost: one("", "h1", "h2", "h3"), SrcVM: one("", "web-1", "web-2", "www-1"), DstVM: one("", "db-1", "db-2"),
			Tunnel: flow.Tunnel{Src: vtep(), Dst: vtep()},
		}
		r.Octets = r.Packets * uint64(60+rnd.IntN(1000))
		r.L2Octets = r.Octets + 14*r.Packets
		if r.SrcVM != "" {
			r.SrcVMID = one("", "id-1", "id-2")
		}
		if rnd.IntN(2) == 0 {
			r.Marks = flow.MarkCanonical
		}
		recs = append(recs, r)
	}
	return recs
}

// TestTies: what is known of equally late rows does not depend on the order in which they come, nor on the store.
func TestTies(t *testing.T) {
	recs := ties(1, 400)
	other := slices.Clone(recs)
	rand.New(rand.NewPCG(5, 6)).Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	srv := chtest.Start(t)
	for _, s := range []struct {
		settled             bool
		want, again, server *report.Reports
	}{
		{false, stored(t, recs), storedInParts(t, other, 3), inClickHouse(t, srv, "ties", other, false)},
		{true, sealed(t, recs), sealed(t, other), inClickHouse(t, srv, "settledties", other, true)},
	} {
		kinds := map[bool][]string{false: {"pairs", "sankey"}, true: {"pairs"}}[s.settled]
		if allQueries() {
			kinds = []string{"pairs", "sankey", "overview", "conversations", "observers", "networks", "vms", "hosts", "map", "allow", "top"}
		}
		for _, kind := range kinds {
			for _, resolution := range []string{"raw", "1h"} {
				q := question{kind: kind, sealed: s.settled, q: report.Query{Since: t0, Until: t0.Add(time.Hour), Resolution: resolution}}
				switch {
				case resolution == "1h" && slices.Contains([]string{"conversations", "sankey", "observers"}, kind):
					continue // of rows only
				case kind == "top":
					q.q.By = []string{"tenant", "src.vm", "dst.host"}
				}
				same(t, q, s.want, s.again)
				same(t, q, s.want, s.server)
				if t.Failed() {
					t.Fatalf("%s of hours settled %v, resolution %s", kind, s.settled, resolution)
				}
			}
		}
	}
}
