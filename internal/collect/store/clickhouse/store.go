package clickhouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// ErrClosed says that the store is closed.
var ErrClosed = errors.New("clickhouse: the store is closed")

// Reasons under which records are not stored.
const (
	dropServer = iota
	dropSlow
	dropClosed
)

var dropReasons = []string{"server error", "slow server", "closed"}

// batch is a block on its way. Its token makes the server take it once, however often it is sent.
type batch struct {
	*block
	token        string
	tried        bool // to store it; parts of it may be there
	fromNS, toNS int64
}

// Store is an open store. Its methods are safe for concurrent use.
type Store struct {
	cfg    Config
	ddl    ddl
	dialer *dialer
	db     *sql.DB
	book   *ledger.Book
	insert string
	schema int // of the tables

	wake  chan struct{}
	stop  context.CancelFunc
	ended sync.WaitGroup
	send  sync.Mutex // one sender of batches at a time

	settling sync.Mutex // one at a time settles hours; it guards
	lastGen  uint64     // of corrections and roll-ups
	swept    time.Time  // when sealed hours were last looked at

	mu       sync.Mutex
	closed   bool
	building *batch
	full     []*batch
	spare    []*block
	pending  int
	taken    uint64
	settled  uint64
	room     store.Room // made when pending shrinks
	shed     store.Shed
	notes    []store.Gap // not stored yet
	lastErr  error
	stats    store.Stats // of the server, a while ago
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Reader  = (*Store)(nil)
	_ store.Querier = (*Store)(nil)
	_ store.Placer  = (*Store)(nil)
)

// Open connects and brings the tables to our version.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	s := &Store{
		cfg: cfg, ddl: ddl{cfg}, dialer: &dialer{cfg: cfg}, book: ledger.New("store", ledger.Records, dropReasons...), wake: make(chan struct{}, 1),
		shed: store.Shed{Reasons: dropReasons}, stop: func() {},
	}
	s.db = sql.OpenDB(&connector{s.dialer, questionSettings(cfg)})
	s.db.SetMaxOpenConns(8)
	s.db.SetMaxIdleConns(2)
	s.db.SetConnMaxIdleTime(time.Minute)
	s.insert = "INSERT INTO " + s.ddl.table(flowsTable) + " (" + strings.Join(fieldNames(), ", ") + ") VALUES"
	if cfg.ReadOnly {
		if err = s.exists(ctx); err == nil {
			s.schema, err = s.version(ctx)
		}
		if err == nil {
			s.readStats(ctx)
		}
	} else {
		err, s.schema = s.migrate(ctx), schemaVersion
	}
	if err != nil {
		s.db.Close()
		return nil, fmt.Errorf("clickhouse: %s: %w", cfg, err)
	}
	if !cfg.ReadOnly {
		run, stop := context.WithCancel(context.WithoutCancel(ctx))
		s.stop = stop
		s.ended.Add(2)
		go s.flushLoop(run)
		go s.rollLoop(run)
	}
	return s, nil
}

// exists tells an operator that the database is not there, before the server refuses the connection to it.
func (s *Store) exists(ctx context.Context) error {
	c, err := s.dialer.dial(ctx, "")
	if err != nil {
		return err
	}
	defer c.Close()
	var n proto.ColUInt64
	err = c.Do(ctx, ch.Query{
		Body:   "SELECT count() AS n FROM system.databases WHERE name = '" + literalEscapes.Replace(s.cfg.Database) + "'",
		Result: proto.Results{{Name: "n", Data: &n}}, OnResult: func(context.Context, proto.Block) error { return nil },
	})
	if err != nil {
		return plainError(err)
	}
	if n.Rows() == 0 || n.Row(0) == 0 {
		return fmt.Errorf("there is no database %q; a server with --store, or import, makes it", s.cfg.Database)
	}
	return nil
}

func fieldNames() []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

// questionSettings make ClickHouse answer as the views' SQL says.
func questionSettings(cfg Config) []ch.Setting {
	out := []ch.Setting{
		{Key: "join_use_nulls", Value: "1"}, {Key: "low_cardinality_allow_in_native_format", Value: "0"}, {Key: "output_format_json_quote_64bit_integers", Value: "0"},
		{Key: "distributed_product_mode", Value: "global"}, {Key: "prefer_global_in_and_join", Value: "1"},
		{Key: "distributed_foreground_insert", Value: "1"}, {Key: "session_timezone", Value: "UTC"}, {Key: "transform_null_in", Value: "0"},
		{Key: "max_parser_depth", Value: "2000"}, {Key: "max_query_size", Value: strconv.Itoa(4 << 20)},
	}
	if cfg.QueryMemory > 0 {
		out = append(out, ch.Setting{Key: "max_memory_usage", Value: strconv.FormatInt(cfg.QueryMemory, 10)})
	}
	if cfg.QueryThreads > 0 {
		out = append(out, ch.Setting{Key: "max_threads", Value: strconv.Itoa(cfg.QueryThreads)})
	}
	return out
}

// Append implements store.Store.
func (s *Store) Append(ctx context.Context, recs []flow.Record) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book.In(len(recs))
	for len(recs) > 0 {
		if s.closed {
			s.shedLocked(recs, dropClosed)
			return ErrClosed
		}
		if s.building == nil {
			s.building = s.newBatchLocked()
		}
		n := min(len(recs), s.cfg.MaxPending-s.pending, s.cfg.FlushRows-s.building.rows)
		if n > 0 {
			s.takeLocked(recs[:n])
			recs = recs[n:]
			continue
		}
		if err := s.room.WaitLocked(ctx, &s.mu, s.cfg.AppendWait); err != nil {
			reason := dropSlow
			if s.lastErr != nil {
				reason = dropServer
			}
			s.shedLocked(recs, reason)
			if errors.Is(err, store.ErrNoRoom) {
				return nil
			}
			return err
		}
	}
	return nil
}

var errReadOnly = errors.New("clickhouse: the store is open for reading only")

func (s *Store) newBatchLocked() *batch {
	b := &batch{token: uuid.NewString(), fromNS: 1<<63 - 1, toNS: -1 << 63}
	if n := len(s.spare); n > 0 {
		b.block, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		b.block = newBlock()
	}
	return b
}

func (s *Store) takeLocked(recs []flow.Record) {
	b := s.building
	b.add(recs)
	for i := range recs {
		b.fromNS, b.toNS = min(b.fromNS, recs[i].StartNS), max(b.toNS, recs[i].EndNS)
	}
	s.pending += len(recs)
	s.taken += uint64(len(recs))
	s.book.Hold(len(recs))
	if b.rows >= s.cfg.FlushRows {
		s.full, s.building = append(s.full, b), nil
		s.wakeFlusher()
	}
}

func (s *Store) wakeFlusher() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// shedLocked counts records that are not stored, and notes the gap.
func (s *Store) shedLocked(recs []flow.Record, reason int) {
	s.book.Drop(reason, len(recs))
	s.shed.AddRecords(reason, recs)
}

// NoteGap implements store.Store. Notes are stored with the next flush.
func (s *Store) NoteGap(g store.Gap) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.notes) < maxNotes {
		s.notes = append(s.notes, g)
	}
	return nil
}

const maxNotes = 10_000

// flushLoop stores full batches at once and whatever there is every FlushInterval.
func (s *Store) flushLoop(ctx context.Context) {
	defer s.ended.Done()
	tick := time.NewTicker(s.cfg.FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			_ = s.flush(ctx, false)
		case <-tick.C:
			_ = s.flush(ctx, true)
			s.readStats(ctx)
		}
	}
}

// insertWait bounds one attempt to store a batch.
const insertWait = time.Minute

// flush stores the full batches, and with all what is being built. What the server does not take stays for the next time.
func (s *Store) flush(ctx context.Context, all bool) error {
	s.send.Lock()
	defer s.send.Unlock()
	s.mu.Lock()
	if all && s.building != nil && s.building.rows > 0 {
		s.full, s.building = append(s.full, s.building), nil
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if len(s.full) == 0 {
			s.mu.Unlock()
			err := s.saveNotes(ctx)
			s.afterFlush(err)
			return err
		}
		b := s.full[0]
		s.mu.Unlock()
		err := s.store(ctx, b.block, b.token, b.tried)
		b.tried = true
		if err == nil {
			s.settle(b)
		}
		s.afterFlush(err)
		if err != nil {
			return err
		}
	}
}

func insertSettings(token string) []ch.Setting {
	return []ch.Setting{
		{Key: "insert_deduplication_token", Value: token}, {Key: "insert_deduplicate", Value: "1"}, {Key: "deduplicate_blocks_in_dependent_materialized_views", Value: "1"},
		{Key: "distributed_foreground_insert", Value: "1"}, {Key: "async_insert", Value: "0"}, {Key: "max_partitions_per_insert_block", Value: "0"},
	}
}

// settle takes the oldest batch out of memory.
func (s *Store) settle(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := b.rows
	s.full = slices.Delete(s.full, 0, 1)
	s.pending -= n
	s.settled += uint64(n)
	s.book.Hold(-n)
	s.book.Out(n)
	b.reset()
	if len(s.spare) < 2 {
		s.spare = append(s.spare, b.block)
	}
	s.room.FreeLocked()
}

// afterFlush tells those who wait.
func (s *Store) afterFlush(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.lastErr == nil {
		s.cfg.Log.Error("records are not stored", "store", s.cfg.String(), "error", err)
	}
	if err == nil && s.lastErr != nil {
		s.cfg.Log.Info("records are stored again", "store", s.cfg.String())
	}
	s.lastErr = err
}

// Flush implements store.Store.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	if s.closed || s.cfg.ReadOnly {
		s.mu.Unlock()
		return nil
	}
	upto := s.taken
	s.mu.Unlock()
	for {
		err := s.flush(ctx, true)
		s.mu.Lock()
		settled := s.settled >= upto
		s.mu.Unlock()
		if settled || err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}

// AppendPlaced implements store.Placer: it returns when the records are stored. A place that was stored before is not stored again.
func (s *Store) AppendPlaced(ctx context.Context, recs []flow.Record, p store.Place) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	if len(recs) == 0 {
		return nil
	}
	s.book.In(len(recs))
	s.mu.Lock()
	closed := s.closed
	var b *block
	if n := len(s.spare); n > 0 {
		b, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	s.mu.Unlock()
	if b == nil {
		b = newBlock()
	}
	if closed {
		s.book.Drop(dropClosed, len(recs))
		return ErrClosed
	}
	b.add(recs)
	token := p.ID
	if token == "" {
		token = fmt.Sprintf("%s/%d", p.Stream, p.Seq)
	}
	err := s.store(ctx, b, token, p.Again)
	b.reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spare) < 2 {
		s.spare = append(s.spare, b)
	}
	s.lastErr = err
	if err != nil {
		s.book.Drop(dropServer, len(recs)) // who sends it again counts again
		return fmt.Errorf("clickhouse: %w", err)
	}
	s.book.Out(len(recs))
	return nil
}

// Ordered implements store.Placer: places may come in any order.
func (s *Store) Ordered() bool { return false }

// Position implements store.Placer: the server knows what it has.
func (s *Store) Position(string) uint64 { return 0 }

// Settle stores what was appended and settles every hour, when it is its turn.
func (s *Store) Settle(ctx context.Context) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	for {
		done, err := s.settleOver(ctx, 1<<62)
		if err != nil {
			return fmt.Errorf("clickhouse: settle: %w", err)
		}
		if done {
			s.readStats(ctx)
			return nil
		}
		select {
		case <-time.After(settleAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settleAgain is after what time Settle asks for a turn again.
const settleAgain = 2 * time.Second

const closeWait = 30 * time.Second

// Close implements store.Store. What the server does not take now is counted as dropped.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.ended.Wait()
	var err error
	if !s.cfg.ReadOnly {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		err = s.flush(ctx, true)
		s.dropRest()
	}
	if err = errors.Join(err, s.db.Close()); err != nil {
		return fmt.Errorf("clickhouse: close: %w", err)
	}
	return nil
}

// dropRest counts what Close could not store.
func (s *Store) dropRest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.full {
		s.book.Hold(-b.rows)
		s.pending -= b.rows
		s.book.Drop(dropServer, b.rows)
		s.shed.Add(dropServer, b.fromNS, b.toNS, b.rows)
	}
	s.full = nil
}

// Stats implements store.Store. What only the server knows is some seconds old.
func (s *Store) Stats() store.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Book, st.PendingRows = s.book.Read(), s.pending
	if s.lastErr != nil {
		st.LastError = s.lastErr.Error()
	}
	return st
}

// readStats asks the server for what Stats tells.
func (s *Store) readStats(ctx context.Context) {
	parts := "system.parts"
	if s.cfg.Cluster != "" {
		parts = "cluster(" + s.cfg.Cluster + ", system.parts)"
	}
	ask := "SELECT toInt64(sum(rows)), toInt64(sum(bytes_on_disk)), toInt64(count()) FROM " + parts + " WHERE active AND database = {p1:String} AND table IN ({p2:String}, concat({p2:String}, '_local'))"
	var st store.Stats
	var rows, bytes, files int64
	if s.db.QueryRowContext(ctx, ask, s.cfg.Database, flowsTable).Scan(&rows, &bytes, &files) != nil {
		return
	}
	st.Bytes, st.Files = uint64(bytes), int(files)
	if s.db.QueryRowContext(ctx, "SELECT toInt64(count()) FROM "+s.ddl.table(flowsTable)).Scan(&rows) != nil { // parts count rows that were corrected, too
		return
	}
	st.Rows = uint64(rows)
	if s.db.QueryRowContext(ctx, ask, s.cfg.Database, rollupTable).Scan(&rows, &bytes, &files) != nil {
		return
	}
	st.RollupRows, st.RollupBytes = uint64(rows), uint64(bytes)
	st.OldestNS, st.NewestNS, _ = s.extent(ctx, flowsTable, "t_end")
	var free int64
	if s.db.QueryRowContext(ctx, "SELECT toInt64(min(unreserved_space)) FROM system.disks").Scan(&free) == nil {
		st.FreeBytes = uint64(free)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats = st
}

// extent gives the least and greatest time of a table.
func (s *Store) extent(ctx context.Context, table, column string) (oldest, newest int64, ok bool) {
	var a, b sql.NullInt64
	err := s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT minOrNull(toUnixTimestamp64Milli(%[1]s)), maxOrNull(toUnixTimestamp64Milli(%[1]s)) FROM %[2]s", column, s.ddl.table(table))).Scan(&a, &b)
	return a.Int64 * 1e6, b.Int64 * 1e6, err == nil && a.Valid
}
