package segment

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"crosstap/internal/collect/store"
)

// schemaVersion is in every footer and in the manifest; a reader refuses a newer one, and reads all older ones. Since 2 some columns are
// stored as differences; see stored.
const schemaVersion = 2

// footerKey is the name of our entry in the footer's key/value metadata.
const footerKey = "crosstap"

// file is what the manifest knows of one segment file. Name is the path below the table's
// folder: <YYYYMMDD>/<HH>/<level>-<minms>-<maxms>-<id>.parquet, with the least and greatest t_end.
type file struct {
	Name    string `json:"name"`
	Rows    int64  `json:"rows"`
	Bytes   int64  `json:"bytes"`
	MinMS   int64  `json:"min_ms"`   // least t_end
	MaxMS   int64  `json:"max_ms"`   // greatest t_end
	StartMS int64  `json:"start_ms"` // least t_start
	Level   int    `json:"level"`    // 0 as flushed or merged, 1 settled
	Sealed  bool   `json:"sealed"`   // the canonical rows are settled
	Columns int    `json:"columns"`  // 0 in files from before there were later ones

	Schema int    `json:"schema,omitempty"` // 0 for 1
	Known  uint64 `json:"known,omitempty"`  // version of the inventory that the rows go by, 0 for not known

	Of []string `json:"of,omitempty"` // roll-ups: the files whose rows it adds up

	Span   int64   `json:"span,omitempty"`   // merged roll-ups: the time that it is of, ms; 0 for an hour
	Except []int64 `json:"except,omitempty"` // merged roll-ups: hours whose rows in it no longer count

	Kinds []int `json:"kinds,omitempty"` // roll-ups: kinds of the segments in it; nil for not known

	Uncertain []uncertainHour `json:"uncertain,omitempty"` // roll-ups: hours of which the election left something open
	Full      []int64         `json:"full,omitempty"`      // roll-ups: hours in which no row lacks what another one of its flow knows

	byHour map[int64][]string // of Of, by the hour of the file
}

// uncertainHour is what the election of an hour has left open.
type uncertainHour struct {
	HourMS int64 `json:"hour_ms"`
	store.Uncertain
}

// hour is the start of the hour in whose folder the file is, in milliseconds.
func (f *file) hour() int64 { return hourOf(f.MaxMS) }

// touches reports whether rows of the file may end at or after from and start before to.
func (f *file) touches(fromMS, toMS int64) bool { return f.MaxMS >= fromMS && f.StartMS < toMS }

// footer is what a file says of itself, so that a lost manifest can be rebuilt.
type footer struct {
	Schema   int      `json:"schema"`
	Rows     int64    `json:"rows"`
	MinMS    int64    `json:"min_ms"`
	MaxMS    int64    `json:"max_ms"`
	StartMS  int64    `json:"start_ms"`
	Level    int      `json:"level"`
	Sealed   bool     `json:"sealed"`
	Columns  int      `json:"columns"`
	Replaces []string `json:"replaces,omitempty"` // names of the files whose rows these are
	Of       []string `json:"of,omitempty"`       // roll-ups: names of the files whose rows it adds up
	Span     int64    `json:"span,omitempty"`     // merged roll-ups: as in file
	Kinds    []int    `json:"kinds,omitempty"`    // roll-ups: as in file

	Uncertain []uncertainHour `json:"uncertain,omitempty"` // roll-ups: as in file
	Full      []int64         `json:"full,omitempty"`      // too

	// Ends are the roll-ups of which some hours do not count any more, since their rows are here: without the manifest nothing else tells it once
	// the files between are gone.
	Ends  map[string][]int64 `json:"ends,omitempty"`
	Group string             `json:"group,omitempty"` // the files of one merge belong together:
	Part  int                `json:"part,omitempty"`  // they replace only when all Parts are there
	Parts int                `json:"parts,omitempty"`
}

// count takes in a row's times.
func (f *footer) count(startMS, endMS int64) {
	if f.Rows++; f.Rows == 1 {
		f.MinMS, f.MaxMS, f.StartMS = endMS, endMS, startMS
		return
	}
	f.MinMS, f.MaxMS, f.StartMS = min(f.MinMS, endMS), max(f.MaxMS, endMS), min(f.StartMS, startMS)
}

const hourMS = int64(time.Hour / time.Millisecond)

func hourOf(ms int64) int64 {
	h := ms / hourMS
	if ms%hourMS < 0 {
		h--
	}
	return h * hourMS
}

// fileName builds a file's name from what it holds.
func fileName(level int, minMS, maxMS int64, id string) string {
	t := time.UnixMilli(maxMS).UTC()
	return fmt.Sprintf("%s/%s/l%d-%d-%d-%s.parquet", t.Format("20060102"), t.Format("15"), level, minMS, maxMS, id)
}

// validName reports whether name is one that fileName can have made: what is in a manifest or a
// footer is not to be trusted with a path.
func validName(name string) bool {
	part := strings.Split(belowKind(name), "/")
	if len(part) != 3 || len(part[0]) < 8 || len(part[1]) != 2 || !strings.HasSuffix(part[2], ".parquet") {
		return false
	}
	for _, c := range strings.TrimSuffix(part[0]+part[1]+part[2], ".parquet") {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return part[2][0] == 'l'
}

// encoder writes segment files; one can be used for many files, one after the other.
type encoder struct {
	w     *rowWriter[row]
	buf   [256]row
	n     int
	from  [blockRows]*row // taken and not yet written
	held  int
	picks picker
	foot  footer
}

// sortColumns are those that the rows of a file are in the order of.
var sortColumns = []string{"segment", "src", "dst", "t_end"}

// newEncoder returns an encoder. Level 0 files are made for speed, level 1 files for size.
func newEncoder(level int) *encoder {
	if level == 0 {
		return &encoder{w: newRowWriter[row](nil, rowGroupRows, pageRows, sortColumns, pruned)}
	}
	small := zstd.SpeedDefault
	return &encoder{w: newRowWriter[row](&small, rowGroupRows, pageRows, sortColumns, slices.Concat(pruned, prunedSorted))}
}

// pruned are the columns whose least and greatest values are kept, so that queries can leave out row groups; prunedSorted
// those that pay in large files only. For others they would say nothing in a file of this order.
var (
	pruned       = []string{"segment", "src", "dst", "t_end"}
	prunedSorted = []string{"fabric", "tenant"}
)

const (
	rowGroupRows  = 1 << 15 // rows to a row group: what questions read or leave out as a whole, and read in parallel
	rollGroupRows = 1 << 13 // of roll-ups: a segment has few rows in each
	pageRows      = 1 << 15
)

// reset starts a new file.
func (e *encoder) reset(out io.Writer, level int, sealed bool) {
	e.w.reset(out)
	e.n, e.held, e.foot = 0, 0, footer{Schema: schemaVersion, Level: level, Sealed: sealed, Columns: len(storedColumns)}
}

// next returns the row to fill; call added after filling it.
func (e *encoder) next() *row { return &e.buf[e.n] }

// added takes the row that next returned.
func (e *encoder) added() error {
	r := &e.buf[e.n]
	e.foot.count(r.tStart(), r.TEnd)
	if e.n++; e.n < len(e.buf) {
		return nil
	}
	return e.drain()
}

// take takes a row that stays as it is until drain. What next returned must have been drained.
func (e *encoder) take(r *row) error {
	e.foot.count(r.tStart(), r.TEnd)
	e.from[e.held] = r
	if e.held++; e.held < len(e.from) {
		return nil
	}
	return e.drain()
}

func (e *encoder) drain() error {
	err := e.w.write(e.buf[:e.n])
	if err == nil {
		err = e.w.writeFrom(e.from[:e.held])
	}
	e.n, e.held = 0, 0
	return err
}

// finish writes the footer.
func (e *encoder) finish(replaces []string) error {
	if err := e.drain(); err != nil {
		return err
	}
	e.foot.Replaces = replaces
	text, err := json.Marshal(e.foot)
	if err != nil {
		return err
	}
	return e.w.close(footerKey, string(text))
}

// describe says what the manifest should know of the file just finished.
func (e *encoder) describe(name string, bytes int64) file {
	f := e.foot
	return file{Name: name, Rows: f.Rows, Bytes: bytes, MinMS: f.MinMS, MaxMS: f.MaxMS, StartMS: f.StartMS, Level: f.Level, Sealed: f.Sealed, Columns: f.Columns, Schema: schemaVersion}
}

// publish makes the bytes of a temporary file durable under its final name: fsync, rename, fsync of
// the folder. The temporary file is removed when that fails.
func publish(tmp *os.File, final string) error {
	err := tmp.Sync()
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = rename(tmp.Name(), final)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return err
	}
	step()
	if err := syncDir(filepath.Dir(final)); err != nil {
		os.Remove(final) // the caller will write these rows again
		return err
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// makeDirs is MkdirAll below root with durable names.
func makeDirs(root, sub string) error {
	dir := root
	for part := range strings.SplitSeq(sub, "/") {
		parent := dir
		dir = filepath.Join(dir, part)
		switch err := os.Mkdir(dir, 0o750); {
		case err == nil:
			if err := syncDir(parent); err != nil {
				return err
			}
		case !os.IsExist(err):
			return err
		}
	}
	return nil
}

// readFooter opens a segment file and returns what it says of itself. Any damage that shows without
// reading the pages is an error.
func readFooter(path string) (footer, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return footer{}, 0, err
	}
	defer f.Close()
	pf, size, err := openParquet(f)
	if err != nil {
		return footer{}, size, err
	}
	text, ok := pf.Lookup(footerKey)
	if !ok {
		return footer{}, size, fmt.Errorf("no %q entry in the footer", footerKey)
	}
	var foot footer
	if err := json.Unmarshal([]byte(text), &foot); err != nil {
		return footer{}, size, fmt.Errorf("footer: %w", err)
	}
	switch {
	case foot.Schema > schemaVersion || foot.Schema < 1:
		return footer{}, size, fmt.Errorf("schema %d, this version reads 1 to %d", foot.Schema, schemaVersion)
	case foot.Rows != pf.NumRows():
		return footer{}, size, fmt.Errorf("footer says %d rows, the file has %d", foot.Rows, pf.NumRows())
	}
	return foot, size, nil
}

// openParquet reads a file's footer; a file that makes the library panic is as damaged as one that
// makes it fail.
func openParquet(f *os.File) (pf *parquet.File, size int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			pf, err = nil, fmt.Errorf("damaged: %v", p)
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	pf, err = parquet.OpenFile(f, st.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	return pf, st.Size(), err
}

// verify reads a whole file and says what is wrong with it.
func verify(path string, want file) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != want.Bytes {
		return fmt.Errorf("%d bytes, the manifest says %d", st.Size(), want.Bytes)
	}
	var n int64
	if want.isRollup() {
		err = eachRollup(f, func(*rollup) error { n++; return nil })
	} else {
		err = readRows(f, func(*row) error { n++; return nil })
	}
	if err != nil {
		return err
	}
	if n != want.Rows {
		return fmt.Errorf("%d rows, the manifest says %d", n, want.Rows)
	}
	return nil
}

// readRows calls each with every row of a file, in order, with the columns named, all without names; the row
// is reused.
func readRows(f *os.File, each func(*row) error, names ...string) error {
	return scanRows(f, false, nil, each, names)
}

// scanRows calls each with every row of a file. With frugal each does not change the rows; t are texts that several files share.
func scanRows[T any](f *os.File, frugal bool, t sharedTexts, each func(*T) error, names []string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	s, err := newScanner[T](f, names...)
	if err != nil {
		return err
	}
	s.frugal, s.texts = frugal, t
	return eachOf(s, each)
}

// eachOf calls each with every row; the row is reused.
func eachOf[T any](s *scanner[T], each func(*T) error) error {
	defer s.close()
	buf := make([]T, cursorRows)
	for {
		n, err := s.read(buf)
		for i := range n {
			if err := each(&buf[i]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
