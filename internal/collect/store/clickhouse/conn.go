package clickhouse

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"crosstap/internal/collect/store/clickhouse/dialect"
)

const (
	dialTimeout = 5 * time.Second
	packetWait  = 10 * time.Minute // between two packets of one answer; questions end by their context
)

// dialer opens connections to the servers in turn.
type dialer struct {
	cfg  Config
	next atomic.Uint32
}

// dial connects to the first server that answers. database is "" before ours is made.
func (d *dialer) dial(ctx context.Context, database string) (*ch.Client, error) {
	first := int(d.next.Add(1))
	var errs []error
	for i := range d.cfg.Addrs {
		addr := d.cfg.Addrs[(first+i)%len(d.cfg.Addrs)]
		c, err := d.dialTo(ctx, addr, database)
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return nil, errors.Join(errs...)
}

// Unreached reports whether an error is of the way to a server: nobody listens, or the connection ends, as when the server is starting or has too much to
// do. What a server says is another matter.
func Unreached(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

func (d *dialer) dialTo(ctx context.Context, addr, database string) (*ch.Client, error) {
	return ch.Dial(ctx, ch.Options{
		Address: addr, Database: database, User: d.cfg.User, Password: d.cfg.Password, TLS: d.cfg.TLS, Compression: ch.CompressionLZ4,
		ClientName: "crosstap", DialTimeout: dialTimeout, HandshakeTimeout: dialTimeout, ReadTimeout: packetWait,
	})
}

// everywhere runs a statement that changes tables: ON CLUSTER does the rest, or it is run on each server.
func (d *dialer) everywhere(ctx context.Context, body string, settings ...ch.Setting) error {
	servers := d.cfg.Addrs
	run := func(c *ch.Client, err error) error {
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Do(ctx, ch.Query{Body: body, Settings: append(ddlSettings[:len(ddlSettings):len(ddlSettings)], settings...)}); err != nil {
			return fmt.Errorf("%.80s…: %w", body, plainError(err))
		}
		return nil
	}
	if !d.cfg.EachServer {
		return run(d.dial(ctx, ""))
	}
	for _, addr := range servers {
		if err := run(d.dialTo(ctx, addr, "")); err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	return nil
}

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
func (c *conn) IsValid() bool             { return !c.client.IsClosed() }

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

// types are those of bound values in the server's words.
func types(values []any) []string {
	out := make([]string, len(values))
	for i, v := range values {
		switch v.(type) {
		case string:
			out[i] = "String"
		case int64, int:
			out[i] = "Int64"
		case float64:
			out[i] = "Float64"
		default:
			out[i] = "UInt64"
		}
	}
	return out
}

// Texts are escaped twice: as a value in tab-separated form, and as a literal.
var (
	tabEscapes     = strings.NewReplacer("\\", "\\\\", "\t", "\\t", "\n", "\\n", "\x00", "\\0")
	literalEscapes = strings.NewReplacer("\\", "\\\\", "'", "\\'")
)

// parameters gives the values the names p1, p2, …
func parameters(values []any) ([]proto.Parameter, error) {
	var out []proto.Parameter
	for i, v := range values {
		var s string
		switch v := v.(type) {
		case string:
			s = tabEscapes.Replace(v)
		case uint64:
			s = strconv.FormatUint(v, 10)
		case int64:
			s = strconv.FormatInt(v, 10)
		case int:
			s = strconv.Itoa(v)
		case uint8, uint16, uint32, float64:
			s = fmt.Sprint(v)
		case bool:
			s = map[bool]string{true: "1", false: "0"}[v]
		default:
			return nil, fmt.Errorf("clickhouse: value %d: type %T cannot be bound", i+1, v)
		}
		out = append(out, proto.Parameter{Key: "p" + strconv.Itoa(i+1), Value: "'" + literalEscapes.Replace(s) + "'"})
	}
	return out, nil
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

// rows is an answer under way. The connection sends blocks to a channel; who reads slowly slows it down.
type rows struct {
	c      *conn
	made   []string // tables of the session
	names  []string
	types  []string // of the server
	chunks chan chunk
	now    chunk
	at     int
	cancel context.CancelFunc
	done   chan error
	err    error
}

// chunk is a block in values of package sql.
type chunk struct {
	names  []string
	types  []string
	values [][]driver.Value // by column
	n      int
}

// start asks and waits for the first block, which tells the columns.
func (r *rows) start(ctx context.Context, query string, params []proto.Parameter) error {
	ctx, r.cancel = context.WithCancel(ctx)
	r.chunks, r.done = make(chan chunk), make(chan error, 1)
	var res proto.Results
	go func() {
		defer close(r.chunks)
		r.done <- r.c.do(ctx, ch.Query{Body: query, Parameters: params, Result: res.Auto(), OnResult: func(ctx context.Context, b proto.Block) error {
			one, err := chunkOf(res, b.Rows)
			if err != nil {
				return err
			}
			select {
			case r.chunks <- one:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
	}()
	first, ok := <-r.chunks
	if !ok {
		if err := <-r.done; err != nil {
			r.done <- nil
			return errors.Join(err, r.Close())
		}
		r.done <- nil
	}
	r.now, r.names, r.types = first, first.names, first.types
	return nil
}

func chunkOf(res proto.Results, n int) (chunk, error) {
	c := chunk{n: n}
	for _, col := range res {
		c.names, c.types = append(c.names, col.Name), append(c.types, string(col.Data.Type()))
		get, err := reader(col.Data)
		if err != nil {
			return c, fmt.Errorf("column %s: %w", col.Name, err)
		}
		values := make([]driver.Value, n)
		for i := range n {
			values[i] = get(i)
		}
		c.values = append(c.values, values)
	}
	return c, nil
}

func (r *rows) Columns() []string { return r.names }

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName in the words of the views' SQL, "" for a type that these do not have.
func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	kind := r.types[i]
	for _, around := range [...]string{"LowCardinality(", "Nullable("} {
		if inner, ok := strings.CutPrefix(kind, around); ok {
			kind = strings.TrimSuffix(inner, ")")
		}
	}
	kind, _, _ = strings.Cut(kind, "(")
	return viewTypes[kind]
}

// viewTypes are the server's types in the words of the views' SQL.
var viewTypes = map[string]string{
	"Bool": "BOOLEAN", "UInt8": "UTINYINT", "UInt16": "USMALLINT", "UInt32": "UINTEGER", "UInt64": "UBIGINT", "Int8": "TINYINT", "Int16": "SMALLINT", "Int32": "INTEGER", "Int64": "BIGINT",
	"Int128": "HUGEINT", "Float32": "FLOAT", "Float64": "DOUBLE", "String": "VARCHAR", "IPv6": "UUID", "DateTime": "TIMESTAMP", "DateTime64": "TIMESTAMP", "Date": "DATE",
}

func (r *rows) Next(dest []driver.Value) error {
	for r.at >= r.now.n {
		next, ok := <-r.chunks
		if !ok {
			if r.err == nil {
				r.err = <-r.done
				r.done <- nil
			}
			if r.err != nil {
				return r.err
			}
			return io.EOF
		}
		r.now, r.at = next, 0
	}
	for i := range dest {
		dest[i] = r.now.values[i][r.at]
	}
	r.at++
	return nil
}

// Close ends the question. One that was not read to its end costs the connection.
func (r *rows) Close() error {
	if r.cancel == nil {
		return nil
	}
	select {
	case _, open := <-r.chunks:
		if open {
			r.cancel()
		}
	default:
		r.cancel()
	}
	for range r.chunks {
	}
	<-r.done
	r.cancel()
	r.cancel = nil
	return r.drop()
}

const dropWait = 5 * time.Second

// drop takes away the tables of the steps; they end with the connection in any case.
func (r *rows) drop() error {
	if r.c.client.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropWait)
	defer cancel()
	for _, name := range r.made {
		if err := r.c.do(ctx, ch.Query{Body: "DROP TEMPORARY TABLE IF EXISTS `" + name + "`"}); err != nil {
			_ = r.c.Close()
			return nil
		}
	}
	return nil
}

// reader gives the values of a column.
func reader(col proto.ColResult) (func(int) driver.Value, error) {
	switch c := col.(type) {
	case *proto.ColBool:
		return func(i int) driver.Value { return c.Row(i) }, nil
	case *proto.ColUInt8:
		return whole(c), nil
	case *proto.ColUInt16:
		return whole(c), nil
	case *proto.ColUInt32:
		return whole(c), nil
	case *proto.ColInt8:
		return whole(c), nil
	case *proto.ColInt16:
		return whole(c), nil
	case *proto.ColInt32:
		return whole(c), nil
	case *proto.ColInt64:
		return whole(c), nil
	case *proto.ColUInt64:
		return func(i int) driver.Value { return c.Row(i) }, nil
	case *proto.ColFloat32:
		return func(i int) driver.Value { return float64(c.Row(i)) }, nil
	case *proto.ColFloat64:
		return func(i int) driver.Value { return c.Row(i) }, nil
	case *proto.ColStr:
		return func(i int) driver.Value { return c.Row(i) }, nil
	case *proto.ColDateTime:
		return func(i int) driver.Value { return c.Row(i).UTC() }, nil
	case *proto.ColDateTime64:
		return func(i int) driver.Value { return c.Row(i).UTC() }, nil
	case *proto.ColDate:
		return func(i int) driver.Value { return c.Row(i).UTC() }, nil
	case *proto.ColIPv6:
		return func(i int) driver.Value { return address(c.Row(i)) }, nil
	case *proto.ColInt128:
		return func(i int) driver.Value { return wide(c.Row(i)) }, nil
	case *proto.ColUUID:
		return func(i int) driver.Value { return c.Row(i).String() }, nil
	case *proto.ColNothing:
		return func(int) driver.Value { return nil }, nil
	}
	return nullable(col)
}

type number interface {
	~uint8 | ~uint16 | ~uint32 | ~int8 | ~int16 | ~int32 | ~int64
}

func whole[T number](c interface{ Row(int) T }) func(int) driver.Value {
	return func(i int) driver.Value { return int64(c.Row(i)) }
}

// nullable gives nil for NULL.
func nullable(col proto.ColResult) (func(int) driver.Value, error) {
	switch c := col.(type) {
	case *proto.ColNullable[bool]:
		return orNil(c, func(v bool) driver.Value { return v }), nil
	case *proto.ColNullable[uint8]:
		return orNil(c, func(v uint8) driver.Value { return int64(v) }), nil
	case *proto.ColNullable[uint16]:
		return orNil(c, func(v uint16) driver.Value { return int64(v) }), nil
	case *proto.ColNullable[uint32]:
		return orNil(c, func(v uint32) driver.Value { return int64(v) }), nil
	case *proto.ColNullable[uint64]:
		return orNil(c, func(v uint64) driver.Value { return v }), nil
	case *proto.ColNullable[int8]:
		return orNil(c, func(v int8) driver.Value { return int64(v) }), nil
	case *proto.ColNullable[int16]:
		return orNil(c, func(v int16) driver.Value { return int64(v) }), nil
	case *proto.ColNullable[int32]:
		return orNil(c, func(v int32) driver.Value { return int64(v) }), nil
	case *proto.ColNullable[int64]:
		return orNil(c, func(v int64) driver.Value { return v }), nil
	case *proto.ColNullable[float32]:
		return orNil(c, func(v float32) driver.Value { return float64(v) }), nil
	case *proto.ColNullable[float64]:
		return orNil(c, func(v float64) driver.Value { return v }), nil
	case *proto.ColNullable[string]:
		return orNil(c, func(v string) driver.Value { return v }), nil
	case *proto.ColNullable[time.Time]:
		return orNil(c, func(v time.Time) driver.Value { return v.UTC() }), nil
	case *proto.ColNullable[proto.IPv6]:
		return orNil(c, func(v proto.IPv6) driver.Value { return address(v) }), nil
	case *proto.ColNullable[proto.Int128]:
		return orNil(c, func(v proto.Int128) driver.Value { return wide(v) }), nil
	case *proto.ColNullable[proto.Nothing]:
		return func(int) driver.Value { return nil }, nil
	}
	return nil, fmt.Errorf("type %s is not known here", col.Type())
}

func orNil[T any](c *proto.ColNullable[T], of func(T) driver.Value) func(int) driver.Value {
	return func(i int) driver.Value {
		v := c.Row(i)
		if !v.Set {
			return nil
		}
		return of(v.Value)
	}
}

// address has the form that addresses have in the views' SQL, as bytes.
func address(a proto.IPv6) driver.Value { id := uuid.UUID(a); return id[:] }

// wide is a number of 128 bits: one of 64 where it fits, else text.
func wide(v proto.Int128) driver.Value {
	n := new(big.Int).Lsh(big.NewInt(int64(v.High)), 64)
	n.Add(n, new(big.Int).SetUint64(v.Low))
	switch {
	case n.IsInt64():
		return n.Int64()
	case n.IsUint64():
		return n.Uint64()
	}
	return n.String()
}
