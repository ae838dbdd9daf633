package counter

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// FileName is the file of a data directory that has what a table knows: a line of JSON about the file, then one for each source.
const FileName = "COUNTERS"

// savedVersion is that of the file. Version 1 kept the counts, too; they are taken as if they were new.
const savedVersion = 2

type savedHead struct {
	Version int      `json:"version"`
	Unsent  [][]byte `json:"unsent,omitempty"`
}

type savedSource struct {
	Key
	Name    string      `json:"name"`
	UUID    string      `json:"uuid,omitempty"`
	Last    savedSample `json:"last"`
	Minutes [][6]uint64 `json:"minutes,omitempty"` // version 1: from, to (ns), octets in and out, packets in and out
	Hours   [][6]uint64 `json:"hours,omitempty"`
}

type savedSample struct {
	RecvNS   int64     `json:"recv_ns"`
	UptimeMS uint32    `json:"uptime_ms"`
	Sequence uint32    `json:"sequence"`
	Octets   [2]uint64 `json:"octets"`
	Packets  [2]uint32 `json:"packets"`
}

// Save writes what sources stood at when Take was last called to a file, which is replaced whole, and beside it what was taken and is not stored yet. What
// comes between the two is told again by the samples after a restart.
func (t *Table) Save(path string, unsent [][]byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("counter: save: %w", err)
	}
	out := bufio.NewWriterSize(f, 1<<16)
	err = t.write(json.NewEncoder(out), unsent)
	err = errors.Join(err, out.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("counter: save %s: %w", path, errors.Join(err, os.Remove(path+".new")))
	}
	return nil
}

func (t *Table) write(enc *json.Encoder, unsent [][]byte) error {
	if err := enc.Encode(savedHead{savedVersion, unsent}); err != nil {
		return err
	}
	for _, s := range t.saved() {
		if err := enc.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

// saved copies the sources, as they were at the start of the cells that wait.
func (t *Table) saved() []savedSource {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]savedSource, 0, len(t.sources))
	for k, s := range t.sources {
		l := &s.base
		out = append(out, savedSource{Key: k, Name: s.name, UUID: s.uuid, Last: savedSample{l.recvNS, l.uptimeMS, l.sequence, l.octets, l.packets}})
	}
	return out
}

// Restore reads what Save wrote, all or nothing, and returns what was not stored yet then. Sources that the table has already stay as they are. A file
// that is not there gives nothing.
func (t *Table) Restore(path string) (unsent [][]byte, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("counter: restore: %w", err)
	}
	defer f.Close()
	head, sources, err := t.read(json.NewDecoder(bufio.NewReaderSize(f, 1<<16)))
	if err != nil {
		return nil, fmt.Errorf("counter: restore: %s: %w", path, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, s := range sources {
		if t.sources[k] != nil || len(t.sources) >= t.max {
			continue
		}
		t.sources[k] = s
		if len(s.cells) > 0 {
			t.told, t.cells = append(t.told, k), t.cells+len(s.cells)
		}
	}
	return head.Unsent, nil
}

func (t *Table) read(dec *json.Decoder) (head savedHead, sources map[Key]*source, err error) {
	if err := dec.Decode(&head); err != nil {
		return head, nil, err
	}
	if head.Version < 1 || head.Version > savedVersion {
		return head, nil, fmt.Errorf("version is %d, want %d at most", head.Version, savedVersion)
	}
	sources = map[Key]*source{}
	for {
		var s savedSource
		switch err := dec.Decode(&s); {
		case errors.Is(err, io.EOF):
			return head, sources, nil
		case err != nil:
			return head, nil, err
		case len(sources) >= t.max:
			return head, nil, fmt.Errorf("more than %d sources", t.max)
		}
		sources[s.Key] = s.source()
	}
}

func (s *savedSource) source() *source {
	l := &s.Last
	out := &source{name: s.Name, uuid: s.UUID}
	out.last = sample{recvNS: l.RecvNS, uptimeMS: l.UptimeMS, sequence: l.Sequence, name: s.Name, uuid: s.UUID, octets: l.Octets, packets: l.Packets}
	out.base = out.last
	for _, c := range append(s.Hours, s.Minutes...) {
		if c[0] < c[1] && c[1] < 1<<62 {
			out.cells = append(out.cells, Cell{int64(c[0]), int64(c[1]), Amount{c[2], c[3], c[4], c[5]}})
		}
	}
	return out
}
