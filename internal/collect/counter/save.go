package counter

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"crosstap/internal/identity"
)

// FileName is the file of a data directory that has what a table keeps: a line of JSON about the file, then one for each source.
const FileName = "COUNTERS"

const savedVersion = 1

// savedHead is the first line. Known is what the inventory said of the ports that are counted, with its history.
type savedHead struct {
	Version int                `json:"version"`
	Known   identity.Inventory `json:"known"`
}

type savedSource struct {
	Key
	Name    string      `json:"name"`
	UUID    string      `json:"uuid,omitempty"`
	Last    savedSample `json:"last"`
	Minutes [][6]uint64 `json:"minutes"` // from, to (ns), octets in and out, packets in and out
	Hours   [][6]uint64 `json:"hours"`
}

type savedSample struct {
	RecvNS   int64     `json:"recv_ns"`
	UptimeMS uint32    `json:"uptime_ms"`
	Sequence uint32    `json:"sequence"`
	Speed    uint64    `json:"speed"`
	Octets   [2]uint64 `json:"octets"`
	Packets  [2]uint32 `json:"packets"`
}

// Save writes what is kept to a file, which is replaced whole. known is the inventory of now; what counters do not need of it is left out.
func (t *Table) Save(path string, known identity.Inventory) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("counter: save: %w", err)
	}
	out := bufio.NewWriterSize(f, 1<<16)
	err = t.write(json.NewEncoder(out), known)
	err = errors.Join(err, out.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("counter: save %s: %w", path, errors.Join(err, os.Remove(path+".new")))
	}
	return nil
}

func (t *Table) write(enc *json.Encoder, known identity.Inventory) error {
	keys, ports := t.keys()
	if err := enc.Encode(savedHead{savedVersion, needed(known, ports)}); err != nil {
		return err
	}
	for _, k := range keys {
		s, ok := t.saved(k)
		if !ok {
			continue // forgotten meanwhile
		}
		if err := enc.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

// keys lists the sources, and the names of the interfaces among them.
func (t *Table) keys() (keys []Key, ports map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ports = map[string]bool{}
	for k, s := range t.sources {
		keys = append(keys, k)
		if k.Class == Interface && s.name != "" {
			ports[s.name] = true
		}
	}
	return keys, ports
}

// needed is the part of an inventory that tells whose ports these are, and on which host an agent is.
func needed(inv identity.Inventory, ports map[string]bool) (out identity.Inventory) {
	out.Hosts, out.Observers = inv.Hosts, inv.Observers
	for _, v := range inv.VNICs {
		if ports[v.Port] {
			out.VNICs = append(out.VNICs, identity.VNIC{Span: v.Span, VM: v.VM, VMID: v.VMID, Host: v.Host, Port: v.Port, Fabric: v.Fabric})
		}
	}
	return out
}

// saved copies one source.
func (t *Table) saved(k Key) (out savedSource, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[k]
	if s == nil {
		return out, false
	}
	l := &s.last
	return savedSource{Key: k, Name: s.name, UUID: s.uuid, Last: savedSample{l.recvNS, l.uptimeMS, l.sequence, l.speed, l.octets, l.packets},
		Minutes: packed(s.minutes), Hours: packed(s.hours)}, true
}

func packed(cells []cell) [][6]uint64 {
	out := make([][6]uint64, len(cells))
	for i, c := range cells {
		out[i] = [6]uint64{uint64(c.fromNS), uint64(c.toNS), c.InOctets, c.OutOctets, c.InPackets, c.OutPackets}
	}
	return out
}

// Restore reads what Save wrote, all or nothing, and returns what the inventory said then. Sources that the table has already stay as they are. A file that is
// not there gives nothing.
func (t *Table) Restore(path string) (known identity.Inventory, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return known, fmt.Errorf("counter: restore: %w", err)
	}
	defer f.Close()
	known, sources, err := t.read(json.NewDecoder(bufio.NewReaderSize(f, 1<<16)))
	if err != nil {
		return identity.Inventory{}, fmt.Errorf("counter: restore: %s: %w", path, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, s := range sources {
		if t.sources[k] == nil && len(t.sources) < t.max {
			t.sources[k] = s
		}
	}
	return known, nil
}

func (t *Table) read(dec *json.Decoder) (known identity.Inventory, sources map[Key]*source, err error) {
	var head savedHead
	if err := dec.Decode(&head); err != nil {
		return known, nil, err
	}
	if head.Version != savedVersion {
		return known, nil, fmt.Errorf("version is %d, want %d", head.Version, savedVersion)
	}
	sources = map[Key]*source{}
	for {
		var s savedSource
		switch err := dec.Decode(&s); {
		case errors.Is(err, io.EOF):
			return head.Known, sources, nil
		case err != nil:
			return known, nil, err
		case len(sources) >= t.max:
			return known, nil, fmt.Errorf("more than %d sources", t.max)
		case len(s.Minutes) > keptMinutes || len(s.Hours) > keptHours:
			return known, nil, fmt.Errorf("source %v: %d minutes and %d hours", s.Key, len(s.Minutes), len(s.Hours))
		}
		sources[s.Key] = s.source()
	}
}

func (s *savedSource) source() *source {
	l := &s.Last
	return &source{name: s.Name, uuid: s.UUID, minutes: unpacked(s.Minutes), hours: unpacked(s.Hours),
		last: sample{recvNS: l.RecvNS, uptimeMS: l.UptimeMS, sequence: l.Sequence, speed: l.Speed, name: s.Name, uuid: s.UUID, octets: l.Octets, packets: l.Packets}}
}

// unpacked gives the cells that last for some time.
func unpacked(cells [][6]uint64) (out []cell) {
	for _, c := range cells {
		if int64(c[0]) < int64(c[1]) {
			out = append(out, cell{int64(c[0]), int64(c[1]), Amount{c[2], c[3], c[4], c[5]}})
		}
	}
	return slices.Clip(out)
}
