package clickhouse

import (
	"database/sql/driver"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
)

// Values between package sql and the server: as they are bound, and as answers have them.

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
