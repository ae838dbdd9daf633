package deliver

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/deliver/tunnel"
)

// StreamConfig says where and how to stream frames as pcapng over TLS.
type StreamConfig struct {
	Target StreamTarget
	File   FileConfig // what the stream says of itself; Path and Stdout are not used
	// Tapped are the interfaces that frames are captured from, in the network namespace of the file TappedNetNS.
	Tapped      []string
	TappedNetNS string
	Patient     bool         // frames come from a file: wait for the receiver instead of dropping
	Log         *slog.Logger // nil for none
}

// Reasons under which a stream drops frames.
const (
	StreamFull    = iota // the receiver is slower than the tap, or away: the queue is full
	StreamTooLong        // more than MaxFrame bytes
	StreamLost           // written to a connection that broke before the receiver had acknowledged them
	StreamAway           // the tap ended, and the receiver was away
	StreamStopped        // the run was broken off
)

// Stream writes frames to a receiver over TLS, one pcapng section for each connection. Its methods but Open and Run are safe for
// concurrent use.
type Stream struct {
	cfg   StreamConfig
	log   *slog.Logger
	book  *ledger.Book
	dial  dialer
	reach tunnel.Reach

	away   atomic.Bool // the receiver is
	faults faults

	enc  *pcapng
	idbs [][]byte // description of each interface, by its number; only appended to
	now  *chunk   // that is being filled

	mu      sync.Mutex
	room    *sync.Cond // for Patient: the queue has become shorter
	queue   []*chunk
	queued  int  // bytes
	closed  bool // nothing more comes
	over    bool // nothing more is wanted
	arrived chan struct{}
	free    []*chunk
}

// chunk is some blocks of frames that are written at once.
type chunk struct {
	b      []byte
	frames int
	idbs   [][]byte // of the interfaces known by then
}

const (
	chunkBytes = 64 << 10
	chunkDelay = 50 * time.Millisecond // that a frame waits for others
	idleChunks = 32
)

// finishLimit is the time for what waits at the end.
var finishLimit = 5 * time.Second

// NewStream returns a sink that streams. It opens nothing.
func NewStream(c StreamConfig) (*Stream, error) {
	d, err := newDialer(&c.Target)
	if err != nil {
		return nil, fmt.Errorf("deliver: %s: %w", c.Target, err)
	}
	if c.File.SnapLen == 0 {
		c.File.SnapLen = MaxFrame
	}
	s := &Stream{cfg: c, log: c.Log, dial: d, arrived: make(chan struct{}, 1),
		book: ledger.New("deliver", ledger.Frames, "queue_full", "too_long", "connection_lost", "receiver_away", "stopped")}
	s.room = sync.NewCond(&s.mu)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.cfg.File.Section, s.cfg.File.Beside = nil, nil // a connection's header does not wait, and secrets stay where they are
	s.enc = newPcapng(&s.cfg.File)
	s.enc.head(nil) // the beginning of the statistics
	return s, nil
}

// Book returns the sink's account. Out counts frames that the receiver's host has acknowledged; what waits is held.
func (s *Stream) Book() *ledger.Book { return s.book }

// Where returns the destination as a URL.
func (s *Stream) Where() string { return s.cfg.Target.String() }

// Trouble returns why the receiver was not reached last.
func (s *Stream) Trouble() Trouble { return s.faults.Trouble() }

// Up reports whether the receiver is there, as far as is known.
func (s *Stream) Up() bool { return !s.away.Load() }

// Open finds the way to the receiver, and whether it answers. One that does not is tried again later; when frames come from a file it is an error.
func (s *Stream) Open(ctx context.Context) (err error) {
	t := &s.cfg.Target
	s.reach, err = tunnel.Find(ctx, tunnel.Config{
		Target: tunnel.Target{Kind: tunnel.UDP, Host: t.Host, Port: t.Port, Source: t.Source, NetNS: t.NetNS},
		Tapped: s.cfg.Tapped, TappedNetNS: s.cfg.TappedNetNS,
	})
	if err != nil {
		return fmt.Errorf("deliver: %s: %w", t, err)
	}
	s.dial.to = netip.AddrPortFrom(s.reach.Tool, t.Port)
	c, err := s.dial.dial(ctx)
	if err == nil {
		err = c.welcome(ctx)
		c.close()
	}
	switch {
	case err != nil && s.cfg.Patient:
		return fmt.Errorf("deliver: %s: %w", t, err)
	case err != nil:
		s.log.Warn("the receiver does not answer: trying again while frames come", "to", s.Where(), "error", err)
	default:
		s.log.Info("destination", "to", s.Where(), "source", s.reach.Source, "interface", s.reach.Interface, "peer", c.peer, "tls", c.version, "certificate_expires", c.expires.Format(time.RFC3339))
	}
	return nil
}

// Close does nothing: no connection is kept before Run.
func (s *Stream) Close() {}

// Exclusion returns the filter expression that matches our connection to the receiver, both ways.
func (s *Stream) Exclusion() string {
	ip := "ip"
	if s.reach.Tool.Is6() {
		ip = "ip6"
	}
	if !s.reach.Source.IsValid() || !s.reach.Tool.IsValid() {
		return ""
	}
	from, to, port := s.reach.Source.WithZone(""), s.reach.Tool.WithZone(""), s.cfg.Target.Port
	return fmt.Sprintf("(%[1]s src host %[2]s and %[1]s dst host %[3]s and tcp dst port %[4]d) or (%[1]s src host %[3]s and %[1]s dst host %[2]s and tcp src port %[4]d)",
		ip, from, to, port)
}

// Run streams the frames of every batch from in, which it releases, until in is closed or ctx ends.
func (s *Stream) Run(ctx context.Context, in <-chan frame.Batch) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan struct{})
	go func() { defer close(written); s.write(ctx) }()
	defer context.AfterFunc(ctx, s.abandon)()
	err := s.take(ctx, in)
	s.flush()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.tell()
	if !s.cfg.Patient || err != nil { // a file may take its time, as long as the receiver is there
		end := time.AfterFunc(finishLimit, cancel)
		defer end.Stop()
	}
	<-written
	s.clear(StreamAway)
	return err
}

// take encodes what comes.
func (s *Stream) take(ctx context.Context, in <-chan frame.Batch) error {
	tick := time.NewTicker(chunkDelay)
	defer tick.Stop()
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			s.batch(&b)
			b.Release()
		case <-tick.C:
			s.flush()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Stream) batch(b *frame.Batch) {
	s.book.In(len(b.Frames))
	s.book.Hold(len(b.Frames))
	for i := range b.Frames {
		f := &b.Frames[i]
		switch {
		case len(f.Data) > MaxFrame:
			s.drop(StreamTooLong, 1)
		case !s.wanted(len(f.Data)):
			s.drop(StreamFull, 1)
			s.enc.missing++
		default:
			s.add(f, b.Notes)
		}
	}
}

func (s *Stream) drop(reason, n int) {
	s.book.Hold(-n)
	s.book.Drop(reason, n)
}

// wanted reports whether n more bytes may wait. Frames of a file wait for room.
func (s *Stream) wanted(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.cfg.Patient && !s.over && s.queued+n > s.cfg.Target.Queue {
		s.room.Wait()
	}
	return s.queued+n <= s.cfg.Target.Queue && !s.over
}

// add encodes a frame.
func (s *Stream) add(f *frame.Frame, notes [][]string) {
	c := s.now
	if c == nil {
		c = s.empty()
		s.now = c
	}
	l := link{f.Point, f.Link}
	if _, known := s.enc.ids[l]; !known {
		s.idbs = append(s.idbs, s.enc.describe(nil, l))
	}
	c.b, _ = s.enc.frame(c.b, f, notes)
	c.frames++
	c.idbs = s.idbs
	if len(c.b) >= chunkBytes {
		s.flush()
	}
}

// empty returns an empty chunk.
func (s *Stream) empty() *chunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		return c
	}
	return &chunk{b: make([]byte, 0, chunkBytes+4096)}
}

// flush queues what was encoded.
func (s *Stream) flush() {
	c := s.now
	if c == nil {
		return
	}
	s.now = nil
	s.mu.Lock()
	s.queue = append(s.queue, c)
	s.queued += len(c.b)
	s.mu.Unlock()
	s.tell()
}

func (s *Stream) tell() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// next takes the oldest chunk off the queue; nil when there is none, and then done when none will come.
func (s *Stream) next() (c *chunk, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, s.closed
	}
	c = s.queue[0]
	s.queue = s.queue[1:]
	return c, false
}

// back returns a chunk that was not written to the head of the queue.
func (s *Stream) back(c *chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append([]*chunk{c}, s.queue...)
}

// recycle gives up a chunk whose frames are accounted for.
func (s *Stream) recycle(c *chunk) {
	s.mu.Lock()
	s.queued -= len(c.b)
	if len(s.free) < idleChunks {
		c.b, c.frames, c.idbs = c.b[:0], 0, nil
		s.free = append(s.free, c)
	}
	s.mu.Unlock()
	s.room.Broadcast()
}

// abandon ends the waiting for room.
func (s *Stream) abandon() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.room.Broadcast()
}

// clear accounts for what will not be written any more.
func (s *Stream) clear(reason int) {
	s.mu.Lock()
	left := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, c := range left {
		s.drop(reason, c.frames)
		s.recycle(c)
	}
}
