package export

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"crosstap/internal/flowproto/ipfix"
)

const (
	streamMessage   = 8 << 10 // bytes of a message on a connection
	streamMemory    = 4 << 20 // bytes that may wait in memory beside the spool
	dialTimeout     = 5 * time.Second
	firstBackOff    = 100 * time.Millisecond
	lastBackOff     = 30 * time.Second
	streamTimeout   = 30 * time.Second // a connection that takes nothing for so long is given up
	ackInterval     = 20 * time.Millisecond
	streamDrainTime = 5 * time.Second // at the end of the line
)

// packet is a message on its way: behind its place in the spool, when it comes from there.
type packet struct {
	msg     []byte
	records int    // flow records
	behind  place  // n is 0 for one that was never on the disk
	wire    uint64 // bytes written to the connection up to its end
	broken  bool   // it cannot be sent: what it was stored with is not whole
}

// stream carries messages over TCP or TLS. A message is kept until the collector's host has acknowledged its bytes; when a
// connection breaks before, it is sent again over the next one. While the collector is away messages go to the spool.
//
// In memory are first messages that were never on the disk, then such as were read from it.
type stream struct {
	s      *sender
	dialer dialer
	dir    string // of the spool, "" for none

	mu      sync.Mutex
	room    *sync.Cond
	wake    chan struct{} // there is something to do
	spool   *spool        // nil for none
	defs    *ipfix.Replay // the templates of all messages, which the collector was told once, and a spool needs
	mem     []packet
	sent    int // of mem, written to the connection
	bytes   int // of mem
	free    [][]byte
	away    bool // the last attempt failed
	up      bool
	closing bool
	ended   bool // nobody writes any more
	made    uint64
	again   uint64
	replay  *ipfix.Replay
	written uint64 // bytes of the connection
}

func newStream(s *sender) (*stream, error) {
	t := &s.target
	w := &stream{s: s, wake: make(chan struct{}, 1), defs: ipfix.NewReplay(), replay: ipfix.NewReplay()}
	w.room = sync.NewCond(&w.mu)
	var err error
	if w.dialer, err = newDialer(t); err != nil {
		return nil, err
	}
	switch {
	case t.SpoolBytes == 0:
	case t.SpoolDir != "":
		w.dir = t.SpoolDir
	case s.cfg.SpoolDir != "":
		w.dir = filepath.Join(s.cfg.SpoolDir, spoolName(t))
	}
	return w, nil
}

// spoolName names the folder of a target after where it goes.
func spoolName(t *Target) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d %s", t.scheme(), t.address(), t.Domain, t.Source)
	return fmt.Sprintf("%s_%d_%016x", filepath.Base(t.Host), t.Port, h.Sum64())
}

// start opens the spool and begins to send. The function that it returns ends that: what the collector does not
// take in time is spooled, or dropped.
func (w *stream) start(ctx context.Context) (stop func()) {
	turns.join(w)
	busy := !w.openSpool()
	done := make(chan struct{})
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if busy {
		go w.awaitSpool(run)
	}
	go func() {
		defer close(done)
		w.run(run)
	}()
	halt := context.AfterFunc(ctx, cancel)
	return func() {
		w.mu.Lock()
		w.closing = true
		w.mu.Unlock()
		w.poke()
		timer := time.AfterFunc(streamDrainTime, cancel)
		<-done
		timer.Stop()
		halt()
		cancel()
		w.end()
	}
}

// openSpool opens the spool, and reports false when somebody else still has it.
func (w *stream) openSpool() bool {
	if w.dir == "" {
		return true
	}
	if !turns.mine(w) {
		return false
	}
	sp, damaged, err := openSpool(w.dir, w.s.target.SpoolBytes)
	if err != nil {
		w.s.note(fmt.Errorf("export: spool: %w", err))
		return !errors.Is(err, errSpoolBusy)
	}
	if damaged > 0 {
		w.s.log.Warn("spool was cut off", "dir", w.dir, "bytes", damaged)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		sp.close()
		return true
	}
	if err := w.defs.Definitions(make([]byte, ipfix.HeaderLen), sp.defs.Learn); err != nil {
		w.s.note(fmt.Errorf("export: spool: %w", err))
	}
	w.spool = sp
	w.s.book.In(int(sp.records)) // of an earlier run
	w.s.book.Hold(int(sp.records))
	w.poke()
	return true
}

// spoolRetry is how often a spool is asked for that another line still has: one whose place this one is about to take.
const spoolRetry = 100 * time.Millisecond

// awaitSpool opens the spool when it is free. Until then messages wait in memory.
func (w *stream) awaitSpool(ctx context.Context) {
	tick := time.NewTicker(spoolRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if w.openSpool() {
				return
			}
		}
	}
}

// end puts what is left into the spool, or drops it.
func (w *stream) end() {
	defer turns.leave(w)
	w.mu.Lock()
	waits := w.spool == nil
	w.mu.Unlock()
	if waits {
		w.openSpool() // it may have become free since the last attempt
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.spill()
	if n := len(w.mem); n > 0 {
		w.s.log.Warn("messages are given up at the end: there is no spool", "messages", n, "dir", w.dir)
	}
	for _, p := range w.mem {
		w.lose(DropStopped, p)
	}
	w.mem, w.bytes, w.sent = nil, 0, 0
	w.room.Broadcast()
	if w.spool != nil {
		w.spool.close()
	}
}

// put takes a message of so many flow records, of which it keeps a copy. It waits only for a capture file.
func (w *stream) put(msg []byte, records int) (reason int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.s.cfg.Wait && !w.away && !w.ended && w.bytes+len(msg) > streamMemory {
		w.room.Wait()
	}
	switch full := w.bytes+len(msg) > streamMemory; {
	case w.ended:
		return DropStopped, false
	case w.spool == nil && full:
		return DropQueue, false
	case w.spool == nil, w.spool.empty() && !w.away && !full:
		w.learn(msg)
		w.mem = append(w.mem, packet{msg: w.copy(msg), records: records})
		w.bytes += len(msg)
	default:
		if err := w.spool.put(msg, records); err != nil {
			w.s.note(fmt.Errorf("export: spool: %w", err))
			return DropSpool, false
		}
	}
	w.poke()
	return 0, true
}

// learn keeps the templates of a message that does not go to the spool: those behind it may.
func (w *stream) learn(msg []byte) {
	if w.dir == "" {
		return
	}
	err := w.defs.Learn(msg)
	if err == nil && w.spool != nil {
		err = w.spool.defs.Learn(msg)
	}
	if err != nil {
		w.s.note(fmt.Errorf("export: spool: %w", err))
	}
}

func (w *stream) copy(msg []byte) []byte {
	var b []byte
	if n := len(w.free); n > 0 {
		b, w.free = w.free[n-1], w.free[:n-1]
	}
	return append(b[:0], msg...)
}

func (w *stream) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *stream) isAway() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

// run makes connections until the line has ended and nothing is left, or ctx ends.
func (w *stream) run(ctx context.Context) {
	defer func() { // whoever waits for room goes on
		w.mu.Lock()
		w.away = true
		w.room.Broadcast()
		w.mu.Unlock()
	}()
	wait := firstBackOff
	for ctx.Err() == nil {
		conn, err := w.dialer.dial(ctx)
		if err == nil {
			wait = firstBackOff
			w.connected(conn)
			err = w.pump(ctx, conn)
			w.broken(conn)
			if err == nil {
				return
			}
		}
		if ctx.Err() == nil {
			w.s.note(fmt.Errorf("export: %s: %w", w.s.target.address(), err))
		}
		w.mu.Lock()
		w.away = true
		w.spill()
		w.room.Broadcast()
		closing := w.closing
		w.mu.Unlock()
		if closing {
			return
		}
		w.rest(ctx, wait/2+rand.N(wait/2+1))
		wait = min(2*wait, lastBackOff)
	}
}

// rest waits for a while, or until the line ends.
func (w *stream) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return
		case <-ctx.Done():
			return
		case <-w.wake:
			w.mu.Lock()
			closing := w.closing
			w.mu.Unlock()
			if closing {
				return
			}
		}
	}
}

func (w *stream) connected(c *connection) {
	w.mu.Lock()
	w.up, w.away, w.written, w.sent = true, false, 0, 0
	w.made++
	w.replay.Connect()
	w.mu.Unlock()
	w.s.count(func(st *Status) {
		st.Local, st.Peer, st.MaxMessage = c.LocalAddr().String(), c.peer, streamMessage
		st.Templates++
		st.recover()
	})
}

// broken counts what the connection may have carried in vain.
func (w *stream) broken(c *connection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked(c)
	for _, p := range w.mem[:w.sent] {
		w.again += uint64(p.records)
	}
	w.up, w.sent = false, 0
	_ = c.Close() // what it did not deliver is known
	w.s.count(func(st *Status) { st.Local = "" })
}

// pump writes messages until the connection breaks, or returns nil when the line has ended and all is acknowledged.
func (w *stream) pump(ctx context.Context, c *connection) error {
	gone := make(chan error, 1)
	go func() { // a collector says nothing: the read ends with the connection
		_, err := io.Copy(io.Discard, c.Conn)
		if err == nil {
			err = errors.New("the collector closed the connection")
		}
		gone <- err
	}()
	defer func() { _ = c.Close(); <-gone }()
	if err := c.welcome(ctx, gone); err != nil {
		return err
	}
	tick := time.NewTicker(ackInterval)
	defer tick.Stop()
	for {
		p, ok, finished, err := w.head(c)
		if err != nil {
			return err
		}
		if finished {
			return c.finish(gone)
		}
		if ok {
			if err := w.write(c, p); err != nil {
				return err
			}
			select {
			case err := <-gone:
				gone <- err
				return err
			default:
				continue
			}
		}
		select {
		case err := <-gone:
			gone <- err
			return err
		case <-w.wake:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// head returns the message that is to be written next, and whether the line has ended and all is acknowledged.
func (w *stream) head(c *connection) (p packet, ok, finished bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked(c)
	if w.sent == len(w.mem) && w.spool != nil && w.bytes < streamMemory {
		if p, ok, err = w.spool.next(); err != nil {
			return p, false, false, fmt.Errorf("spool: %w", err)
		}
		if ok {
			w.mem = append(w.mem, p)
			w.bytes += len(p.msg)
		}
	}
	if w.sent < len(w.mem) {
		return w.mem[w.sent], true, false, nil
	}
	return p, false, w.closing && len(w.mem) == 0, nil
}

// write sends a message.
func (w *stream) write(c *connection, p packet) error {
	out, err := w.replay.Message(p.msg)
	if err != nil { // a file that someone else has changed
		w.s.note(fmt.Errorf("export: spool: %w", err))
		out = nil
	}
	if len(out) > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(streamTimeout))
		if _, err := c.Write(out); err != nil {
			return err
		}
		w.s.count(func(st *Status) { st.Messages++; st.Bytes += uint64(len(out)) })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mem[w.sent].wire, w.mem[w.sent].broken = c.written(), err != nil
	w.sent++
	return nil
}

// acked gives up what the collector's host has acknowledged.
func (w *stream) acked(c *connection) {
	if w.sent == 0 {
		return
	}
	have, n := c.acknowledged(), 0
	for n < w.sent && w.mem[n].wire <= have {
		p := w.mem[n]
		if p.broken {
			w.lose(DropSend, p)
		} else {
			w.s.book.Hold(-p.records)
			w.s.book.Out(p.records)
		}
		w.bytes -= len(p.msg)
		if p.behind.n == 0 {
			if len(w.free) < 64 {
				w.free = append(w.free, p.msg)
			}
		} else if err := w.spool.ack(p); err != nil {
			w.s.note(fmt.Errorf("export: spool: %w", err))
		}
		n++
	}
	if n > 0 {
		w.mem, w.sent = append(w.mem[:0], w.mem[n:]...), w.sent-n
		w.room.Broadcast()
	}
}
