package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"crosstap/internal/collect/message"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// Target is a store that a writer fills.
type Target interface {
	store.Store
	store.Placer
}

// WriterConfig says what a writer moves where. A zero field means its default.
type WriterConfig struct {
	Line    LineConfig
	Store   Target
	Workers int // that insert at a time, into a store that is not ordered; 2
	Log     *slog.Logger

	ackWait time.Duration // after what time without a sign a message goes to another writer; 15 s
}

// messages are what a writer counts.
const messages ledger.Unit = "messages"

// Reasons for which a writer drops messages.
const writerDamaged = 0

// Writer moves records from the stream into a store: at least once out of the stream, and once into the store.
type Writer struct {
	cfg   WriterConfig
	book  *ledger.Book // messages
	unzip *zstd.Decoder

	lastErr atomic.Pointer[string]
	behind  atomic.Uint64 // messages in the stream that are not stored
	records atomic.Uint64
}

// maxUnzipped bounds a message after decompression.
const maxUnzipped = 64 << 20

// NewWriter makes a writer. It connects to nobody.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	var err error
	if cfg.Line, err = cfg.Line.withDefaults(); err != nil {
		return nil, err
	}
	if cfg.Store == nil {
		return nil, errors.New("bus: a writer needs a store")
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 2
	}
	if cfg.ackWait <= 0 {
		cfg.ackWait = defaultAckWait
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Writer{cfg: cfg, book: ledger.New("writer", messages, "damaged")}
	w.unzip, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxUnzipped), zstd.WithDecoderConcurrency(0))
	return w, err
}

// WriterStatus is how a writer is.
type WriterStatus struct {
	Book    ledger.Statement // messages
	Records uint64           // given to the store
	Behind  uint64           // messages in the stream
	Error   string           // the last one, "" when all goes well
}

// Status tells how the writer is.
func (w *Writer) Status() WriterStatus {
	s := WriterStatus{Book: w.book.Read(), Records: w.records.Load(), Behind: w.behind.Load()}
	if e := w.lastErr.Load(); e != nil {
		s.Error = *e
	}
	return s
}

// fail notes an error; nil clears it.
func (w *Writer) fail(err error) {
	if err == nil {
		w.lastErr.Store(nil)
		return
	}
	text := err.Error()
	if was := w.lastErr.Swap(&text); was == nil {
		w.cfg.Log.Warn("the writer waits", "bus", w.cfg.Line.String(), "error", err)
	}
}

// Run moves records until ctx ends. Whatever fails is tried again.
func (w *Writer) Run(ctx context.Context) error {
	nc, js, err := w.cfg.Line.connect(func(err error) {
		if err != nil {
			w.fail(err)
		}
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	for ctx.Err() == nil {
		if err := w.once(ctx, js); err != nil && ctx.Err() == nil {
			w.fail(err)
			select {
			case <-time.After(retryMost):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// once works on one incarnation of the stream until something fails.
func (w *Writer) once(ctx context.Context, js jetstream.JetStream) error {
	setup, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	st, err := w.cfg.Line.stream(setup, js)
	if err != nil {
		return err
	}
	info, err := st.Info(setup)
	if err != nil {
		return fmt.Errorf("bus: stream %s: %w", w.cfg.Line.Stream, err)
	}
	name := fmt.Sprintf("%s@%d", w.cfg.Line.Stream, info.Created.UnixNano())
	if w.cfg.Store.Ordered() {
		return w.inOrder(ctx, st, name)
	}
	return w.shared(ctx, st, name)
}

const (
	fetchMost  = 64
	fetchWait  = 500 * time.Millisecond
	flushEvery = 2 * time.Second
)

// inOrder reads on from where the store is, and lets go of what is durable there.
func (w *Writer) inOrder(ctx context.Context, st jetstream.Stream, name string) error {
	at := w.cfg.Store.Position(name)
	c, err := st.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: at + 1})
	if err != nil {
		return fmt.Errorf("bus: read from %d: %w", at+1, err)
	}
	texts := &message.Texts{}
	var recs []flow.Record
	flushed, durable := time.Now(), at
	for ctx.Err() == nil {
		b, err := c.Fetch(fetchMost, jetstream.FetchMaxWait(fetchWait))
		if err != nil {
			return fmt.Errorf("bus: read: %w", err)
		}
		for msg := range b.Messages() {
			place, err := w.place(msg, name)
			if err != nil {
				return err
			}
			if place.Seq <= at {
				continue
			}
			if recs, err = w.take(ctx, msg, place, recs[:0], texts); err != nil {
				return err
			}
			at = place.Seq
		}
		if err := b.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			return fmt.Errorf("bus: read: %w", err)
		}
		if time.Since(flushed) < flushEvery && ctx.Err() == nil {
			continue
		}
		flushed = time.Now()
		if durable, err = w.release(ctx, st, name, durable); err != nil {
			return err
		}
		w.fail(nil)
	}
	return nil
}

// release flushes the store and takes out of the stream what is durable now.
func (w *Writer) release(ctx context.Context, st jetstream.Stream, name string, before uint64) (uint64, error) {
	if err := w.cfg.Store.Flush(ctx); err != nil {
		return before, err
	}
	at := w.cfg.Store.Position(name)
	if at > before {
		if err := st.Purge(ctx, jetstream.WithPurgeSequence(at+1)); err != nil {
			return before, fmt.Errorf("bus: let go of messages up to %d: %w", at, err)
		}
	}
	info, err := st.Info(ctx)
	if err != nil {
		return at, fmt.Errorf("bus: %w", err)
	}
	w.behind.Store(info.State.Msgs)
	return at, nil
}

// place tells where a message stands.
func (w *Writer) place(msg jetstream.Msg, name string) (store.Place, error) {
	m, err := msg.Metadata()
	if err != nil {
		return store.Place{}, fmt.Errorf("bus: message: %w", err)
	}
	return store.Place{Stream: name, Seq: m.Sequence.Stream, ID: msg.Headers().Get(nats.MsgIdHdr), Again: m.NumDelivered > 1}, nil
}

// take gives a message to the store. One that cannot be read is counted and passed over.
func (w *Writer) take(ctx context.Context, msg jetstream.Msg, p store.Place, recs []flow.Record, texts *message.Texts) ([]flow.Record, error) {
	put, recs, err := w.open(msg, recs, texts)
	if err != nil {
		w.book.In(1)
		w.damaged(msg, p, err)
		return recs, nil
	}
	if err := put(ctx); err != nil {
		return recs, err
	}
	if err := w.cfg.Store.AppendPlaced(ctx, recs, p); err != nil {
		return recs, err
	}
	w.book.In(1)
	w.book.Out(1)
	w.records.Add(uint64(len(recs)))
	return recs, nil
}

// open reads a message: its records, and what puts the rest of it into the store.
func (w *Writer) open(msg jetstream.Msg, recs []flow.Record, texts *message.Texts) (put func(context.Context) error, _ []flow.Record, err error) {
	kind := msg.Subject()[strings.LastIndexByte(msg.Subject(), '.')+1:]
	if kind == kindGap {
		var g store.Gap
		err := json.Unmarshal(msg.Data(), &g)
		return func(context.Context) error { w.note(g); return nil }, recs, err
	}
	raw, err := w.unzip.DecodeAll(msg.Data(), nil)
	if err != nil {
		return nil, recs, err
	}
	if kind == kindCounts {
		c, err := store.ParseCounts(raw)
		return func(ctx context.Context) error { return w.cfg.Store.AppendCounts(ctx, c) }, recs, err
	}
	recs, err = message.ParseBatch(raw, recs, texts)
	return func(context.Context) error { return nil }, recs, err
}

// note gives the store a note about missing records.
func (w *Writer) note(g store.Gap) {
	if err := w.cfg.Store.NoteGap(g); err != nil {
		w.cfg.Log.Warn("a note about missing records is lost", "error", err)
	}
}

// damaged counts a message that cannot be read, and notes what is missing with it.
func (w *Writer) damaged(msg jetstream.Msg, p store.Place, err error) {
	w.book.Drop(writerDamaged, 1)
	n, _ := strconv.ParseUint(msg.Headers().Get("Crosstap-Records"), 10, 64)
	w.cfg.Log.Error("a message of the bus cannot be read", "seq", p.Seq, "records", n, "error", err)
	now := time.Now().UnixNano()
	if m, err := msg.Metadata(); err == nil {
		now = m.Timestamp.UnixNano()
	}
	w.note(store.Gap{FromNS: now, ToNS: now + 1, Scope: "store", Reason: "damaged message", LostRecords: n})
}

// defaultAckWait is after what time without a sign a message goes to another writer: the one that had it was killed.
const defaultAckWait = 15 * time.Second

// keep tells the server that a message is being worked on, until the channel is closed.
func (w *Writer) keep(msg jetstream.Msg) chan struct{} {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(w.cfg.ackWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = msg.InProgress() // at worst somebody else stores it, which the store recognises
			}
		}
	}()
	return done
}

// consumerName is that of the consumer that writers of one store share.
const consumerName = "writers"

// shared takes messages beside other writers: each is confirmed when the store has it, and given to somebody else otherwise.
func (w *Writer) shared(ctx context.Context, st jetstream.Stream, name string) error {
	c, err := st.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, AckWait: w.cfg.ackWait, MaxAckPending: 256, Description: "stores records",
	})
	if err != nil {
		return fmt.Errorf("bus: consumer: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for range w.cfg.Workers {
		g.Go(func() error { return w.takeShared(ctx, c, name) })
	}
	g.Go(func() error { return w.letGo(ctx, st, c) })
	return g.Wait()
}

// takeShared takes messages one by one until ctx ends.
func (w *Writer) takeShared(ctx context.Context, c jetstream.Consumer, name string) error {
	texts := &message.Texts{}
	var recs []flow.Record
	for ctx.Err() == nil {
		b, err := c.Fetch(1, jetstream.FetchMaxWait(fetchWait))
		if err != nil {
			return fmt.Errorf("bus: read: %w", err)
		}
		for msg := range b.Messages() {
			if recs, err = w.takeOne(ctx, msg, name, recs, texts); err != nil {
				return err
			}
		}
		if err := b.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			return fmt.Errorf("bus: read: %w", err)
		}
	}
	return nil
}

// takeOne stores the records of a message and confirms it.
func (w *Writer) takeOne(ctx context.Context, msg jetstream.Msg, name string, recs []flow.Record, texts *message.Texts) ([]flow.Record, error) {
	place, err := w.place(msg, name)
	if err != nil {
		return recs, err
	}
	done := w.keep(msg)
	recs, err = w.take(ctx, msg, place, recs[:0], texts)
	close(done)
	if err != nil {
		_ = msg.NakWithDelay(retryFirst)
		return recs, err
	}
	if err := msg.DoubleAck(ctx); err != nil {
		return recs, fmt.Errorf("bus: confirm %d: %w", place.Seq, err)
	}
	w.fail(nil)
	return recs, nil
}

// letGo removes from the stream what all have confirmed, and notes how much is waiting, until ctx ends.
func (w *Writer) letGo(ctx context.Context, st jetstream.Stream, c jetstream.Consumer) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	gone := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		info, err := c.Info(ctx)
		if err != nil {
			return fmt.Errorf("bus: consumer: %w", err)
		}
		if floor := info.AckFloor.Stream; floor > gone {
			if err := st.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
				return fmt.Errorf("bus: let go of messages up to %d: %w", floor, err)
			}
			gone = floor
		}
		w.behind.Store(info.NumPending + uint64(info.NumAckPending))
	}
}
