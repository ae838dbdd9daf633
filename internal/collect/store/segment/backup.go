package segment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// backupName is the file that makes a folder a finished backup.
const backupName = "BACKUP"

// besides are the small files of others that are copied with a store: what coverage compares with, which files were imported, when the collector was alive (from
// then on records are missing in the copy), and the exporters' templates.
var besides = [...]string{"COUNTS", "COUNTERS", "IMPORTED", "collector.json", "templates.json"}

// Copied says what a backup or a restore has copied.
type Copied struct {
	Made   time.Time `json:"made"`
	Files  int       `json:"files"`
	Linked int       `json:"linked"` // of Files: hard links, since the target is on the same file system
	Rows   int64     `json:"rows"`
	Bytes  int64     `json:"bytes"`
}

// Backup copies the store in dir to a folder that does not exist yet or is empty, also while a server writes it: the picture is the
// manifest's at one moment. Files never change, so that with link they are hard links where the file system allows it. Each file is read to its end and
// checked, unless it is a link. progress is called after each file and may be nil. also copies what else belongs to the backup, before it counts as finished.
func Backup(dir, target string, link bool, progress func(done, all int), also ...func(from, to string) error) (Copied, error) {
	if _, err := os.Stat(filepath.Join(dir, manifestName)); err != nil {
		return Copied{}, fmt.Errorf("segment: backup: no store in %s: %w", dir, err)
	}
	c, err := copyStore(dir, target, link, progress)
	if err == nil {
		err = copyAlso(dir, target, also)
	}
	if err != nil {
		return c, fmt.Errorf("segment: backup: %w", err)
	}
	c.Made = time.Now().UTC()
	text, err := json.Marshal(c)
	if err == nil {
		err = writeDurably(filepath.Join(target, backupName), append(text, '\n'))
	}
	return c, err
}

// Restore copies a finished backup to a folder that does not exist yet or is empty, and checks every file. also copies what else belongs to it.
func Restore(backup, dir string, progress func(done, all int), also ...func(from, to string) error) (Copied, error) {
	text, err := os.ReadFile(filepath.Join(backup, backupName))
	if err != nil {
		return Copied{}, fmt.Errorf("segment: restore: %s is no finished backup: %w", backup, err)
	}
	var made Copied
	if err := json.Unmarshal(text, &made); err != nil {
		return Copied{}, fmt.Errorf("segment: restore: %s: %w", filepath.Join(backup, backupName), err)
	}
	c, err := copyStore(backup, dir, false, progress)
	if err == nil && (c.Files != made.Files || c.Rows != made.Rows) {
		err = fmt.Errorf("%d files with %d rows, the backup was made of %d with %d", c.Files, c.Rows, made.Files, made.Rows)
	}
	c.Made = made.Made
	if err == nil {
		err = copyAlso(backup, dir, also)
	}
	if err != nil {
		return c, fmt.Errorf("segment: restore: %w", err)
	}
	return c, nil
}

func copyAlso(from, to string, also []func(from, to string) error) error {
	for _, f := range also {
		if err := f(from, to); err != nil {
			return err
		}
	}
	return nil
}

// copyTries is how often a copy begins again because the writer has replaced files meanwhile.
const copyTries = 10

func copyStore(from, to string, link bool, progress func(done, all int)) (c Copied, err error) {
	if err := os.MkdirAll(to, 0o750); err != nil {
		return c, err
	}
	if there, err := os.ReadDir(to); err != nil || len(there) > 0 {
		return c, errors.Join(err, fmt.Errorf("%s is not empty", to))
	}
	texts := map[string][]byte{}
	read := func(name string) error {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		texts[name] = text
		return err
	}
	for _, name := range besides { // before the manifest: an import that is finished is in that
		if err := read(name); err != nil {
			return c, err
		}
	}
	src, dst := pathsOf(from), pathsOf(to)
	have := map[string]bool{}
	var man *manifest
	for try := range copyTries {
		if man, _, err = readManifest(filepath.Join(from, manifestName)); err != nil {
			return c, err
		}
		c, err = copyFiles(src, dst, man, link, have, progress)
		if !errors.Is(err, fs.ErrNotExist) || try == copyTries-1 {
			break
		}
	}
	if err != nil {
		return c, err
	}
	for name := range have { // of an earlier try
		if !man.has(name) {
			step()
			if err := os.Remove(dst.path(name)); err != nil {
				return c, err
			}
		}
	}
	if err := read(gapsName); err != nil { // after it: what is missing there is told
		return c, err
	}
	for name, text := range texts {
		if err := writeDurably(filepath.Join(to, name), text); err != nil {
			return c, err
		}
	}
	man.path, man.f, man.dead = filepath.Join(to, manifestName), nil, map[string]bool{}
	if err := man.rewrite(); err != nil {
		return c, err
	}
	return c, man.close()
}

// pathsOf is a store of which only the paths are used.
func pathsOf(dir string) *Store {
	return &Store{cfg: Config{Dir: dir}, table: filepath.Join(dir, "flows", "v1")}
}

// copyFiles copies what the manifest lists and is not there yet.
func copyFiles(src, dst *Store, man *manifest, link bool, have map[string]bool, progress func(done, all int)) (c Copied, err error) {
	files := slices.Concat(sortedFiles(man.live), sortedFiles(man.rolls))
	for i, f := range files {
		linked := false
		if !have[f.Name] {
			if linked, err = copyFile(src, dst, f, link); err != nil {
				return c, fmt.Errorf("%s: %w", f.Name, err)
			}
			have[f.Name] = true
		}
		c.Files++
		c.Bytes += f.Bytes
		if !f.isRollup() {
			c.Rows += f.Rows
		}
		if linked {
			c.Linked++
		}
		if progress != nil {
			progress(i+1, len(files))
		}
	}
	return c, nil
}

func copyFile(src, dst *Store, f file, link bool) (linked bool, err error) {
	to := dst.path(f.Name)
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return false, err
	}
	step()
	if link && os.Link(src.path(f.Name), to) == nil {
		return true, syncDir(filepath.Dir(to))
	}
	in, err := os.Open(src.path(f.Name))
	if err != nil {
		return false, err
	}
	defer in.Close()
	tmp, err := os.Create(to + ".tmp")
	if err != nil {
		return false, err
	}
	if _, err := io.Copy(tmp, in); err != nil {
		tmp.Close()
		return false, err
	}
	if err := publish(tmp, to); err != nil {
		return false, err
	}
	return false, verify(to, f)
}

func writeDurably(path string, text []byte) error {
	tmp, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	if _, err := tmp.Write(text); err != nil {
		tmp.Close()
		return err
	}
	return publish(tmp, path)
}
