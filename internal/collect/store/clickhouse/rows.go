package clickhouse

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

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
