package clickhouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"crosstap/internal/collect/store"
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
