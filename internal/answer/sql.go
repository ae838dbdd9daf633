package answer

import (
	"fmt"
	"io"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"crosstap/internal/collect/store"
)

// SQLParquet writes the answer to a question in SQL as a Parquet file, as it comes: every column may be null, numbers are exact (those of 128 bits are DECIMAL(38, 0)),
// times are of microseconds in UTC, addresses are text. Call Close at the end; without it the file is none.
type SQLParquet struct {
	to      io.Writer
	out     *parquet.GenericWriter[any]
	columns []store.SQLColumn
	cells   []func(any) (parquet.Value, bool)
	row     parquet.Row
	rows    int
}

// NewSQLParquet returns a writer of one answer.
func NewSQLParquet(to io.Writer) *SQLParquet { return &SQLParquet{to: to} }

// parquetRows are those of a row group: what is held in memory.
const parquetRows = 20_480

// Columns implements store.SQLRows.
func (p *SQLParquet) Columns(columns []store.SQLColumn) error {
	p.columns = columns
	root := inOrder{Group: parquet.Group{}}
	for _, c := range columns {
		name := c.Name
		for n := 2; root.Group[name] != nil; n++ {
			name = fmt.Sprintf("%s_%d", c.Name, n)
		}
		node, cell := parquetColumn(c.Type)
		root.Group[name] = parquet.Compressed(parquet.Optional(node), &zstd.Codec{})
		p.cells = append(p.cells, cell)
		root.names = append(root.names, name)
	}
	p.out = parquet.NewGenericWriter[any](p.to, parquet.NewSchema("answer", root))
	p.row = make(parquet.Row, len(columns))
	return nil
}

// Row implements store.SQLRows.
func (p *SQLParquet) Row(values []any) error {
	for i, v := range values {
		if v == nil {
			p.row[i] = parquet.NullValue().Level(0, 0, i)
			continue
		}
		cell, ok := p.cells[i](v)
		if !ok {
			return &store.SQLError{Message: fmt.Sprintf("a Parquet file has no room for %v in column %q of type %s: ask for it as text, with %s::VARCHAR, or for another format", v, p.columns[i].Name,
				p.columns[i].Type, identifier(p.columns[i].Name))}
		}
		p.row[i] = cell.Level(0, 1, i)
	}
	if _, err := p.out.WriteRows([]parquet.Row{p.row}); err != nil {
		return err
	}
	if p.rows++; p.rows%parquetRows == 0 {
		return p.out.Flush()
	}
	return nil
}

// identifier writes the name of a column as SQL does.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Close ends the file.
func (p *SQLParquet) Close() error { return p.out.Close() }

// inOrder is a group whose columns stand as they came, not by their names.
type inOrder struct {
	parquet.Group
	names []string
}

// Fields implements parquet.Node.
func (g inOrder) Fields() []parquet.Field {
	out := make([]parquet.Field, len(g.names))
	for i, name := range g.names {
		out[i] = inOrderField{g.Group[name], name}
	}
	return out
}

// GoType implements parquet.Node. Rows come as values, never as Go structs.
func (g inOrder) GoType() reflect.Type { return reflect.TypeFor[struct{}]() }

type inOrderField struct {
	parquet.Node
	name string
}

func (f inOrderField) Name() string                            { return f.name }
func (f inOrderField) Value(_ reflect.Value) (v reflect.Value) { return v }

// parquetColumn is the column for a type of the engine, and what makes a value of it of one that is not nil.
func parquetColumn(kind string) (parquet.Node, func(any) (parquet.Value, bool)) {
	switch kind {
	case "BOOLEAN":
		return parquet.Leaf(parquet.BooleanType), func(v any) (parquet.Value, bool) {
			b, ok := store.Plain(v, kind).(bool)
			return parquet.BooleanValue(b), ok
		}
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT":
		return parquet.Int(64), func(v any) (parquet.Value, bool) {
			n, ok := integer(v)
			return parquet.Int64Value(n.Int64()), ok && n.IsInt64()
		}
	case "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT":
		return parquet.Uint(64), func(v any) (parquet.Value, bool) {
			n, ok := integer(v)
			return parquet.Int64Value(int64(n.Uint64())), ok && n.IsUint64()
		}
	case "HUGEINT", "UHUGEINT":
		return parquet.Decimal(0, 38, parquet.FixedLenByteArrayType(16)), func(v any) (parquet.Value, bool) {
			n, ok := integer(v)
			if !ok || n.CmpAbs(beyondDecimal) >= 0 {
				return parquet.Value{}, false
			}
			return parquet.FixedLenByteArrayValue(twosComplement(n)), true
		}
	}
	switch {
	case strings.HasPrefix(kind, "TIMESTAMP"):
		return parquet.Timestamp(parquet.Microsecond), func(v any) (parquet.Value, bool) {
			t, ok := v.(time.Time)
			return parquet.Int64Value(t.UnixMicro()), ok
		}
	case kind == "FLOAT", kind == "DOUBLE", strings.HasPrefix(kind, "DECIMAL"):
		return parquet.Leaf(parquet.DoubleType), func(v any) (parquet.Value, bool) {
			f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
			return parquet.DoubleValue(f), err == nil
		}
	}
	return parquet.String(), func(v any) (parquet.Value, bool) {
		return parquet.ByteArrayValue(fmt.Append(nil, store.Plain(v, kind))), true
	}
}

// beyondDecimal is the least number of more than 38 digits.
var beyondDecimal = new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)

// integer takes a whole number of any type, or its text.
func integer(v any) (*big.Int, bool) {
	switch v := v.(type) {
	case *big.Int:
		return v, true
	case int64:
		return big.NewInt(v), true
	case uint64:
		return new(big.Int).SetUint64(v), true
	}
	n, ok := new(big.Int).SetString(fmt.Sprint(v), 10)
	if !ok {
		return new(big.Int), false
	}
	return n, true
}

// twosComplement is a number in 16 bytes, the most significant first.
func twosComplement(n *big.Int) []byte {
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), 128))
	}
	return n.FillBytes(make([]byte, 16))
}
