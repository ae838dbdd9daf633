// Package counter keeps what sFlow agents count at their interfaces and at the virtual machines of their host: how much went through
// in which time. The coverage report compares flows with it.
package counter

import (
	"cmp"
	"slices"
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

// Row is what is known of one source in a time range.
type Row struct {
	Key
	Name         string // of the port or the machine, "" when the agent does not tell
	UUID         string // of the machine, "" when the agent does not tell
	Speed        uint64 // of the interface, bits in a second; 0 when not known
	FromNS, ToNS int64  // of the counts, within the range asked for
	Amount
}

// Why a sample adds nothing.
const (
	dropOther   = iota // it counts something else
	dropUnknown        // the agent says that it does not know the counters
	dropLate           // it comes again, or after a newer one
	dropRestart        // first one after the agent began to count anew: it is where the next one starts from
	dropNoRoom         // too many sources
)

// Table keeps the counts of at most so many sources. Its methods are safe for concurrent use.
type Table struct {
	max  int
	book *ledger.Book

	mu      sync.Mutex
	sources map[Key]*source
}

// DefaultSources is how many sources a table keeps: a few thousand hosts with some tens of machines each.
const DefaultSources = 65536

// New returns a table for at most limit sources; beyond it the one heard of longest ago goes, if it is silent for an hour.
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
		t.sources[k] = &source{last: *s, name: s.name, uuid: s.uuid}
		return dropRestart, false
	}
	return src.take(s)
}

// makeRoom forgets one source that is silent for long. The table is locked.
func (t *Table) makeRoom(nowNS int64) bool {
	n := 0
	for k, src := range t.sources {
		if nowNS-src.last.recvNS > int64(time.Hour) {
			delete(t.sources, k)
			return true
		}
		if n++; n == 64 {
			break
		}
	}
	return false
}

// Read returns what every source counted in a range, those with nothing known of it left out, in the order of their keys. A count
// that reaches beyond the range is cut as if it were spread evenly.
func (t *Table) Read(fromNS, toNS int64) []Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Row
	for k, src := range t.sources {
		row := Row{Key: k, Name: src.name, UUID: src.uuid, Speed: src.last.speed}
		for _, list := range [...][]cell{src.hours, src.minutes} {
			for i := range list {
				row.take(&list[i], fromNS, toNS)
			}
		}
		if row.ToNS > row.FromNS {
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(slices.Compare(a.Agent[:], b.Agent[:]), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Index, b.Index))
	})
	return out
}

// take adds the part of a cell that lies in a range.
func (r *Row) take(c *cell, fromNS, toNS int64) {
	from, to := max(c.fromNS, fromNS), min(c.toNS, toNS)
	if to <= from {
		return
	}
	part := float64(to-from) / float64(c.toNS-c.fromNS)
	cut := func(n uint64) uint64 {
		if part == 1 {
			return n
		}
		return uint64(float64(n)*part + .5)
	}
	r.add(Amount{cut(c.InOctets), cut(c.OutOctets), cut(c.InPackets), cut(c.OutPackets)})
	if r.ToNS == 0 {
		r.FromNS = from
	}
	r.ToNS = max(r.ToNS, to)
}

// text returns a name of a sample, fit to be shown.
func text(v flowproto.Value) string {
	const longest = 255
	s := strings.TrimRight(string(v.Bytes[:min(len(v.Bytes), longest)]), "\x00")
	return strings.ToValidUTF8(s, "\uFFFD")
}
