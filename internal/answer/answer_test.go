package answer

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/testkit"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func testPairs() *report.Pairs {
	full := 0.9998
	row := report.Pair{
		Ends: report.Ends{Segment: "vxlan:5001", VNI: 5001, Tenant: "blue", SrcVTEP: "10.200.0.1", SrcHost: "h1", SrcVM: "web-1", SrcAddr: "10.0.0.1",
			DstAddr: "10.0.0.2", DstVM: "db-1", DstHost: "h2", DstVTEP: "10.200.0.2"},
		Counts: report.Counts{OctetsFwd: 3_150_000_000, OctetsRev: 2_030_000, Octets: 3_152_030_000, PacketsFwd: 1_234_567, Flows: 3, Share: 0.25,
			FirstSeen: noon.Add(-48 * time.Hour), LastSeen: noon.Add(90 * time.Second), SeenBy: []string{"h1 mirror", "h1 vtep", "h2 vtep"}, Marks: []string{"guess"}},
		Conversations: 2, Apps: []string{"postgres"}, Spark: []uint64{1, 2},
	}
	local := row
	local.SameHost, local.Tenant, local.SrcVM, local.SrcVTEP, local.DstVTEP, local.SrcAddr = true, "évil\x1b[31m", "", "", "", "fd00::1"
	local.Segment, local.OctetsError, local.Marks, local.SeenBy = "vlan:100", 5, []string{"sampled"}, nil
	return &report.Pairs{
		Meta: report.Meta{
			Schema: 1, Report: "pairs", Since: noon.Add(-time.Hour), Until: noon, Sort: "-octets", Resolution: "raw", Total: report.Total{Rows: 1500, Octets: 527e9, Packets: 9, Flows: new(uint64(5))},
			Completeness: report.Completeness{Ratio: &full, LostRecords: 3, DroppedRecords: 1, SampledRows: 2, Gaps: []report.Gap{{From: noon.Add(-time.Minute), To: noon, Scope: "exporter", Who: "h1", Reason: "silent", LostRecords: 3}}},
		},
		Rows: []report.Pair{row, local},
	}
}

func TestTable(t *testing.T) {
	p := testPairs()
	conversations := &report.Conversations{Rows: []report.Conversation{{Ends: p.Rows[0].Ends, Counts: p.Rows[0].Counts, Proto: "tcp", SrcPort: 40000, DstPort: 5432, App: "postgres", TCPFlags: "SAPF"}}}
	flows := &report.Flows{Rows: []report.Flow{{Start: noon, End: noon, Observer: "h1 mirror", Role: "mirror", InIfName: "vnet7", InIf: 7, OutIf: 9, VRF: "red", Extra: []string{"queueDepth=5"}, Segment: "vxlan:5001", Tenant: "blue", SrcVM: "web-1", SrcAddr: "fd00::1", SrcPort: 40000,
		DstAddr: "10.0.0.2", DstPort: 53, Proto: "udp", Packets: 1000, Octets: 999_499, Sampling: 100, Canonical: true}, {End: noon, Proto: "icmp", ICMP: "8/0", SrcAddr: "10.0.0.1", DstAddr: "10.0.0.2"}}}
	f := func(file string, doc any, o Options) {
		t.Helper()
		o.Location, o.Now = time.UTC, noon
		var b bytes.Buffer
		if err := Table(&b, doc, o); err != nil {
			t.Fatal(err)
		}
		testkit.Golden(t, file, b.Bytes())
	}
	f("pairs.txt", p, Options{})
	f("pairs-wide.txt", p, Options{Wide: true})
	f("pairs-numeric.txt", p, Options{Numeric: true, NoHeaders: true})
	f("pairs-columns.txt", p, Options{Columns: []string{"share", "src_vm", "octets", "first_seen", "spark", "seen_by"}})
	f("conversations.txt", conversations, Options{})
	f("flows.txt", flows, Options{})
	f("flows-wide.txt", flows, Options{Wide: true})
	f("series.txt", report.Series{By: []string{"src_vm", "app"}, Times: []time.Time{noon}, Lines: []report.Line{{Key: []string{"a", "b"}, Values: []float64{1.5, 9}}, {Key: []string{"other"}, Values: []float64{2}}}}, Options{})
	f("pairs-narrow.txt", p, Options{Width: 100})
	f("pairs-narrowest.txt", p, Options{Width: 20}) // what is left does not fit
	var b bytes.Buffer
	left := []string{}
	if err := Table(&b, p, Options{Columns: []string{"seen_by", "src_addr", "first_seen"}, Width: 20, Left: &left}); err != nil || len(left) > 0 { // as asked for
		t.Error(err, left)
	}
	if err := Table(&b, flows, Options{Width: 80, Left: &left}); err != nil || !slices.Contains(left, "FLAGS") {
		t.Error(err, left)
	}
	if err := Table(&b, p, Options{Columns: []string{"src_vm", "bytes_fwd", "bytes"}}); err != nil { // as filters call them, too
		t.Error(err)
	}
	var ce *ColumnError
	if err := Table(&b, p, Options{Columns: []string{"octet"}}); !errors.As(err, &ce) || ce.Nearest != "octets" {
		t.Errorf("unknown column: %v", err)
	}
	if strings.ContainsRune(b.String(), 0x1b) {
		t.Error("an escape sequence from a name reached the terminal")
	}
}

func TestFooter(t *testing.T) {
	o := Options{Location: time.UTC, Now: noon}
	p := testPairs()
	got := Footer(&p.Meta, "pair", 2, o)
	want := "1,500 pairs, 527 GB in 1h · first 2 shown (--limit) · export loss 0.02 % · 1 record not stored · 2 rows sampled (~)\n" +
		"gap: 11:59:00 to 12:00:00, exporter h1: silent (3 records lost)\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p.Meta.Notes = []string{"flows are counted by the hour"}
	if diff := cmp.Diff(want+"note: flows are counted by the hour\n", Footer(&p.Meta, "pair", 2, o)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m := report.Meta{Since: noon.Add(-90 * time.Minute), Until: noon, Empty: &report.Empty{Text: "no exporter has ever sent.", Action: "start a tap"}}
	for range 8 {
		m.Completeness.Gaps = append(m.Completeness.Gaps, report.Gap{From: noon, To: noon, Scope: "collector", Reason: "down"})
	}
	if got := Footer(&p.Meta, "pair", 0, o); !strings.Contains(got, " · none shown · ") || strings.Contains(got, "--limit") {
		t.Errorf("%s", got)
	}
	if diff := cmp.Diff("no pairs in 1h30m: no exporter has ever sent.\n  try: start a tap\n"+strings.Repeat("gap: 12:00:00 to 12:00:00, collector: down\n", 5)+"gap: 3 more (-o json lists all)\n", Footer(&m, "pair", 0, o)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnits(t *testing.T) {
	f := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(Bytes(0), "0 B")
	f(Bytes(999), "999 B")
	f(Bytes(1000), "1.00 kB")
	f(Bytes(9994), "9.99 kB")
	f(Bytes(9995), "10.0 kB")
	f(Bytes(99950), "100 kB")
	f(Bytes(999_499), "999 kB")
	f(Bytes(999_500), "1.00 MB")
	f(Bytes(math.MaxUint64), "18.4 EB")
	f(Bits(1.5e6), "1.50 Mb/s")
	f(Count(0), "0")
	f(Count(999), "999")
	f(Count(1000), "1,000")
	f(Count(math.MaxUint64), "18,446,744,073,709,551,615")
	f(Plural(1, "pair"), "1 pair")
	f(Plural(0, "pair"), "0 pairs")
	f(Percent(0), "0 %")
	f(Percent(0.00001), "< 0.01 %")
	f(Percent(0.0002), "0.02 %")
	f(Percent(0.941), "94.1 %")
	f(Percent(0.99999), "> 99.99 %")
	f(Percent(1), "100 %")
	f(Span(0), "0s")
	f(Span(time.Hour), "1h")
	f(Span(90*time.Minute), "1h30m")
	f(Span(49*time.Hour+time.Second), "2d1h")
}

func TestYAML(t *testing.T) {
	var doc, out bytes.Buffer
	p := testPairs()
	p.Rows[0].OctetsFwd = math.MaxUint64
	p.Rows[0].SrcVM = "yes: no # \n- x"
	if err := JSON(&doc, p); err != nil {
		t.Fatal(err)
	}
	if err := YAML(&out, doc.Bytes()); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Rows []struct {
			VM string `yaml:"src_vm"`
		}
	}
	if err := yaml.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Rows[0].SrcVM, back.Rows[0].VM); diff != "" || !strings.Contains(out.String(), "octets_fwd: 18446744073709551615\n") {
		t.Errorf("%s\n%s", diff, out.String())
	}
}

// Comments stay in one line each, whatever the filter holds.
// TestCSVCell: no name is a formula, and no number is changed.
func TestCSVCell(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := CSVCell(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, same := range []string{"", "web-1", "-5", "+1.5e3", "-Inf", "10.0.0.1", "'a", "a=b", " =1"} {
		f(same, same)
	}
	for _, formula := range []string{"=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "-web"} {
		f(formula, "'"+formula)
	}
}

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	p := testPairs()
	p.Meta.Filter = "a = 1\nb,c\u2028d"
	if err := CSV(&b, p, []string{"src_vm", "octets"}, true); err != nil {
		t.Fatal(err)
	}
	want := []string{"# filter: a = 1 b,c d", "src_vm,octets", "web-1,3152030000", ",3152030000", ""}
	lines := strings.Split(b.String(), "\n")
	if diff := cmp.Diff(want, append(lines[2:3:3], lines[len(lines)-4:]...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := CSV(&b, p, []string{"sparks"}, false); err == nil || err.Error() != `no column "sparks"; did you mean "spark"?` {
		t.Error(err)
	}
}
