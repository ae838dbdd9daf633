package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// readAll runs a source over r and returns copies of its frames.
func readAll(tb testing.TB, r io.Reader) ([]frame.Frame, error) {
	tb.Helper()
	src, err := NewFile(FileConfig{Reader: r, Path: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	out := make(chan frame.Batch)
	done := make(chan error, 1)
	go func() {
		done <- src.Run(context.Background(), out)
		close(out)
	}()
	var all []frame.Frame
	for b := range out {
		for _, f := range b.Frames {
			f.Data = bytes.Clone(f.Data)
			all = append(all, f)
		}
		b.Release()
	}
	st := src.Book().Read()
	if err := st.Balance(); err != nil || st.Out != uint64(len(all)) {
		tb.Errorf("ledger: %+v, %d frames: %v", st, len(all), err)
	}
	return all, <-done
}

func captures(t *testing.T) []string {
	var files []string
	for _, dir := range []string{"tap", "collect"} {
		err := filepath.WalkDir(testkit.Corpus(t, dir), func(path string, _ os.DirEntry, err error) error {
			switch filepath.Ext(path) {
			case ".pcap", ".pcapng", ".cap", ".trace":
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// facts is what capinfos says of a capture.
type facts struct {
	Frames, Octets int64
	First, Last    int64 // nanoseconds, 0 when capinfos gives none
}

// TestCapinfos compares frames, octets and times of every capture with Wireshark's reader.
func TestCapinfos(t *testing.T) {
	tool := testkit.Tool(t, "capinfos")
	files := captures(t)
	// The exit status tells only that some file is damaged; so are some of the corpus.
	table, err := exec.Command(tool, append([]string{"-TMrS", "-c", "-d", "-a", "-e"}, files...)...).Output()
	if len(table) == 0 {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(table)) {
		col := strings.Split(strings.TrimSpace(line), "\t")
		want := facts{Frames: number(t, col[1]), Octets: number(t, col[2]), First: nanoseconds(col[3]), Last: nanoseconds(col[4])}
		frames, err := readFile(t, col[0])
		if errors.Is(err, ErrCut) {
			err = nil // capinfos counts what is there, too
		}
		if err != nil {
			if exec.Command("tcpdump", "-n", "-r", col[0]).Run() == nil {
				t.Errorf("%s: %v; capinfos says %+v, and tcpdump reads it", col[0], err, want)
			}
			continue
		}
		got := factsOf(frames)
		if want.First == 0 && want.Last == 0 || impossibleTimes(t, col[0]) {
			got.First, got.Last, want.First, want.Last = 0, 0, 0, 0
		}
		if len(frames) > 0 && frames[0].Link == linkSunATM {
			got.Octets = want.Octets // Wireshark takes four bytes of each frame as meta data
		}
		if got != want {
			want = tsharkFacts(t, col[0]) // capinfos loses its way when a hostile capture goes back in time
		}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", col[0], got, want)
		}
		compared++
	}
	if compared < len(files)*9/10 {
		t.Errorf("only %d of %d captures compared", compared, len(files))
	}
}

func tsharkFacts(t *testing.T, path string) facts {
	table, _ := exec.Command(testkit.Tool(t, "tshark"), "-r", path, "-T", "fields", "-e", "frame.len", "-e", "frame.time_epoch").Output()
	var frames []frame.Frame
	for line := range strings.Lines(string(table)) {
		size, epoch, _ := strings.Cut(strings.TrimSpace(line), "\t")
		frames = append(frames, frame.Frame{OrigLen: int(number(t, size)), TimeNS: nanoseconds(epoch)})
	}
	return factsOf(frames)
}

const linkSunATM = 123

// impossibleTimes reports whether a classic capture has a fraction of a second of a second or more.
// capinfos then computes with 32 bits.
func impossibleTimes(t *testing.T, path string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if len(b) < 24 {
		return false
	}
	if b[0] == 0xa1 {
		order = binary.BigEndian
	}
	limit := map[uint32]uint32{magicMicro: 1e6, magicNano: 1e9}[order.Uint32(b)]
	for b = b[24:]; limit != 0 && len(b) >= 16; {
		if order.Uint32(b[4:]) >= limit {
			return true
		}
		b = b[min(len(b), 16+int(order.Uint32(b[8:]))):]
	}
	return false
}

func readFile(t *testing.T, path string) ([]frame.Frame, error) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readAll(t, f)
}

func factsOf(frames []frame.Frame) facts {
	got := facts{Frames: int64(len(frames)), First: math.MaxInt64}
	for _, f := range frames {
		got.Octets += int64(f.OrigLen)
		got.First, got.Last = min(got.First, f.TimeNS), max(got.Last, f.TimeNS)
	}
	if len(frames) == 0 {
		got.First = 0
	}
	return got
}

func number(t *testing.T, s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// nanoseconds reads "seconds.fraction"; "n/a" gives 0.
func nanoseconds(s string) int64 {
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0
	}
	for len(frac) < 9 {
		frac += "0"
	}
	ns, _ := strconv.ParseInt(frac[:9], 10, 64)
	return sec*1e9 + ns
}
