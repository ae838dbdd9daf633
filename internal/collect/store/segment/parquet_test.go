package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"crosstap/internal/testkit"
)

// TestHybrid: indexes in the form of the format's description (Parquet format, Encodings, "Run Length Encoding / Bit-Packing Hybrid"),
// whose example packs 0 to 7 in three bits each.
func TestHybrid(t *testing.T) {
	f := func(want string, width uint, runs ...indexRun) {
		t.Helper()
		h := hybrid{width: width}
		for _, r := range runs {
			h.add(r.index, int(r.n))
		}
		if got := fmt.Sprintf("%x", h.finish()); got != want {
			t.Errorf("%v: %s, want %s", runs, got, want)
		}
	}
	var eight []indexRun
	for i := range uint32(8) {
		eight = append(eight, indexRun{i, 1})
	}
	f("0388c6fa", 3, eight...)
	f("1005", 3, indexRun{5, 8})                                   // 8 times 5
	f("c80105", 3, indexRun{5, 100})                               // a length of two bytes
	f("0301", 1, indexRun{1, 1})                                   // filled up with zeros
	f("057f1f", 1, indexRun{1, 7}, indexRun{0, 1}, indexRun{1, 5}) // two groups, the second one filled up
	f("03ff1200", 1, indexRun{1, 7}, indexRun{1, 1}, indexRun{0, 9})
}

// TestWriter: what is written is read the same by the library and by ours, whatever the values: few or many different ones, runs, several pages and
// row groups, none at all; one writer for all.
func TestWriter(t *testing.T) {
	fast := zstd.SpeedFastest
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, level := range []*zstd.EncoderLevel{nil, &fast} {
		w := newRowWriter[row](level, rowGroupRows, 700, sortColumns, append([]string{"fabric", "tenant"}, pruned...))
		for _, n := range []int{0, 1, 255, 5000, rowGroupRows + 3} {
			if n > 5000 && level != nil {
				continue
			}
			rows := mixed(rnd, n)
			var b bytes.Buffer
			w.reset(&b)
			for at := 0; at < n; at += 256 {
				if err := w.write(rows[at:min(at+256, n)]); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.close("a", "b"); err != nil {
				t.Fatal(err)
			}
			theirs, err := parquet.Read[row](bytes.NewReader(b.Bytes()), int64(b.Len()))
			if err != nil && err != io.EOF {
				t.Fatalf("%d rows: %v", n, err)
			}
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			var ours []row
			if err := readRows(in, func(r *row) error { ours = append(ours, *r); return nil }); err != nil {
				t.Fatalf("%d rows: %v", n, err)
			}
			in.Close()
			if len(theirs) != n || len(ours) != n {
				t.Fatalf("%d rows: the library reads %d, we %d", n, len(theirs), len(ours))
			}
			for i := range rows {
				if rows[i] != theirs[i] || rows[i] != ours[i] {
					t.Fatalf("row %d of %d (-written +library):\n%s\n(-written +ours):\n%s", i, n, cmp.Diff(rows[i], theirs[i]), cmp.Diff(rows[i], ours[i]))
				}
			}
		}
	}
}

// mixed makes rows of which some columns stay the same for long, some change with each row and some are one value.
func mixed(rnd *rand.Rand, n int) []row {
	rows := make([]row, n)
	for i := range rows {
		r := &rows[i]
		if i > 0 && rnd.IntN(3) > 0 {
			*r = rows[i-1]
		}
		if rnd.IntN(20) == 0 {
			rec := random(rnd)
			r.fill(&rec)
		}
		r.TEnd, r.Octets, r.SrcPort, r.FlowKey = rnd.Int64(), rnd.Uint64(), uint16(rnd.Uint32()), rnd.Uint64()
		r.Packets, r.DstMAC = uint64(rnd.IntN(3)), rnd.Uint64()>>uint(rnd.IntN(64))
		r.Fabric, r.SrcVM = "default", fmt.Sprint("vm", rnd.IntN(9000))
		r.Dst[15] = byte(rnd.IntN(200))
	}
	return rows
}

// TestWriterBounds: the least and greatest values that let readers leave row groups out.
func TestWriterBounds(t *testing.T) {
	w := newRowWriter[row](nil, rowGroupRows, pageRows, sortColumns, []string{"segment", "t_end", "src", "tenant"})
	var b bytes.Buffer
	w.reset(&b)
	if err := w.write([]row{{Segment: 1 << 63, TEnd: -1, Src: [16]byte{9}, Tenant: "b"}, {Segment: 5, TEnd: 7, Src: [16]byte{1, 2}, Tenant: "a"}, {Segment: 6, TEnd: -300, Src: [16]byte{255}, Tenant: "ab"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.close("a", "b"); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.Metadata().RowGroups[0].Columns {
		got := fmt.Sprintf("%x %x", c.MetaData.Statistics.MinValue, c.MetaData.Statistics.MaxValue)
		want := map[string]string{"segment": "0500000000000000 0000000000000080", "t_end": "d4feffffffffffff 0700000000000000",
			"src": "01020000000000000000000000000000 ff000000000000000000000000000000", "tenant": "61 62"}[c.MetaData.PathInSchema[0]]
		if want == "" {
			want = " "
		}
		if got != want {
			t.Errorf("%s: %s, want %s", c.MetaData.PathInSchema[0], got, want)
		}
	}
}

// TestWriterDifferences: a compressed file has differences where they take no more room, and looks again when the rows change. Readers find what was written.
func TestWriterDifferences(t *testing.T) {
	level := zstd.SpeedDefault
	const groupRows = 500
	w := newRowWriter[row](&level, groupRows, groupRows, sortColumns, pruned)
	rnd := rand.New(rand.NewPCG(5, 6))
	rows := make([]row, (tryAfter+2)*groupRows)
	for i := range rows {
		r := &rows[i]
		if r.TEnd = rnd.Int64N(1024); i > 0 {
			r.TEnd += rows[i-1].TEnd
		}
		r.FlowKey = rnd.Uint64() >> (63 * (i & 1)) // every second one is 0 or 1
		if r.SpanMS = r.TEnd; i < tryAfter*groupRows {
			r.SpanMS = int64(i / 100)
		}
	}
	var b bytes.Buffer
	w.reset(&b)
	if err := errors.Join(w.write(rows), w.close("a", "b")); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range f.Metadata().RowGroups {
		for _, c := range g.Columns {
			m := c.MetaData
			var want format.Encoding
			switch m.PathInSchema[0] {
			case "t_end":
				want = format.DeltaBinaryPacked
			case "span_ms":
				if want = format.Plain; i >= tryAfter {
					want = format.DeltaBinaryPacked
				}
			case "flow_key":
				want = format.Plain
			default:
				continue
			}
			if !slices.Equal(m.Encoding, []format.Encoding{want}) {
				t.Errorf("row group %d: %s has %v, want %s", i, m.PathInSchema[0], m.Encoding, want)
			}
			if m.Codec != format.Zstd { // readers take that of the first row group for all
				t.Errorf("row group %d: %s has codec %s", i, m.PathInSchema[0], m.Codec)
			}
		}
	}
	if got, err := parquet.Read[row](bytes.NewReader(b.Bytes()), int64(b.Len())); err != nil || !slices.Equal(got, rows) {
		t.Errorf("the library reads other rows (%v)", err)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	n := 0
	if err := readRows(in, func(r *row) error {
		if *r != rows[n] {
			return fmt.Errorf("row %d (-written +ours):\n%s", n, cmp.Diff(rows[n], *r))
		}
		n++
		return nil
	}); err != nil || n != len(rows) {
		t.Errorf("%d of %d rows read: %v", n, len(rows), err)
	}
}

// TestWriterKeeps: a batch of rows that writer has seen the like of costs it no memory but the file's own description.
func TestWriterKeeps(t *testing.T) {
	w := newRowWriter[row](nil, rowGroupRows, pageRows, sortColumns, pruned)
	rows := mixed(rand.New(rand.NewPCG(1, 1)), 2000)
	w.reset(io.Discard)
	if err := w.write(rows); err != nil {
		t.Fatal(err)
	}
	w.reset(io.Discard)
	if n := testkit.Allocs(3, func() {
		w.reset(io.Discard)
		if err := w.write(rows); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestOneValueInSomeRowGroups: columns that say one thing in some row groups and several in others are read alike, by who reads pages of one value and by who does not.
func TestOneValueInSomeRowGroups(t *testing.T) {
	best := zstd.SpeedDefault
	for _, level := range []*zstd.EncoderLevel{nil, &best} {
		var want []row
		for group := range 6 {
			for i := range 1000 {
				r := row{Segment: uint64(group / 2), TEnd: int64(group*1000 + i), Packets: 7, Tenant: "blue", Src: [16]byte{15: byte(group)}, Marks: uint16(group & 1)}
				if group%2 == 1 {
					r.Segment, r.Tenant, r.Src[0], r.Packets = uint64(group/2+i/500), fmt.Sprint("tenant-", i%5), byte(i%3), uint64(i%4)
				}
				want = append(want, r)
			}
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "x.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := newRowWriter[row](level, 1000, 400, sortColumns, pruned)
		w.reset(f)
		if err := w.write(want); err != nil {
			t.Fatal(err)
		}
		if err := w.close(footerKey, "{}"); err != nil {
			t.Fatal(err)
		}
		for _, frugal := range []bool{false, true} {
			for _, size := range []int{1, 128, 700} {
				s, err := newScanner[row](f)
				if err != nil {
					t.Fatal(err)
				}
				s.frugal = frugal
				var got []row
				buf := make([]row, size)
				for {
					n, err := s.read(buf)
					got = append(got, buf[:n]...)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatalf("frugal %v, %d rows: %v", frugal, size, err)
					}
				}
				s.close()
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("frugal %v, %d rows: %s", frugal, size, diff)
				}
			}
		}
	}
}
