package ovsdb

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	"crosstap/internal/rpc"
)

// Limits of a session.
const (
	DefaultMaxMessage = 64 << 20
	defaultPort       = "6640"
)

// Endpoint says how to reach a server.
type Endpoint struct {
	Address    string      // unix:PATH, tcp:HOST[:6640] or ssl:HOST[:6640]
	TLS        *tls.Config // for ssl
	MaxMessage int         // bytes; 0 for DefaultMaxMessage
}

// split returns the network and the address, with the default port.
func (e Endpoint) split() (scheme, address string, err error) {
	scheme, address, ok := strings.Cut(e.Address, ":")
	switch {
	case !ok || address == "":
	case scheme == "unix":
		return scheme, address, nil
	case scheme == "ssl" && e.TLS == nil:
		return "", "", fmt.Errorf("ovsdb: %s: ssl needs a certificate and the authorities to trust", e.Address)
	case scheme == "tcp" || scheme == "ssl":
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(strings.Trim(address, "[]"), defaultPort)
		}
		return scheme, address, nil
	}
	return "", "", fmt.Errorf("ovsdb: address %q: want unix:PATH, tcp:HOST[:%s] or ssl:HOST[:%s]", e.Address, defaultPort, defaultPort)
}

// Validate reports the first mistake.
func (e Endpoint) Validate() error {
	_, _, err := e.split()
	return err
}

// Conn is one session. Its methods are safe for concurrent use.
type Conn struct {
	calls  *rpc.Session[json.RawMessage]
	notify func(method string, params json.RawMessage)
}

// ErrClosed says that Close has ended the session.
var ErrClosed = errors.New("ovsdb: session closed")

// RPCError is a call that the server refuses.
type RPCError struct {
	Method string
	Err    string // the server's word, such as "unknown method"
	Raw    string // all it said
}

func (e *RPCError) Error() string { return "ovsdb: " + e.Method + ": " + e.Raw }

// Dial begins a session. notify, which may be nil, gets the server's notifications in their order, from one goroutine; while it runs,
// no answer is read.
func Dial(ctx context.Context, e Endpoint, notify func(method string, params json.RawMessage)) (*Conn, error) {
	scheme, address, err := e.split()
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	switch scheme {
	case "ssl":
		conn, err = (&tls.Dialer{Config: e.TLS}).DialContext(ctx, "tcp", address)
	default:
		conn, err = (&net.Dialer{}).DialContext(ctx, scheme, address)
	}
	if err != nil {
		return nil, fmt.Errorf("ovsdb: %s: %w", e.Address, err)
	}
	c := &Conn{calls: rpc.New[json.RawMessage](conn), notify: notify}
	limit := e.MaxMessage
	if limit <= 0 {
		limit = DefaultMaxMessage
	}
	go c.read(conn, limit)
	return c, nil
}

// Done is closed when the session has ended. Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.calls.Done() }

// Err returns why the session ended, nil while it lasts.
func (c *Conn) Err() error { return c.calls.Err() }

// Close ends the session; calls that wait fail. It returns when no notification is being handled any more, so it must not be
// called from one.
func (c *Conn) Close() error { return c.calls.Close(ErrClosed) }

// Call calls a method and reads its result into out, unless that is nil. params is an array.
func (c *Conn) Call(ctx context.Context, method string, params []any, out any) error {
	if params == nil {
		params = []any{}
	}
	result, err := c.calls.Do(ctx, func(id uint32) error {
		return c.send(ctx, map[string]any{"id": id, "method": method, "params": params})
	})
	var refused *RPCError
	if errors.As(err, &refused) {
		refused.Method = method
	}
	switch {
	case err != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("ovsdb: %s: %w", method, err)
	case err != nil || out == nil:
		return err
	}
	if err := json.Unmarshal(result, out); err != nil {
		return fmt.Errorf("ovsdb: %s: %w", method, err)
	}
	return nil
}

// send writes one message. Half a message ends the session.
func (c *Conn) send(ctx context.Context, message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return c.calls.Write(ctx, b, func(err error) error { return fmt.Errorf("ovsdb: %w", err) })
}

// read handles what the server says until the session ends.
func (c *Conn) read(conn net.Conn, limit int) {
	r := bufio.NewReaderSize(conn, 64<<10)
	var buf []byte
	next := func() error {
		b, err := message(r, buf[:0], limit)
		if err == nil {
			err = c.handle(b)
		}
		const keep = 1 << 20 // of a buffer that one large message has made
		if buf = b; cap(buf) > keep {
			buf = nil
		}
		return err
	}
	c.calls.Run(next, func(err error) error { return fmt.Errorf("ovsdb: session: %w", err) })
}

// handle takes one message, whose bytes it does not keep.
func (c *Conn) handle(b []byte) error {
	var m struct {
		ID                    json.RawMessage
		Method                string
		Params, Result, Error json.RawMessage
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	switch {
	case m.Method == "echo":
		return c.send(context.Background(), map[string]any{"id": m.ID, "result": m.Params, "error": nil})
	case m.Method != "":
		if c.notify != nil {
			c.notify(m.Method, m.Params)
		}
	default:
		c.answer(m.ID, m.Result, m.Error)
	}
	return nil
}

// answer gives an answer to the call that waits for it.
func (c *Conn) answer(rawID, result, failure json.RawMessage) {
	var id uint32
	if json.Unmarshal(rawID, &id) != nil {
		return // not one of ours
	}
	if len(failure) > 0 && string(failure) != "null" {
		c.calls.Answer(id, nil, refusal(failure))
		return
	}
	c.calls.Answer(id, result, nil)
}

// refusal reads the error of an answer: a string, or an object with one.
func refusal(raw json.RawMessage) *RPCError {
	e := &RPCError{Raw: string(raw)}
	var o struct{ Error, Details string }
	if json.Unmarshal(raw, &e.Err) == nil {
		return e
	}
	if json.Unmarshal(raw, &o) == nil {
		e.Err = o.Error
	}
	return e
}

// Databases returns the names of the server's databases.
func (c *Conn) Databases(ctx context.Context) (names []string, err error) {
	err = c.Call(ctx, "list_dbs", nil, &names)
	return names, err
}

// Schema returns the schema of a database.
func (c *Conn) Schema(ctx context.Context, db string) (*Schema, error) {
	var s Schema
	if err := c.Call(ctx, "get_schema", []any{db}, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Echo asks the server for a sign of life.
func (c *Conn) Echo(ctx context.Context) error { return c.Call(ctx, "echo", []any{"crosstap"}, nil) }
