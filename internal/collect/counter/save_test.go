package counter

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

// TestSave: a table that was restored knows what the other one knew, and goes on where that ended; a file that is damaged gives nothing.
func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	tab := New(10)
	in := feed(t, tab)
	in(1000*minute, datagram(1000, 1, 3, port(0, 0, 0, 0)...))
	for n := range uint32(200) { // more minutes than are kept as such
		in(int64(1001+n)*minute, datagram(1000+60_000*(n+1), 2+n, 3, port(100*uint64(n+1), 50, n, n)...))
	}
	agent := flow.V4([]byte{10, 0, 0, 9})
	known := identity.Inventory{
		VNICs: []identity.VNIC{{VM: "web-1", Host: "h1", Port: "vnet7", Tenant: "blue"}, {VM: "db-1", Host: "h1", Port: "vnet8"}}, Hosts: []identity.Host{{Name: "h1", VTEPs: []flow.Addr{agent}}},
	}
	if err := tab.Save(path, known); err != nil {
		t.Fatal(err)
	}
	again := New(10)
	got, err := again.Restore(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(identity.Inventory{VNICs: []identity.VNIC{{VM: "web-1", Host: "h1", Port: "vnet7"}}, Hosts: known.Hosts}, got); d != "" {
		t.Errorf("what is needed of the inventory: %s", d)
	}
	same := func(what string, want uint64) {
		t.Helper()
		for _, from := range []int64{0, 1100, 1170} {
			if d := cmp.Diff(tab.Read(from*minute, 9999*minute), again.Read(from*minute, 9999*minute)); d != "" {
				t.Errorf("%s, from minute %d: %s", what, from, d)
			}
		}
		if rows := again.Read(0, 9999*minute); len(rows) != 1 || rows[0].InOctets != want {
			t.Errorf("%s: %+v, want %d octets", what, rows, want)
		}
	}
	same("restored", 20_000)
	next := datagram(1000+60_000*201, 202, 3, port(20_700, 50, 0, 0)...)
	in(1201*minute, next)
	feed(t, again)(1201*minute, next)
	same("and then", 20_700)
	if _, err := again.Restore(path); err != nil {
		t.Error(err)
	}
	same("restored again", 20_700)

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
	f(`{"version":2}`, "version is 2, want 1")
	line := strings.SplitAfter(string(text), "\n")
	f(line[0]+line[1]+strings.Replace(line[1], `"Index":3`, `"Index":4`, 1), "more than 1 sources")
	f(line[0]+strings.Replace(line[1], `"minutes":[`, fmt.Sprintf(`"minutes":[%s`, strings.Repeat("[1,2,0,0,0,0],", 61)), 1), "minutes")
	if known, err := New(1).Restore(filepath.Join(t.TempDir(), "none")); err != nil || len(known.Hosts) > 0 {
		t.Errorf("%+v, %v", known, err)
	}
}
