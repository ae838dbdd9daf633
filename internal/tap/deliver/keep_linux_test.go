package deliver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKeep begins captures under one name again and again, and reads each of them with tshark.
func TestKeep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "web.pcapng.zst")
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, n := range []int{3, 5, 7, 9} {
		if _, err := write(t, FileConfig{Path: path, Again: true, Keep: true}, frames(n)); err != nil {
			t.Fatal(err)
		}
		must(t, os.Chtimes(path, at, at))
	}
	var got []string
	for _, name := range list(t, dir) {
		got = append(got, name+strings.Repeat(" frame", len(readable(t, filepath.Join(dir, name)))))
	}
	want := []string{
		"web-20260301T120000Z.2.pcapng.zst" + strings.Repeat(" frame", 5),
		"web-20260301T120000Z.3.pcapng.zst" + strings.Repeat(" frame", 7),
		"web-20260301T120000Z.pcapng.zst" + strings.Repeat(" frame", 3),
		"web.pcapng.zst" + strings.Repeat(" frame", 9),
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	r, err := NewRotating(FileConfig{Path: path, Rotate: Rotation{Frames: 1, Files: 1}})
	must(t, err)
	if files := r.own(); len(files) > 0 {
		t.Errorf("files that rotate would take %q away", files)
	}
}

// TestKeepInPlace leaves what has nothing to keep where others have put it, and follows a link.
func TestKeepInPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := func(name string, files int) {
		t.Helper()
		if _, err := write(t, FileConfig{Path: filepath.Join(dir, name), Keep: true}, frames(2)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if all := list(t, dir); len(all) != files {
			t.Errorf("%s: %q, want %d", name, all, files)
		}
	}
	empty := filepath.Join(dir, "empty.pcap")
	must(t, os.WriteFile(empty, nil, 0o640))
	f("empty.pcap", 1)
	if st, err := os.Stat(empty); err != nil || st.Mode() != 0o640 || st.Size() == 0 {
		t.Errorf("%v, %v: the file that was made for it was to be used", st, err)
	}
	must(t, os.Symlink("empty.pcap", filepath.Join(dir, "link.pcap")))
	f("link.pcap", 3)
	if to, err := os.Readlink(filepath.Join(dir, "link.pcap")); err != nil || to != "empty.pcap" {
		t.Errorf("%q, %v", to, err)
	}
	pipe := filepath.Join(dir, "pipe.pcap")
	must(t, unix.Mkfifo(pipe, 0o600))
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	must(t, err)
	defer reader.Close()
	f("pipe.pcap", 4)
}
