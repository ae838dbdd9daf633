package segment

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

const countsStart = 500_000 * store.CountHour // some hour of 2027

func countOf(index uint32, vm string, cells ...store.CountCell) store.Count {
	return store.Count{CountKey: store.CountKey{Agent: flow.V4([]byte{10, 0, 0, 9}), Index: index}, Name: "vnet0", Owner: store.Owner{VM: vm}, Cells: cells}
}

// cellAt is a cell of some minutes after countsStart.
func cellAt(fromMin, toMin int64, octets uint64) store.CountCell {
	return store.CountCell{FromNS: countsStart + fromMin*store.CountMinute, ToNS: countsStart + toMin*store.CountMinute, InOctets: octets}
}

// Counts are the same after a restart, after a torn end and after the log was written anew; a batch that comes again is not taken twice, and readers see what
// the writer has.
func TestCounts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	give := func(feed string, seq uint64, list ...store.Count) {
		t.Helper()
		if err := s.AppendCounts(t.Context(), store.Counts{Feed: feed, Seq: seq, List: list}); err != nil {
			t.Fatal(err)
		}
	}
	give("a", 1, countOf(1, "web", cellAt(0, 1, 100)), countOf(2, "", cellAt(0, 180, 1800)))
	give("b", 1, countOf(1, "web", cellAt(1, 2, 50)))
	give("b", 1, countOf(1, "web", cellAt(1, 2, 50)))
	give("b", 2, countOf(1, "db", cellAt(2, 2+2*60, 1200)))
	give("a", 1, countOf(1, "web", cellAt(0, 1, 100)))
	hours := []store.Count{countOf(1, "db"), countOf(1, "web"), countOf(2, "")}
	for m := int64(60); m < 122; m++ { // the newest hour is the second one after the start, so minutes begin with the first
		hours[0].Cells = append(hours[0].Cells, cellAt(m, m+1, 10))
	}
	hours[0].Cells = append([]store.CountCell{cellAt(2, 60, 580)}, hours[0].Cells...)
	hours[1].Cells = []store.CountCell{cellAt(0, 2, 150)}
	hours[2].Cells = []store.CountCell{cellAt(0, 60, 600)}
	for m := int64(60); m < 180; m++ {
		hours[2].Cells = append(hours[2].Cells, cellAt(m, m+1, 10))
	}
	check := func(what string, s *Store) {
		t.Helper()
		got, err := s.Counts(t.Context(), 0, 1<<62)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(hours, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	check("at once", s)
	part, err := s.Counts(t.Context(), countsStart+30*store.CountMinute, countsStart+61*store.CountMinute)
	if err != nil || len(part) != 3 || len(part[0].Cells) != 2 || len(part[1].Cells) != 0 || len(part[2].Cells) != 2 {
		t.Errorf("%v %+v", err, part)
	}
	reader := open(t, Config{Dir: dir, ReadOnly: true})
	check("to a reader", reader)
	again := func(what string) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Config{Dir: dir})
		check(what, s)
	}
	again("opened again")
	if err := s.counts.rewrite(); err != nil {
		t.Fatal(err)
	}
	check("written anew", s)
	again("written anew and opened")
	give("b", 2, countOf(1, "db", cellAt(2, 2+2*60, 1200)))
	check("a batch from before it was written anew", s)
	check("to a reader, later", reader)
	path := filepath.Join(dir, countsName)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{200, 0, 0, 0, 1, 2, 3, 4, 5}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	again("with a torn end")
	give("b", 3, countOf(1, "web", cellAt(1, 2, 50)))
	hours[1].Cells[0].InOctets += 50
	check("and then", s)
	again("and opened again")
	if err := reader.AppendCounts(t.Context(), store.Counts{}); err == nil {
		t.Error("a reader takes counts")
	}
}

// What is kept of a source is bounded, and so are its owners and the batches that are known.
func TestCountsBounded(t *testing.T) {
	l := newCountLog("")
	for i := range int64(20_000) { // 14 days of minutes
		c := countOf(1, string(rune('a'+i/60%40)), cellAt(i, i+1, 10))
		l.take(&store.Counts{Feed: string(rune(i%5000 + 1)), Seq: uint64(1 + i), List: []store.Count{c}})
	}
	s := l.sources[countOf(1, "").CountKey]
	octets := uint64(0)
	for _, c := range s.hours {
		octets += c.InOctets
	}
	if len(s.hours) != store.CountHours || octets != (store.CountHours-1)*600+20*10 || len(s.minutes) != 60+20 || len(s.owners) > maxOwners || len(l.feeds) != maxFeeds || len(l.order) != maxFeeds {
		t.Errorf("%d hours with %d octets, %d minutes, %d owners, %d feeds", len(s.hours), octets, len(s.minutes), len(s.owners), len(l.feeds))
	}
	for i := range uint32(maxCounted) {
		l.add(&store.Count{CountKey: store.CountKey{Index: 10 + i}, Cells: []store.CountCell{cellAt(30_000, 30_001, 1)}})
	}
	if len(l.sources) != maxCounted || l.sources[countOf(1, "").CountKey] != nil {
		t.Errorf("%d sources; the oldest should have gone", len(l.sources))
	}
}

// A log of any bytes is read as far as it is good, and can be written on.
func FuzzReadCounts(f *testing.F) {
	dir := f.TempDir()
	l := newCountLog(filepath.Join(dir, "seed"))
	if err := l.openForWriting(); err != nil {
		f.Fatal(err)
	}
	c := store.Counts{Feed: "a", Seq: 1, List: []store.Count{countOf(1, "web", cellAt(0, 1, 100))}}
	f.Add(l.entry(l.entry(nil, &c), &c))
	l.close()
	path := filepath.Join(dir, countsName)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := readCounts(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.openForWriting(); err != nil {
			t.Fatal(err)
		}
		defer l.close()
		n := len(l.sources)
		c := store.Counts{Feed: "fresh, and long enough to be nobody else's", Seq: 1 << 63, List: []store.Count{countOf(77, "web", cellAt(0, 1, 100))}}
		if err := l.append(&c); err != nil {
			t.Fatal(err)
		}
		again, err := readCounts(path)
		if err != nil || len(again.sources) != len(l.sources) || len(l.sources) < n {
			t.Errorf("%v: %d sources, %d after it was read again", err, len(l.sources), len(again.sources))
		}
	})
}
