package report_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
)

// irregularDays are eight days of a small data centre: seven of routine, and one with everything that is to be noticed.
func irregularDays() (recs []flow.Record) {
	add := func(at time.Time, src, srcVM, dst, dstVM string, proto uint8, sport, dport uint16, packets, octets uint64, client flow.Client) {
		r := flow.Record{StartNS: at.UnixNano(), EndNS: at.Add(time.Second).UnixNano(), Proto: proto, Src: mustAddr(src), Dst: mustAddr(dst), SrcPort: sport, DstPort: dport, Packets: packets, Octets: octets, Fabric: "default",
			Tenant: "blue", SrcVM: srcVM, DstVM: dstVM, Client: client, Segment: flow.NewSegment(flow.KindVXLAN, 5001), Observer: "h1", ObserverID: 1, Marks: flow.MarkCanonical, SrcHost: "h1", DstHost: "h2"}
		r.FlowID = hash(fmt.Sprint(src, dst, proto, sport, dport))
		recs = append(recs, r)
	}
	talk := func(at time.Time, src, srcVM, dst, dstVM string, sport, dport uint16, octets uint64) {
		add(at, src, srcVM, dst, dstVM, 6, sport, dport, 10, octets/10, flow.ClientSrc)
		add(at, dst, dstVM, src, srcVM, 6, dport, sport, 100, octets-octets/10, flow.ClientDst)
	}
	for day := range 8 {
		at := t0.Add(time.Duration(day)*24*time.Hour + 2*time.Hour)
		talk(at, "10.0.0.1", "web-1", "10.0.0.2", "db-1", 40000, 5432, 100e6)
		app := uint64(20e6 + day%3*1e6)
		if day == 7 {
			app = 200e6
		} else {
			talk(at, "10.0.0.4", "old-1", "10.0.0.2", "db-1", 40001, 5432, 15e6)
			recs[len(recs)-1].Observer = "h9"
		}
		talk(at, "10.0.0.3", "app-1", "10.0.0.2", "db-1", 40002, 5432, app)
	}
	now := t0.Add(7 * 24 * time.Hour)
	talk(now.Add(3*time.Hour), "10.0.0.1", "web-1", "10.0.0.5", "cache-1", 40003, 6379, 5e6)
	for i := range uint16(40) {
		add(now.Add(4*time.Hour), "10.0.0.6", "bad-1", fmt.Sprintf("10.0.1.%d", i+1), "", 6, 50000+i, 22, 1, 60, flow.ClientSrc)
	}
	for i := range uint16(50) {
		at := now.Add(5*time.Hour + time.Duration(i)*7*time.Second)
		add(at, "10.0.0.6", "bad-1", "10.0.0.2", "db-1", 6, 51000+i, 1000+i, 1, 60, flow.ClientSrc)
		add(at, "10.0.0.2", "db-1", "10.0.0.6", "bad-1", 6, 1000+i, 51000+i, 1, 40, flow.ClientDst)
	}
	for i := range uint16(20) {
		talk(now.Add(6*time.Hour+time.Duration(i)*60*time.Second+time.Duration(i%3)*time.Second), "10.0.0.7", "bot-1", "203.0.113.9", "", 52000+i, 443, 20000)
	}
	for i := range uint16(20) { // at no fixed time
		talk(now.Add(7*time.Hour+time.Duration(i)*time.Duration(i)*17*time.Second), "10.0.0.1", "web-1", "10.0.0.2", "db-1", 53000+i, 5432, 2000)
	}
	return recs
}

// TestIrregular: what is to be noticed is, and routine is not; from rows and from roll-ups.
func TestIrregular(t *testing.T) {
	r := storedInParts(t, irregularDays(), 3)
	q := report.Query{Since: t0.Add(7 * 24 * time.Hour), Until: t0.Add(8 * 24 * time.Hour)}
	want := []string{
		"beacon: bot-1 speaks to 203.0.113.9 at tcp port 443 every 1m1s, 20 times",
		"host_scan: bad-1 tried 40 addresses at tcp port 22 that gave nothing",
		"new_pair: bot-1 speaks to outside at tcp port 443 for the first time",
		"new_pair: web-1 speaks to cache-1 at tcp port 6379 for the first time",
		"observer_silent: observer h9 tells nothing any more",
		"port_scan: bad-1 tried 50 ports of db-1 that gave nothing",
		"silent: old-1 is silent, 15000000 octets usually",
		"volume: app-1 sent and received 200000000 octets, 20857143 usually",
	}
	f := func(q report.Query, want ...string) {
		t.Helper()
		got, err := r.Irregular(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		lines := []string{}
		for i, row := range got.Rows {
			lines = append(lines, row.Kind+": "+row.Text)
			if row.Score < 1 || i > 0 && row.Score > got.Rows[i-1].Score || row.Fabric != "default" && row.Kind != "observer_silent" {
				t.Errorf("row %d: %+v", i, row)
			}
		}
		slices.Sort(lines)
		compare(t, "irregular "+q.Filter+" "+strings.Join(q.By, ",")+" "+q.Resolution, lines, want)
	}
	f(q, want...)
	raw := q
	raw.Resolution = "raw"
	f(raw, want...)
	some := q
	some.By, some.Filter = []string{"host_scan", "port_scan"}, "src.vm = bad-1"
	f(some, want[1], want[5])
	some.Filter = "vni = 7"
	f(some)
	early := report.Query{Since: t0, Until: t0.Add(24 * time.Hour)} // nothing before it
	f(early)
	if _, err := r.Irregular(t.Context(), report.Query{Since: q.Since, Until: q.Until, By: []string{"odd"}}); err == nil {
		t.Error("an unknown kind was taken")
	}
}

// TestRoundTripPercentiles are of what was measured.
func TestRoundTripPercentiles(t *testing.T) {
	var recs []flow.Record
	for i := range 100 {
		recs = append(recs, flow.Record{StartNS: t0.UnixNano(), EndNS: t0.UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcVM: "web-1", DstVM: "db-1", SrcPort: uint16(40000 + i), DstPort: 5432, Packets: 1, Octets: 100,
			FlowID: uint64(i + 1), Client: flow.ClientSrc, Marks: flow.MarkCanonical, RTTUS: uint32(i)}) // of the first nothing was measured
	}
	got, err := stored(t, recs).Top(t.Context(), report.Query{Since: t0, Until: t0.Add(24 * time.Hour), By: []string{"src.vm"}, Metric: "rtt"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 1 || got.Rows[0].RTTP50US == nil {
		t.Fatalf("%+v", got)
	}
	row := got.Rows[0] // 1 to 99
	if *row.RTTP50US != 50 || *row.RTTP95US != 94.1 || *row.RTTP99US != 98.02 || *row.RTTMaxUS != 99 || *row.RTTAvgUS != 50 {
		t.Errorf("p50 %v, p95 %v, p99 %v, max %v, mean %v; want 50, 94.1, 98.02, 99, 50", *row.RTTP50US, *row.RTTP95US, *row.RTTP99US, *row.RTTMaxUS, *row.RTTAvgUS)
	}
}
