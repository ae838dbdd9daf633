package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	scratch []byte  // of AppendBatchFlow
	from    int64
	to      int64
	n       uint64 // letters made
	waiting int64  // bytes, of open and of letters not confirmed
	held    int    // records of them
	queue   []*letter
	room    store.Room // made when waiting shrinks
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
	f := &Feed{cfg: cfg, book: ledger.New("bus", ledger.Records, feedReasons...), letters: make(chan *letter), wake: make(chan struct{}, 1), shed: store.Shed{Reasons: feedReasons}}
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
				if errors.Is(err, store.ErrNoRoom) {
					return nil
				}
				return err
			}
		}
		f.addLocked(&recs[i])
	}
	return nil
}

// waitLocked gives the mutex away until something was confirmed, AppendWait is over (store.ErrNoRoom) or ctx ends.
func (f *Feed) waitLocked(ctx context.Context) error {
	if f.dropped {
		return store.ErrNoRoom // once is enough until the bus goes on
	}
	return f.room.WaitLocked(ctx, &f.mu, f.cfg.AppendWait)
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
		return store.ErrNoRoom
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

// Flush implements store.Store: it returns when all that was appended is in the stream.
func (f *Feed) Flush(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealLocked()
	for f.held > 0 && !f.closed {
		_ = f.room.WaitLocked(ctx, &f.mu, f.cfg.AppendWait) // then it is looked again
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
