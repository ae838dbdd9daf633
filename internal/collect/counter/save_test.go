package counter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSave: a table that was restored goes on where the cells that were taken end; what came after that is told again. A file that is damaged gives nothing.
func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	tab := New(10)
	in := feed(t, tab)
	say := func(in func(int64, []byte), n uint32, octets uint64) {
		t.Helper()
		in(int64(1000+n)*minute, datagram(1000+60_000*n, 1+n, 3, port(octets, 50, n, n)...))
	}
	say(in, 0, 0)
	say(in, 1, 100)
	say(in, 2, 300)
	if rows := tab.Take(99); len(rows) != 1 || len(rows[0].Cells) != 2 {
		t.Fatalf("%+v", rows)
	}
	say(in, 3, 350) // nobody has taken it when the table is saved
	if err := tab.Save(path, [][]byte{[]byte("a batch")}); err != nil {
		t.Fatal(err)
	}
	again := New(10)
	unsent, err := again.Restore(path)
	if err != nil || len(unsent) != 1 || string(unsent[0]) != "a batch" {
		t.Fatalf("%q, %v", unsent, err)
	}
	say(feed(t, again), 4, 1350)
	want := []Cell{{1002 * minute, 1004 * minute, Amount{1050, 0, 2, 2}}}
	if rows := again.Take(99); len(rows) != 1 || rows[0].Name != "vnet7" || !cmp.Equal(want, rows[0].Cells) {
		t.Errorf("%+v, want %+v", rows, want)
	}
	if _, err := again.Restore(path); err != nil || again.Sources() != 1 {
		t.Error(err)
	}

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tab := New(1)
		if _, err := tab.Restore(path); err == nil || !strings.Contains(err.Error(), want) || tab.Sources() != 0 {
			t.Errorf("%.80q: %v, %d sources; want %q", text, err, tab.Sources(), want)
		}
	}
	f(string(text[:len(text)-10]), "unexpected EOF")
	f("", "EOF")
	f(`{"version":3}`, "version is 3, want 2 at most")
	line := strings.SplitAfter(string(text), "\n")
	f(line[0]+line[1]+strings.Replace(line[1], `"Index":3`, `"Index":4`, 1), "more than 1 sources")
	if unsent, err := New(1).Restore(filepath.Join(t.TempDir(), "none")); err != nil || len(unsent) > 0 {
		t.Errorf("%q, %v", unsent, err)
	}
}

// What version 1 kept of the past becomes cells that wait.
func TestRestoreVersion1(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	const file = `{"version":1,"known":{"VNICs":[{"VM":"web-1","Port":"vnet0"}]}}
{"Agent":[0,0,0,0,0,0,0,0,0,0,255,255,10,0,0,1],"Domain":0,"Class":0,"Index":3,"name":"vnet0","last":{"recv_ns":8000000000},"minutes":[[4000000000,8000000000,10,20,1,2]],"hours":[[1000000000,4000000000,5,6,7,8],[9,9,1,1,1,1]]}
`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	tab := New(10)
	if _, err := tab.Restore(path); err != nil {
		t.Fatal(err)
	}
	want := []Cell{{1 * second, 4 * second, Amount{5, 6, 7, 8}}, {4 * second, 8 * second, Amount{10, 20, 1, 2}}}
	if rows := tab.Take(9); len(rows) != 1 || rows[0].Name != "vnet0" || !cmp.Equal(want, rows[0].Cells) {
		t.Errorf("%+v", rows)
	}
}
