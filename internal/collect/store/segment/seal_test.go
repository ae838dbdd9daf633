package segment

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// observed gives n flows, each seen by three observers whose timers differ; all rows say that they are canonical,
// as a live election would never do.
func observed(rnd *rand.Rand, n int) (recs []flow.Record, packets uint64) {
	for i := range n {
		start := base + rnd.Int64N(3500)*1e9
		one := flow.Record{Proto: 17, Src: flow.V4([]byte{10, 0, byte(i >> 8), byte(i)}), Dst: flow.V4([]byte{10, 1, 0, 1}), SrcPort: uint16(i), DstPort: 53,
			FlowID: uint64(i)*7919 + 1, Marks: flow.MarkCanonical, Segment: flow.NewSegment(flow.KindVXLAN, uint32(5001+i%3)), Packets: uint64(1 + rnd.IntN(9))}
		one.Octets = one.Packets * 100
		packets += one.Packets
		for o, role := range []flow.Role{flow.RoleTunnel, flow.RolePort, flow.RoleMirror} {
			r := one
			r.ObserverID, r.Role, r.Observer = uint64(o+1), role, role.String()
			r.StartNS = start + rnd.Int64N(500)*1e6
			r.EndNS = r.StartNS + 2e9
			recs = append(recs, r)
		}
	}
	rnd.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
	return recs, packets
}

func sum(t testing.TB, s *Store, expr string) (n uint64) {
	t.Helper()
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	rows, err := v.Query(t.Context(), "SELECT coalesce("+expr+", 0)::UBIGINT FROM "+v.Table())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

const (
	canonicalPackets = "sum(packets) FILTER ((marks & 1) <> 0)"
	// content is a sum over all rows that changes when a row is lost, doubled or altered, but for its marks.
	content = "sum(hash(src, src_port, t_start, t_end, observer, packets, octets, segment, flow_id)::HUGEINT % 1000003)"
)

// TestSealSettlesCanonicalRows: many small files are merged and sealed; no row changes but for its mark, and
// each flow counts once, whatever the rows said before.
func TestSealSettlesCanonicalRows(t *testing.T) {
	var later atomic.Int64
	s := open(t, Config{FlushRows: 64, MergeFiles: 4, SealRows: 700, Now: func() time.Time { return time.Unix(0, base+later.Load()) }})
	recs, packets := observed(rand.New(rand.NewPCG(1, 2)), 500)
	for part := range slices.Chunk(recs, 50) {
		if err := s.Append(t.Context(), part); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
	before := sum(t, s, content)
	if n := sum(t, s, canonicalPackets); n != 3*packets {
		t.Errorf("before sealing: %d canonical packets, want %d", n, 3*packets)
	}
	later.Add(int64(2 * time.Hour))
	for range 3 {
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if st.Rows != 1500 || st.SealedFiles != st.Files || st.Files > 5 {
		t.Errorf("%d rows in %d files, %d sealed; want 1500 rows, all sealed", st.Rows, st.Files, st.SealedFiles)
	}
	if n := sum(t, s, content); n != before {
		t.Error("rows changed while being merged and sealed")
	}
	if n := sum(t, s, canonicalPackets); n != packets {
		t.Errorf("%d canonical packets, want %d", n, packets)
	}
	if n := count(t, s, "(marks & 1) <> 0 AND observer <> 'port'"); n != 0 {
		t.Errorf("%d canonical rows are not of the best observer", n)
	}
	// A late row of a worse observer neither counts nor disturbs.
	late := recs[0]
	late.Role, late.ObserverID, late.Observer = flow.RoleUnderlay, 9, "late"
	if err := s.Append(t.Context(), []flow.Record{late}); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	later.Add(int64(24 * time.Hour))
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	if n, all := sum(t, s, canonicalPackets), s.Stats().Rows; n != packets || all != 1501 {
		t.Errorf("with a late row: %d canonical packets of %d rows, want %d of 1501", n, all, packets)
	}
}

// TestViewsArePinned: a view's files stay while they are merged away, and go afterwards.
func TestViewsArePinned(t *testing.T) {
	s := open(t, Config{MergeFiles: 2})
	put := func() {
		t.Helper()
		if err := s.Append(t.Context(), some(10)); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	put()
	put()
	s.keep.Lock() // the background must not come first
	v, err := s.View(t.Context(), 0, 1<<62)
	s.keep.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	put()
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	s.unlinkDoomed(true)
	if n := countIn(t, v, "true"); n != 20 {
		t.Errorf("the pinned view has %d rows, want 20", n)
	}
	v.Close()
	s.unlinkDoomed(true)
	onDisk, err := filepath.Glob(filepath.Join(escapeGlob(s.table), "*/*/*.parquet"))
	if err != nil || len(onDisk) != s.Stats().Files {
		t.Errorf("%d files on disk, %d are live", len(onDisk), s.Stats().Files)
	}
	if n := count(t, s, "true"); n != 30 {
		t.Errorf("%d rows, want 30", n)
	}
}

// TestManifestIsRebuilt: whatever is lost of the manifest, no row is counted twice or lost, also when replaced files
// are still there.
func TestManifestIsRebuilt(t *testing.T) {
	f := func(name string, spoil func(dir string)) {
		t.Helper()
		dir := t.TempDir()
		var later atomic.Int64
		now := func() time.Time { return time.Unix(0, base+later.Load()) }
		s := open(t, Config{Dir: dir, FlushRows: 64, MergeFiles: 100, SealRows: 700, Now: now})
		recs, packets := observed(rand.New(rand.NewPCG(3, 4)), 400)
		s.keep.Lock() // no merge before the sealing: its files would be gone from the backup
		for part := range slices.Chunk(recs, 100) {
			if err := s.Append(t.Context(), part); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		backup := t.TempDir()
		if err := os.CopyFS(backup, os.DirFS(s.table)); err != nil {
			t.Fatal(err)
		}
		later.Add(int64(2 * time.Hour))
		s.keep.Unlock()
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		restore(t, backup, s.table) // as if nothing had been unlinked
		spoil(dir)
		s = open(t, Config{Dir: dir, Now: now})
		if n := count(t, s, "true"); n != len(recs) {
			t.Errorf("%s: %d rows, want %d", name, n, len(recs))
		}
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
		if n := sum(t, s, canonicalPackets); n != packets {
			t.Errorf("%s: %d canonical packets, want %d", name, n, packets)
		}
		s.Close()
	}
	f("intact", func(string) {})
	f("manifest lost", func(dir string) { os.Remove(filepath.Join(dir, manifestName)) })
	f("manifest torn", func(dir string) {
		p := filepath.Join(dir, manifestName)
		st, _ := os.Stat(p)
		os.Truncate(p, st.Size()-10)
	})
	f("manifest half", func(dir string) {
		p := filepath.Join(dir, manifestName)
		st, _ := os.Stat(p)
		os.Truncate(p, st.Size()/2)
	})
	f("manifest garbage", func(dir string) { os.WriteFile(filepath.Join(dir, manifestName), []byte("garbage\nmore\n"), 0o600) })
	f("one part of the merge missing", func(dir string) {
		os.Remove(filepath.Join(dir, manifestName))
		parts, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "flows/v1/*/*/l1-*"))
		if len(parts) < 2 {
			t.Fatal("a merge into one file")
		}
		os.Remove(parts[0])
	})
}

// TestUncertain: what an election leaves open at the ends of a gap is told for its hour, also when roll-ups were merged and when the manifest is lost.
func TestUncertain(t *testing.T) {
	dir := t.TempDir()
	var later atomic.Int64
	now := func() time.Time { return time.Unix(0, base+later.Load()) }
	s := open(t, Config{Dir: dir, Now: now})
	row := func(role flow.Role, hour, from, to int64) flow.Record {
		at := base + hour*int64(time.Hour)
		return flow.Record{Proto: 17, Src: flow.V4([]byte{10, 0, 0, 1}), Dst: flow.V4([]byte{10, 1, 0, 1}), DstPort: 53, FlowID: uint64(hour + 1), Segment: flow.NewSegment(flow.KindVXLAN, 5001),
			StartNS: at + from*1e9, EndNS: at + to*1e9, Packets: uint64(to - from), Octets: uint64(to-from) * 100, ObserverID: uint64(role), Role: role, Observer: role.String()}
	}
	const port, tunnel = flow.RolePort, flow.RoleTunnel
	recs := []flow.Record{row(port, 0, 0, 60), row(tunnel, 0, 40, 100), row(port, 1, 0, 60), row(port, 2, 0, 60), row(tunnel, 2, 20, 80)}
	if err := s.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	f := func(fromHour, toHour int64, want store.Uncertain) {
		t.Helper()
		v, err := s.View(t.Context(), base+fromHour*int64(time.Hour), base+toHour*int64(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if got, err := v.(store.UncertainView).Uncertain(t.Context(), base+fromHour*int64(time.Hour), base+toHour*int64(time.Hour)); err != nil || got != want {
			t.Errorf("hours %d to %d: %+v, want %+v; %v", fromHour, toHour, got, want, err)
		}
	}
	check := func() {
		t.Helper()
		one, two := store.Uncertain{Rows: 1, Packets: 20, Octets: 2000}, store.Uncertain{Rows: 2, Packets: 40, Octets: 4000}
		f(0, 1, one)
		f(1, 2, store.Uncertain{})
		f(2, 3, one)
		f(0, 3, two)
		f(-48, 48, two)
	}
	later.Store(int64(4 * time.Hour))
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	later.Store(int64(72 * time.Hour))
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().UnmergedRollups; n != 0 {
		t.Errorf("%d roll-ups were not merged", n)
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, manifestName))
	s = open(t, Config{Dir: dir, Now: now})
	check()
}

// restore copies files that are missing.
func restore(t *testing.T, from, to string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(from, "*/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		rel, _ := filepath.Rel(from, name)
		if _, err := os.Stat(filepath.Join(to, rel)); err == nil {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, rel), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
