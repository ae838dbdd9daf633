package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"crosstap/internal/collect/store"
)

// sortedFiles returns the files by name's time order.
func sortedFiles(live map[string]file) []file {
	return slices.SortedFunc(maps.Values(live), func(a, b file) int {
		return cmp.Or(cmp.Compare(a.MinMS, b.MinMS), cmp.Compare(a.Name, b.Name))
	})
}

// openForWriting takes the lock, reads the manifest and makes folder and manifest agree.
func (s *Store) openForWriting() (err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o750); err != nil {
		return err
	}
	if s.lock, err = lockDir(filepath.Join(s.cfg.Dir, "LOCK")); err != nil {
		return err
	}
	for _, kind := range append(rollupKinds[:len(rollupKinds):len(rollupKinds)], "") {
		if err := os.MkdirAll(s.root(kind+"/"), 0o750); err != nil {
			return err
		}
	}
	if s.gaps, err = readGaps(filepath.Join(s.cfg.Dir, gapsName)); err != nil {
		return err
	}
	if err := s.gaps.openForWriting(); err != nil {
		return err
	}
	man, complete, err := readManifest(filepath.Join(s.cfg.Dir, manifestName))
	if err != nil {
		return err
	}
	s.man = man
	if err := man.openForWriting(); err != nil {
		return err
	}
	return s.reconcile(complete)
}

// reconcile makes the list of live files true. Temporary files go. A file that the manifest does not
// know was finished but not listed (the writer was killed in between), or is a replaced one that
// was not deleted yet; its footer and the others' footers tell which.
func (s *Store) reconcile(complete bool) error {
	onDisk, err := s.scan()
	if err != nil {
		return err
	}
	var c change
	var away []string // files that others stand for: they go once the manifest says so
	for _, f := range slices.Concat(sortedFiles(s.man.live), sortedFiles(s.man.rolls)) {
		size, there := onDisk[f.Name]
		switch {
		case !there:
			s.loseFile(f, "file missing")
			c.Del = append(c.Del, f.Name)
		case size != f.Bytes:
			s.putAside(f, fmt.Errorf("%d bytes, the manifest says %d", size, f.Bytes))
			c.Del = append(c.Del, f.Name)
		}
		delete(onDisk, f.Name)
	}
	unknown, rolls := map[string]footer{}, map[string]footer{}
	for _, name := range slices.Sorted(maps.Keys(onDisk)) {
		if s.man.dead[name] {
			away = append(away, name)
			continue
		}
		foot, size, err := readFooter(s.path(name))
		switch {
		case err != nil:
			s.putAside(file{Name: name, Bytes: size}, err)
		case isRollup(name):
			rolls[name] = foot
		default:
			unknown[name] = foot
		}
	}
	o := s.adopt(unknown, onDisk, complete, &c)
	s.adoptRollups(rolls, onDisk, &o, complete, &c)
	if len(c.Add)+len(c.Del) > 0 {
		if err := s.man.append(c); err != nil {
			return err
		}
	}
	away = append(away, o.away...)
	slices.SortFunc(away, func(a, b string) int { return cmp.Or(cmp.Compare(idOf(a), idOf(b)), cmp.Compare(a, b)) })
	for _, name := range away { // a file never before the ones it replaced
		remove(s.path(name))
	}
	return nil
}

// outcome is what adopting files has found.
type outcome struct {
	elsewhere map[string]bool    // files whose rows are in others, by name
	ended     map[string][]int64 // roll-ups: hours that others stand for
	away      []string           // to delete
}

// idOf is the part of a file's name that tells when it was made: names are ordered by it.
func idOf(name string) string {
	base := strings.TrimSuffix(name, ".parquet")
	return base[max(len(base)-36, 0):]
}

// adopt decides about files that the manifest does not know: they are listed, unless their rows are in
// a newer file, or they are parts of a merge that was not finished.
func (s *Store) adopt(unknown map[string]footer, size map[string]int64, complete bool, c *change) outcome {
	o := outcome{map[string]bool{}, map[string][]int64{}, nil}
	if len(unknown) == 0 && complete {
		return o
	}
	feet := maps.Clone(unknown)
	for name := range s.man.live {
		if foot, _, err := readFooter(s.path(name)); err == nil && !slices.Contains(c.Del, name) {
			feet[name] = foot
		}
	}
	parts := map[string]int{}
	for _, foot := range feet {
		parts[foot.Group]++
	}
	for name, foot := range feet {
		if parts[foot.Group] < foot.Parts && anyKey(feet, foot.Replaces) { // not finished
			o.elsewhere[name] = true
			continue
		}
		for _, n := range foot.Replaces {
			o.elsewhere[n] = true
		}
	}
	for name, foot := range feet {
		for roll, hours := range foot.Ends {
			if !o.elsewhere[name] {
				o.ended[roll] = append(o.ended[roll], hours...)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(feet)) {
		foot, orphan := unknown[name]
		switch {
		case o.elsewhere[name]:
			o.away = append(o.away, name)
			if !orphan {
				c.Del = append(c.Del, name)
			}
		case orphan:
			c.Add = append(c.Add, file{Name: name, Rows: foot.Rows, Bytes: size[name], Columns: foot.Columns, MinMS: foot.MinMS, MaxMS: foot.MaxMS,
				StartMS: foot.StartMS, Level: foot.Level, Sealed: foot.Sealed, Schema: foot.Schema})
			s.cfg.Log.Info("segment file found and listed", "file", name, "rows", foot.Rows)
		}
	}
	if n := len(c.Add) + len(s.man.live); !complete && n > 0 { // without files it is a first start
		s.cfg.Log.Warn("the manifest was lost or damaged and has been rebuilt", "files", n)
	}
	return o
}

// adoptRollups decides about roll-ups once the segment files are settled, hour by hour. An hour of one that the manifest does not know counts when all
// files that it adds up are live, or, when the manifest is lost, when those that are not have expired: they are neither there nor damaged nor replaced,
// and the hour has no others. Where a file was replaced, the hour's rows are in another file now; it is made again. A roll-up without
// hours goes, and links that are not of a whole roll-up.
func (s *Store) adoptRollups(unknown map[string]footer, size map[string]int64, o *outcome, complete bool, c *change) {
	live := maps.Clone(s.man.live)
	for _, f := range c.Add {
		live[f.Name] = f
	}
	for _, n := range c.Del {
		delete(live, n)
	}
	counts := s.countsIn(live, o, complete)
	rolls := map[string]file{}
	for name, foot := range unknown {
		f := file{Name: name, Rows: foot.Rows, Bytes: size[name], Columns: foot.Columns, MinMS: foot.MinMS, MaxMS: foot.MaxMS,
			StartMS: foot.StartMS, Level: foot.Level, Sealed: foot.Sealed, Schema: foot.Schema, Of: foot.Of, Span: foot.Span, Kinds: foot.Kinds, Uncertain: foot.Uncertain, Full: foot.Full}
		f.groupByHour()
		rolls[name] = f.counting(counts)
	}
	older := o.ended
	for name, foot := range unknown {
		f := rolls[name]
		for _, n := range foot.Replaces {
			older[n] = append(older[n], f.hours()...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if isLinks(name) {
			continue
		}
		f := rolls[name]
		rolls[name] = f.counting(func(h int64, _ []string) bool { return !slices.Contains(older[name], h) })
		if len(rolls[name].Of) == 0 {
			o.away = append(o.away, name)
			delete(rolls, name)
			continue
		}
		c.Add = append(c.Add, rolls[name])
	}
	for _, was := range sortedFiles(s.man.rolls) {
		if isLinks(was.Name) || slices.Contains(c.Del, was.Name) {
			continue
		}
		f := was.counting(func(h int64, names []string) bool {
			return !slices.Contains(older[was.Name], h) && !slices.ContainsFunc(names, func(n string) bool { return o.elsewhere[n] })
		})
		switch {
		case len(f.Of) == 0:
			o.away = append(o.away, f.Name)
			c.Del = append(c.Del, f.Name)
			continue
		case len(f.Of) < len(was.Of):
			c.Add = append(c.Add, f)
		}
		rolls[f.Name] = f
	}
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if !isLinks(name) {
			continue
		}
		if of, there := rolls[rollupOf(name)]; there && len(of.Except) == 0 {
			c.Add = append(c.Add, rolls[name])
		} else {
			o.away = append(o.away, name)
		}
	}
	summed := map[string]bool{}
	for _, f := range rolls {
		for _, n := range f.Of {
			summed[n] = true
		}
	}
	for i := range c.Add { // some are sealed by the manifest only
		c.Add[i].Sealed = c.Add[i].Sealed || summed[c.Add[i].Name]
	}
}

// countsIn says whether an hour of a roll-up that the manifest does not know counts, given the live files and the names of those that it adds up.
func (s *Store) countsIn(live map[string]file, o *outcome, complete bool) func(hour int64, names []string) bool {
	return func(hour int64, names []string) bool {
		var there, gone int
		for _, n := range names {
			if _, ok := live[n]; ok {
				there++
			} else if !o.elsewhere[n] && !s.isAside(n) {
				gone++
			}
		}
		switch {
		case there == len(names):
			return true
		case complete || there+gone < len(names):
			return false
		case there == 0:
			return true
		}
		for n, f := range live { // a part has expired
			if f.hour() == hour && !slices.Contains(names, n) {
				return false
			}
		}
		return true
	}
}

// isAside reports whether a file of that name was set aside.
func (s *Store) isAside(name string) bool {
	_, err := os.Stat(s.asidePath(name))
	return err == nil
}

func (s *Store) asidePath(name string) string {
	base := filepath.Base(name)
	if kind := kindOf(name); kind != "" {
		base = kind + "-" + base
	}
	return filepath.Join(s.cfg.Dir, "aside", base)
}

// anyKey reports whether one of the names is in the map.
func anyKey(m map[string]footer, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { _, ok := m[n]; return ok })
}

// scan lists the segment files with their sizes, and deletes temporary ones.
func (s *Store) scan() (map[string]int64, error) {
	stale, _ := filepath.Glob(filepath.Join(escapeGlob(s.cfg.Dir), "*.tmp"))
	for _, name := range stale {
		os.Remove(name)
	}
	onDisk := map[string]int64{}
	err := scanDir(s.table, "", onDisk)
	for _, kind := range rollupKinds {
		if err == nil {
			err = scanDir(s.root(kind+"/"), kind+"/", onDisk)
		}
	}
	return onDisk, err
}

// scanDir finds the files of one kind.
func scanDir(root, prefix string, onDisk map[string]int64) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = prefix + filepath.ToSlash(name)
		if strings.HasSuffix(name, ".tmp") {
			return os.Remove(path)
		}
		if !validName(name) {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			onDisk[name] = info.Size()
		}
		return err
	})
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// putAside moves a damaged file out of the way and notes what is missing now.
func (s *Store) putAside(f file, why error) {
	_ = os.MkdirAll(filepath.Join(s.cfg.Dir, "aside"), 0o750)
	if err := os.Rename(s.path(f.Name), s.asidePath(f.Name)); err != nil {
		s.cfg.Log.Error("a damaged segment file cannot be set aside", "file", f.Name, "error", err)
	}
	s.cfg.Log.Warn("segment file is damaged and was set aside", "file", f.Name, "rows", f.Rows, "error", why)
	s.loseFile(f, fileDamaged)
}

// fileDamaged is the reason of a gap.
const fileDamaged = "file damaged"

// loseFile counts a file whose rows are gone. A roll-up whose rows are there is made again, and so are links.
func (s *Store) loseFile(f file, reason string) {
	s.setAside++
	if gap, is := s.gapOf(f, reason); is {
		_ = s.gaps.note(gap)
	}
}

// gapOf is what is missing without a file, when something is.
func (s *Store) gapOf(f file, reason string) (store.Gap, bool) {
	if isLinks(f.Name) {
		return store.Gap{}, false
	}
	from, to := f.MinMS, f.MaxMS
	if f.Rows == 0 {
		from, to = timesOfName(f.Name)
	}
	if f.isRollup() {
		var lost []int64 // hours without rows
		for h, names := range f.byHour {
			if !s.man.anyLive(names) {
				lost = append(lost, h)
			}
		}
		switch {
		case len(lost) == 0 && len(f.byHour) > 0:
			return store.Gap{}, false
		case len(lost) < len(f.byHour): // how many rows are of these hours is not known
			from, to, f.Rows = slices.Min(lost), slices.Max(lost)+hourMS-1, 0
		}
	}
	return store.Gap{FromNS: from * 1e6, ToNS: (to + 1) * 1e6, Scope: "store", Reason: reason, LostRecords: uint64(f.Rows)}, true
}

// timesOfName reads the least and greatest t_end from a file's name.
func timesOfName(name string) (minMS, maxMS int64) {
	var level int
	base := filepath.Base(name)
	if n, err := fmt.Sscanf(base, "l%d-%d-%d-", &level, &minMS, &maxMS); n != 3 || err != nil {
		return 0, 0
	}
	return minMS, maxMS
}
