package meter

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// flowFrames makes the packets of many flows out of one frame, without allocating: the flow's number is in the source address and ports.
type flowFrames struct {
	frames [blockFrames]frame.Frame
	n      int
}

func newFlowFrames() *flowFrames {
	var s flowFrames
	p := packet{src: "10.0.0.1", dst: "10.200.0.1", proto: 6, srcPort: 1, dstPort: 80, flags: 16, payload: 48}
	for i := range s.frames {
		s.frames[i] = p.at(0)
	}
	return &s
}

// add puts one packet of a flow into the block, and reports whether that is full.
func (s *flowFrames) add(number uint32, ns int64) bool {
	f := &s.frames[s.n]
	f.TimeNS = ns
	const src, dst, port = 26, 30, 34
	binary.BigEndian.PutUint32(f.Data[src:], 10<<24|number&0xfff)
	binary.BigEndian.PutUint32(f.Data[dst:], 10<<24|200<<16|number>>12&0xfff)
	binary.BigEndian.PutUint16(f.Data[port:], 1024+uint16(number>>24))
	s.n = (s.n + 1) % blockFrames
	return s.n == 0
}

// newSingle returns a meter that gives its records to take.
func newSingle(tb testing.TB, c Config, take func([]flow.Record)) (*Meter, *single) {
	tb.Helper()
	m, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	s := &single{shard: m.newShard(0, new(atomic.Int64)), front: m.newFront()}
	s.deliver = func(records []flow.Record) error { take(records); return nil }
	tb.Cleanup(s.cache.release)
	return m, s
}

// TestMemory fills the cache and weighs it: entries, table, wheel and lists, all metrics on. With CROSSTAP_FLOWS=10000000 so many flows, and what
// the process takes.
func TestMemory(t *testing.T) {
	f := func(flows int) {
		t.Helper()
		c := DefaultConfig()
		c.MaxFlows = flows
		c.IdleTimeout, c.ActiveTimeout = time.Hour, time.Hour
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, s := newSingle(t, c, func([]flow.Record) {})
		src := newFlowFrames()
		for i := range flows {
			if src.add(uint32(i), 1e15+int64(i)) {
				s.batch(src.frames[:])
			}
		}
		s.batch(src.frames[:src.n])
		runtime.GC()
		runtime.ReadMemStats(&after)
		bytes := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) + float64(s.cache.used)*entryBytes + float64(len(s.cache.index)*8)
		per := bytes / float64(s.cache.n)
		t.Logf("%d flows: %.1f bytes each", s.cache.n, per)
		if status, err := os.ReadFile("/proc/self/status"); err == nil && flows > 1<<20 {
			t.Logf("the process: %s", regexp.MustCompile(`Vm(HWM|RSS):\s+\d+ kB`).FindAllString(string(status), -1))
		}
		if s.cache.n != flows || per > 256 {
			t.Errorf("%d flows in the cache with %.1f bytes each; at most 256", s.cache.n, per)
		}
		runtime.KeepAlive(s)
	}
	if v := os.Getenv("CROSSTAP_FLOWS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		f(n)
		return
	}
	f(200_000)
	f(330_000) // the table has just doubled: the most for each flow
	f(1 << 20 / 16 * 10)
}

// TestSoak meters a day of packet time with a million flows at once: every packet is in exactly one record, times do not
// drift, and memory does not grow. CROSSTAP_SOAK is the number of packets (1000000000 for all of it); without it a short form runs.
func TestSoak(t *testing.T) {
	flows, packets := 50_000, 2_000_000
	if v := os.Getenv("CROSSTAP_SOAK"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		flows, packets = 1_000_000, n
	}
	const day = int64(24 * time.Hour)
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	c := DefaultConfig()
	c.MaxFlows = 4 * flows
	// So that the flows stay active: a flow's next packet comes after half to one and a half times the mean.
	mean := time.Duration(day / int64(packets) * int64(flows))
	c.IdleTimeout, c.ActiveTimeout = min(2*mean, 20*time.Hour), min(20*mean, 24*time.Hour)
	var sum, records, most uint64
	ends := map[flow.EndReason]uint64{}
	last := start
	m, s := newSingle(t, c, func(rs []flow.Record) {
		for i := range rs {
			r := &rs[i]
			sum += r.Packets
			records++
			most = max(most, r.Packets)
			ends[r.EndReason]++
			if r.StartNS < start || r.EndNS < r.StartNS || r.EndNS > last || r.Octets != 100*r.Packets || r.EndNS-r.StartNS > int64(c.ActiveTimeout) {
				t.Errorf("%+v", *r)
			}
		}
	})
	src, rnd := newFlowFrames(), rand.New(rand.NewPCG(1, 2))
	order := rnd.Perm(flows)
	var heap [2]runtime.MemStats
	atFirst, allBut := packets/10, 0
	for i := range packets {
		if i%flows == 0 {
			for range flows / 4 { // another order in each round, not too far from the last
				a := rnd.IntN(flows)
				b := min(a+rnd.IntN(flows/4), flows-1)
				order[a], order[b] = order[b], order[a]
			}
		}
		if i == atFirst {
			runtime.GC()
			runtime.ReadMemStats(&heap[0])
			allBut = s.cache.n
		}
		last = start + int64(float64(i)*float64(day)/float64(packets))
		if src.add(uint32(order[i%flows]), last) {
			s.batch(src.frames[:])
		}
	}
	s.batch(src.frames[:src.n])
	inCache := s.cache.n
	runtime.GC()
	runtime.ReadMemStats(&heap[1])
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	growth := int64(heap[1].HeapAlloc) - int64(heap[0].HeapAlloc)
	t.Logf("%d packets of %d flows over 24 h (idle %s, active %s): %d records, at most %d packets each, ends %v; %d flows in the cache early, %d late; heap grew by %d bytes",
		packets, flows, c.IdleTimeout, c.ActiveTimeout, records, most, ends, allBut, inCache, growth)
	if sum != uint64(packets) || m.Stats().Packets != uint64(packets) || inCache != flows || growth > 1<<20 || s.cache.used > uint32(flows) {
		t.Errorf("%d of %d packets in records, %+v, %d entries", sum, packets, m.Stats(), s.cache.used)
	}
	for _, b := range m.Books() {
		if st := b.Read(); st.Balance() != nil || st.Held != 0 {
			t.Errorf("%+v: %v", st, st.Balance())
		}
	}
}
