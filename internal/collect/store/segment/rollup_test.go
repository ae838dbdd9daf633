package segment

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// texts gives the rows of a query, each as its columns with spaces between, with the names of what stands for itself.
func texts(t testing.TB, v store.View, query string) []string {
	t.Helper()
	rows, err := v.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		cells := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, c := range cells {
			text := c.String
			if !c.Valid {
				text = "NULL"
			}
			line = append(line, text)
		}
		out = append(out, strings.ReplaceAll(strings.Join(line, " "), "\n", "+"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// conversation gives a request and its answer, each seen by a port that knows the names and by a tunnel that knows the VTEPs.
func conversation(startNS, endNS int64, clientPort uint16) []flow.Record {
	a, b := flow.V4([]byte{10, 0, 0, 1}), flow.V4([]byte{10, 0, 0, 2})
	one := flow.Record{
		StartNS: startNS, EndNS: endNS, Fabric: "default", Segment: flow.NewSegment(flow.KindVXLAN, 5001), Proto: 6, Src: a, Dst: b, SrcPort: clientPort, DstPort: 443,
		Client: flow.ClientSrc, Tenant: "blue", SrcVM: "web", SrcVMID: "id-1", DstVM: "db", SrcHost: "h1", DstHost: "h2", App: "https",
		Packets: 10, Octets: 1000, L2Octets: 1140, Observer: "p1", ObserverID: 1, FlowID: uint64(clientPort), Marks: flow.MarkCanonical, Role: flow.RolePort,
		MinLen: 40, MaxLen: 1500, RTTUS: 300, TCPFlags: 2,
	}
	back := one
	back.Src, back.Dst, back.SrcPort, back.DstPort, back.SrcVM, back.SrcVMID, back.DstVM, back.DstVMID = b, a, 443, clientPort, "db", "", "web", "id-1"
	back.SrcHost, back.DstHost, back.Client, back.Octets, back.Observer, back.FlowID, back.RTTUS = "h2", "h1", flow.ClientDst, 5000, "p2", one.FlowID+1<<32, 0
	tunnel := func(r flow.Record) flow.Record {
		r.Marks, r.Observer, r.ObserverID, r.Role, r.Segment, r.Fabric, r.Tenant = 0, "", 9, flow.RoleTunnel, 0, "", ""
		r.Exporter, r.SrcVM, r.DstVM, r.SrcVMID, r.DstVMID, r.App = flow.V4([]byte{192, 0, 2, 1}), "", "", "", "", ""
		r.Tunnel = flow.Tunnel{Src: flow.V4([]byte{172, 16, 0, 1}), Dst: flow.V4([]byte{172, 16, 0, 2})}
		return r
	}
	return []flow.Record{one, back, tunnel(one)}
}

// TestRollup: expected rows are written by hand.
func TestRollup(t *testing.T) {
	s := open(t, Config{})
	s.keep.Lock()
	defer s.keep.Unlock()
	recs := conversation(base+1e9, base+5e9, 40000)
	recs = append(recs, conversation(base+6e9, base+9e9, 40001)...)
	recs = append(recs, conversation(base+3599e9, base+3601e9, 40002)...) // counts in the next hour
	recs[0].Sampling, recs[0].Marks = 10, recs[0].Marks|flow.MarkSampled
	put(t, s, recs)
	v, err := s.View(context.Background(), base-1e9, base+7200e9)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	f := func(columns string, want ...string) {
		t.Helper()
		got := texts(t, v, "SELECT "+columns+" FROM "+v.Rollup(time.Hour, base, base+7200e9)+" ORDER BY bucket, src")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", columns, diff)
		}
	}
	f("hour(bucket), src_vm_id, src_vm, dst_vm, app, proto, service_port, client, packets, octets, l2_octets, rows, flows",
		"10 id-1 web db https 6 443 1 20 2000 2280 2 2", "10  db web https 6 443 2 20 10000 2280 2 2",
		"11 id-1 web db https 6 443 1 10 1000 1140 1 1", "11  db web https 6 443 2 10 5000 1140 1 1")
	f("tenant, segment & 65535, epoch_ms(first_seen) % 3600000, epoch_ms(last_seen) % 3600000, marks, tcp_flags, port_votes, variance, sampled_rows",
		"blue 5001 1000 9000 3 2 2 900000 1", "blue 5001 1000 9000 1 2 -2 0 0",
		"blue 5001 3599000 1000 1 2 1 0 0", "blue 5001 3599000 1000 1 2 -1 0 0")
	f("min_len, max_len, rtt_n, rtt_sum, rtt_max, seen_by, other_rows, duplicates, seen_other",
		"40 1500 2 600 300 p1 2 20 \x1f00000000-0000-0000-0000-ffffc0000201/0", "40 1500 0 0 0 p2 0 0 ",
		"40 1500 1 300 300 p1 1 10 \x1f00000000-0000-0000-0000-ffffc0000201/0", "40 1500 0 0 0 p2 0 0 ")
	f("right(outer_src::VARCHAR, 8), right(outer_dst::VARCHAR, 8)", "ac100001 ac100002", "00000000 00000000", "ac100001 ac100002", "00000000 00000000")
	var want []string
	for _, c := range RollupColumns() {
		want = append(want, c.Name+" "+c.Type)
	}
	got := texts(t, v, "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM "+v.Rollup(time.Hour, base, base+7200e9)+")")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns:\n%s", diff)
	}
	one := texts(t, v, fmt.Sprintf("SELECT count(*), sum(rows)::BIGINT FROM %s", v.Rollup(time.Minute, base+5e9, base+9e9)))
	if diff := cmp.Diff([]string{"2 2"}, one); diff != "" {
		t.Errorf("range: %s", diff)
	}
}
