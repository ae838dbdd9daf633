package segment

import (
	"cmp"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// Inventory corrects stored rows by what became known of machines after they came.
type Inventory = store.Inventory

const (
	// amendFor is how far back sealed hours are corrected.
	amendFor = 24 * time.Hour
	// amendEvery is the least time between two such corrections: some platforms tell of changes all the time.
	amendEvery = 15 * time.Minute
	// settledFor is how long the inventory must have been the same for a flushed row to be surely of it.
	settledFor = 10 * time.Second
)

// agreement is what the flusher knows of the inventory.
type agreement struct {
	version uint64
	since   time.Time
}

// version is that of the inventory, 0 without one.
func (s *Store) version() uint64 {
	if s.cfg.Inventory == nil {
		return 0
	}
	return s.cfg.Inventory.Version()
}

// agreed is the version that rows being flushed surely go by, 0 when they may be from before it.
func (s *Store) agreed() uint64 {
	v, now := s.version(), time.Now()
	if v != s.agreement.version {
		s.agreement.version, s.agreement.since = v, now
	}
	s.mu.Lock()
	late := s.lastErr != nil // what waited for the disk is older
	s.mu.Unlock()
	if late || now.Sub(s.agreement.since) < s.cfg.FlushInterval+settledFor {
		return 0
	}
	return v
}

// commonVersion is the version that all files agree with, 0 for none.
func commonVersion(files []file) uint64 {
	v := files[0].Known
	if slices.ContainsFunc(files, func(f file) bool { return f.Known != v }) {
		return 0
	}
	return v
}

// mayAmend reports whether an hour's files are to be looked at: those of an hour that is about to be sealed, and at times those of hours that
// are sealed, for a day.
func (s *Store) mayAmend(hour int64, files []file, sealing bool) bool {
	v := s.version()
	if v == 0 || !slices.ContainsFunc(files, func(f file) bool { return f.Known != v }) {
		return false
	}
	return sealing || s.sweeping && hour+hourMS > s.cfg.Now().Add(-amendFor).UnixMilli()
}

// startSweep decides whether this round looks at sealed hours too.
func (s *Store) startSweep() {
	now := time.Now()
	s.sweeping = s.version() != 0 && (s.hasty.Load() || now.Sub(s.swept) >= amendEvery)
	if s.sweeping {
		s.swept = now
	}
}

// amend corrects the files of an hour, and returns what there is of it then. changed says that rows differ.
func (s *Store) amend(files []file) (now []file, changed bool, err error) {
	v := s.version()
	for _, f := range files {
		if f.Known == v {
			now = append(now, f)
			continue
		}
		rows, moved, err := s.lookAt(f)
		if err != nil {
			return nil, false, err
		}
		if rows == 0 {
			f.Known = v
			s.mu.Lock()
			err = s.man.append(change{Add: []file{f}})
			s.mu.Unlock()
			if err != nil {
				return nil, false, err
			}
			now = append(now, f)
			continue
		}
		out, err := s.rewrite(f, v, moved)
		if err != nil {
			return nil, false, err
		}
		s.cfg.Log.Info("rows corrected by the inventory", "file", f.Name, "rows", rows, "of", f.Rows)
		now, changed = append(now, out...), true
	}
	slices.SortFunc(now, func(a, b file) int { return cmp.Or(cmp.Compare(a.MinMS, b.MinMS), cmp.Compare(a.Name, b.Name)) })
	return now, changed, nil
}

// moves are the rows of a file that go to another segment, and therefore place.
type moves struct {
	bitmap
	n int
}

// lookAt counts the rows of a file that the inventory would change, and tells those that move.
func (s *Store) lookAt(f file) (rows int, moved moves, err error) {
	var r flow.Record
	at := 0
	moved.bitmap = newBitmap(f.Rows)
	err = s.eachOf(f, func(w *row) error {
		w.identity(&r)
		if s.cfg.Inventory.Amend(&r) {
			rows++
			if uint64(r.Segment) != w.Segment {
				moved.put(at, true)
				moved.n++
			}
		}
		at++
		return nil
	}, identityColumns...)
	return rows, moved, err
}

// eachOf calls each with the rows of a file, in order.
func (s *Store) eachOf(f file, each func(*row) error, columns ...string) error {
	in, err := os.Open(s.path(f.Name))
	if err != nil {
		return &damagedError{f, err}
	}
	defer in.Close()
	n := 0
	failed := error(nil)
	err = readRows(in, func(w *row) error {
		if n++; n%4096 == 0 && s.stopped() {
			failed = errStopped
		}
		if failed == nil {
			failed = each(w)
		}
		return failed
	}, columns...)
	if failed != nil {
		return failed
	}
	if err != nil {
		return &damagedError{f, err}
	}
	return nil
}

// rewrite writes a file anew with its rows corrected: those that stay in their segment in one file, those that move in small sorted ones. How
// many files that will be stands in each from the start, so that a part of them never counts as the whole: what becomes known of
// segments meanwhile waits for the next time.
func (s *Store) rewrite(f file, version uint64, moved moves) (out []file, err error) {
	defer func() {
		if err != nil {
			s.removeFiles(out)
			out = nil
		}
	}()
	if err := s.checkFree(); err != nil {
		return nil, err
	}
	group, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	ends := s.endedBy([]file{f})
	chunk := s.cfg.FlushRows
	parts, part, stay := (moved.n+chunk-1)/chunk, 0, int64(moved.n) < f.Rows
	if stay {
		parts++
	}
	add := func(level int, fill func(*encoder) error) error {
		n := part
		part++
		one, err := s.createFile(newEncoder(level), level, false, []string{f.Name}, func(e *encoder) error {
			e.foot.Group, e.foot.Part, e.foot.Parts, e.foot.Ends = group.String(), n, parts, ends
			return fill(e)
		})
		if err == nil {
			one.Known = version
			out = append(out, one)
		}
		return err
	}
	var away []row
	flush := func() error {
		slices.SortFunc(away, func(a, b row) int { return compareRows(&a, &b) })
		err := add(0, func(e *encoder) error {
			for i := range away {
				*e.next() = away[i]
				if err := e.added(); err != nil {
					return err
				}
			}
			return nil
		})
		away = away[:0]
		return err
	}
	pass := func(e *encoder) error {
		var r flow.Record
		at := -1
		return s.eachOf(f, func(w *row) error {
			at++
			was := w.Segment
			w.identity(&r)
			if s.cfg.Inventory.Amend(&r) {
				w.identified(&r)
			}
			if moved.has(at) {
				if away = append(away, *w); len(away) == chunk {
					return flush()
				}
				return nil
			}
			w.Segment = was
			*e.next() = *w
			return e.added()
		})
	}
	if stay {
		err = add(f.Level, pass)
	} else {
		err = pass(nil)
	}
	if err == nil && len(away) > 0 {
		err = flush()
	}
	if err != nil {
		return out, err
	}
	return out, s.swap([]file{f}, s.uncover([]file{f}, change{Add: out}))
}

// identityColumns are what identity reads.
var identityColumns = []string{
	"t_end", "span_ms", "exporter", "domain", "point", "direction", "role", "segment", "fabric", "vlan", "src_mac", "dst_mac", "src", "dst", "outer_src", "outer_dst", "tunnel_type", "observer", "observer_host",
	"tenant", "src_tenant", "dst_tenant", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host",
}

// identity sets what tells who a record is of.
func (w *row) identity(r *flow.Record) {
	*r = flow.Record{
		StartNS: w.tStart() * 1e6, EndNS: w.TEnd * 1e6, Exporter: w.Exporter, Domain: w.Domain, Point: w.Point, Direction: w.Direction, Role: flow.Role(w.Role), Segment: flow.Segment(w.Segment), Fabric: w.Fabric,
		VLAN: w.VLAN, SrcMAC: flow.MAC(w.SrcMAC), DstMAC: flow.MAC(w.DstMAC), Src: w.Src, Dst: w.Dst, Tunnel: flow.Tunnel{Src: w.OuterSrc, Dst: w.OuterDst, Type: w.TunnelType}, Observer: w.Observer, ObserverHost: w.ObserverHost,
		Tenant: w.Tenant, SrcTenant: w.SrcTenant, DstTenant: w.DstTenant, SrcVM: w.SrcVM, SrcVMID: w.SrcVMID, SrcHost: w.SrcHost, DstVM: w.DstVM, DstVMID: w.DstVMID, DstHost: w.DstHost,
	}
}

// identified takes what Amend may have changed.
func (w *row) identified(r *flow.Record) {
	w.Segment, w.Fabric, w.ObserverHost = uint64(r.Segment), r.Fabric, r.ObserverHost
	w.Tenant, w.SrcTenant, w.DstTenant = r.Tenant, r.SrcTenant, r.DstTenant
	w.SrcVM, w.SrcVMID, w.SrcHost, w.DstVM, w.DstVMID, w.DstHost = r.SrcVM, r.SrcVMID, r.SrcHost, r.DstVM, r.DstVMID, r.DstHost
}
