package segment

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// The manifest is the list of live files, as an append-only log of JSON lines. A line is
// "<crc32c> <change>\n"; what follows the first line that does not check is ignored (a torn write).
// Each change is one atomic step: a reader sees all of it or nothing.
const manifestName = "MANIFEST"

// change is one step of the log.
type change struct {
	Schema int      `json:"schema,omitempty"` // first line only
	Add    []file   `json:"add,omitempty"`
	Del    []string `json:"del,omitempty"`
	// Places are the last places of streams whose records are in the files so far.
	Places map[string]uint64 `json:"places,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c change) line() ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

// parseLine is the inverse of line; ok is false for a damaged line.
func parseLine(line []byte) (c change, ok bool) {
	sum, text, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !found || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) {
		return change{}, false
	}
	return c, json.Unmarshal(text, &c) == nil
}

// manifest is the open log and the state it adds up to. The store's mutex guards it.
type manifest struct {
	path    string
	f       *os.File
	size    int64           // of the good part
	lines   int             //
	damaged bool            // a whole line is: no writer is in the middle of it
	live    map[string]file // segment files by name
	rolls   map[string]file // roll-ups by name
	sums    map[string]int  // how many roll-ups add up a segment file's rows, by its name
	dead    map[string]bool // no longer live, perhaps still on disk

	places map[string]uint64 // by stream: the last whose records are durable
}

var errNewerSchema = errors.New("the store was written by a newer version")

// readManifest reads the log at path; it does not change it. complete is false when there is none or
// when its end is damaged.
func readManifest(path string) (m *manifest, complete bool, err error) {
	m = &manifest{path: path, live: map[string]file{}, rolls: map[string]file{}, sums: map[string]int{}, dead: map[string]bool{}, places: map[string]uint64{}}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return m, m.lines > 0, nil
		}
		if err != nil && err != io.EOF {
			return nil, false, err
		}
		c, ok := parseLine(line)
		if !ok || err == io.EOF {
			m.damaged = err == nil
			return m, false, nil
		}
		if c.Schema > schemaVersion {
			return nil, false, fmt.Errorf("%w (schema %d, this version reads %d)", errNewerSchema, c.Schema, schemaVersion)
		}
		m.take(c)
		m.size += int64(len(line))
		m.lines++
	}
}

// take applies a change to the state.
func (m *manifest) take(c change) {
	maps.Copy(m.places, c.Places)
	for _, n := range c.Del {
		m.forget(n)
		m.dead[n] = true
	}
	for _, f := range c.Add {
		if !validName(f.Name) {
			continue
		}
		m.forget(f.Name)
		delete(m.dead, f.Name)
		if !f.isRollup() {
			m.live[f.Name] = f
			continue
		}
		f.groupByHour()
		m.rolls[f.Name] = f
		for _, n := range f.Of {
			m.sums[n]++
		}
	}
}

// forget takes a file out of the state.
func (m *manifest) forget(name string) {
	delete(m.live, name)
	for _, n := range m.rolls[name].Of {
		if m.sums[n]--; m.sums[n] == 0 {
			delete(m.sums, n)
		}
	}
	delete(m.rolls, name)
}

// has reports whether a file is live.
func (m *manifest) has(name string) bool {
	_, live := m.live[name]
	_, roll := m.rolls[name]
	return live || roll
}

// linksOf names what is listed of a roll-up's links.
func (m *manifest) linksOf(name string) (names []string) {
	for _, n := range []string{linksOf(name), quartersOf(name)} {
		if _, there := m.rolls[n]; there {
			names = append(names, n)
		}
	}
	return names
}

// anyLive reports whether one of the segment files is live.
func (m *manifest) anyLive(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { _, live := m.live[n]; return live })
}

// rollsOf returns the roll-ups that add up rows of one of the files.
func (m *manifest) rollsOf(files []file) []string {
	in := map[string]bool{}
	for _, f := range files {
		if m.sums[f.Name] > 0 {
			in[f.Name] = true
		}
	}
	var out []string
	if len(in) == 0 {
		return nil
	}
	for name, r := range m.rolls {
		if slices.ContainsFunc(r.Of, func(n string) bool { return in[n] }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// openForWriting keeps the good part of the log and appends from there.
func (m *manifest) openForWriting() error {
	f, err := os.OpenFile(m.path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	m.f = f
	if m.lines == 0 {
		return m.rewrite()
	}
	return f.Truncate(m.size)
}

// append makes a change durable and applies it.
func (m *manifest) append(c change) error {
	if m.lines > 1000 && m.lines > 4*(len(m.live)+len(m.rolls)) {
		if err := m.rewrite(); err != nil {
			return err
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	step()
	if _, err = m.f.WriteAt(line, m.size); err == nil {
		step()
		err = m.f.Sync()
	}
	if err != nil {
		// what may be there of the line is cut off, now or by the next append that overwrites it
		_ = m.f.Truncate(m.size)
		return err
	}
	m.take(c)
	m.size += int64(len(line))
	m.lines++
	return nil
}

// rewrite replaces the log by one that says the same in few lines.
func (m *manifest) rewrite() error {
	tmp, err := os.OpenFile(m.path+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	size, lines, err := m.dump(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = rename(tmp.Name(), m.path)
	}
	if err != nil {
		tmp.Close()
		os.Remove(tmp.Name())
		return err
	}
	if m.f != nil {
		m.f.Close()
	}
	m.f, m.size, m.lines = tmp, size, lines
	return syncDir(filepath.Dir(m.path))
}

// dump writes the state, some hundred files to a line.
func (m *manifest) dump(out io.Writer) (size int64, lines int, err error) {
	w := bufio.NewWriter(out)
	put := func(c change) error {
		line, err := c.line()
		if err == nil {
			_, err = w.Write(line)
		}
		size, lines = size+int64(len(line)), lines+1
		return err
	}
	if err := put(change{Schema: schemaVersion}); err != nil {
		return 0, 0, err
	}
	c := change{Del: slices.Sorted(maps.Keys(m.dead)), Places: m.places}
	for _, f := range slices.Concat(sortedFiles(m.live), sortedFiles(m.rolls)) {
		if c.Add = append(c.Add, f); len(c.Add) == 256 {
			if err := put(c); err != nil {
				return 0, 0, err
			}
			c = change{Add: c.Add[:0]}
		}
	}
	if len(c.Add)+len(c.Del)+len(c.Places) > 0 {
		if err := put(c); err != nil {
			return 0, 0, err
		}
	}
	return size, lines, w.Flush()
}

func (m *manifest) close() error {
	if m.f == nil {
		return nil
	}
	return m.f.Close()
}
