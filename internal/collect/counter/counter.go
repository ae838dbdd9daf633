// Package counter makes counts of what sFlow agents tell of their interfaces and of the virtual machines of their host: how much went through
// in which time. Stores keep them, and the coverage report compares flows with them.
package counter

import (
	"strings"
	"sync"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/ledger"
)

// Key is what an agent counts at: a source of counter samples.
type Key struct {
	Agent  flow.Addr
	Domain uint32 // sub-agent
	Class  uint32 // 0 an interface, Index is its ifIndex; 3 a logical entity, such as a virtual machine
	Index  uint32
}

// The classes of sources that are kept.
const (
	Interface = 0
	Machine   = 3
)

// Amount is what went through. In is what the interface received: at a port of a virtual switch what the machine sent. At a machine
// In is what the machine received. Octets are those of layer 2.
type Amount struct {
	InOctets, OutOctets   uint64
	InPackets, OutPackets uint64
}

func (a *Amount) add(b Amount) {
	a.InOctets, a.OutOctets = a.InOctets+b.InOctets, a.OutOctets+b.OutOctets
	a.InPackets, a.OutPackets = a.InPackets+b.InPackets, a.OutPackets+b.OutPackets
}

// Cell is what went through in one stretch of time.
type Cell struct {
	FromNS, ToNS int64
	Amount
}

// Row is what one source has counted since the last Take.
type Row struct {
	Key
	Name  string // of the port or the machine, "" when the agent does not tell
	UUID  string // of the machine, "" when the agent does not tell
	Cells []Cell // the oldest first
}

// Why a sample adds nothing.
const (
	dropOther   = iota // it counts something else
	dropUnknown        // the agent says that it does not know the counters
	dropLate           // it comes again, or after a newer one
	dropRestart        // first one after the agent began to count anew: it is where the next one starts from
	dropNoRoom         // too many sources
)

// Table follows at most so many sources. Its methods are safe for concurrent use.
type Table struct {
	max  int
	book *ledger.Book

	mu      sync.Mutex
	sources map[Key]*source
	told    []Key // sources with cells that nobody has taken
	cells   int   // of them
}

// DefaultSources is how many sources a table follows: a few thousand hosts with some tens of machines each.
const DefaultSources = 65536

// New returns a table for at most limit sources; beyond it one that is silent for an hour goes.
func New(limit int) *Table {
	return &Table{
		max: limit, sources: make(map[Key]*source),
		book: ledger.New("counters", ledger.Samples, "no-interface", "unknown", "late", "restart", "no-room"),
	}
}

// Book returns the account of counter samples.
func (t *Table) Book() ledger.Statement { return t.book.Read() }

// Sources returns how many sources there are.
func (t *Table) Sources() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.sources)
}

// Add takes in a counter sample. Nothing of c is kept.
func (t *Table) Add(c *flowproto.Counters) {
	t.book.In(1)
	s, why, ok := read(c)
	if ok {
		why, ok = t.enter(Key{c.Agent, c.Domain, c.SourceType, c.SourceID}, &s)
	}
	if ok {
		t.book.Out(1)
	} else {
		t.book.Drop(why, 1)
	}
}

func (t *Table) enter(k Key, s *sample) (why int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	src := t.sources[k]
	if src == nil {
		if len(t.sources) >= t.max && !t.makeRoom(s.recvNS) {
			return dropNoRoom, false
		}
		t.sources[k] = &source{last: *s, base: *s, name: s.name, uuid: s.uuid}
		return dropRestart, false
	}
	c, why, ok := src.take(s)
	if ok {
		t.keep(k, src, c)
	}
	return why, ok
}

// maxCells bounds the cells that wait to be taken. Beyond it a source's last one grows.
const maxCells = 1 << 20

// keep adds a cell to those that wait. The table is locked.
func (t *Table) keep(k Key, src *source, c Cell) {
	n := len(src.cells)
	if n == 0 {
		t.told = append(t.told, k)
	} else if last := &src.cells[n-1]; t.cells >= maxCells || last.ToNS == c.FromNS && last.FromNS/int64(time.Minute) == (c.ToNS-1)/int64(time.Minute) {
		last.ToNS = c.ToNS
		last.add(c.Amount)
		return
	}
	src.cells = append(src.cells, c)
	t.cells++
}

// Waiting returns how many cells nobody has taken.
func (t *Table) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cells
}

// Take returns what has been counted since the last call: the sources heard of first, with at most so many cells, or one source more.
func (t *Table) Take(most int) (out []Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	done := 0
	for _, k := range t.told {
		if most <= 0 {
			break
		}
		done++
		src := t.sources[k]
		if src == nil || len(src.cells) == 0 {
			continue
		}
		out = append(out, Row{Key: k, Name: src.name, UUID: src.uuid, Cells: src.cells})
		most, t.cells, src.cells, src.base = most-len(src.cells), t.cells-len(src.cells), nil, src.last
	}
	if t.told = t.told[done:]; len(t.told) == 0 {
		t.told = nil
	}
	return out
}

// makeRoom forgets one source that is silent for long. The table is locked.
func (t *Table) makeRoom(nowNS int64) bool {
	n := 0
	for k, src := range t.sources {
		if nowNS-src.last.recvNS > int64(time.Hour) && len(src.cells) == 0 {
			delete(t.sources, k)
			return true
		}
		if n++; n == 64 {
			break
		}
	}
	return false
}

// text returns a name of a sample, fit to be shown.
func text(v flowproto.Value) string {
	const longest = 255
	s := strings.TrimRight(string(v.Bytes[:min(len(v.Bytes), longest)]), "\x00")
	return strings.ToValidUTF8(s, "\uFFFD")
}
