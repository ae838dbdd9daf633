package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/wire"
)

// HeadersConfig says what a Headers source hands over.
type HeadersConfig struct {
	Config
	Keep      int    // first bytes of each frame; at most MaxKeep
	RingBytes int    // of the ring
	Ready     func() // called once, when the programs are attached; nil for none
}

// Limits of HeadersConfig.
const (
	MinKeep     = 64
	MaxKeep     = 512 // above that the packet ring of the interface costs less
	minRing     = 1 << 16
	maxRing     = 1 << 30
	DefaultRing = 16 << 20
)

// Headers is a source of frames of which the kernel hands over the first bytes only.
type Headers struct {
	line
	keep  int
	ready func()
	book  *ledger.Book
	ring  *ring
	feed  feed
	last  counts

	lastGov counts
}

// NewHeaders returns a source. All mistakes of its configuration are found here.
func NewHeaders(c HeadersConfig) (*Headers, error) {
	if c.Keep < MinKeep || c.Keep > MaxKeep {
		return nil, fmt.Errorf("kernel: %d bytes of each frame: want %d to %d", c.Keep, MinKeep, MaxKeep)
	}
	if c.RingBytes < minRing || c.RingBytes > maxRing {
		return nil, fmt.Errorf("kernel: ring of %d bytes: want %d to %d", c.RingBytes, minRing, maxRing)
	}
	h := &Headers{keep: c.Keep, ready: c.Ready, book: newBook()}
	h.feed = feed{book: h.book, size: c.RingBytes}
	err := h.init(c.Config, "xt_headers", func(c *code, k *hook) {
		toRing(c, k, h.ring, h.keep)
		c.result(actNext)
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Book returns the source's account.
func (h *Headers) Book() *ledger.Book { return h.book }

// Open attaches the programs. Close or Run has to follow.
func (h *Headers) Open() (err error) {
	if h.ring, err = newRing(h.feed.size, h.keep); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err = h.feed.begin(h.ring, &h.line, headersLate, headersBusy); err != nil {
		h.Close()
		return fmt.Errorf("kernel: %w", err)
	}
	if err = h.open(); err != nil {
		h.Close()
	}
	return err
}

// Close detaches the programs and gives the ring back once nobody reads from it.
func (h *Headers) Close() {
	h.close()
	if h.ring != nil {
		h.feed.end()
		h.ring = nil
	}
}

const (
	ringInterval = 2 * time.Millisecond   // between looks while the next stage is slow
	ringLinger   = time.Second            // for the next stage to take what is left
	headersLate  = 50 * time.Millisecond  // that frames wait for a look at the ring, which wakes a thread and so costs more than many frames do
	headersBusy  = 200 * time.Millisecond // the same where there are many
)

// Run hands frames over until ctx ends. Near the VM nothing waits: what the next stage does not take in time is dropped and counted.
func (h *Headers) Run(ctx context.Context, out chan<- frame.Batch) error {
	if h.ring == nil {
		if err := h.Open(); err != nil {
			return err
		}
	}
	defer h.Close()
	if h.ready != nil {
		h.ready()
	}
	tended := make(chan struct{})
	go func() {
		defer close(tended)
		h.tend(ctx, bookInterval, h.account)
	}()
	h.feed.run(ctx, out)
	<-tended
	h.close()
	h.feed.drain(out)
	h.account()
	return nil
}

// account books what ended in the kernel; what came up is booked where it was read. One goroutine at a time.
func (h *Headers) account() {
	now, gov, ended := h.read(-1), h.readGov(), 0
	for _, x := range []struct{ slot, reason int }{{statFiltered, DropFiltered}, {statSampled, DropSampled}, {statLost, DropLost}, {statLapsed, DropLost}} {
		n := int(now[x.slot] - h.last[x.slot])
		h.book.Drop(x.reason, n)
		ended += n
	}
	shed := int(gov[govShed] - h.lastGov[govShed])
	h.book.Drop(DropShed, shed)
	h.book.In(ended + shed)
	h.last, h.lastGov = now, gov
}

// feed turns entries of a ring into batches of frames.
type feed struct {
	ring *ring
	line *line
	book *ledger.Book
	size int
	bell *bell
	late time.Duration // that frames may wait while the ring is not half full
	busy time.Duration // the same while they fill batches

	offset    int64            // of the wall clock
	links     []frame.LinkType // of the points, for the batch that is being read
	dissector *dissect.Dissector
	packet    dissect.Packet
}

// begin takes a ring.
func (f *feed) begin(r *ring, l *line, late, busy time.Duration) (err error) {
	f.ring, f.line, f.late, f.busy = r, l, late, busy
	f.bell, err = newBell(r)
	return err
}

// feedFrames is the number of frames in a full batch.
const feedFrames = 1024

// run passes batches on until ctx ends.
func (f *feed) run(ctx context.Context, out chan<- frame.Batch) {
	timer := time.NewTimer(f.late)
	defer timer.Stop()
	for ctx.Err() == nil {
		late := f.late
		for b, n := f.batch(); n > 0; b, n = f.batch() {
			f.pass(ctx, b, n, out)
			if n < feedFrames {
				break
			}
			late = f.busy
		}
		timer.Reset(late)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-f.bell.rung:
		}
	}
}

// drain passes on what is left, for as long as the next stage takes it.
func (f *feed) drain(out chan<- frame.Batch) {
	ctx, cancel := context.WithTimeout(context.Background(), ringLinger)
	defer cancel()
	for {
		b, n := f.batch()
		if n == 0 {
			return
		}
		f.pass(ctx, b, n, out)
	}
}

// pass offers a batch to the next stage until the ring is three quarters full.
func (f *feed) pass(ctx context.Context, b frame.Batch, n int, out chan<- frame.Batch) {
	f.book.In(n)
	f.book.Hold(n)
	defer f.book.Hold(-n)
	select {
	case out <- b:
		f.book.Out(n)
		return
	default:
	}
	tick := time.NewTicker(ringInterval)
	defer tick.Stop()
	for {
		if f.ring.waiting() > 192 || ctx.Err() != nil {
			break
		}
		select {
		case out <- b:
			f.book.Out(n)
			return
		case <-tick.C:
		}
	}
	f.book.Drop(DropStopped, n)
	b.Release()
}

// batch reads what is there, up to a full batch.
func (f *feed) batch() (frame.Batch, int) {
	if now := wallOffset(); time.Duration(now-f.offset).Abs() > clockStep {
		f.offset = now
	}
	f.links = f.line.allLinks(f.links)
	n, loan := f.ring.read(feedFrames, f)
	if loan == nil {
		return frame.Batch{}, 0
	}
	if n == 0 { // entries that were given up
		loan.release()
		return frame.Batch{}, 0
	}
	return frame.Batch{Frames: loan.frames, Free: loan.free}, n
}

// take adds the frame of an entry to a loan.
func (f *feed) take(l *ringLoan, e []byte) { l.frames = append(l.frames, f.frame(e, f.offset)) }

// wallOffset is what has to be added to the monotonic clock, in nanoseconds: of a few readings the one that took least, since a processor may be taken away between
// the clocks.
func wallOffset() (offset int64) {
	const tries, short = 5, 5 * time.Microsecond
	least := uint64(math.MaxUint64)
	for range tries {
		var wall unix.Timespec
		before := monotonic()
		_ = unix.ClockGettime(unix.CLOCK_REALTIME, &wall)
		if took := monotonic() - before; took < least {
			least, offset = took, wall.Nano()-int64(before+took/2)
		}
		if least < uint64(short) {
			break
		}
	}
	return offset
}

// clockStep is from when on a difference to the offset before is one: both clocks are adjusted alike, and times shall not go to and fro.
const clockStep = 100 * time.Microsecond

// frame reads an entry.
func (f *feed) frame(e []byte, offset int64) frame.Frame {
	ne := binary.NativeEndian
	kept := int(ne.Uint32(e[entryKept:]))
	x := frame.Frame{
		Data:    e[entryHead : entryHead+kept : entryHead+kept],
		OrigLen: int(ne.Uint32(e[entryLen:])),
		TimeNS:  int64(ne.Uint64(e[entryTime:])) + offset,
		Point:   ne.Uint32(e[entryPoint:]),
		Dir:     frame.Direction(e[entryDir]),
		Link:    frame.LinkEthernet,
	}
	if int(x.Point) < len(f.links) && f.links[x.Point] != 0 {
		x.Link = f.links[x.Point]
	}
	if size := ne.Uint16(e[entryGSO:]); size != 0 {
		x.VNet = frame.VNet{Type: f.kind(&x), Segment: size}
	}
	return x
}

// kind finds out what a super-frame is cut into: its innermost TCP segment or UDP datagram.
func (f *feed) kind(x *frame.Frame) uint8 {
	if k := plainKind(x); k != frame.GSONone {
		return k
	}
	if f.dissector == nil {
		f.dissector = dissect.New(f.line.cfg.Options.Tunnels)
	}
	f.dissector.Dissect(&f.packet, x.Link, x.Data, x.OrigLen)
	in := f.packet.Inner()
	switch {
	case in.Proto == wire.ProtoUDP:
		return frame.GSOUDPL4
	case in.EtherType == wire.TypeIPv6:
		return frame.GSOTCPv6
	}
	return frame.GSOTCPv4
}

// plainKind is kind for TCP without a tunnel and without a tag, which nearly all are; GSONone for others.
func plainKind(x *frame.Frame) uint8 {
	const protocol4, protocol6 = wire.EthernetLen + 9, wire.EthernetLen + 6
	if x.Link != frame.LinkEthernet || len(x.Data) < wire.EthernetLen+wire.IPv4Len {
		return frame.GSONone
	}
	switch kind := binary.BigEndian.Uint16(x.Data[12:]); {
	case kind == wire.TypeIPv4 && x.Data[protocol4] == wire.ProtoTCP:
		return frame.GSOTCPv4
	case kind == wire.TypeIPv6 && x.Data[protocol6] == wire.ProtoTCP:
		return frame.GSOTCPv6
	}
	return frame.GSONone
}

// end gives the ring back when the last batch has come home, at the latest after a while: then its memory stays.
func (f *feed) end() {
	f.bell.close()
	f.bell = nil
	for end := time.Now().Add(ringLinger); f.ring.out(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return
		}
	}
	f.ring.close()
}
