package segment

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// Roll-ups of hours are merged into one for six hours and then for the day, rows as they are: what lies together in one file is read at once instead of
// from many. Beside a merged one lie its links, and those of a day's quarters. When an hour of it is sealed again, the manifest says that the hour no longer counts there.

// rollSpan is a time that merged roll-ups are of.
type rollSpan struct {
	ms    int64
	after time.Duration // its end they are made
}

// rollSpans are the spans, the longest first. A day is merged when the inventory no longer corrects it.
var rollSpans = []rollSpan{{24 * hourMS, amendFor + 2*time.Hour}, {6 * hourMS, 10 * time.Minute}}

const (
	// mergedGroupRows are the rows of a row group: a segment has some ten thousand rows in a day.
	mergedGroupRows = 1 << 14
	// remergeAfter is how long the files of a span that was merged before must have been as they are.
	remergeAfter = 15 * time.Minute
)

// start is where the span begins that a time is in.
func (p rollSpan) start(ms int64) int64 { return bucketOf(ms, p.ms) }

// groupByHour sets byHour.
func (f *file) groupByHour() {
	f.byHour = map[int64][]string{}
	for _, n := range f.Of {
		_, last := timesOfName(n)
		hour := hourOf(last)
		f.byHour[hour] = append(f.byHour[hour], n)
	}
}

// hours are those of the rows that a roll-up adds up.
func (f *file) hours() []int64 { return slices.Sorted(maps.Keys(f.byHour)) }

// uncertain are the hours of Uncertain that count.
func (f *file) uncertain() []uncertainHour {
	return slices.DeleteFunc(slices.Clone(f.Uncertain), func(u uncertainHour) bool { return slices.Contains(f.Except, u.HourMS) })
}

// full are the hours of Full that count.
func (f *file) full() []int64 {
	return slices.DeleteFunc(slices.Clone(f.Full), func(h int64) bool { return slices.Contains(f.Except, h) })
}

// counting gives the roll-up with those of its hours only that count.
func (f file) counting(counts func(hour int64, names []string) bool) file {
	var of []string
	except := slices.Clone(f.Except)
	for _, h := range f.hours() {
		if names := f.byHour[h]; counts(h, names) {
			of = append(of, names...)
		} else {
			except = append(except, h)
		}
	}
	slices.Sort(except)
	f.Of, f.Except = of, slices.Compact(except)
	f.groupByHour()
	return f
}

// uncover adds to a change that the hours of segment files are no longer rolled up: their roll-ups go, merged ones lose the hours.
func (s *Store) uncover(files []file, c change) change {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hours []int64
	for _, f := range files {
		hours = append(hours, f.hour())
	}
	for _, name := range s.man.rollsOf(files) {
		f := s.man.rolls[name].counting(func(h int64, _ []string) bool { return !slices.Contains(hours, h) })
		if len(f.Of) > 0 {
			c.Add = append(c.Add, f)
		} else {
			c.Del = append(c.Del, name)
		}
	}
	return c
}

// endedBy tells which roll-ups do not count any more for hours of segment files once these are replaced: those that add them up, and merged ones
// that had lost these hours before.
func (s *Store) endedBy(files []file) map[string][]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	hours := map[int64]bool{}
	for _, f := range files {
		hours[f.hour()] = true
	}
	ends := map[string][]int64{}
	for _, name := range s.man.rollsOf(files) {
		for h := range hours {
			if s.man.rolls[name].byHour[h] != nil {
				ends[name] = append(ends[name], h)
			}
		}
	}
	for name, r := range s.man.rolls {
		for _, h := range r.Except {
			if hours[h] {
				ends[name] = append(ends[name], h)
			}
		}
	}
	return ends
}

// mergeRollups merges what can be merged, one span unless the store is being settled: hours are to be sealed meanwhile.
func (s *Store) mergeRollups() error {
	if err := s.dropStaleLinks(); err != nil {
		return err
	}
	for n, w := range s.mergeable() {
		if n > 0 && !s.hasty.Load() {
			return nil
		}
		if err := s.mergeSpan(w); err != nil {
			return err
		}
	}
	return s.mendLinks()
}

// mendLinks makes links that lack: they were lost, or the roll-up is from before there were such. It is one roll-up's unless the store is being settled.
func (s *Store) mendLinks() error {
	var lack []file
	s.mu.Lock()
	for _, f := range sortedFiles(s.man.rolls) {
		if f.Span > 0 && !isLinks(f.Name) && len(f.Except) == 0 && len(s.man.linksOf(f.Name)) < len(f.linkKinds()) {
			lack = append(lack, f)
		}
	}
	s.mu.Unlock()
	for n, f := range lack {
		if n > 0 && !s.hasty.Load() {
			break
		}
		if err := s.checkFree(); err != nil {
			return err
		}
		links, err := s.createLinks(f)
		if err != nil {
			s.removeFiles(links)
			return err
		}
		s.mu.Lock()
		err = s.man.append(change{Add: links})
		s.mu.Unlock()
		if err != nil {
			s.removeFiles(links)
			return err
		}
	}
	return nil
}

// dropStaleLinks takes out links whose roll-up is no longer there as a whole.
func (s *Store) dropStaleLinks() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c change
	for name := range s.man.rolls {
		if of, there := s.man.rolls[rollupOf(name)]; isLinks(name) && (!there || len(of.Except) > 0) {
			c.Del = append(c.Del, name)
		}
	}
	if len(c.Del) == 0 {
		return nil
	}
	slices.Sort(c.Del)
	if err := s.man.append(c); err != nil {
		return err
	}
	s.doomLocked(c.Del)
	return nil
}

// spanWork are the roll-ups of a span, to be merged.
type spanWork struct {
	span  rollSpan
	start int64
	in    []file
}

// mergeable lists the spans to merge, oldest first.
func (s *Store) mergeable() []spanWork {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, hasty := s.cfg.Now().UnixMilli(), s.hasty.Load()
	open := map[int64]bool{} // hours that are not sealed and rolled up
	for _, f := range s.man.live {
		if !f.Sealed || s.man.sums[f.Name] == 0 {
			open[f.hour()] = true
		}
	}
	var work []spanWork
	taken := map[string]bool{}
	for _, span := range rollSpans {
		by := map[int64][]file{}
		for _, f := range sortedFiles(s.man.rolls) {
			if !isLinks(f.Name) && !taken[f.Name] {
				by[span.start(f.hour())] = append(by[span.start(f.hour())], f)
			}
		}
		for _, start := range slices.Sorted(maps.Keys(by)) {
			w := spanWork{span, start, by[start]}
			if end := start + span.ms; now < end || !hasty && now < end+span.after.Milliseconds() || !s.fitsLocked(w, open) || !hasty && !s.atRest(w) {
				continue
			}
			work = append(work, w)
			for _, f := range w.in {
				taken[f.Name] = true
			}
		}
	}
	slices.SortStableFunc(work, func(a, b spanWork) int { return cmp.Compare(a.start, b.start) })
	return work
}

// fitsLocked reports whether the roll-ups of a span can be one: each hour is in one of them, and its rows are all stored or all expired.
func (s *Store) fitsLocked(w spanWork, open map[int64]bool) bool {
	for h := w.start; h < w.start+w.span.ms; h += hourMS {
		if open[h] {
			return false
		}
	}
	seen := map[int64]bool{}
	for _, f := range w.in {
		if f.Schema < 2 || f.Span > w.span.ms || f.Span == 0 && f.MinMS < f.hour() { // the last: rows of other hours, from broken clocks
			return false
		}
		for h, names := range f.byHour {
			live := 0
			for _, n := range names {
				if _, ok := s.man.live[n]; ok {
					live++
				}
			}
			if seen[h] || live != 0 && live != len(names) || w.span.start(h) != w.start {
				return false
			}
			seen[h] = true
		}
	}
	return len(w.in) > 1
}

// atRest reports whether a span that was merged before is not about to change again.
func (s *Store) atRest(w spanWork) bool {
	if !slices.ContainsFunc(w.in, func(f file) bool { return f.Span == w.span.ms }) {
		return true
	}
	return !slices.ContainsFunc(w.in, func(f file) bool {
		st, err := os.Stat(s.path(f.Name))
		return err != nil || time.Since(st.ModTime()) < remergeAfter
	})
}

// mergeSpan makes one roll-up of several, with its links, and swaps it in with one change of the manifest.
func (s *Store) mergeSpan(w spanWork) error {
	if err := s.checkFree(); err != nil {
		return err
	}
	merged, err := s.createMerged(w)
	if err != nil {
		return err
	}
	links, err := s.createLinks(merged)
	out := append([]file{merged}, links...)
	if err != nil {
		s.removeFiles(out)
		var bad *damagedError
		if errors.As(err, &bad) { // none of those that are listed
			err = bad.err
		}
		return err
	}
	c := change{Add: out}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range w.in {
		c.Del = append(append(c.Del, f.Name), s.man.linksOf(f.Name)...)
		if !s.man.has(f.Name) {
			err = errors.New("a roll-up was set aside during a merge")
		}
	}
	if err == nil {
		err = s.man.append(c)
	}
	if err != nil {
		s.removeFiles(out)
		return err
	}
	s.doomLocked(c.Del)
	s.cfg.Log.Info("roll-ups were merged", "from", time.UnixMilli(w.start).UTC(), "hours", len(merged.byHour), "files", len(w.in), "rows", merged.Rows)
	return nil
}

// createMerged writes the rows of a span's roll-ups as one file.
func (s *Store) createMerged(w spanWork) (file, error) {
	var out *rollupWriter
	last := w.start
	name, size, err := s.create(func(to io.Writer) error {
		out = newRollupWriter(to, mergedGroupRows)
		out.foot.Span = w.span.ms
		for _, f := range w.in {
			out.foot.Of, out.foot.Replaces = append(out.foot.Of, f.Of...), append(out.foot.Replaces, f.Name)
			last = max(last, slices.Max(f.hours()))
			out.foot.Uncertain = append(out.foot.Uncertain, f.uncertain()...)
			out.foot.Full = append(out.foot.Full, f.full()...)
		}
		if err := s.mergeRolls(w.in, out); err != nil {
			return err
		}
		if out.foot.Rows == 0 {
			out.foot.MinMS, out.foot.StartMS = w.start, w.start
		}
		out.foot.MaxMS = max(out.foot.MaxMS, last)
		return out.finish()
	}, func(id string) string {
		return rollupDir + "/" + fileName(1, out.foot.MinMS, out.foot.MaxMS, id)
	})
	if err != nil {
		return file{}, err
	}
	f := out.describe(name, size)
	f.groupByHour()
	return f, nil
}

// mergeRolls writes the rows of sorted roll-ups in order, but for hours that do not count.
func (s *Store) mergeRolls(in []file, out *rollupWriter) error {
	m, err := openMerger(s, in, placeOfRollup)
	defer m.close()
	if err != nil {
		return err
	}
	for n := 0; m.first() != nil; n++ {
		if n%4096 == 0 && s.stopped() {
			return errStopped
		}
		c := m.first()
		if r := c.row(); !slices.Contains(in[c.file].Except, r.Bucket) {
			if err := out.add(r); err != nil {
				return err
			}
		}
		if err := m.advance(); err != nil {
			return err
		}
	}
	return nil
}

// unmergedLocked counts the roll-ups of hours that are not in a merged one.
func (s *Store) unmergedLocked() (n int) {
	for _, f := range s.man.rolls {
		if !isLinks(f.Name) && f.Span == 0 {
			n++
		}
	}
	return n
}
