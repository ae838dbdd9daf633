package deliver

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/frame"
)

// rotating returns a sink that writes PATH with options, in a folder of its own.
func rotating(t *testing.T, dir, options string) *Rotating {
	t.Helper()
	c, err := ParseFile("pcapng:" + filepath.Join(dir, "web.pcapng") + "?" + options)
	must(t, err)
	c.Interface = func(uint32) string { return "vnet0" }
	r, err := NewRotating(c)
	must(t, err)
	return r
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestRotateByFrames finds all frames again, by tshark, in files of so many each.
func TestRotateByFrames(t *testing.T) {
	dir := t.TempDir()
	frames := numbered(950, 120)
	st := feed(t, rotating(t, dir, "frames=300"), frames, 0)
	var got, want []string
	var counts []int
	for _, name := range list(t, dir) {
		all := tsharkFrames(t, filepath.Join(dir, name))
		counts = append(counts, len(all))
		got = append(got, all...)
	}
	for i := range frames {
		want = append(want, hex.EncodeToString(frames[i].Data))
	}
	if diff := cmp.Diff(want, got); diff != "" || !slices.Equal(counts, []int{300, 300, 300, 50}) || st.Out != 950 {
		t.Errorf("files of %v frames, %+v (-sent, +tshark)\n%.1000s", counts, st, diff)
	}
}

// TestRotateBySize keeps files below their size and all of them within the budget; older ones of an earlier run go first, and nothing goes
// that only looks alike.
func TestRotateBySize(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{"web-notes.pcapng", "web.pcapng", "web-20260101T000000Z-000001.txt", "other-20200101T000000Z-000001.pcapng"}
	for _, name := range append([]string{"web-20200101T000000Z-000001.pcapng"}, foreign...) {
		must(t, os.WriteFile(filepath.Join(dir, name), make([]byte, 200<<10), 0o600))
	}
	r := rotating(t, dir, "size=100KiB&budget=350KiB")
	st := feed(t, r, numbered(10_000, 200), 0)
	total, files := int64(0), 0
	for _, name := range list(t, dir) {
		if slices.Contains(foreign, name) {
			continue
		}
		files++
		size := fileSize(filepath.Join(dir, name))
		total += size
		if size > 100<<10+1000 || strings.Contains(name, "20200101") {
			t.Errorf("%s: %d bytes", name, size)
		}
	}
	if files != 3 || total > 350<<10 || st.Out != 10_000 || r.Removed() < 20 {
		t.Errorf("%d files, %d bytes, %d removed, %+v", files, total, r.Removed(), st)
	}
	for _, name := range foreign {
		if fileSize(filepath.Join(dir, name)) != 200<<10 {
			t.Errorf("%s: it is not ours and was touched", name)
		}
	}
}

// TestRotateByNumberAndTime keeps so many files, and begins one when the clock says so.
func TestRotateByNumberAndTime(t *testing.T) {
	dir := t.TempDir()
	feed(t, rotating(t, dir, "frames=100&files=3"), numbered(1000, 100), 0)
	if n := len(list(t, dir)); n != 3 {
		t.Errorf("%d files", n)
	}
	dir = t.TempDir()
	r := rotating(t, dir, "every=1h")
	must(t, r.begin(time.Date(2026, 3, 1, 12, 59, 50, 0, time.UTC)))
	r.closing <- nil
	r.now.batch(frame.Batch{Frames: numbered(2, 100)})
	r.n = 2
	r.tick(time.Date(2026, 3, 1, 12, 59, 59, 0, time.UTC))
	r.tick(time.Date(2026, 3, 1, 13, 0, 1, 0, time.UTC))
	r.tick(time.Date(2026, 3, 1, 14, 0, 1, 0, time.UTC)) // nothing came: no empty file
	must(t, r.finish(nil))
	if diff := cmp.Diff([]string{"web-20260301T125950Z-000001.pcapng", "web-20260301T130001Z-000002.pcapng"}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestRotateFloor drops and counts when less than the floor is free.
func TestRotateFloor(t *testing.T) {
	st := feed(t, rotating(t, t.TempDir(), "frames=100&free=1024TiB"), numbered(500, 100), 0)
	if st.Out != 0 || st.Dropped[DropSpace].N != 500 || st.Dropped[DropSpace].Reason != "disk_full" {
		t.Errorf("%+v", st)
	}
}

// TestRotateCompressed compresses each file by itself.
func TestRotateCompressed(t *testing.T) {
	dir := t.TempDir()
	c, err := ParseFile("pcapng:" + dir + "/web.pcapng.gz?frames=150")
	must(t, err)
	r, err := NewRotating(c)
	must(t, err)
	feed(t, r, numbered(300, 100), 0)
	names := list(t, dir)
	if len(names) != 2 || !strings.HasSuffix(names[0], "-000001.pcapng.gz") {
		t.Error(names)
	}
}

func TestParseFile(t *testing.T) {
	f := func(url, want string) {
		t.Helper()
		_, err := ParseFile(url)
		if err == nil {
			if want != "" {
				t.Errorf("%s: no error", url)
			}
			return
		}
		if want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", url, err, want)
		}
	}
	f("pcapng:a b%20c.pcapng", "")
	f("pcapng:x?size=1GiB&every=1h&frames=10&files=3&budget=10GiB&free=1GiB", "")
	f("pcapng:x?files=3", "say when a new one begins")
	f("pcapng:x?size=2GiB&budget=3GiB", "at most half of the budget")
	f("pcapng:x?size=1KiB", "want 64KiB to")
	f("pcapng:x?evry=1h", `did you mean "every"?`)
	f("pcapng:x?frames=1&frames=2", "is given twice")
	f("pcapng:-?frames=1", "standard output is not rotated")
	f("pcap:x?size=-1", "want 64KiB")
}
