package segment

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"crosstap/internal/collect/store"
)

// gapsName is the file of gap notes: JSON lines, append-only, fsynced.
const gapsName = "GAPS"

// maxGaps bounds what is kept in memory; the oldest notes go first.
const maxGaps = 10_000

// gapLog keeps the notes. The store's mutex guards it.
type gapLog struct {
	path    string
	f       *os.File    // nil for a reader
	gaps    []store.Gap // in the order of noting
	unsaved int         // that many at the end are not in the file yet: the disk was full
	size    int64       // of the good part of the file

	found map[string]store.Gap // a reader's: of files that it found damaged, by name
}

// readGaps reads the notes; damaged lines are skipped, a torn end is cut at the next write.
func readGaps(path string) (*gapLog, error) {
	g := &gapLog{path: path}
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	g.size = int64(bytes.LastIndexByte(text, '\n') + 1)
	in := bufio.NewScanner(bytes.NewReader(text[:g.size]))
	for in.Scan() {
		var gap store.Gap
		if json.Unmarshal(in.Bytes(), &gap) == nil {
			g.remember(gap)
		}
	}
	g.unsaved = 0
	return g, nil
}

func (g *gapLog) remember(gap store.Gap) {
	g.gaps = append(g.gaps, gap)
	g.unsaved++
	if len(g.gaps) > maxGaps {
		g.gaps = slices.Delete(g.gaps, 0, len(g.gaps)-maxGaps)
		g.unsaved = min(g.unsaved, maxGaps)
	}
}

// note remembers a gap and tries to save it. Notes that cannot be saved now are merged where they
// adjoin and saved with the next one.
func (g *gapLog) note(gap store.Gap) error {
	if n := len(g.gaps); g.unsaved > 0 && sameCause(g.gaps[n-1], gap) {
		last := &g.gaps[n-1]
		last.FromNS, last.ToNS = min(last.FromNS, gap.FromNS), max(last.ToNS, gap.ToNS)
		last.LostRecords += gap.LostRecords
	} else {
		g.remember(gap)
	}
	return g.save()
}

func sameCause(a, b store.Gap) bool {
	return a.Scope == b.Scope && a.Who == b.Who && a.Reason == b.Reason
}

// save writes what is not yet in the file.
func (g *gapLog) save() error {
	if g.unsaved == 0 || g.f == nil {
		return nil
	}
	var text []byte
	for _, gap := range g.gaps[len(g.gaps)-g.unsaved:] {
		line, err := json.Marshal(gap)
		if err != nil {
			return err
		}
		text = append(append(text, line...), '\n')
	}
	_, err := g.f.WriteAt(text, g.size)
	if err == nil {
		err = g.f.Sync()
	}
	if err != nil {
		_ = g.f.Truncate(g.size)
		return err
	}
	g.size += int64(len(text))
	g.unsaved = 0
	return nil
}

// rewriteGaps is the size from which the file is written anew at opening, with the notes that are still kept.
const rewriteGaps = 8 << 20

// openForWriting cuts a torn end off.
func (g *gapLog) openForWriting() error {
	if g.size > rewriteGaps {
		if err := g.rewrite(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(g.path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	g.f = f
	return f.Truncate(g.size)
}

// touching returns the gaps that touch [fromNS, toNS), oldest first.
func (g *gapLog) touching(fromNS, toNS int64) []store.Gap {
	var out []store.Gap
	for _, gap := range g.gaps {
		if gap.FromNS < toNS && gap.ToNS >= fromNS {
			out = append(out, gap)
		}
	}
	for _, gap := range g.found {
		if gap.FromNS < toNS && gap.ToNS >= fromNS {
			out = append(out, gap)
		}
	}
	slices.SortStableFunc(out, func(a, b store.Gap) int {
		if a.FromNS != b.FromNS {
			return int(min(max(a.FromNS-b.FromNS, -1), 1))
		}
		return 0
	})
	return out
}

// rewrite writes the file anew.
func (g *gapLog) rewrite() error {
	tmp, err := os.CreateTemp(filepath.Dir(g.path), gapsName+"-*.tmp")
	if err != nil {
		return err
	}
	all := gapLog{f: tmp, gaps: g.gaps, unsaved: len(g.gaps)}
	if err := all.save(); err != nil {
		tmp.Close()
		os.Remove(tmp.Name())
		return err
	}
	g.size = all.size
	return publish(tmp, g.path)
}
