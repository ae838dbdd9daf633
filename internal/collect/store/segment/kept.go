package segment

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
)

// What a range cuts of days and hours has no links: whoever looks at a map again, with another focus or in other groups, would read rows by the hundred thousand again.
// What a second view asks for is added up to links once, in a file beside the engine's spill files. Stored files never change, so that a statement always means the same.

const (
	mostKept      = 32       // statements that are remembered
	mostKeptBytes = 64 << 20 // of their files
)

// keptLinks are the links of such parts.
type keptLinks struct {
	mu    sync.Mutex
	parts map[string]*keptPart // by statement
	asks  uint64
}

// keptPart is what is known of a statement.
type keptPart struct {
	asked uint64 // when it last was
	by    *view  // who asked first; nil once others have
	path  string // of its links, "" for none
	bytes int64
	users int // views that have asked for it
}

// canKeep reports whether a part is of links for all that a range has.
func canKeep(p store.Part) bool {
	return p.Links && !p.Single && !p.Bare && !p.Count && p.Segments == "" && p.Addrs == nil
}

// kept gives a statement for the links of another one, or that one while it has none.
func (v *view) kept(statement string) string {
	k := &v.s.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.parts[statement]
	if p == nil {
		if k.parts == nil {
			k.parts = map[string]*keptPart{}
		}
		p = &keptPart{by: v}
		k.parts[statement] = p
	}
	k.asks++
	p.asked = k.asks
	if !slices.Contains(v.links, p) {
		p.users++
		v.links = append(v.links, p)
	}
	if k.shrink(); p.by == v {
		return statement
	}
	if p.by != nil { // the second one
		p.by = nil
		k.mu.Unlock()
		path, size := v.s.makeLinks(statement)
		k.mu.Lock()
		p.path, p.bytes = path, size
		k.shrink()
	}
	if p.path == "" {
		return statement
	}
	return "SELECT " + rollupNames + " FROM read_parquet([" + quote(p.path) + "], " + notPartitioned + ")"
}

// shrink forgets what was not asked for longest, as far as no view that asked for it is open.
func (k *keptLinks) shrink() {
	var bytes int64
	for _, p := range k.parts {
		bytes += p.bytes
	}
	oldest := slices.SortedFunc(maps.Keys(k.parts), func(a, b string) int { return cmp.Compare(k.parts[a].asked, k.parts[b].asked) })
	for _, statement := range oldest {
		if len(k.parts) <= mostKept && bytes <= mostKeptBytes {
			return
		}
		if p := k.parts[statement]; p.users == 0 {
			_ = os.Remove(p.path) // else the folder goes with the engine
			bytes -= p.bytes
			delete(k.parts, statement)
		}
	}
}

// release lets a view's links go.
func (k *keptLinks) release(v *view) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range v.links {
		p.users--
	}
}

// makeLinks writes the links of a statement to a file; path is "" where that fails: there is no room, mostly.
func (s *Store) makeLinks(statement string) (path string, size int64) {
	if err := os.MkdirAll(s.spill, 0o700); err != nil {
		return "", 0
	}
	path = filepath.Join(s.spill, "links-"+uuid.NewString()+".parquet")
	_, err := s.engine().ExecContext(context.Background(), "COPY "+store.LinksOf("("+statement+")")+" TO "+quote(path)+" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 61440)")
	info, statErr := os.Stat(path)
	if err != nil || statErr != nil {
		s.cfg.Log.Debug("links of a part are not kept", "error", err)
		_ = os.Remove(path)
		return "", 0
	}
	return path, info.Size()
}
