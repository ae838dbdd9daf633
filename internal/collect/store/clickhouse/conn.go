package clickhouse

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go"

	"crosstap/internal/collect/store/clickhouse/dialect"
)

// connector makes connections for package sql.
type connector struct {
	*dialer
	settings []ch.Setting
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	client, err := c.dial(ctx, c.cfg.Database)
	if err != nil {
		return nil, err
	}
	return &conn{client, c.settings}, nil
}

func (c *connector) Driver() driver.Driver { return chDriver{} }

// chDriver is there for package sql; connections come from a connector only.
type chDriver struct{}

func (chDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("clickhouse: open by a connector")
}

// conn is one connection, and one session on the server.
type conn struct {
	client   *ch.Client
	settings []ch.Setting
}

var (
	_ driver.QueryerContext    = (*conn)(nil)
	_ driver.ExecerContext     = (*conn)(nil)
	_ driver.NamedValueChecker = (*conn)(nil)
	_ driver.Validator         = (*conn)(nil)
	_ driver.SessionResetter   = (*conn)(nil)
)

func (c *conn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("clickhouse: no prepared statements")
}

func (c *conn) Begin() (driver.Tx, error) { return nil, errors.New("clickhouse: no transactions") }

func (c *conn) IsValid() bool { return !c.client.IsClosed() }

// ResetSession finds out before a connection is used again whether the server is still there.
func (c *conn) ResetSession(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if c.client.IsClosed() || c.client.Ping(ctx) != nil {
		return driver.ErrBadConn
	}
	return nil
}

func (c *conn) Close() error {
	if err := c.client.Close(); err != nil && !errors.Is(err, ch.ErrClosed) {
		return err
	}
	return nil
}

// CheckNamedValue lets values through; parameters() looks at them.
func (c *conn) CheckNamedValue(*driver.NamedValue) error { return nil }

// ExecContext runs a statement without an answer.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	_, values := split(args)
	params, err := parameters(values)
	if err != nil {
		return nil, err
	}
	return driver.ResultNoRows, c.do(ctx, ch.Query{Body: query, Parameters: params})
}

func (c *conn) do(ctx context.Context, q ch.Query) error {
	q.Settings = append(append([]ch.Setting(nil), c.settings...), q.Settings...)
	err := c.client.Do(ctx, q)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return plainError(err)
}

// plainError keeps what the server says and leaves out where in its code.
func plainError(err error) error {
	var e *ch.Exception
	if errors.As(err, &e) {
		return &ServerError{Code: int(e.Code), Name: e.Name, Message: strings.TrimPrefix(e.Message, "DB::Exception: ")}
	}
	return err
}

// ServerError is a complaint of the server.
type ServerError struct {
	Code    int
	Name    string
	Message string
}

func (e *ServerError) Error() string { return fmt.Sprintf("server: %s (code %d)", e.Message, e.Code) }

// split takes the steps of a plan out of the arguments.
func split(args []driver.NamedValue) (steps []dialect.Step, values []any) {
	for _, a := range args {
		if s, ok := a.Value.([]dialect.Step); ok {
			steps = s
			continue
		}
		values = append(values, a.Value)
	}
	return steps, values
}

// QueryContext makes the tables of the steps, if the arguments have some, and asks.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	steps, values := split(args)
	params, err := parameters(values)
	if err != nil {
		return nil, err
	}
	r := &rows{c: c}
	for _, s := range steps {
		r.made = append(r.made, s.Name)
		body := "CREATE TEMPORARY TABLE `" + s.Name + "` ENGINE = Memory AS\n" + s.SQL
		if err := c.do(ctx, ch.Query{Body: body, Parameters: params}); err != nil {
			return nil, errors.Join(err, r.drop())
		}
	}
	return r, r.start(ctx, query, params)
}
