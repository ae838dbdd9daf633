package segment

import (
	"cmp"
	"errors"
	mathbits "math/bits"
	"os"
	"slices"
	"sync/atomic"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/elect"
	"crosstap/internal/flow"
)

// The canonical rows of a flow are those that sums read: each packet once. While rows arrive the
// election is provisional; here it is settled for an hour. The best observer of a flow keeps all its
// rows; another one's row counts only where no better observer was.

// candidate is a row in the election. Its File is the number of the file, At the place in it.
type candidate = elect.Row

// electionRows bounds the candidates in memory; more are elected in several passes over the files, each for a part
// of the flows.
const electionRows = 1 << 20

// election is the outcome for the files of an hour.
type election struct {
	bits      []bitmap              // which rows of each file are canonical
	flips     []int                 // how many rows of each file change
	known     map[uint64]*knowledge // of flows of which a row lacks something
	uncertain store.Uncertain
}

// elector holds an election while it is under way.
type elector struct {
	election
	s           *Store
	files       []file // of the hour, then those of hours beside
	own         int    // how many are of the hour
	from        int64  // the hour's least t_start, ms
	all         []candidate
	keys, spare []uint64
}

// electHour settles the canonical rows of files; context are files of the hours beside, of which
// canonical rows that reach into the hour count as settled.
func (s *Store) electHour(files, context []file) (election, error) {
	return s.electIn(files, context, keyRows, electionRows)
}

// electIn is electHour with other bounds of what is in memory.
func (s *Store) electIn(files, context []file, keyRows, electionRows int) (election, error) {
	e := &elector{s: s, own: len(files), from: 1<<63 - 1}
	e.bits, e.flips, e.known = make([]bitmap, len(files)), make([]int, len(files)), map[uint64]*knowledge{}
	for i, f := range files {
		e.from = min(e.from, f.StartMS)
		e.bits[i] = newBitmap(f.Rows)
	}
	apart := func(f file) bool { return f.MaxMS < e.from-elect.SlackMS } // no row of it reaches into the hour
	e.files = slices.Concat(files, slices.DeleteFunc(slices.Clone(context), apart))
	var total int64
	for _, f := range e.files {
		total += f.Rows
	}
	var find equalFinder
	var flows []uint64
	starts := make([]int, len(e.files)+1) // of each file's rows among flows
	passes := uint64(total/int64(keyRows) + 1)
	for pass := range passes {
		mine := flowsOf(pass, passes, hashMul2)
		flows = flows[:0]
		for i := range e.files {
			starts[i] = len(flows)
			var err error
			if flows, err = e.look(i, mine, pass == 0, flows); err != nil {
				return election{}, err
			}
		}
		starts[len(e.files)] = len(flows)
		several, n := find.find(flows)
		if n == 0 {
			continue
		}
		for part, parts := uint64(0), uint64(n/electionRows+1); part < parts; part++ {
			if err := e.elect(starts, several, mine, flowsOf(part, parts, hashMul)); err != nil {
				return election{}, err
			}
		}
	}
	return e.election, nil
}

// flowsOf reports for a flow whether it belongs to one of so many parts, by a hash that mul makes: parts of a part need another.
func flowsOf(part, of, mul uint64) func(flow uint64) bool {
	if of == 1 {
		return func(uint64) bool { return true }
	}
	return func(flow uint64) bool {
		at, _ := mathbits.Mul64(flow*mul, of)
		return at == part
	}
}

// electRow is what the election reads of a row, as keyRow for its second look: first what decides, then what a row knows.
type electRow struct {
	TEnd       int64  `parquet:"t_end"`
	SpanMS     int64  `parquet:"span_ms"`
	FlowKey    uint64 `parquet:"flow_key"`
	ObserverID uint64 `parquet:"observer_id"`
	Packets    uint64 `parquet:"packets"`
	Octets     uint64 `parquet:"octets"`
	Sampling   uint32 `parquet:"sampling"`
	SrcPort    uint16 `parquet:"src_port"`
	DstPort    uint16 `parquet:"dst_port"`
	Marks      uint16 `parquet:"marks"`
	Direction  uint8  `parquet:"direction"`
	Role       uint8  `parquet:"role"`

	Segment   uint64 `parquet:"segment"`
	Fabric    string `parquet:"fabric"`
	Tenant    string `parquet:"tenant"`
	App       string `parquet:"app"`
	SrcTenant string `parquet:"src_tenant"`
	DstTenant string `parquet:"dst_tenant"`
	SrcVM     string `parquet:"src_vm"`
	SrcVMID   string `parquet:"src_vm_id"`
	SrcHost   string `parquet:"src_host"`
	DstVM     string `parquet:"dst_vm"`
	DstVMID   string `parquet:"dst_vm_id"`
	DstHost   string `parquet:"dst_host"`
}

// electColumns are those that decide.
var electColumns = []string{"flow_key", "src_port", "dst_port", "observer_id", "span_ms", "t_end", "packets", "octets", "sampling", "marks", "direction", "role"}

func (w *electRow) flowID() uint64 { return w.FlowKey ^ portsOf(uint64(w.SrcPort), uint64(w.DstPort)) }

func (w *electRow) knowledge() knowledge {
	return knowledge{w.Segment, w.Fabric, w.Tenant, w.App, w.SrcTenant, w.DstTenant, w.SrcVM, w.SrcVMID, w.SrcHost, w.DstVM, w.DstVMID, w.DstHost}
}

// takesPart reports whether a row of a flow can be a candidate: all of the hour's own files, and of those beside it what is canonical and reaches into it.
func (e *elector) takesPart(file int, flowID uint64, marks uint16, tEnd int64) bool {
	return flowID != 0 && (file < e.own || marks&uint16(flow.MarkCanonical) != 0 && tEnd >= e.from-elect.SlackMS)
}

// look appends the flows of a file's rows that take part, and takes its own for canonical until they are elected. A row without a flow stays as it is: it is
// not merged with anything.
func (e *elector) look(file int, mine func(flow uint64) bool, first bool, flows []uint64) ([]uint64, error) {
	err := eachOfFile(e.s, e.files[file], nil, func(at int, r *keyRow) {
		id, was := r.flowID(), r.Marks&uint16(flow.MarkCanonical) != 0
		switch {
		case e.takesPart(file, id, r.Marks, r.TEnd) && mine(id):
			flows = append(flows, id)
			if file < e.own {
				e.bits[file].put(at, true)
				if !was {
					e.flips[file]++
				}
			}
		case id == 0 && first && file < e.own:
			e.bits[file].put(at, was)
		}
	})
	return flows, err
}

// elect decides about one part of the flows that have several rows. Starts are where the rows of each file begin among those that were looked at.
func (e *elector) elect(starts []int, several bitmap, mine, part func(flow uint64) bool) error {
	fill := newFills()
	fill.flows = e.known
	e.all = e.all[:0]
	for file, f := range e.files {
		n := starts[file]
		if !several.any(n, starts[file+1]) {
			continue
		}
		own := file < e.own
		var columns []string // all
		if !own {
			columns = electColumns
		}
		err := eachOfFile(e.s, f, fill.texts, func(at int, r *electRow) {
			id := r.flowID()
			if !e.takesPart(file, id, r.Marks, r.TEnd) || !mine(id) {
				return
			}
			if n++; !several.has(n-1) || !part(id) {
				return
			}
			c := candidate{FlowID: id, ObserverID: r.ObserverID, TStart: r.TEnd - r.SpanMS, TEnd: r.TEnd, Packets: r.Packets, Octets: r.Octets, Sampling: r.Sampling, Marks: r.Marks,
				Direction: r.Direction, Role: r.Role, File: -1, At: int32(at), Was: r.Marks&uint16(flow.MarkCanonical) != 0}
			if own {
				k := r.knowledge()
				c.File, c.Known = int32(file), fill.add(&k)
				if !c.Was {
					e.flips[file]-- // look's
				}
			}
			e.all = append(e.all, c)
		}, columns...)
		if err != nil {
			return err
		}
	}
	e.keys, e.spare = slices.Grow(e.keys[:0], len(e.all))[:len(e.all)], slices.Grow(e.spare[:0], len(e.all))[:len(e.all)]
	byFlow(e.all, e.keys, e.spare, func(rows []candidate) {
		elect.Flow(rows, func(c *candidate, d elect.Decision) {
			e.bits[c.File].put(int(c.At), d.Canonical)
			if d.Canonical != c.Was {
				e.flips[c.File]++
			}
			if d.Uncertain > 0 {
				e.uncertain.Add(store.Uncertain{Rows: 1, Packets: d.Uncertain, Octets: d.Octets(c)})
			}
		})
		fill.see(rows)
	})
	return nil
}

// eachOfFile calls each with every row of a file and its place, which does not change it.
func eachOfFile[T any](s *Store, f file, names sharedTexts, each func(int, *T), columns ...string) error {
	in, err := os.Open(s.path(f.Name))
	if err != nil {
		return &damagedError{f, err}
	}
	defer in.Close()
	at := 0
	err = scanRows(in, true, names, func(r *T) error {
		if at >= int(f.Rows) {
			return errors.New("more rows than its footer says")
		}
		each(at, r)
		at++
		return nil
	}, columns)
	if err != nil {
		return &damagedError{f, err}
	}
	return nil
}

// byFlow calls each with the rows of every flow; it may change their order, and does not keep them. Keys and spare are room for as many numbers: half a
// hash of the flow, and the index.
func byFlow(all []candidate, keys, spare []uint64, each func([]candidate)) {
	for i := range all {
		keys[i] = all[i].FlowID*hashMul&^(1<<32-1) | uint64(i)
	}
	keys = sortHigh(keys, spare)
	var rows []candidate
	for i, seen := 0, 0; i < len(keys); {
		if i >= seen {
			seen = min(i+blockRows, len(keys))
			lookAt(all, keys[i:seen])
		}
		rows = rows[:0]
		hash, several := keys[i]>>32, false
		for ; i < len(keys) && keys[i]>>32 == hash; i++ {
			rows = append(rows, all[uint32(keys[i])])
			several = several || rows[len(rows)-1].FlowID != rows[0].FlowID
		}
		if !several {
			each(rows)
			continue
		}
		slices.SortStableFunc(rows, func(a, b candidate) int { return cmp.Compare(a.FlowID, b.FlowID) })
		for rest := rows; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].FlowID == rest[0].FlowID {
				n++
			}
			each(rest[:n])
			rest = rest[n:]
		}
	}
}

// touched keeps the loads of lookAt from being left out as useless.
var touched atomic.Uint32

// lookAt looks at candidates, which lie far apart, with nothing in between that waits: their memory is fetched for many at a time.
func lookAt(all []candidate, keys []uint64) {
	sum := uint32(0)
	for _, k := range keys {
		c := &all[uint32(k)]
		sum += uint32(c.FlowID) + uint32(c.At) // its first line of memory and its last
	}
	if sum == 1<<32-1 {
		touched.Add(1)
	}
}

// sortHigh sorts by the upper 32 bits, and returns keys or spare, which is as long.
func sortHigh(keys, spare []uint64) []uint64 {
	for shift := 32; shift < 64; shift += digitBits {
		const mask = 1<<digitBits - 1
		var from [mask + 1]int32
		for _, k := range keys {
			from[k>>shift&mask]++
		}
		var sum int32
		for i, n := range from {
			from[i] = sum
			sum += n
		}
		for _, k := range keys {
			at := &from[k>>shift&mask]
			spare[*at] = k
			*at++
		}
		keys, spare = spare, keys
	}
	return keys
}
