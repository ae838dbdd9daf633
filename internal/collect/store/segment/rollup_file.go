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

	"crosstap/internal/flow"
)

// The folders of roll-ups and of links, and what their names begin with. Links are made from a merged roll-up and have its name: those of its whole time,
// and of a day also those of its quarters.
const (
	rollupDir   = "r1h"
	linksDir    = "links"
	quartersDir = "links6h"
)

// rollupKinds are these folders.
var rollupKinds = []string{rollupDir, linksDir, quartersDir}

// kindOf is the folder of a file's kind, "" for a segment file, whose name has none.
func kindOf(name string) string {
	kind, _, _ := strings.Cut(name, "/")
	if slices.Contains(rollupKinds, kind) {
		return kind
	}
	return ""
}

// rollupStep is the bucket of stored roll-ups. It is the unit of sealing.
const rollupStep = time.Hour

// isRollup reports whether the file is a roll-up, or the links of one.
func (f *file) isRollup() bool { return isRollup(f.Name) }

func isRollup(name string) bool { return kindOf(name) != "" }

func isLinks(name string) bool { return isRollup(name) && kindOf(name) != rollupDir }

// belowKind is a name without the folder of its kind.
func belowKind(name string) string { return strings.TrimPrefix(name, kindOf(name)+"/") }

// linksOf is the name of a roll-up's links, quartersOf that of its quarters' links, rollupOf that of the roll-up.
func linksOf(name string) string    { return linksDir + "/" + belowKind(name) }
func quartersOf(name string) string { return quartersDir + "/" + belowKind(name) }
func rollupOf(links string) string  { return rollupDir + "/" + belowKind(links) }

// root is the folder that a file's name is below of.
func (s *Store) root(name string) string {
	if kind := kindOf(name); kind != "" {
		return filepath.Join(s.cfg.Dir, kind, "v1")
	}
	return s.table
}

// path is where a file of that name is.
func (s *Store) path(name string) string { return filepath.Join(s.root(name), belowKind(name)) }

// rollupWriter writes a roll-up file.
type rollupWriter struct {
	w    *rowWriter[rollup]
	buf  []rollup
	foot footer
}

func newRollupWriter(out io.Writer, groupRows int) *rollupWriter {
	sorted, level := []string{"segment", "src", "dst", "bucket"}, zstd.SpeedDefault
	w := newRowWriter[rollup](&level, groupRows, pageRows, sorted, slices.Concat(sorted, prunedSorted))
	w.reset(out)
	return &rollupWriter{w: w, foot: footer{Schema: schemaVersion, Level: 1, Sealed: true, Columns: len(storedRollup)}}
}

// add is the emit of a rollupBuilder.
func (w *rollupWriter) add(r *rollup) error {
	f := &w.foot
	if f.Rows == 0 {
		f.MinMS, f.MaxMS, f.StartMS = r.LastSeen, r.LastSeen, r.FirstSeen
	}
	f.MinMS, f.MaxMS, f.StartMS = min(f.MinMS, r.LastSeen), max(f.MaxMS, r.LastSeen), min(f.StartMS, r.FirstSeen)
	f.Rows++
	if kind := int(flow.Segment(r.Segment).Kind()); len(f.Kinds) == 0 || f.Kinds[len(f.Kinds)-1] != kind { // they ascend
		f.Kinds = append(f.Kinds, kind)
	}
	if w.buf = append(w.buf, *r); len(w.buf) < 256 {
		return nil
	}
	return w.drain()
}

func (w *rollupWriter) drain() error {
	err := w.w.write(w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *rollupWriter) finish() error {
	if err := w.drain(); err != nil {
		return err
	}
	text, err := json.Marshal(w.foot)
	if err != nil {
		return err
	}
	return w.w.close(footerKey, string(text))
}

// createRollup writes the roll-up of an hour. fill adds the rows and returns the files that they are from; they are durable
// before the roll-up is. replaces are the roll-ups that it stands for.
func (s *Store) createRollup(hour int64, e election, replaces []string, fill func(*rollupBuilder) ([]file, error)) ([]file, error) {
	var w *rollupWriter
	var of []string
	name, size, err := s.create(func(out io.Writer) error {
		w = newRollupWriter(out, rollGroupRows)
		b := newRollupBuilder(rollupStep.Milliseconds(), e.known, w.add)
		from, err := fill(b)
		if err != nil {
			return err
		}
		for _, f := range from {
			of = append(of, f.Name)
		}
		if err := b.finish(); err != nil {
			return err
		}
		w.foot.Of, w.foot.Replaces = of, replaces
		if e.uncertain.Rows > 0 {
			w.foot.Uncertain = []uncertainHour{{hour, e.uncertain}}
		}
		if len(e.known) == 0 {
			w.foot.Full = []int64{hour}
		}
		if w.foot.Rows == 0 {
			w.foot.MinMS, w.foot.MaxMS, w.foot.StartMS = hour, hour, hour
		}
		return w.finish()
	}, func(id string) string {
		return rollupDir + "/" + fileName(1, w.foot.MinMS, max(w.foot.MaxMS, hour), id)
	})
	if err != nil {
		return nil, err
	}
	f := w.describe(name, size)
	f.MaxMS = max(f.MaxMS, hour)
	return []file{f}, nil
}

// describe says what the manifest should know of the file just finished.
func (w *rollupWriter) describe(name string, bytes int64) file {
	f := w.foot
	return file{Name: name, Rows: f.Rows, Bytes: bytes, MinMS: f.MinMS, MaxMS: f.MaxMS, StartMS: f.StartMS, Level: 1, Sealed: true, Columns: f.Columns, Schema: schemaVersion, Of: f.Of, Span: f.Span, Kinds: f.Kinds, Uncertain: f.Uncertain, Full: f.Full}
}

// eachRow calls each with the rows of sorted files, in order.
func (s *Store) eachRow(in []file, each func(*row) error) error {
	m, err := openMerger(s, in, placeOfRow, rollupNeeds...)
	defer m.close()
	if err != nil {
		return err
	}
	for n := 0; m.first() != nil; n++ {
		if n%4096 == 0 && s.stopped() {
			return errStopped
		}
		if err := each(m.first().row()); err != nil {
			return err
		}
		if err := m.advance(); err != nil {
			return err
		}
	}
	return nil
}

// rollupNeeds are the columns that a roll-up is made from, with those that order rows.
var rollupNeeds = []string{
	"segment", "src", "dst", "t_end", "span_ms", "exporter", "domain", "sampling", "client", "marks", "proto", "tcp_flags", "src_port", "dst_port", "outer_src", "outer_dst",
	"packets", "octets", "l2_header", "l2_other", "flow_key", "observer_id", "fabric", "observer", "tenant", "src_vm", "dst_vm", "src_host", "dst_host", "app", "src_vm_id", "dst_vm_id", "src_tenant", "dst_tenant",
	"min_len", "max_len", "fragments", "rtt_us", "retransmits", "zero_windows",
}

// eachRollup calls each with the rows of a roll-up, in order; the row is used again.
func eachRollup(f *os.File, each func(*rollup) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	s, err := newScanner[rollup](f)
	if err != nil {
		return err
	}
	return eachOf(s, each)
}
