package segment

import (
	"errors"

	"github.com/google/uuid"

	"crosstap/internal/flow"
)

// damagedError says which input of a merge cannot be read.
type damagedError struct {
	file file
	err  error
}

func (e *damagedError) Error() string { return e.file.Name + ": " + e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

var errStopped = errors.New("the store is being closed")

// merge writes the rows of sorted files as new ones of the level, sorted, with at most SealRows each.
// bits, when given, holds for each file which of its rows are canonical; each, when given, sees every row as it is written. Memory
// does not grow with the files' size.
func (s *Store) merge(in []file, level int, sealed bool, bits []bitmap, each func(*row) error) (out []file, err error) {
	defer func() {
		if err != nil {
			for _, f := range out {
				remove(s.path(f.Name))
			}
			out = nil
		}
	}()
	m, err := openMerger(s, in, placeOfRow)
	defer m.close()
	if err != nil {
		return nil, err
	}
	var total int64
	names := make([]string, len(in))
	for i, f := range in {
		total += f.Rows
		names[i] = f.Name
	}
	group, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	ends := s.endedBy(in)
	e := newEncoder(level)
	parts := max(int((total+int64(s.cfg.SealRows)-1)/int64(s.cfg.SealRows)), 1)
	for part := 0; m.first() != nil; part++ {
		f, err := s.createFile(e, level, sealed, names, func(e *encoder) error {
			e.foot.Group, e.foot.Part, e.foot.Parts, e.foot.Ends = group.String(), part, parts, ends
			return s.mergeInto(e, m, bits, each)
		})
		if err != nil {
			return out, err
		}
		f.Known = commonVersion(in)
		out = append(out, f)
	}
	return out, nil
}

// mergeInto moves at most SealRows rows.
func (s *Store) mergeInto(e *encoder, m *merger[row], bits []bitmap, each func(*row) error) error {
	for n := 0; n < s.cfg.SealRows; n++ {
		c := m.first()
		if c == nil {
			break
		}
		if n%4096 == 0 && s.stopped() {
			return errStopped
		}
		r := c.row()
		if bits != nil {
			r.Marks &^= uint16(flow.MarkCanonical)
			if bits[c.file].has(c.at) {
				r.Marks |= uint16(flow.MarkCanonical)
			}
		}
		if each != nil {
			if err := each(r); err != nil {
				return err
			}
		}
		if err := e.take(r); err != nil {
			return err
		}
		if c.last() {
			if err := e.drain(); err != nil {
				return err
			}
		}
		if err := m.advance(); err != nil {
			return err
		}
	}
	return e.drain()
}

// stopped reports whether the store is being closed.
func (s *Store) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// bitmap is a set of small numbers.
type bitmap []uint64

func newBitmap(n int64) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) has(i int) bool { return i>>6 < len(b) && b[i>>6]>>(i&63)&1 == 1 }

func (b bitmap) put(i int, on bool) {
	if on {
		b[i>>6] |= 1 << (i & 63)
	} else {
		b[i>>6] &^= 1 << (i & 63)
	}
}
