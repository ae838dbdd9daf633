package segment

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// keeps counts the files of links that are kept.
func (m *mergeTest) keeps() (n int) {
	m.Helper()
	m.s.kept.mu.Lock()
	defer m.s.kept.mu.Unlock()
	for _, p := range m.s.kept.parts {
		if p.path == "" {
			continue
		}
		if _, err := os.Stat(p.path); err != nil {
			m.Error(err)
		}
		n++
	}
	return n
}

// TestKept: links are made for the second view that asks, stay while one may read them, and are forgotten when there are many.
func TestKept(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000})
	now := func() *view {
		v, err := m.s.View(t.Context(), base-24*3600e9, base+24*3600e9)
		if err != nil {
			t.Fatal(err)
		}
		return v.(*view)
	}
	f := func(v *view, n int, kept bool) string {
		t.Helper()
		statement := fmt.Sprintf("SELECT * FROM %s WHERE octets <> %d", v.Rollup(rollupStep, base-24*3600e9, base+24*3600e9), n)
		got := v.kept(statement)
		if (got != statement) != kept {
			t.Errorf("%d: %s", n, got)
		}
		texts(t, v, "SELECT count(*) FROM ("+got+")")
		return got
	}
	first, second := now(), now()
	f(first, 0, false)
	f(first, 0, false)
	held := f(second, 0, true)
	f(first, 0, true)
	for n := range 2 * mostKept {
		f(first, n+1, false)
		f(second, n+1, true)
	}
	texts(t, second, "SELECT count(*) FROM ("+held+")")
	for _, v := range []*view{first, second} {
		v.Close()
	}
	third := now()
	f(third, -1, false)
	if n := m.keeps(); n >= mostKept {
		t.Errorf("%d are kept", n)
	}
	third.Close()
	there, err := os.ReadDir(m.s.spill)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, e := range there {
		if strings.HasPrefix(e.Name(), "links-") {
			files++
		}
	}
	if n := m.keeps(); files != n {
		t.Errorf("%d files of %d", files, n)
	}
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}
