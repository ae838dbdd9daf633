package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// Few rows are read here: two columns tell where they are, and the others are looked at there only.

var _ store.FewView = (*view)(nil)

// mostFewFiles are looked at for few rows: each has a footer to read.
const mostFewFiles = 64

// fewNeeds are the columns that questions about pairs read.
var fewNeeds = []string{
	"segment", "src", "dst", "t_end", "span_ms", "exporter", "domain", "sampling", "direction", "client", "marks", "proto", "src_port", "dst_port", "outer_src", "outer_dst", "packets", "octets", "flow_key",
	"observer_id", "fabric", "observer", "tenant", "src_vm", "dst_vm", "src_host", "dst_host", "app", "src_vm_id", "dst_vm_id",
}

// moment are the columns that tell whether a row is one of them.
type moment struct {
	Segment uint64 `parquet:"segment"`
	TEnd    int64  `parquet:"t_end"`
}

// fewRows looks for the rows of a range.
type fewRows struct {
	from, to int64
	numbers  []uint64 // of segments; nil for all
}

// wants reports whether rows of a segment may be among them: others of their flow may know it.
func (q *fewRows) wants(segment uint64) bool {
	return segment == 0 || q.numbers == nil || q.is(segment)
}

// is reports whether a segment has one of the numbers.
func (q *fewRows) is(segment uint64) bool { return slices.Contains(q.numbers, segment<<8>>8) }

// mayHave reports whether a row group may have such rows.
func (q *fewRows) mayHave(s *scanner[moment], group int) bool {
	st := s.pf.Metadata().RowGroups[group].Columns[s.fields[0].column].MetaData.Statistics
	if q.numbers == nil || len(st.MinValue) != 8 || len(st.MaxValue) != 8 {
		return true
	}
	least, greatest := binary.LittleEndian.Uint64(st.MinValue), binary.LittleEndian.Uint64(st.MaxValue)
	for kind := least >> 56; kind <= greatest>>56; kind++ {
		for _, n := range q.numbers {
			if segment := kind<<56 | n; least <= segment && segment <= greatest {
				return true
			}
		}
	}
	return least == 0
}

// FewRows implements store.FewView.
func (v *view) FewRows(ctx context.Context, fromNS, toNS int64, numbers []uint64, most int) (iter.Seq[*flow.Record], error) {
	q := &fewRows{ceilMS(fromNS), ceilMS(toNS), numbers}
	var in []file
	for _, f := range v.files {
		switch {
		case f.MaxMS < q.from || f.MinMS >= q.to:
		case f.Schema < 2 || len(in) == mostFewFiles:
			return nil, store.ErrNotSummed
		default:
			in = append(in, f)
		}
	}
	if numbers == nil && v.RowsIn(fromNS, toNS) > uint64(most) {
		return nil, store.ErrNotSummed
	}
	rows, err := v.s.fewRows(ctx, in, q, most)
	switch {
	case err == nil:
		return q.records(rows), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, store.ErrNotSummed):
		return nil, err
	case v.s.checkFiles(v.files):
		return nil, fmt.Errorf("segment: %w: %w", store.ErrStale, err)
	}
	return nil, fmt.Errorf("segment: few rows: %w", err)
}

// records gives what the rows tell, completed.
func (q *fewRows) records(rows []row) iter.Seq[*flow.Record] {
	fillFew(rows)
	return func(yield func(*flow.Record) bool) {
		var r flow.Record
		for i := range rows {
			if q.numbers != nil && !q.is(rows[i].Segment) {
				continue
			}
			if rows[i].record(&r); !yield(&r) {
				return
			}
		}
	}
}

// record sets what fewNeeds tell of a record.
func (w *row) record(r *flow.Record) {
	w.identity(r)
	r.Sampling, r.Client, r.Marks, r.Proto, r.SrcPort, r.DstPort = w.Sampling, flow.Client(w.Client), flow.Mark(w.Marks), w.Proto, w.SrcPort, w.DstPort
	r.Packets, r.Octets, r.FlowID, r.ObserverID, r.App = w.Packets, w.Octets, w.flowID(), w.ObserverID, w.App
}

// fillFew completes rows by what others of their flow tell.
func fillFew(rows []row) {
	f, known, first := newFills(), make([]uint32, len(rows)), make(map[uint64]uint32, len(rows))
	differ := map[uint64][]candidate{}
	for i := range rows {
		k := knowledgeOf(&rows[i])
		known[i] = f.add(&k)
		id := rows[i].flowID()
		if k, seen := first[id]; !seen {
			first[id] = known[i]
		} else if k != known[i] && id != 0 {
			differ[id] = nil
		}
	}
	if len(differ) == 0 {
		return
	}
	for i := range rows {
		r := &rows[i]
		if all, ok := differ[r.flowID()]; ok {
			differ[r.flowID()] = append(all, candidate{FlowID: r.flowID(), ObserverID: r.ObserverID, TEnd: r.TEnd, Packets: r.Packets, Direction: r.Direction, Known: known[i]})
		}
	}
	for _, all := range differ {
		f.see(all)
	}
	for i := range rows {
		if k := f.flows[rows[i].flowID()]; k != nil {
			rows[i].learn(k)
		}
	}
}

// fewPart are rows in a row group.
type fewPart struct {
	s     *scanner[row]
	group int
	at    []store.Stretch
	n     int
}

// fewRows reads rows from files.
func (s *Store) fewRows(ctx context.Context, in []file, q *fewRows, most int) ([]row, error) {
	open := make([]*os.File, len(in))
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	found := make([][]fewPart, len(in))
	g, finding := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.QueryThreads)
	for i := range in {
		g.Go(func() (err error) {
			if err = finding.Err(); err == nil {
				open[i], err = os.Open(s.path(in[i].Name))
			}
			if err == nil {
				found[i], err = q.find(open[i], &in[i], most)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	parts, n := slices.Concat(found...), 0
	for i := range parts {
		n += parts[i].n
	}
	if n > most {
		return nil, store.ErrNotSummed
	}
	rows := make([]row, n)
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.QueryThreads)
	for i, at := 0, 0; i < len(parts); i++ {
		p, into := &parts[i], rows[at:at+parts[i].n]
		at += p.n
		g.Go(func() (err error) {
			defer recoverDamage(&err)
			if err := reading.Err(); err != nil {
				return err
			}
			return p.s.gather(p.group, p.at, into)
		})
	}
	return rows, g.Wait()
}

// find tells where in a file the rows are.
func (q *fewRows) find(f *os.File, of *file, most int) (parts []fewPart, err error) {
	defer recoverDamage(&err)
	pf, _, err := openParquet(f)
	if err != nil {
		return nil, err
	}
	names := []string{"segment", "t_end"}
	if q.from <= of.MinMS && of.MaxMS < q.to {
		names = names[:1]
	}
	where, all, buf, n := scannerOf[moment](pf, names...), scannerOf[row](pf, fewNeeds...), make([]moment, cursorRows), 0
	defer where.close()
	if len(where.fields) < len(names) {
		return nil, errors.New("damaged: rows without segment or time")
	}
	for group := range pf.RowGroups() {
		if !q.mayHave(where, group) {
			continue
		}
		p := fewPart{s: all, group: group}
		if err := p.find(where, buf, q, len(names) == 1); err != nil {
			return nil, err
		}
		if n += p.n; n > most {
			return nil, store.ErrNotSummed
		}
		if p.n > 0 {
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// find tells where in the row group the rows are; anyTime says that they all end in the range.
func (p *fewPart) find(s *scanner[moment], buf []moment, q *fewRows, anyTime bool) error {
	s.close()
	s.group, s.left = p.group, 0
	for at, rows := 0, int(s.pf.RowGroups()[p.group].NumRows()); at < rows; {
		got, err := s.read(buf)
		if err != nil {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
		for i := range got {
			if r := &buf[i]; !q.wants(r.Segment) || !anyTime && (r.TEnd < q.from || r.TEnd >= q.to) {
				continue
			}
			p.at = extend(p.at, at+i)
			p.n++
		}
		at += got
	}
	return nil
}

// extend adds a row to stretches that end before it.
func extend(all []store.Stretch, at int) []store.Stretch {
	if k := len(all); k > 0 && int(all[k-1].First+all[k-1].Rows) == at {
		all[k-1].Rows++
		return all
	}
	return append(all, store.Stretch{First: int32(at), Rows: 1})
}
