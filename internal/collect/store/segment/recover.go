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
	for _, dir := range []string{s.table, s.rollups} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
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
			os.Remove(s.path(name))
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
	replaced := s.adopt(unknown, onDisk, complete, &c)
	s.adoptRollups(rolls, onDisk, replaced, complete, &c)
	if len(c.Add)+len(c.Del) == 0 {
		return nil
	}
	return s.man.append(c)
}

// adopt decides about files that the manifest does not know: they are listed, unless their rows are in
// a newer file, or they are parts of a merge that was not finished. It returns the names that others replace.
func (s *Store) adopt(unknown map[string]footer, size map[string]int64, complete bool, c *change) map[string]bool {
	if len(unknown) == 0 && complete {
		return nil
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
	replaced, unfinished := map[string]bool{}, map[string]bool{}
	for name, foot := range feet {
		if parts[foot.Group] < foot.Parts && anyKey(feet, foot.Replaces) {
			unfinished[name] = true
			continue
		}
		for _, n := range foot.Replaces {
			replaced[n] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(feet)) {
		foot, orphan := unknown[name]
		switch {
		case replaced[name] || unfinished[name]:
			os.Remove(s.path(name))
			if !orphan {
				c.Del = append(c.Del, name)
			}
		case orphan:
			c.Add = append(c.Add, file{Name: name, Rows: foot.Rows, Bytes: size[name], Columns: foot.Columns, MinMS: foot.MinMS, MaxMS: foot.MaxMS,
				StartMS: foot.StartMS, Level: foot.Level, Sealed: foot.Sealed, Schema: foot.Schema})
			s.cfg.Log.Info("segment file found and listed", "file", name, "rows", foot.Rows)
		}
	}
	if !complete {
		s.cfg.Log.Warn("the manifest was lost or damaged and has been rebuilt", "files", len(c.Add)+len(s.man.live))
	}
	return replaced
}

// adoptRollups decides about roll-ups once the segment files are settled. One that the manifest does not know is listed when all files that it adds
// up are live, or, when the manifest is lost, when they have expired: none of them is there, nor damaged, nor replaced. One of which
// a file was replaced adds up rows that are in another file now; it goes, and the hour's is made again.
func (s *Store) adoptRollups(unknown map[string]footer, size map[string]int64, replaced map[string]bool, complete bool, c *change) {
	live := maps.Clone(s.man.live)
	for _, f := range c.Add {
		live[f.Name] = f
	}
	for _, n := range c.Del {
		delete(live, n)
	}
	older := map[string]bool{}
	for _, foot := range unknown {
		for _, n := range foot.Replaces {
			older[n] = true
		}
	}
	isLive := func(n string) bool { _, ok := live[n]; return ok }
	gone := func(n string) bool { return !isLive(n) && !replaced[n] && !s.isAside(n) }
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		foot := unknown[name]
		whole := !slices.ContainsFunc(foot.Of, func(n string) bool { return !isLive(n) })
		expired := !complete && !slices.ContainsFunc(foot.Of, func(n string) bool { return !gone(n) })
		if older[name] || !whole && !expired || len(foot.Of) == 0 {
			os.Remove(s.path(name))
			continue
		}
		c.Add = append(c.Add, file{Name: name, Rows: foot.Rows, Bytes: size[name], Columns: foot.Columns, MinMS: foot.MinMS, MaxMS: foot.MaxMS,
			StartMS: foot.StartMS, Level: foot.Level, Sealed: foot.Sealed, Schema: foot.Schema, Of: foot.Of})
	}
	for name, f := range s.man.rolls {
		if !slices.Contains(c.Del, name) && (older[name] || slices.ContainsFunc(f.Of, func(n string) bool { return replaced[n] })) {
			os.Remove(s.path(name))
			c.Del = append(c.Del, name)
		}
	}
}

// isAside reports whether a file of that name was set aside.
func (s *Store) isAside(name string) bool {
	_, err := os.Stat(s.asidePath(name))
	return err == nil
}

func (s *Store) asidePath(name string) string {
	if isRollup(name) {
		return filepath.Join(s.cfg.Dir, "aside", rollupDir+"-"+filepath.Base(name))
	}
	return filepath.Join(s.cfg.Dir, "aside", filepath.Base(name))
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
	if err == nil {
		err = scanDir(s.rollups, rollupDir+"/", onDisk)
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
	s.loseFile(f, "file damaged")
}

// loseFile counts a file whose rows are gone. A roll-up whose rows are there is made again.
func (s *Store) loseFile(f file, reason string) {
	s.setAside++
	if f.isRollup() && s.man.anyLive(f.Of) {
		return
	}
	from, to := f.MinMS, f.MaxMS
	if f.Rows == 0 {
		from, to = timesOfName(f.Name)
	}
	_ = s.gaps.note(store.Gap{FromNS: from * 1e6, ToNS: (to + 1) * 1e6, Scope: "store", Reason: reason, LostRecords: uint64(f.Rows)})
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
