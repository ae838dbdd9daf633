package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// FlowsConfig says how frames become records in the kernel.
type FlowsConfig struct {
	Config
	Idle, Active time.Duration
	MaxFlows     int
	Domain       uint32
	// Tunnels are the UDP ports of tunnels: packets to them have others inside, and go to user space.
	Tunnels   []uint16
	Point     func(point uint32) Point
	RingBytes int    // of the ring for what goes to user space
	Ready     func() // called once, when the programs are attached; nil for none
}

// Flows counts the packets of interfaces in a table in the kernel, and makes flow records of it. It is also a source: of the frames that
// the kernel does not count by itself, for the meter. Frame and record together miss nothing.
type Flows struct {
	line
	conf    FlowsConfig
	keep    int
	tunnels []uint16
	book    *ledger.Book
	records *ledger.Book
	ring    *ring
	feed    feed
	tables  *tables
	clock   *clock
	cache   map[flowKey]*flowState
	key     flowKey // of the flow that is taken over
	last    counts
	lastGov counts
	rate    int               // one conversation in so many, for the budget, in the records that are made now
	asked   chan int          // the rate of those that follow
	were    map[uint32]uint32 // last interface indexes of points
	evicted atomic.Uint64
	packets atomic.Uint64
	octets  atomic.Uint64

	out []flow.Record // finished, not sent
}

const (
	flowsKeep     = 256     // bytes of frames that go to user space: the headers inside tunnels, and a little more
	tableFlows    = 1 << 16 // that the kernel's table holds between two drains
	drainInterval = time.Second
	latest        = 250 * time.Millisecond // that frames which come up reach the meter
	closeLinger   = time.Second            // of TCP flows after FIN or RST
)

// NewFlows returns a source. All mistakes of its configuration are found here.
func NewFlows(c FlowsConfig) (*Flows, error) {
	const least, most = 10 * time.Millisecond, 24 * time.Hour
	switch {
	case c.Idle < least || c.Idle > most || c.Active < least || c.Active > most:
		return nil, fmt.Errorf("kernel: timeouts %s and %s: must be %s to %s", c.Idle, c.Active, least, most)
	case c.MaxFlows < 1:
		return nil, fmt.Errorf("kernel: %d flows at most: must be 1 or more", c.MaxFlows)
	case c.RingBytes < minRing || c.RingBytes > maxRing:
		return nil, fmt.Errorf("kernel: ring of %d bytes: want %d to %d", c.RingBytes, minRing, maxRing)
	}
	f := &Flows{conf: c, keep: flowsKeep, tunnels: c.Tunnels, book: newBook(), records: ledger.New("kernel_flows", ledger.Records), cache: map[flowKey]*flowState{}, asked: make(chan int, 1), were: map[uint32]uint32{}}
	f.feed = feed{book: f.book, size: c.RingBytes}
	err := f.init(c.Config, "xt_flows", func(c *code, k *hook) { counter{f, k, c}.assemble() })
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Book returns the account of frames: out are those that were counted in the table and those that went to the next stage.
func (f *Flows) Book() *ledger.Book { return f.book }

// Records returns the account of flow records.
func (f *Flows) Records() *ledger.Book { return f.records }

// Counted returns the packets and octets that the kernel has counted, as far as its table was read, and the flows that ended early because
// there were too many.
func (f *Flows) Counted() (packets, octets, evicted uint64) {
	return f.packets.Load(), f.octets.Load(), f.evicted.Load()
}

// Open attaches the programs. Close or Run has to follow.
func (f *Flows) Open() (err error) {
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if f.ring, err = newRing(f.conf.RingBytes, f.keep); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	late := min(f.interval()/4, latest)
	if err = f.feed.begin(f.ring, &f.line, late, late); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if f.clock, err = newClock(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if f.tables, err = newTables(f.conf.MaxFlows); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err = f.open(); err != nil {
		return err
	}
	for point, link := range f.link {
		if link != frame.LinkEthernet {
			return fmt.Errorf("kernel: interface %s is not Ethernet: its packets cannot be counted in the kernel", f.cfg.Interfaces[point])
		}
	}
	return nil
}

// Close detaches the programs.
func (f *Flows) Close() {
	f.close()
	if f.tables != nil {
		f.tables.close()
		f.tables = nil
	}
	if f.clock != nil {
		f.clock.close()
		f.clock = nil
	}
	if f.ring != nil {
		f.feed.end()
		f.ring = nil
	}
}

// Run counts until ctx ends. Records go to records, and frames that the kernel does not count to frames; Run closes neither. Once ctx
// has ended, everything that was counted leaves before Run returns; stop breaks that off.
func (f *Flows) Run(ctx, stop context.Context, frames chan<- frame.Batch, records chan<- []flow.Record) error {
	if f.ring == nil {
		if err := f.Open(); err != nil {
			return err
		}
	}
	defer f.Close()
	if f.conf.Ready != nil {
		f.conf.Ready()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.feed.run(ctx, frames)
	}()
	var err error
	step := func(all bool) {
		f.account()
		if err == nil {
			err = f.drain(stop, records, all)
		}
	}
	f.tend(ctx, f.interval(), func() { step(false) }, func(rate int) {
		step(true) // a record never has packets that were chosen differently
		f.rate = rate
	})
	<-done
	f.close() // no packet is counted from here on
	f.feed.drain(frames)
	f.account()
	if err == nil {
		err = f.drain(stop, records, true)
	}
	return err
}

// SetShed has the programs leave packets out, or take them again. Records that follow tell it.
func (f *Flows) SetShed(s Shed) (time.Time, error) {
	from, err := f.line.SetShed(s)
	select {
	case <-f.asked:
	default:
	}
	f.asked <- s.Sample
	return from, err
}

// tend is line.tend with changes of the rate, which f does not run beside.
func (f *Flows) tend(ctx context.Context, interval time.Duration, step func(), change func(rate int)) {
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		every(ctx, lookInterval, f.look)
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			step()
		case rate := <-f.asked:
			change(rate)
		case <-ctx.Done():
		}
	}
	<-looked
}

// interval is the time between two drains: often enough for the timeouts.
func (f *Flows) interval() time.Duration {
	return max(min(drainInterval, f.conf.Idle/2, f.conf.Active/4), 10*time.Millisecond)
}

// account books what the programs counted.
func (f *Flows) account() {
	now := f.read(-1)
	was := f.last
	f.last = now
	n := 0
	for _, x := range []struct{ slot, reason int }{{statFiltered, DropFiltered}, {statSampled, DropSampled}, {statLost, DropLost}, {statLapsed, DropLost}} {
		d := int(now[x.slot] - was[x.slot])
		f.book.Drop(x.reason, d)
		n += d
	}
	gov := f.readGov()
	shed := int(gov[govShed] - f.lastGov[govShed])
	f.lastGov = gov
	f.book.Drop(DropShed, shed)
	n += shed
	in := int(now[statOut] - was[statOut])
	f.book.Out(in)
	f.book.In(n + in)
}

// drain takes over what the kernel has counted, and ends the flows whose time has come; all of them at the end.
func (f *Flows) drain(ctx context.Context, out chan<- []flow.Record, all bool) error {
	offset := wallOffset()
	if err := f.clock.read(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err := f.tables.drain(func(k, v []byte) { f.take(k, v, offset) }); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err := f.expire(ctx, out, offset, all); err != nil {
		return err
	}
	return f.send(ctx, out, true)
}

// take adds the value of one processor to its flow.
func (f *Flows) take(k, v []byte, offset int64) {
	packets := binary.NativeEndian.Uint64(v[valPackets:])
	if packets == 0 {
		return
	}
	f.packets.Add(packets)
	f.octets.Add(binary.NativeEndian.Uint64(v[valOctets:]))
	key := &f.key
	key.set(k)
	s, ok := f.cache[*key]
	if !ok && len(f.cache) >= f.conf.MaxFlows { // the packets become a record at once
		var one flowState
		one.add(v, f.clock)
		f.records.In(1)
		f.records.Hold(1)
		f.evicted.Add(1)
		f.emit(key, &one, flow.EndResource, offset)
		return
	}
	if !ok {
		s = new(flowState)
		f.cache[*key] = s
	}
	if s.packets == 0 {
		f.records.In(1)
		f.records.Hold(1)
	}
	s.add(v, f.clock)
}

// expire ends flows: idle ones, long ones (which go on), TCP connections that were closed, and at the end all. Their records leave as they are made: of many flows
// that end together there are never all in memory.
func (f *Flows) expire(ctx context.Context, out chan<- []flow.Record, offset int64, all bool) error {
	now := monotonic()
	for k, s := range f.cache {
		age, idle := time.Duration(now-min(s.first, now)), time.Duration(now-min(s.last, now))
		key := k
		switch {
		case idle >= f.conf.Idle:
			f.emit(&key, s, flow.EndIdle, offset)
			delete(f.cache, k)
		case k.closed(s) && idle >= closeLinger:
			f.emit(&key, s, flow.EndDetected, offset)
			delete(f.cache, k)
		case all:
			f.emit(&key, s, flow.EndForced, offset)
			delete(f.cache, k)
		case s.packets > 0 && age >= f.conf.Active:
			f.emit(&key, s, flow.EndActive, offset)
		}
		if err := f.send(ctx, out, false); err != nil {
			return err
		}
	}
	return nil
}

// closed reports whether a TCP flow has seen the end of its connection.
func (k *flowKey) closed(s *flowState) bool { return s.flags&(tcpFIN|tcpRST) != 0 }

// emit makes the record of a flow's packets, if there are any.
func (f *Flows) emit(k *flowKey, s *flowState, why flow.EndReason, offset int64) {
	if s.packets == 0 {
		return
	}
	if f.out == nil {
		f.out = make([]flow.Record, 0, recordsPerSlice)
	}
	f.out = append(f.out, flow.Record{Domain: f.conf.Domain, Sampling: uint32(max(f.cfg.Sample.Rate, 1) * max(f.rate, 1)), EndReason: why})
	r := &f.out[len(f.out)-1]
	s.record(r, k, offset)
	if r.Sampling > 1 {
		r.Marks |= flow.MarkSampled
	}
	if f.conf.Point != nil {
		p := f.point(binary.NativeEndian.Uint32(k[keyPoint:]))
		p.put(r)
	}
	s.packets, s.octets, s.l2Octets = 0, 0, 0
}

// point describes a point. What was counted before its interface went away, or was let go of, came in by that.
func (f *Flows) point(n uint32) Point {
	p := f.conf.Point(n)
	if p.IfIndex == 0 {
		p.IfIndex = f.were[n]
	} else {
		f.were[n] = p.IfIndex
	}
	return p
}

// recordsPerSlice is how many records travel together.
const recordsPerSlice = 256

// send passes finished records on: full slices only, unless all shall leave.
func (f *Flows) send(ctx context.Context, out chan<- []flow.Record, all bool) error {
	for len(f.out) >= recordsPerSlice || all && len(f.out) > 0 {
		n := min(len(f.out), recordsPerSlice)
		part := f.out[:n:n]
		select {
		case out <- part:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.records.Hold(-n)
		f.records.Out(n)
		if f.out = f.out[n:]; len(f.out) == 0 {
			f.out = nil
		}
	}
	return nil
}
