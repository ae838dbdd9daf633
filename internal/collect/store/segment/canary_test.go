package segment

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// random sets every field of a record.
func random(rnd *rand.Rand) flow.Record {
	var r flow.Record
	var set func(v reflect.Value)
	set = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				set(v.Field(i))
			}
		case reflect.Array:
			for i := range v.Len() {
				v.Index(i).SetUint(uint64(rnd.IntN(4)) * 85)
			}
		case reflect.String:
			v.SetString([]string{"", "a", "b'c", "größe", "x\x00y"}[rnd.IntN(5)])
		case reflect.Int64:
			v.SetInt(base + rnd.Int64N(3600e9))
		case reflect.Uint8:
			v.SetUint(rnd.Uint64() & 0xff)
		default:
			v.SetUint(rnd.Uint64() >> rnd.IntN(64) & (1<<(8*v.Type().Size()-1)<<1 - 1))
		}
	}
	set(reflect.ValueOf(&r).Elem())
	if rnd.IntN(2) == 0 {
		r.L2Octets = r.Octets + uint64(rnd.IntN(3))*7*r.Packets
	}
	return r
}

// TestCanary: for every column, equality in SQL finds exactly the rows that a full scan in Go finds, in files of both
// levels. An engine that prunes wrongly (as DuckDB 1.5 does on BLOB columns) would be found out here.
func TestCanary(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 9))
	s := open(t, Config{SealRows: 1000, MergeFiles: 1000})
	s.keep.Lock()
	defer s.keep.Unlock()
	var rows []row
	for range 4 {
		recs := make([]flow.Record, 500)
		for i := range recs {
			recs[i] = random(rnd)
			var w row
			w.fill(&recs[i])
			rows = append(rows, w)
		}
		if err := s.Append(t.Context(), recs); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		for _, c := range Columns() {
			value := func(r *row) string { return sqlText(shownValue(r, c.Name), c.Type) }
			for _, probe := range []int{0, 777, 1999} {
				want := 0
				for k := range rows {
					if value(&rows[k]) == value(&rows[probe]) {
						want++
					}
				}
				got := count(t, s, c.Name+" = CAST($1 AS "+c.Type+")", value(&rows[probe]))
				if got != want {
					t.Errorf("%s: %s = %q gives %d rows, a full scan %d", when, c.Name, value(&rows[probe]), got, want)
				}
			}
		}
	}
	check("level 0")
	if err := s.replace(s.hours()[base/1e6], 1, false, nil); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Files != 2 || st.Rows != 2000 {
		t.Fatalf("%d rows in %d files after the merge, want 2000 in 2", st.Rows, st.Files)
	}
	check("level 1")
}

// shownValue is the value of a column of View.Table.
func shownValue(r *row, name string) any {
	switch name {
	case "t_start":
		return r.tStart()
	case "t_recv":
		return r.TEnd + r.LagMS
	case "l2_octets":
		return r.l2Octets()
	case "flow_id":
		return r.flowID()
	}
	at := slices.IndexFunc(storedColumns, func(c store.Column) bool { return c.Name == name })
	return reflect.ValueOf(r).Elem().Field(at).Interface()
}

// sqlText is a value as SQL would write it.
func sqlText(v any, sqlType string) string {
	switch v := v.(type) {
	case [16]byte:
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:])
	case int64:
		if sqlType == "TIMESTAMP" {
			return fmt.Sprintf("%s.%03d", timeText(v/1000), v%1000)
		}
	}
	return fmt.Sprint(v)
}

// TestRowsComeBack: what is written is what a merge reads, for all fields.
func TestRowsComeBack(t *testing.T) {
	rnd := rand.New(rand.NewPCG(10, 11))
	s := open(t, Config{})
	recs := make([]flow.Record, 3000)
	want := make([]row, len(recs))
	for i := range recs {
		recs[i] = random(rnd)
	}
	b := newBatch()
	b.add(recs)
	for i, n := range sortOrder(b) {
		want[i].fill(&recs[n])
	}
	f, err := s.writeFile(b, sortOrder(b))
	if err != nil {
		t.Fatal(err)
	}
	m, err := openMerger(s, []file{f}, placeOfRow)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for i := range want {
		if m.first() == nil {
			t.Fatalf("%d rows, want %d", i, len(want))
		}
		if diff := cmp.Diff(want[i], *m.first().row()); diff != "" {
			t.Fatalf("row %d: %s", i, diff)
		}
		if i > 0 && compareRows(&want[i-1], &want[i]) > 0 {
			t.Fatalf("row %d is out of order", i)
		}
		if err := m.advance(); err != nil {
			t.Fatal(err)
		}
	}
	if m.first() != nil {
		t.Error("more rows than were written")
	}
}

func TestNamesOfFiles(t *testing.T) {
	f := func(name string, valid bool) {
		t.Helper()
		if got := validName(name); got != valid {
			t.Errorf("validName(%q) = %v", name, got)
		}
	}
	f(fileName(0, base/1e6, base/1e6+5, "0192"), true)
	f("20261121/10/l0-1-2-a.parquet", true)
	f("../../etc/passwd", false)
	f("20261121/10/../x.parquet", false)
	f("20261121/10/l0-1-2-a.parquet/..", false)
	f("20261121/10/x0.parquet", false)
	f("a/b", false)
	f("", false)
}

func timeText(unixS int64) string { return time.Unix(unixS, 0).UTC().Format("2006-01-02 15:04:05") }

// sortOrder is for one batch alone.
func sortOrder(b *batch) []int32 { return new(sorter).sort(b) }

// fill sets the row from a record. Times are cut to milliseconds.
func (w *row) fill(r *flow.Record) {
	*w = row{
		Segment: uint64(r.Segment), Src: r.Src, Dst: r.Dst,
		TEnd: floorMS(r.EndNS), SpanMS: floorMS(r.EndNS) - floorMS(r.StartNS), LagMS: floorMS(r.RecvNS) - floorMS(r.EndNS),
		Exporter: r.Exporter, Domain: r.Domain, Point: r.Point, InIf: r.InIf, OutIf: r.OutIf, Sampling: r.Sampling,
		Direction: r.Direction, Role: uint8(r.Role), EndReason: uint8(r.EndReason), Client: uint8(r.Client), Marks: uint16(r.Marks),
		Proto: r.Proto, ToS: r.ToS, MinTTL: r.MinTTL, MaxTTL: r.MaxTTL, TCPFlags: r.TCPFlags, ICMP: r.ICMPTypeCode,
		SrcPort: r.SrcPort, DstPort: r.DstPort, EtherType: r.EtherType, VLAN: r.VLAN,
		SrcMAC: uint64(r.SrcMAC), DstMAC: uint64(r.DstMAC),
		OuterSrc: r.Tunnel.Src, OuterDst: r.Tunnel.Dst, OuterSrcPort: r.Tunnel.SrcPort, OuterDstPort: r.Tunnel.DstPort,
		OuterProto: r.Tunnel.Proto, TunnelType: r.Tunnel.Type,
		Packets: r.Packets, Octets: r.Octets, ObserverID: r.ObserverID,
		Fabric: r.Fabric, Observer: r.Observer, ObserverHost: r.ObserverHost, Tenant: r.Tenant,
		SrcVM: r.SrcVM, DstVM: r.DstVM, SrcHost: r.SrcHost, DstHost: r.DstHost, App: r.App,
		SrcVMID: r.SrcVMID, DstVMID: r.DstVMID,
		MinLen: r.MinLen, MaxLen: r.MaxLen, InnerVLAN: r.InnerVLAN, SrcVIF: r.SrcVIF, DstVIF: r.DstVIF, MPLS: r.MPLS,
		Fragments: r.Fragments, RTTUS: r.RTTUS, Retransmits: r.Retransmits, ZeroWindows: r.ZeroWindows,
		AppHow: uint8(r.AppHow), AppName: r.AppName, Extra: r.Extra, SrcTenant: r.SrcTenant, DstTenant: r.DstTenant,
		InIfName: r.InIfName, OutIfName: r.OutIfName, VRF: r.VRF,
	}
	w.setL2(r.L2Octets)
	w.FlowKey = r.FlowID ^ w.ports()
}
