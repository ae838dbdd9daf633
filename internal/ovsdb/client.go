package ovsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// TableMonitor says what to follow of one table.
type TableMonitor struct {
	Table   string
	Columns []string    // nil for all
	Where   []Condition // rows that meet one of them; nil for all
}

// ClientConfig says what a Client follows.
type ClientConfig struct {
	Endpoint
	Database string // such as Open_vSwitch
	Monitor  []TableMonitor
	// Changed is told the changes of each transaction, those of the first copy and of a new one after a broken session too. It
	// runs on the session's goroutine, with the copy in the state after the changes, and must not call Transact. nil for none.
	Changed func([]Change)
	// Probe is after how much silence the server is asked for a sign of life; it has as long to give one.
	Probe                  time.Duration
	MinBackoff, MaxBackoff time.Duration // between attempts to get a session
	Log                    *slog.Logger  // nil for none
}

// DefaultClientConfig returns a configuration for the Open_vSwitch database that follows nothing.
func DefaultClientConfig() ClientConfig {
	return ClientConfig{Database: "Open_vSwitch", Probe: 5 * time.Second, MinBackoff: 100 * time.Millisecond, MaxBackoff: 8 * time.Second}
}

// Validate reports the first mistake.
func (c *ClientConfig) Validate() error {
	switch {
	case c.Database == "":
		return errors.New("ovsdb: no database")
	case c.Probe <= 0 || c.MinBackoff <= 0 || c.MaxBackoff < c.MinBackoff:
		return fmt.Errorf("ovsdb: probe %v, back-off %v to %v: must be positive and in order", c.Probe, c.MinBackoff, c.MaxBackoff)
	}
	return c.Endpoint.Validate()
}

// Client follows a database through sessions that may break.
type Client struct {
	cfg ClientConfig
	log *slog.Logger

	mu     sync.Mutex
	conn   *Conn         // nil without a session
	synced chan struct{} // closed while the copy is that of the server
	schema *Schema
	rows   tables
	txn    string // last transaction that the copy knows
	err    error  // of the last attempt
	epoch  uint64 // sessions so far
}

// patience is how long a session has to begin, besides the time for a sign of life.
const patience = 10 * time.Second

// noTxn is the transaction that no server knows.
const noTxn = "00000000-0000-0000-0000-000000000000"

// NewClient returns a client. It opens nothing.
func NewClient(c ClientConfig) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: c, log: c.Log.With("ovsdb", c.Address), synced: make(chan struct{}), rows: tables{}, txn: noTxn}, nil
}

// Run keeps a session until ctx ends, and returns nil then. A database without the tables that are to be followed is an error.
func (c *Client) Run(ctx context.Context) error {
	wait := c.cfg.MinBackoff
	for {
		began := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var fatal *schemaError
		if errors.As(err, &fatal) {
			return fatal.err
		}
		c.log.Warn("no session with the database; trying again", "error", err)
		if time.Since(began) > c.cfg.MaxBackoff {
			wait = c.cfg.MinBackoff // it had lasted
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, c.cfg.MaxBackoff)
	}
}

// schemaError is a mistake that no new session mends.
type schemaError struct{ err error }

func (e *schemaError) Error() string { return e.err.Error() }

// session runs one session to its end.
func (c *Client) session(ctx context.Context) (err error) {
	defer func() { c.lost(err) }()
	attempt, cancel := context.WithTimeout(ctx, c.cfg.Probe+patience)
	defer cancel()
	c.mu.Lock()
	c.epoch++
	id := fmt.Sprintf("crosstap-%d", c.epoch)
	c.mu.Unlock()
	s := &session{client: c, id: id, ready: make(chan struct{})}
	conn, err := Dial(attempt, c.cfg.Endpoint, s.notify)
	if err != nil {
		return err
	}
	s.conn = conn
	defer conn.Close()
	defer s.open() // a notification that waits for the first copy
	if err := s.start(attempt); err != nil {
		return err
	}
	return c.keep(ctx, conn)
}

// keep waits for the end of a session, and asks for a sign of life after silence.
func (c *Client) keep(ctx context.Context, conn *Conn) error {
	for {
		quiet := time.Until(conn.calls.Heard().Add(c.cfg.Probe))
		select {
		case <-conn.Done():
			return conn.Err()
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(quiet, 0)):
		}
		if time.Since(conn.calls.Heard()) < c.cfg.Probe {
			continue
		}
		probe, cancel := context.WithTimeout(ctx, c.cfg.Probe)
		err := conn.Echo(probe)
		cancel()
		if err != nil {
			return fmt.Errorf("ovsdb: no sign of life: %w", err)
		}
	}
}

// lost takes note that there is no session.
func (c *Client) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn, c.synced = nil, make(chan struct{})
	}
	c.err = err
}

// Ready waits for a session with a copy of the database. Its error is that of ctx, with the last failure.
func (c *Client) Ready(ctx context.Context) error {
	c.mu.Lock()
	synced := c.synced
	c.mu.Unlock()
	select {
	case <-synced:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), c.err)
	}
	return ctx.Err()
}

// Connected reports whether there is a session, so that the copy is the server's state.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// Rows returns the rows of a table by their UUIDs. The map is the caller's; the rows are not to be written to.
func (c *Client) Rows(table string) map[UUID]Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.rows[table])
}

// Row returns one row, nil when it is not there.
func (c *Client) Row(table string, id UUID) Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rows[table][id]
}

// Find returns a row whose column has a value; false when there is none. Of several it is any.
func (c *Client) Find(table, column string, value any) (UUID, Row, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range c.rows[table] {
		if equal(r[column], value) {
			return id, r, true
		}
	}
	return "", nil, false
}

// session is one session of a client.
type session struct {
	client *Client
	conn   *Conn
	id     string        // of the monitor
	ready  chan struct{} // closed when the first copy is there: changes wait for it
	once   sync.Once
}

func (s *session) open() { s.once.Do(func() { close(s.ready) }) }

// queryTables is the <monitor-cond-requests> of the configuration, without conditions for the plain monitor.
func (s *session) queryTables(conditions bool) map[string]any {
	requests := map[string]any{}
	for _, m := range s.client.cfg.Monitor {
		r := map[string]any{}
		if m.Columns != nil {
			r["columns"] = m.Columns
		}
		if len(m.Where) > 0 && conditions {
			r["where"] = m.Where
		}
		list, _ := requests[m.Table].([]any)
		requests[m.Table] = append(list, r)
	}
	return requests
}

// start reads the schema and the first copy, or what changed since the last session.
func (s *session) start(ctx context.Context) error {
	c := s.client
	schema, err := s.conn.Schema(ctx, c.cfg.Database)
	if err != nil {
		return err
	}
	if err := schema.check(c.cfg.Monitor); err != nil {
		return &schemaError{err}
	}
	c.mu.Lock()
	same := c.schema != nil && c.schema.Version == schema.Version
	c.schema = schema
	since := c.txn
	c.mu.Unlock()
	if !same {
		since = noTxn
	}
	updates, since, whole, err := s.monitor(ctx, since)
	if err != nil {
		return err
	}
	err = c.update(updates, since, whole, s.conn)
	s.open()
	return err
}

// monitor begins to follow the tables with the newest method that the server knows.
func (s *session) monitor(ctx context.Context, since string) (updates tableUpdates, txn string, whole bool, err error) {
	if len(s.client.cfg.Monitor) == 0 {
		return tableUpdates{}, since, true, nil
	}
	db := s.client.cfg.Database
	var result [3]json.RawMessage
	err = s.conn.Call(ctx, "monitor_cond_since", []any{db, s.id, s.queryTables(true), since}, &result)
	if err == nil {
		found := false
		err = errors.Join(json.Unmarshal(result[0], &found), json.Unmarshal(result[1], &txn), json.Unmarshal(result[2], &updates))
		return updates, txn, !found, err
	}
	conditions := true
	for _, method := range []string{"monitor_cond", "monitor"} {
		var unknown *RPCError
		if !errors.As(err, &unknown) || unknown.Err != "unknown method" {
			break
		}
		conditions = method == "monitor_cond"
		err = s.conn.Call(ctx, method, []any{db, s.id, s.queryTables(conditions)}, &updates)
	}
	return updates, noTxn, true, err
}

// notify takes a notification of the session. A mistake in one ends the session, and the next one begins with a whole copy.
func (s *session) notify(method string, params json.RawMessage) {
	<-s.ready
	err := s.change(method, params)
	if err == nil {
		return
	}
	s.client.mu.Lock()
	s.client.txn = noTxn
	s.client.mu.Unlock()
	s.conn.calls.End(err)
}

func (s *session) change(method string, params json.RawMessage) error {
	var list []json.RawMessage
	var id string
	if err := json.Unmarshal(params, &list); err != nil || len(list) == 0 {
		return nil // not one of ours
	}
	if json.Unmarshal(list[0], &id) != nil || id != s.id {
		return nil
	}
	var updates tableUpdates
	txn := noTxn
	switch {
	case method == "update3" && len(list) == 3:
		if err := json.Unmarshal(list[1], &txn); err != nil {
			return fmt.Errorf("ovsdb: %s: %w", method, err)
		}
		fallthrough
	case (method == "update2" || method == "update") && len(list) == 2:
		if err := json.Unmarshal(list[len(list)-1], &updates); err != nil {
			return fmt.Errorf("ovsdb: %s: %w", method, err)
		}
		return s.client.update(updates, txn, false, nil)
	case method == "monitor_canceled":
		return errors.New("ovsdb: the server has ended the monitor: the database is being converted or removed")
	}
	return nil
}

// update brings the copy to the state after updates: whole says that they are all there is. conn is the session that the copy is of
// from now on, nil for no change. The changes are told.
func (c *Client) update(updates tableUpdates, txn string, whole bool, conn *Conn) error {
	c.mu.Lock()
	var changes []Change
	var err error
	if whole {
		fresh := tables{}
		if _, err = fresh.apply(c.schema, updates); err == nil {
			changes = differences(c.rows, fresh)
			c.rows = fresh
		}
	} else {
		changes, err = c.rows.apply(c.schema, updates)
	}
	if err == nil {
		c.txn = txn
	}
	c.mu.Unlock()
	if len(changes) > 0 && c.cfg.Changed != nil {
		c.cfg.Changed(changes)
	}
	if err != nil || conn == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.err = conn, nil
	close(c.synced)
	return nil
}
