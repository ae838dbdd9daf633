package tap_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/tap"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

// onProcessors runs a capture file through a tap with so many processors, which writes out, and returns what it wrote, its ledger and its error.
func onProcessors(t *testing.T, n int, path, filter, steps, format, out string, snap ...int) (written []byte, ledger, failure string) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
	line, err := through(t, path, func(s *tap.Spec) {
		s.Filter, s.To = filter, []string{format + ":" + out}
		for _, s.SnapLen = range snap {
		}
		if steps != "" {
			g, err := groom.Parse(steps)
			if err != nil {
				t.Fatal(err)
			}
			s.Groom = &g
		}
	})
	written, _ = os.ReadFile(out)
	return written, line.Ledger(), fmt.Sprint(err)
}

// TestOneProcessor compares a line that runs in one piece, as it does on one processor, with one whose stages run side by side.
func TestOneProcessor(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.pcap")
	f := func(path, filter, steps string) {
		t.Helper()
		one, oneLedger, oneErr := onProcessors(t, 1, path, filter, steps, "pcap", out)
		two, twoLedger, twoErr := onProcessors(t, 2, path, filter, steps, "pcap", out)
		if !bytes.Equal(one, two) || oneLedger != twoLedger || oneErr != twoErr {
			t.Errorf("%s -f %q --groom %q:\n one %d bytes, %s, %s\n two %d bytes, %s, %s", path, filter, steps, len(one), oneLedger, oneErr, len(two), twoLedger, twoErr)
		}
	}
	lab := testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap")
	for _, filter := range []string{"", "vxlan", "tcp port 1"} {
		for _, steps := range []string{"", "dedup/same-point/frame", "dedup/same-point/frame/packets=4", "strip=all", "slice=64", "sample=1:3,mask=l7"} {
			f(lab, filter, steps)
		}
	}
	n := 0
	err := filepath.WalkDir(testkit.Corpus(t, "tap"), func(path string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".pcap" && ext != ".pcapng" && ext != ".trace" {
			return err
		}
		if n++; n%7 == 0 {
			f(path, "", "dedup/same-point/frame/packets=100")
		}
		return nil
	})
	if err != nil || n < 700 {
		t.Errorf("%d captures: %v", n, err)
	}
}

// TestPassedOnCut cuts frames of a large capture as it is read, or behind the filter, and finds what editcap writes.
func TestPassedOnCut(t *testing.T) {
	editcap := testkit.Tool(t, "editcap")
	dir := t.TempDir()
	in, want, out := testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"), filepath.Join(dir, "want.pcap"), filepath.Join(dir, "out.pcap")
	for _, size := range []int{40, 100, 1500, 100000} {
		if b, err := exec.Command(editcap, "-F", "pcap", "-s", fmt.Sprint(size), in, want).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		wanted, _ := frames(t, want)
		for _, filter := range []string{"", "greater 0"} {
			for _, processors := range []int{1, 2} {
				onProcessors(t, processors, in, filter, "", "pcap", out, size)
				if got, _ := frames(t, out); !slices.EqualFunc(wanted, got, sameFrame) {
					t.Errorf("%d bytes, -f %q, %d processors: %d frames, editcap leaves %d, or others", size, filter, processors, len(got), len(wanted))
				}
			}
		}
	}
}

// TestOneProcessorStops sees that what was read is written when the line is stopped.
func TestOneProcessorStops(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := tap.DefaultSpec()
	out := filepath.Join(t.TempDir(), "out.pcap")
	s.File, s.To = testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"), []string{"pcap:" + out}
	ctx, cancel := context.WithCancel(context.Background())
	s.Ready = cancel
	line, err := tap.New(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := line.Run(ctx); err != nil {
		t.Error(err)
	}
	books := line.Statements()
	for _, st := range books {
		if st.Balance() != nil || st.Held != 0 {
			t.Errorf("%+v", st)
		}
	}
	if got, _ := frames(t, out); uint64(len(got)) != books[0].Out {
		t.Errorf("%d frames written, %+v", len(got), books)
	}
}

// TestDedupWritesWhatEditcapWrites drops the duplicates of captures in several forms, on one processor and on two, and finds the frames that
// editcap leaves: true duplicates of one packet in a row and further apart, and packets that differ in one byte.
func TestDedupWritesWhatEditcapWrites(t *testing.T) {
	editcap := testkit.Tool(t, "editcap")
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if b, err := exec.Command(editcap, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, b)
		}
	}
	for i, kind := range []string{"pcap", "pcap", "nsecpcap", "pcapng"} {
		doubled := repeated(t, testkit.Corpus(t, "collect/ovs-lab/underlay1.pcap"), filepath.Join(dir, "doubled.pcap"), []int{3, 101, 60, 40}[i])
		in := filepath.Join(dir, "in."+kind)
		run("-F", kind, doubled, in)
		for _, w := range []int{2, 5, 100, 1000} {
			want := filepath.Join(dir, "want."+kind)
			run("-F", kind, "-D", fmt.Sprint(w), in, want)
			wanted, _ := frames(t, want)
			for _, processors := range []int{1, 2} {
				for _, format := range []string{"pcap", "pcapng"} {
					out := filepath.Join(dir, "out."+format)
					written, _, failure := onProcessors(t, processors, in, "", fmt.Sprintf("dedup=1h/same-point/frame/packets=%d", w-1), format, out)
					got, _ := frames(t, out)
					if !slices.EqualFunc(wanted, got, sameFrame) || failure != "<nil>" {
						t.Errorf("%s to %s, window %d, %d processors: %s: %d frames, editcap leaves %d, or others", kind, format, w, processors, failure, len(got), len(wanted))
					}
					if theirs, _ := os.ReadFile(want); kind == format && kind == "pcap" && !bytes.Equal(theirs, written) {
						t.Errorf("window %d, %d processors: not editcap's file", w, processors)
					}
				}
			}
		}
	}
}

func sameFrame(a, b frame.Frame) bool {
	same := bytes.Equal(a.Data, b.Data)
	a.Data, b.Data = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// repeated writes a capture with microseconds of which one frame in every comes again: at once, after a few others, or with one byte changed.
func repeated(t *testing.T, from, to string, every int) string {
	t.Helper()
	all, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var records [][]byte
	for rest := all[24:]; len(rest) > 0; {
		n := 16 + int(rest[8]) + int(rest[9])<<8
		records, rest = append(records, rest[:n]), rest[n:]
	}
	out := bytes.Clone(all[:24])
	for i, r := range records {
		out = append(out, r...)
		if i%every == 0 {
			again := bytes.Clone(records[max(0, i-[]int{0, 3, 50, 400}[i/every%4])])
			copy(again, r[:8]) // its time
			if i%5 == 0 {
				again[16+i%(len(again)-16)] ^= 1
			}
			out = append(out, again...)
		}
	}
	if err := os.WriteFile(to, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestUnreadableInput leaves the file that would have been written as it was when there is nothing to read.
func TestUnreadableInput(t *testing.T) {
	dir := t.TempDir()
	path := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "missing"): "no such file or directory",
		dir:                           "is a directory",
		path("empty", ""):             "offset 0: there is nothing in it: want a pcap or pcapng capture",
		path("text", "a text that is no capture at all"): "offset 0: 61207465 is not the start of a pcap or pcapng capture",
		path("short", "\xd4\xc3\xb2\xa1\x02\x00"):        "offset 0: the file header needs 24 bytes, 6 are left: the capture is cut short",
		path("gz", "\x1f\x8b\x08"):                       "gzip: unexpected EOF",
	} {
		out := path("out.pcap", "what was there")
		for _, n := range []int{1, 2} {
			if written, _, failure := onProcessors(t, n, name, "", "", "pcap", out); string(written) != "what was there" || !strings.Contains(failure, want) {
				t.Errorf("%s: %s, want %s; %d bytes left in the file", name, failure, want, len(written))
			}
		}
	}
}

// TestMeteredOnOneProcessor finds the same records of captures, in the same order, and the same ledger when the meter is given each batch where it is read.
func TestMeteredOnOneProcessor(t *testing.T) {
	metered := func(n int, path string) (records, ledger, failure string) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
		var out bytes.Buffer
		line, err := through(t, path, func(s *tap.Spec) { s.To, s.Stdout = []string{"flows:-", "null:"}, &out })
		return out.String(), line.Ledger(), fmt.Sprint(err)
	}
	n := 0
	err := filepath.WalkDir(testkit.Corpus(t, "."), func(path string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".pcap" && ext != ".pcapng" && ext != ".trace" {
			return err
		}
		if n++; n%5 != 0 && filepath.Base(path) != "underlay1.pcap" {
			return nil
		}
		one, oneLedger, oneErr := metered(1, path)
		two, twoLedger, twoErr := metered(2, path)
		if one != two || oneLedger != twoLedger || oneErr != twoErr {
			t.Errorf("%s:\n one %d bytes, %s, %s\n two %d bytes, %s, %s", path, len(one), oneLedger, oneErr, len(two), twoLedger, twoErr)
		}
		return nil
	})
	if err != nil || n < 700 {
		t.Errorf("%d captures: %v", n, err)
	}
}
