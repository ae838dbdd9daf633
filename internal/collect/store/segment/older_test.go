package segment

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"crosstap/internal/flow"
)

// TestStoreOfSchema1: a store that an older version wrote answers as it is, beside new rows, once it is sealed anew, and when its manifest is lost.
func TestStoreOfSchema1(t *testing.T) {
	const ten = int64(1_795_255_200) * 1e9 // its first hour, 2026-11-21 10:00:00 UTC
	later := func(dir string, hours time.Duration) Config {
		cfg := busy(dir, 0)
		cfg.SealRows = 1000
		cfg.Now = func() time.Time { return time.Unix(0, ten).Add(hours * time.Hour) }
		return cfg
	}
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS("testdata/schema1")); err != nil {
		t.Fatal(err)
	}
	check := func(what string, s *Store, late uint64) {
		t.Helper()
		f := func(name string, want uint64) {
			t.Helper()
			if got := sum(t, s, name); got != want+late {
				t.Errorf("%s: %s is %d, want %d", what, name, got, want+late)
			}
		}
		// Flows 0–119 and 500–529 with 1 + n mod 9 packets: 591 + 156, each seen twice.
		f("count(*)", 300)
		f("count(DISTINCT flow_id)", 150)
		f("sum(packets)", 1494)
		f(canonicalPackets, 747)
		f("sum(l2_octets) // 114", 1494)
		f("count(*) FILTER (epoch_ms(t_end) - epoch_ms(t_start) = 2500 AND epoch_ms(t_recv) - epoch_ms(t_end) = 500)", 300)
		f("count(*) FILTER (src_vm = 'vm-3' AND src_vm_id = 'id-3' AND dst_port = 443 AND src_port >= 40000)", 44)
		v, err := s.View(t.Context(), ten, ten+10*3600e9)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		got := texts(t, v, "SELECT concat_ws(' ', sum(rows) + sum(other_rows), sum(packets)) FROM "+v.Rollup(time.Hour, ten, ten+10*3600e9))
		if want := map[uint64]string{0: "300 747", 1: "301 748"}[late]; got[0] != want {
			t.Errorf("%s: roll-ups tell of %q rows and packets, want %q", what, got[0], want)
		}
		if len(v.Gaps()) > 0 || s.Stats().SetAside > 0 {
			t.Errorf("%s: %d files set aside, gaps %v", what, s.Stats().SetAside, v.Gaps())
		}
	}
	reader := open(t, Config{Dir: dir, ReadOnly: true})
	check("only read", reader, 0)
	reader.Close()
	s := open(t, still(dir))
	check("opened", s, 0)
	one := flow.Record{StartNS: ten + 600e9, EndNS: ten + 602500e6, RecvNS: ten + 603e9, Point: 5000, FlowID: 5000, ObserverID: 1, Role: flow.RolePort, Segment: flow.NewSegment(flow.KindVXLAN, 5001), Fabric: "default", SrcVM: "vm-3", SrcVMID: "id-3",
		Src: flow.V4([]byte{10, 0, 0, 3}), Dst: flow.V4([]byte{10, 1, 0, 1}), SrcPort: 40001, DstPort: 443, Proto: 6, Packets: 1, Octets: 100, L2Octets: 114, Marks: flow.MarkCanonical}
	put(t, s, []flow.Record{one})
	check("with a row of now", s, 1)
	s.Close()
	s = open(t, later(dir, 9))
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("sealed anew", s, 1)
	for _, f := range s.man.live {
		if f.Schema != schemaVersion || f.Columns != len(storedColumns) {
			t.Errorf("%s is of schema %d with %d columns", f.Name, f.Schema, f.Columns)
		}
	}
	s.Close()
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil {
		t.Fatal(err)
	}
	check("rebuilt", open(t, still(dir)), 1)
}
