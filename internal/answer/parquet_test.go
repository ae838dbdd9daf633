package answer

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"

	"github.com/parquet-go/parquet-go"
)

// TestParquet reads a file back by its columns.
func TestParquet(t *testing.T) {
	f := func(doc any, rows int64, columns string) *parquet.File {
		t.Helper()
		var b bytes.Buffer
		if err := Parquet(&b, doc); err != nil {
			t.Fatal(err)
		}
		file, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range file.Root().Columns() {
			names = append(names, c.Name())
		}
		if got := strings.Join(names, " "); file.NumRows() != rows || !strings.HasPrefix(got, columns) {
			t.Errorf("%d rows of %s, want %d of %s", file.NumRows(), got, rows, columns)
		}
		return file
	}
	file := f(testPairs(), 2, "segment vni fabric tenant src_vtep src_host src_vm")
	if meta, ok := file.Lookup("crosstap.meta"); !ok || !strings.Contains(meta, `"report":"pairs"`) {
		t.Errorf("metadata %q", meta)
	}
	type pair struct {
		Octets    uint64    `parquet:"octets"`
		FirstSeen time.Time `parquet:"first_seen,timestamp(millisecond)"`
		SeenBy    []string  `parquet:"seen_by,list"`
	}
	var b bytes.Buffer
	if err := Parquet(&b, testPairs()); err != nil {
		t.Fatal(err)
	}
	rows, err := parquet.Read[pair](bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || rows[0].Octets != 3_152_030_000 || !rows[0].FirstSeen.Equal(noon.Add(-48*time.Hour)) || len(rows[0].SeenBy) != 3 {
		t.Errorf("%v %+v", err, rows)
	}
	n := uint64(5)
	f(&report.Top{By: []string{"src.vm", "dst.port"}, Rows: []report.TopRow{{Key: []string{"a", "443"}, OctetsSent: &n}, {Key: []string{"b", "53"}}}}, 2, "src.vm dst.port octets octets_error octets_sent")
	f(&report.Flows{Rows: []report.Flow{{Start: noon, SrcPort: 7}}}, 1, "start end received")
	f(&report.Networks{Rows: []report.Network{}}, 0, "segment vni")
	f(&report.Observers{Rows: []report.Observed{{Sights: []report.Sight{{Observer: "a"}}}}}, 1, "segment")
}

// TestPage: the sections of a machine's page, and what observers saw.
func TestPage(t *testing.T) {
	o := Options{Location: time.UTC, Now: noon}
	f := func(doc any, want ...string) {
		t.Helper()
		var b bytes.Buffer
		if err := Table(&b, doc, o); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%q is not in\n%s", w, b.String())
			}
		}
	}
	f(&report.VMPage{Name: "web-1", ID: "id-1", Host: "h1", Tenants: []string{"blue"}, Sent: report.Side{Octets: 1500, Packets: 3, OctetsError: 1}, StepMS: 3600_000, SentSeries: []uint64{1, 0, 8}, ReceivedSeries: []uint64{0, 0, 0},
		Peers: []report.Peer{{Name: "db-1", Addr: "10.0.0.2", OctetsSent: 1500, State: "new"}}, Served: []report.Service{{Proto: "tcp", Port: 443, App: "https"}}, Changes: []report.Change{{Kind: "new_peer", At: noon, Text: "db\x1b-1"}}},
		"Machine    web-1 id-1\n", "Sent       ~1.50 kB, 3 packets (before: 0 B)\n", "By 1h      ▁ █\n", "db-1 10.0.0.2", "tcp     443  https", "12:00:00  new peer  db?-1")
	lost := 0.1
	f(&report.Observers{Rows: []report.Observed{{Conversation: report.Conversation{Ends: report.Ends{Segment: "vxlan:5001", SrcVM: "web-1", SrcAddr: "10.0.0.1", DstAddr: "10.0.0.2"}, Proto: "tcp", SrcPort: 4, DstPort: 443}, Loss: "1 of 10 packets between a and b",
		Sights: []report.Sight{{Observer: "a", Way: "fwd", Packets: 10}, {Observer: "b", Way: "fwd", Packets: 9, Lost: 1, LostRatio: &lost, Canonical: true}}}}},
		"vxlan:5001  web-1 10.0.0.1:4 > 10.0.0.2:443  tcp   0 B  lost: 1 of 10 packets between a and b\n", "1 (10.0 %)  yes")
	f(&report.Map{Edges: []report.MapEdge{{Src: "blue/web", Dst: "red/db", Services: []report.MapService{{Proto: "tcp", Port: 5432}}, ServicesTotal: 2, OctetsFwd: 1000, State: "new", CrossTenant: true}}}, "blue/web  red/db   tcp/5432 +1  1.00 kB", "cross")
	f(&report.Map{Nodes: []report.MapNode{{ID: "blue/web/id-1", Kind: "member", Label: "web-1", Group: []string{"blue", "web"}}}, Edges: []report.MapEdge{{Src: "blue/web/id-1", Dst: "blue/db"}}}, "blue/web/web-1  blue/db ")
	f(&report.Networks{Rows: []report.Network{{Segment: "vxlan:5001", Tenant: "blue", MTURisk: "exceeds"}}}, "MTU RISK", "exceeds")
}
