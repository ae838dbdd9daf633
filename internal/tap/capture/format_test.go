package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// TestEditcap compares the bytes of frames with what editcap makes of a capture: a little-endian
// nanosecond file, read here by the dozen lines below.
func TestEditcap(t *testing.T) {
	tool := testkit.Tool(t, "editcap")
	for i, path := range captures(t) {
		if i%9 != 0 && filepath.Ext(path) != ".pcapng" {
			continue
		}
		converted := filepath.Join(t.TempDir(), "x")
		said, err := exec.Command(tool, "-F", "nsecpcap", path, converted).CombinedOutput()
		if err != nil || len(said) > 0 {
			continue // damaged, or link types that a classic file cannot hold together
		}
		want, err := os.ReadFile(converted)
		if err != nil || len(want) < 24 || binary.LittleEndian.Uint32(want[20:]) == linkSunATM {
			continue
		}
		frames, err := readFile(t, path)
		if err != nil && !errors.Is(err, ErrCut) {
			t.Errorf("%s: %v", path, err)
			continue
		}
		want = want[24:]
		for n, f := range frames {
			if len(want) < 16 {
				t.Errorf("%s: frame %d is not in editcap's copy", path, n+1)
				break
			}
			size := int(binary.LittleEndian.Uint32(want[8:]))
			if !bytes.Equal(f.Data, want[16:16+size]) || f.OrigLen != int(binary.LittleEndian.Uint32(want[12:])) {
				t.Errorf("%s: frame %d differs: %d of %d bytes, editcap has %d", path, n+1, len(f.Data), f.OrigLen, size)
				break
			}
			want = want[16+size:]
		}
	}
}

// TestByteOrders reads the conformance captures of pcapng, written in both byte orders.
func TestByteOrders(t *testing.T) {
	dir := testkit.Corpus(t, "tap/gopacket/pcapgo/tests")
	files, err := filepath.Glob(filepath.Join(dir, "le", "*.pcapng"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, le := range files {
		be := filepath.Join(dir, "be", filepath.Base(le))
		got, gotErr := readFile(t, le)
		want, wantErr := readFile(t, be)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: big endian and little endian differ:\n%s", filepath.Base(le), diff)
		}
		if (gotErr == nil) != (wantErr == nil) {
			t.Errorf("%s: %v, but %v", filepath.Base(le), gotErr, wantErr)
		}
	}
}

// TestCompressed reads the same frames from a compressed capture, and from readers that give them in pieces.
func TestCompressed(t *testing.T) {
	plain, err := os.ReadFile(testkit.Corpus(t, "tap/gopacket/layers/testdata/modbus.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := readAll(t, bytes.NewReader(plain))
	if err != nil || len(want) != 102 {
		t.Fatalf("%d frames, %v", len(want), err)
	}
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, _ := zstd.NewWriter(&zs)
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	f := func(name string, got []frame.Frame, err error) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	got, err := readAll(t, &gz)
	f("gzip", got, err)
	got, err = readAll(t, &zs)
	f("zstd", got, err)
	got, err = readAll(t, iotest.OneByteReader(bytes.NewReader(plain)))
	f("one byte at a time", got, err)
	got, err = readAll(t, iotest.DataErrReader(bytes.NewReader(plain)))
	f("data together with the end", got, err)
}

// TestEveryPrefix cuts captures at every byte: all whole frames are delivered, then comes an error that
// names the cut.
func TestEveryPrefix(t *testing.T) {
	for _, name := range []string{"tap/gopacket/pcap/test_dns.pcap", "tap/gopacket/pcapgo/tests/be/test102.pcapng"} {
		whole, err := os.ReadFile(testkit.Corpus(t, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := readAll(t, bytes.NewReader(whole))
		if err != nil {
			t.Fatal(err)
		}
		last := 0
		for n := 30; n < len(whole); n++ {
			got, err := readAll(t, bytes.NewReader(whole[:n]))
			if len(got) < last || len(got) > len(want) {
				t.Fatalf("%s cut at %d: %d frames, %d before", name, n, len(got), last)
			}
			last = len(got)
			if diff := cmp.Diff(want[:len(got)], got); diff != "" && len(got) > 0 {
				t.Fatalf("%s cut at %d:\n%s", name, n, diff)
			}
			if err != nil && !errors.Is(err, ErrCut) {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	header := "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00"
	record := "\x01\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00\x04\x00\x00\x00abcd"
	f := func(input string, frames int, want string) {
		t.Helper()
		got, err := readAll(t, strings.NewReader(input))
		if len(got) != frames {
			t.Errorf("%d frames, want %d", len(got), frames)
		}
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	f("", 0, "capture: test: offset 0: there is nothing in it: want a pcap or pcapng capture, such as tcpdump -w or dumpcap write")
	f("\xd4\xc3", 0, "capture: test: offset 0: 2 bytes are too few for a capture file: the capture is cut short")
	f("hello world", 0, "capture: test: offset 0: 68656c6c is not the start of a pcap or pcapng capture; Wireshark's editcap turns most others into one")
	f("\xfd7zXZ\x00", 0, "capture: test: it is compressed with xz; gzip and zstd are read as they are: give xz -dc FILE | crosstap tap -r -")
	f(header[:23], 0, "capture: test: offset 0: the file header needs 24 bytes, 23 are left: the capture is cut short")
	f(header+record+record[:19], 1, "capture: test: offset 44: the record needs 20 bytes, 19 are left: the capture is cut short")
	f(header+record+record[:3], 1, "capture: test: offset 44: 3 bytes are too few for a record: the capture is cut short")
	f(header+record+strings.Repeat("\xff", 30), 1,
		"capture: test: offset 44: frame 2: 4294967295 bytes captured are more than a frame can have (262144): the capture is damaged here")
	section := "\x0a\x0d\x0d\x0a\x1c\x00\x00\x00\x4d\x3c\x2b\x1a\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x1c\x00\x00\x00"
	f(section[:8]+"abcd"+section[12:], 0, "capture: test: offset 0: section header: byte-order magic 64636261 is not known")
	f(section+"\x06\x00\x00\x00\x20\x00\x00\x00"+strings.Repeat("\x00", 20)+"\x20\x00\x00\x00", 0,
		"capture: test: offset 28: frame 1: interface 0 is not described; the section has 0")
	f(section+"\x01\x00\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00", 0,
		"capture: test: offset 28: block of type 0x00000001: a length of 13 is not possible: the capture is damaged here")
	f(section+"\x99\x00\x00\x00\xf0\xff\xff\x7f\x00\x00\x00\x00", 0,
		"capture: test: offset 28: the record needs 2147483632 bytes, 12 are left: the capture is cut short")
}

// TestModified reads a record of the modified format: 24 bytes of header, the packet type among them.
func TestModified(t *testing.T) {
	in := "\xa1\xb2\xcd\x34\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x01" +
		"\x00\x00\x00\x05\x00\x00\x00\x07\x00\x00\x00\x02\x00\x00\x00\x09\x00\x00\x00\x03\x08\x00\x04\x00xy"
	got, err := readAll(t, strings.NewReader(in))
	want := []frame.Frame{{Data: []byte("xy"), OrigLen: 9, TimeNS: 5_000_007_000, Link: frame.LinkEthernet, Dir: frame.Egress}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// TestOldLengths reads a frame of 3 bytes of which 2 were captured, from files whose writers had the two lengths the one way or the other, and one with a frame
// check sequence of 2 bytes.
func TestOldLengths(t *testing.T) {
	f := func(version, network, lengths, data string, want frame.Frame) {
		t.Helper()
		in := "\xd4\xc3\xb2\xa1" + version + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00" + network + "\x05\x00\x00\x00\x07\x00\x00\x00" + lengths + data
		want.TimeNS, want.Link, want.Dir = 5_000_007_000, frame.LinkEthernet, frame.Unknown
		got, err := readAll(t, strings.NewReader(in))
		if diff := cmp.Diff([]frame.Frame{want}, got); diff != "" || err != nil {
			t.Errorf("version %x, lengths %x: %v\n%s", version, lengths, err, diff)
		}
	}
	const ethernet, three, two = "\x01\x00\x00\x00", "\x03\x00\x00\x00", "\x02\x00\x00\x00"
	cut := frame.Frame{Data: []byte("xy"), OrigLen: 3}
	f("\x02\x00\x04\x00", ethernet, two+three, "xy", cut)
	f("\x02\x00\x03\x00", ethernet, two+three, "xy", cut)
	f("\x02\x00\x03\x00", ethernet, three+two, "xy", cut)
	f("\x02\x00\x02\x00", ethernet, three+two, "xy", cut)
	f("\x02\x00\x04\x00", "\x01\x00\x00\x14", three+three, "xyz", frame.Frame{Data: []byte("x"), OrigLen: 1})
}

func TestTimeUnits(t *testing.T) {
	f := func(resolution byte, offset int64, ticks uint64, want int64) {
		t.Helper()
		i := iface{exponent: resolution & 0x7f, binary: resolution&0x80 != 0, offsetNS: offset}
		i.scale()
		if got := i.timeNS(ticks); got != want {
			t.Errorf("resolution 0x%02x, offset %d, %d ticks: %d ns, want %d", resolution, offset, ticks, got, want)
		}
	}
	f(6, 0, 1_500_000, 1_500_000_000)
	f(0, 0, 7, 7_000_000_000)
	f(9, 3_000_000_000, 42, 3_000_000_042)
	f(9, -50, 42, -8)
	f(12, 0, 1_999, 1)
	f(0x80, 0, 3, 3_000_000_000)
	f(0x81, 0, 3, 1_500_000_000)
	f(0x8a, 0, 1<<20|512, 1024_500_000_000)
	f(0xa0, 0, 1<<32|1<<31, 1_500_000_000)
	f(0xc0, 0, 1<<63, 500_000_000)
	f(0xff, 0, 1<<63, 0)
	f(6, 0, 1<<63, 1<<63-1)
	f(0x7f, 0, 1<<63, 0)
}

// TestAllocations counts what reading a long capture allocates per batch.
func TestAllocations(t *testing.T) {
	in := largeCapture()
	p, n, err := newPcap(in)
	if err != nil {
		t.Fatal(err)
	}
	fs := make([]frame.Frame, 0, batchFrames)
	if got := testkit.Allocs(100, func() {
		if _, _, _, _, err := p.decode(in[n:], fs); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations per batch", got)
	}
}

// largeCapture is 20,000 frames of 50 to 1,049 bytes.
func largeCapture() []byte {
	b := []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00")
	for i := range 20000 {
		size := 50 + i*37%1000
		for _, v := range []uint32{1e9, uint32(i), uint32(size), uint32(size)} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	return b
}

// TestLargeCapture reads a capture of many chunks.
func TestLargeCapture(t *testing.T) {
	got, err := readAll(t, bytes.NewReader(largeCapture()))
	if err != nil || len(got) != 20000 {
		t.Fatalf("%d frames, %v", len(got), err)
	}
	for i, f := range got {
		if len(f.Data) != 50+i*37%1000 || f.Data[0] != byte(i) || f.TimeNS != 1e18+int64(i)*1000 {
			t.Fatalf("frame %d: %d bytes of %d at %d", i, len(f.Data), f.Data[0], f.TimeNS)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(largeCapture()[:2000])
	for _, name := range []string{"le/test102.pcapng", "be/test006.pcapng", "le/test202.pcapng", "be/test901.pcapng"} {
		if b, err := os.ReadFile(filepath.Join(testkit.ModuleDir(f), "..", "shared", "corpus", "tap", "gopacket", "pcapgo", "tests", name)); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, _ := readAll(t, bytes.NewReader(b))
		for _, fr := range whole {
			if len(fr.Data) > MaxFrame {
				t.Fatalf("a frame of %d bytes", len(fr.Data))
			}
		}
		pieces, _ := readAll(t, iotest.HalfReader(bytes.NewReader(b)))
		if diff := cmp.Diff(whole, pieces); diff != "" {
			t.Fatalf("read in pieces it differs:\n%s", diff)
		}
	})
}
