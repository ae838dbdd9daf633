package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crosstap/internal/collect/message"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// FeedConfig says how a collector gives its records to writers. A zero field means its default.
type FeedConfig struct {
	Line       LineConfig
	Linger     time.Duration // the longest that a record waits for its message to fill; 500 ms
	Batch      int           // records in a message at most; 50,000
	Pending    int64         // bytes of records that may wait for the bus; 64 MiB
	AppendWait time.Duration // how long Append waits for room before it sheds; 1 s
	InFlight   int           // messages that may wait for their confirmation; 8
	Log        *slog.Logger
}

func (c FeedConfig) withDefaults() (FeedConfig, error) {
	def := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&c.Linger, 500*time.Millisecond)
	def(&c.AppendWait, time.Second)
	if c.Batch <= 0 {
		c.Batch = 50_000
	}
	if c.Pending <= 0 {
		c.Pending = 64 << 20
	}
	if c.InFlight <= 0 {
		c.InFlight = 8
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	c.Line, err = c.Line.withDefaults()
	return c, err
}

// Reasons for which a feed drops records.
const (
	feedBehind = iota
	feedLarge
	feedClosed
)

var feedReasons = []string{"bus behind", "too large", "closed"}

// letter is a message on its way. Each attempt to send it has the same identifier.
type letter struct {
	kind         string
	id           string
	data         []byte
	raw          int64 // bytes that wait
	n            int   // records
	fromNS, toNS int64
}

// Feed takes records for writers. To the collect line it is a store: what Flush has returned for is in the stream.
type Feed struct {
	cfg  FeedConfig
	nc   *nats.Conn
	js   jetstream.JetStream
	book *ledger.Book
	run  string
	zip  *zstd.Encoder

	letters chan *letter
	wake    chan struct{} // a letter is in the queue
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	open    []byte  // FlowBatch in the making
	ends    []int32 // of its records
	room    []byte
	from    int64
	to      int64
	n       uint64 // letters made
	waiting int64  // bytes, of open and of letters not confirmed
	held    int    // records of them
	queue   []*letter
	sent    chan struct{} // closed and replaced when waiting shrinks
	shed    store.Shed
	made    bool // the stream is there
	payload int  // longest message that the server takes, 0 when it is not known
	lastErr error
	dropped bool // some record was shed since the last confirmation
}

var _ store.Store = (*Feed)(nil)

// NewFeed connects; a bus that is not there yet is no error.
func NewFeed(cfg FeedConfig) (*Feed, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	f := &Feed{cfg: cfg, book: ledger.New("bus", ledger.Records, feedReasons...), letters: make(chan *letter), wake: make(chan struct{}, 1), sent: make(chan struct{}), shed: store.Shed{Reasons: feedReasons}}
	if f.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	f.run = hex.EncodeToString(id[:])
	if f.nc, f.js, err = cfg.Line.connect(f.note); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.ended.Go(func() { f.post(ctx) })
	for range cfg.InFlight {
		f.ended.Go(func() {
			for l := range f.letters {
				f.deliver(ctx, l)
			}
		})
	}
	return f, nil
}

// note remembers how the connection is.
func (f *Feed) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.lastErr == nil {
		f.cfg.Log.Warn("the bus is not reached", "bus", f.cfg.Line.String(), "error", err)
	}
	f.lastErr = err
}

// Append implements store.Store.
func (f *Feed) Append(ctx context.Context, recs []flow.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.book.In(len(recs))
	for i := range recs {
		if f.closed {
			f.shedLocked(recs[i:], feedClosed)
			return errors.New("bus: the feed is closed")
		}
		if f.waiting >= f.cfg.Pending {
			if err := f.waitLocked(ctx); err != nil {
				f.shedLocked(recs[i:], feedBehind)
				if errors.Is(err, errBehind) {
					return nil
				}
				return err
			}
		}
		f.addLocked(&recs[i])
	}
	return nil
}

var errBehind = errors.New("no room")

// Records compress to a quarter or less; a message that turns out too long is cut in two. maxRaw bounds what is compressed at once.
const (
	packing = 3
	maxRaw  = 16 << 20
)

func (f *Feed) addLocked(r *flow.Record) {
	if len(f.ends) == 0 {
		f.from, f.to = r.StartNS, r.EndNS
	}
	before := len(f.open)
	f.open, f.room = message.AppendBatchFlow(f.open, f.room, r)
	f.ends = append(f.ends, int32(len(f.open)))
	f.from, f.to = min(f.from, r.StartNS), max(f.to, r.EndNS)
	f.waiting += int64(len(f.open) - before)
	f.held++
	f.book.Hold(1)
	if len(f.ends) >= f.cfg.Batch || len(f.open) >= min(packing*f.mostLocked(), maxRaw) {
		f.sealLocked()
	}
}

// mostLocked is how long a message may be, beside its headers.
func (f *Feed) mostLocked() int {
	if f.payload == 0 { // the server says it once it is connected
		f.payload = int(f.nc.MaxPayload())
	}
	if f.payload > 1024 {
		return f.payload - 1024
	}
	return 1<<20 - 1024 // what servers take that are not told otherwise
}

// sealLocked makes letters of what is open.
func (f *Feed) sealLocked() {
	if len(f.ends) == 0 {
		return
	}
	f.letterLocked(f.open, f.ends, f.mostLocked())
	f.open, f.ends = nil, f.ends[:0]
}

// letterLocked compresses records into a letter, or into two when one would be longer than the server takes.
func (f *Feed) letterLocked(raw []byte, ends []int32, most int) {
	data := f.zip.EncodeAll(raw, make([]byte, 0, len(raw)/3))
	if len(data) > most {
		if len(ends) == 1 {
			f.waiting, f.held = f.waiting-int64(len(raw)), f.held-1
			f.book.Hold(-1)
			f.book.Drop(feedLarge, 1)
			f.shed.Add(feedLarge, f.from, f.to, 1)
			return
		}
		half := len(ends) / 2
		cut := ends[half-1]
		rest := make([]int32, 0, len(ends)-half)
		for _, e := range ends[half:] {
			rest = append(rest, e-cut)
		}
		f.letterLocked(raw[:cut], ends[:half], most)
		f.letterLocked(raw[cut:], rest, most)
		return
	}
	f.queueLocked(&letter{kind: kindFlows, data: data, raw: int64(len(raw)), n: len(ends), fromNS: f.from, toNS: f.to})
}

// queueLocked gives a letter its identifier and wakes who posts it.
func (f *Feed) queueLocked(l *letter) {
	f.n++
	l.id = f.run + "-" + strconv.FormatUint(f.n, 10)
	f.queue = append(f.queue, l)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// waitLocked gives the mutex away until something was confirmed, AppendWait is over or ctx ends.
func (f *Feed) waitLocked(ctx context.Context) error {
	if f.dropped {
		return errBehind // once is enough until the bus goes on
	}
	sent := f.sent
	f.mu.Unlock()
	defer f.mu.Lock()
	patience := time.NewTimer(f.cfg.AppendWait)
	defer patience.Stop()
	select {
	case <-sent:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		return errBehind
	}
}

func (f *Feed) shedLocked(recs []flow.Record, reason int) {
	f.dropped = true
	f.book.Drop(reason, len(recs))
	f.shed.AddRecords(reason, recs)
}

// NoteGap implements store.Store: the note goes to the writers too.
func (f *Feed) NoteGap(g store.Gap) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("bus: the feed is closed")
	}
	return f.noteLocked(g)
}

// maxNotes bounds the notes that wait.
const maxNotes = 1000

func (f *Feed) noteLocked(g store.Gap) error {
	if len(f.queue) > maxNotes {
		return errBehind
	}
	b, err := json.Marshal(g)
	if err != nil {
		return err
	}
	f.queueLocked(&letter{kind: kindGap, data: b})
	return nil
}

// AppendCounts implements store.CountKeeper: it returns when the stream has them. What is too long for one message becomes two feeds.
func (f *Feed) AppendCounts(ctx context.Context, c store.Counts) error {
	raw := c.Append(nil)
	f.mu.Lock()
	most, closed := f.mostLocked(), f.closed
	data := f.zip.EncodeAll(raw, make([]byte, 0, len(raw)/3))
	f.mu.Unlock()
	if closed {
		return errors.New("bus: the feed is closed")
	}
	if half := len(c.List) / 2; len(data) > most && half > 0 {
		return errors.Join(f.AppendCounts(ctx, store.Counts{Feed: c.Feed + "a", Seq: c.Seq, List: c.List[:half]}), f.AppendCounts(ctx, store.Counts{Feed: c.Feed + "b", Seq: c.Seq, List: c.List[half:]}))
	}
	if err := f.attempt(ctx, f.message(&letter{kind: kindCounts, id: fmt.Sprintf("%s-%s-%d", kindCounts, c.Feed, c.Seq), data: data})); err != nil {
		return fmt.Errorf("bus: counts: %w", err)
	}
	return nil
}

// post hands letters to those who deliver them, until ctx ends and nothing is left.
func (f *Feed) post(ctx context.Context) {
	defer close(f.letters)
	tick := time.NewTicker(f.cfg.Linger)
	defer tick.Stop()
	for {
		for {
			f.mu.Lock()
			var l *letter
			if len(f.queue) > 0 {
				l, f.queue = f.queue[0], f.queue[1:]
			}
			f.mu.Unlock()
			if l == nil {
				break
			}
			f.letters <- l
		}
		select {
		case <-f.wake:
			continue
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		f.sealLocked()
		f.shed.Note(func(g store.Gap) bool { return f.noteLocked(g) == nil })
		f.mu.Unlock()
	}
}

// deliver sends a letter until the stream has it, or ctx ends.
func (f *Feed) deliver(ctx context.Context, l *letter) {
	msg := f.message(l)
	wait := retryFirst
	for {
		err := f.attempt(ctx, msg)
		if err == nil {
			f.confirm(l)
			return
		}
		if ctx.Err() != nil {
			f.abandon(l)
			return
		}
		f.note(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, retryMost)
	}
}

func (f *Feed) message(l *letter) *nats.Msg {
	msg := nats.NewMsg(f.cfg.Line.subject() + "." + l.kind)
	msg.Data = l.data
	msg.Header.Set(nats.MsgIdHdr, l.id)
	msg.Header.Set("Crosstap-Records", strconv.Itoa(l.n))
	return msg
}

func (f *Feed) attempt(ctx context.Context, msg *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	f.mu.Lock()
	made := f.made
	f.mu.Unlock()
	if !made {
		if _, err := f.cfg.Line.stream(ctx, f.js); err != nil {
			return err
		}
		f.mu.Lock()
		f.made = true
		f.mu.Unlock()
	}
	_, err := f.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0), jetstream.WithExpectStream(f.cfg.Line.Stream))
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		f.mu.Lock()
		f.made = false // somebody deleted it
		f.mu.Unlock()
	}
	return err
}

// confirm takes a letter out of the books: writers will get it.
func (f *Feed) confirm(l *letter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lastErr != nil {
		f.cfg.Log.Info("the bus is reached again", "bus", f.cfg.Line.String())
	}
	f.waiting, f.held, f.lastErr, f.dropped = f.waiting-l.raw, f.held-l.n, nil, false
	f.book.Hold(-l.n)
	f.book.Out(l.n)
	close(f.sent)
	f.sent = make(chan struct{})
}

// abandon counts the records of a letter that nobody confirmed before the end.
func (f *Feed) abandon(l *letter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting, f.held = f.waiting-l.raw, f.held-l.n
	f.book.Hold(-l.n)
	f.book.Drop(feedClosed, l.n)
	close(f.sent)
	f.sent = make(chan struct{})
}

// Flush implements store.Store: it returns when all that was appended is in the stream.
func (f *Feed) Flush(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealLocked()
	for f.held > 0 && !f.closed {
		sent := f.sent
		f.mu.Unlock()
		select {
		case <-sent:
		case <-ctx.Done():
		}
		f.mu.Lock()
		if err := ctx.Err(); err != nil {
			return errors.Join(err, f.lastErr)
		}
	}
	return nil
}

// Stats implements store.Store. Rows are those that were sent.
func (f *Feed) Stats() store.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := store.Stats{Book: f.book.Read(), PendingRows: f.held}
	if f.lastErr != nil {
		st.LastError = f.lastErr.Error()
	}
	return st
}

// closeWait is how long Close tries to send what is left.
const closeWait = 20 * time.Second

// Close implements store.Store.
func (f *Feed) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	err := f.Flush(ctx)
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.ended.Wait()
	f.mu.Lock()
	left := f.queue
	f.queue = nil
	f.mu.Unlock()
	for _, l := range left {
		f.abandon(l)
	}
	f.nc.Close()
	if err != nil {
		return fmt.Errorf("bus: close: %w", err)
	}
	return nil
}
