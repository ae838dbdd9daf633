package deliver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// frames are n frames with different lengths, directions and points.
func frames(n int) []frame.Frame {
	all := make([]frame.Frame, n)
	for i := range all {
		data := bytes.Repeat([]byte{byte(i)}, 60+i%7)
		all[i] = frame.Frame{
			Data: data, OrigLen: len(data) + i%2*100, TimeNS: 1_700_000_000_123_456_789 + int64(i), Point: uint32(i % 2), Link: frame.LinkEthernet,
			Dir: [...]frame.Direction{frame.Ingress, frame.Egress, frame.Unknown}[i%3],
		}
	}
	return all
}

// write runs a sink over frames, in batches of ten.
func write(t *testing.T, c FileConfig, all []frame.Frame) (*File, error) {
	t.Helper()
	f, err := NewFile(c)
	if err != nil {
		t.Fatal(err)
	}
	in, released := make(chan frame.Batch, len(all)/10+1), 0
	batches := 0
	for len(all) > 0 {
		n := min(10, len(all))
		in <- frame.Batch{Frames: all[:n], Free: func() { released++ }}
		all, batches = all[n:], batches+1
	}
	close(in)
	err = f.Run(context.Background(), in)
	if s := f.Book().Read(); s.Balance() != nil || s.Held != 0 || released != batches {
		t.Errorf("%+v, %d of %d batches released", s, released, batches)
	}
	return f, err
}

// TestPcapngOptions has capinfos and tshark read all that a file says of itself.
func TestPcapngOptions(t *testing.T) {
	capinfos, tshark := testkit.Tool(t, "capinfos"), testkit.Tool(t, "tshark")
	path := filepath.Join(t.TempDir(), "x.pcapng")
	failed := false
	c := FileConfig{
		Path: path, Program: "crosstap 1.2", Hardware: "a machine", OS: "an OS", Tap: "h1 uplink", Filter: "tcp or udp", SnapLen: 400,
		Interface: func(p uint32) string { return fmt.Sprint("vnet", p) },
		Counts:    func(p uint32) Counts { return Counts{Received: 100 + uint64(p), Matched: 50, Lost: 7, Missed: 3} },
		Label:     func(tag uint16) string { return fmt.Sprint("rule ", tag) },
		Failed:    func() { failed = true },
	}
	all := frames(40)
	all[5].Tag, all[5].Dir = 9, frame.Ingress
	all[6].Link, all[6].Point = frame.LinkRaw, 1
	if f, err := write(t, c, all); err != nil || failed || f.Book().Read().Out != 40 {
		t.Fatalf("%v, %+v", err, f.Book().Read())
	}
	out, err := exec.Command(capinfos, path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Capture application: crosstap 1.2", "Capture hardware:    a machine", "Capture oper-sys:    an OS", "Capture comment:     tap: h1 uplink",
		"filter: tcp or udp", "Name = vnet0", "Name = vnet1", "Filter string = tcp or udp", "Capture length = 400", "Time precision = nanoseconds (9)", "Number of interfaces in file: 3"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, err = exec.Command(tshark, "-r", path, "-T", "fields", "-E", "separator=;", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len",
		"-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "frame.comment", "-e", "frame.encap_type").Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range all {
		dir := map[frame.Direction]string{frame.Ingress: "0x00000001", frame.Egress: "0x00000002"}[f.Dir]
		comment := map[uint16]string{9: "rule 9"}[f.Tag]
		want = append(want, fmt.Sprintf("%d.%09d;%d;%d;vnet%d;%s;%s;%d", f.TimeNS/1e9, f.TimeNS%1e9, f.OrigLen, len(f.Data), f.Point, dir, comment,
			map[frame.LinkType]int{frame.LinkEthernet: 1, frame.LinkRaw: 7}[f.Link]))
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(string(out)), "\n")); diff != "" {
		t.Errorf("(-want +tshark):\n%s", diff)
	}
}

// TestStatistics reads the interface statistics, which no tool prints.
func TestStatistics(t *testing.T) {
	var b bytes.Buffer
	quiet := func() []frame.LinkType {
		return []frame.LinkType{frame.LinkEthernet, frame.LinkEthernet, frame.LinkRaw}
	}
	c := FileConfig{Path: "-", Stdout: &b, Quiet: quiet, Counts: func(uint32) Counts { return Counts{Received: 100, Matched: 50, Lost: 7, Missed: 3} }}
	if _, err := write(t, c, frames(3)); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	var got []map[uint16]uint64
	for rest := b.Bytes(); len(rest) > 0; {
		n := le.Uint32(rest[4:])
		if le.Uint32(rest) == blockStatistics {
			stats := map[uint16]uint64{}
			for o := rest[20 : n-4]; le.Uint16(o) != 0; o = o[12:] {
				if code := le.Uint16(o); code >= optReceived {
					stats[code] = le.Uint64(o[4:])
				}
			}
			got = append(got, stats)
		}
		if le.Uint32(rest[n-4:]) != n {
			t.Fatal("a block's two lengths differ")
		}
		rest = rest[n:]
	}
	want := []map[uint16]uint64{{4: 100, 5: 3, 6: 50, 7: 7, 8: 2}, {4: 100, 5: 3, 6: 50, 7: 7, 8: 1}, {4: 100, 5: 3, 6: 50, 7: 7, 8: 0}} // of the third no frame came
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCompressed compares the files with the ones that are not.
func TestCompressed(t *testing.T) {
	dir := t.TempDir()
	read := func(name string) []byte {
		t.Helper()
		path := filepath.Join(dir, name)
		if _, err := write(t, FileConfig{Format: Pcap, Path: path}, frames(5000)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := read("x.pcap")
	g, err := gzip.NewReader(bytes.NewReader(read("x.pcap.gz")))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(g); err != nil || !bytes.Equal(b.Bytes(), plain) {
		t.Errorf("gzip: %d bytes, want %d: %v", b.Len(), len(plain), err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if got, err := z.DecodeAll(read("x.pcap.zst"), nil); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("zstd: %d bytes, want %d: %v", len(got), len(plain), err)
	}
}

func TestPcapHasOneLinkType(t *testing.T) {
	all := frames(30)
	all[20].Link = frame.LinkRaw
	path := filepath.Join(t.TempDir(), "x.pcap")
	failed := 0
	f, err := write(t, FileConfig{Format: Pcap, Path: path, Failed: func() { failed++ }}, all)
	want := "deliver: pcap: " + path + ": 20 frames written: frame 21 has link type 101, the ones before have 1, and a pcap file has one: write pcapng: instead"
	if fmt.Sprint(err) != want || failed != 1 || f.Book().Read().Out != 20 {
		t.Errorf("%v, failed %d, %+v", err, failed, f.Book().Read())
	}
}

// full is a disk with room for n bytes.
type full struct {
	bytes.Buffer
	n int
}

func (f *full) Write(b []byte) (int, error) {
	if f.Len()+len(b) > f.n {
		n, _ := f.Buffer.Write(b[:f.n-f.Len()])
		return n, syscall.ENOSPC
	}
	return f.Buffer.Write(b)
}

// TestFullDisk counts the frames that are whole in the file, and takes the others until the end.
func TestFullDisk(t *testing.T) {
	for _, format := range []Format{Pcap, Pcapng} {
		disk, failed := &full{n: 300_000}, 0
		f, err := write(t, FileConfig{Format: format, Path: "-", Stdout: disk, Failed: func() { failed++ }}, frames(10_000))
		n, _ := f.enc.whole(disk.Bytes())
		s := f.Book().Read()
		if want := fmt.Sprintf("deliver: %s: standard output: %d frames written: no space left on device", format, n); fmt.Sprint(err) != want ||
			!errors.Is(err, syscall.ENOSPC) || failed != 1 || s.Out != uint64(n) || n < 2000 || s.In != 10_000 {
			t.Errorf("%v, want %s; failed %d, %+v", err, want, failed, s)
		}
	}
}

func TestInputIsNotOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pcap")
	if _, err := write(t, FileConfig{Format: Pcap, Path: path}, frames(1)); err != nil {
		t.Fatal(err)
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFile(FileConfig{Path: link, Input: path}); err == nil || !strings.Contains(err.Error(), "is the capture that is read") {
		t.Error(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() == 0 || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
}

func TestTooLongAndEmpty(t *testing.T) {
	var b bytes.Buffer
	f, err := write(t, FileConfig{Format: Pcap, Path: "-", Stdout: &b}, []frame.Frame{{Data: make([]byte, MaxFrame+1)}})
	if s := f.Book().Read(); err != nil || s.Dropped[DropTooLong].N != 1 || b.Len() != pcapHeaderLen {
		t.Errorf("%v, %+v, %d bytes", err, s, b.Len())
	}
}

// TestGrows follows a file while frames come: nothing waits for the end.
func TestGrows(t *testing.T) {
	for _, name := range []string{"x.pcapng", "x.pcapng.gz", "x.pcapng.zst"} {
		path := filepath.Join(t.TempDir(), name)
		f, err := NewFile(FileConfig{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		in, done := make(chan frame.Batch), make(chan error, 1)
		go func() { done <- f.Run(context.Background(), in) }()
		in <- frame.Batch{Frames: frames(1)}
		for f.Book().Read().Out == 0 {
			select {
			case err := <-done:
				t.Fatal(err)
			case <-time.After(time.Millisecond):
			}
		}
		if st, err := os.Stat(path); err != nil || st.Size() < 50 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		close(in)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestEncodingAllocatesNothing(t *testing.T) {
	for _, format := range []Format{Pcap, Pcapng} {
		f, err := NewFile(FileConfig{Format: format, Path: "-", Stdout: &full{}})
		if err != nil {
			t.Fatal(err)
		}
		all, b := frames(64), make([]byte, 0, 64<<10)
		if n := testkit.Allocs(100, func() {
			b = b[:0]
			for i := range all {
				b, _ = f.enc.frame(b, &all[i], nil)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", format, n)
		}
	}
}
