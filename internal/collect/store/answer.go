package store

import (
	"database/sql"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"time"
)

// ReadAnswer reads at most limit rows of what an engine answers. kind names the type of a column, which says what its values mean.
func ReadAnswer(rows *sql.Rows, limit int, kind func(i int, t *sql.ColumnType) string) (a SQLAnswer, err error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return a, sqlMistake(err)
	}
	a.Rows = [][]any{}
	for i, t := range types {
		a.Columns = append(a.Columns, SQLColumn{Name: t.Name(), Type: kind(i, t)})
	}
	for rows.Next() {
		if len(a.Rows) == limit {
			a.Truncated = true
			return a, nil
		}
		row, into := make([]any, len(types)), make([]any, len(types))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return a, sqlMistake(err)
		}
		for i := range row {
			row[i] = plain(row[i], a.Columns[i].Type)
		}
		a.Rows = append(a.Rows, row)
	}
	if err := rows.Err(); err != nil {
		return a, sqlMistake(err)
	}
	return a, nil
}

// EachRow gives the rows of what an engine answers. kind is as for ReadAnswer.
func EachRow(rows *sql.Rows, kind func(i int, t *sql.ColumnType) string, to SQLRows) error {
	types, err := rows.ColumnTypes()
	if err != nil {
		return sqlMistake(err)
	}
	columns := make([]SQLColumn, len(types))
	for i, t := range types {
		columns[i] = SQLColumn{Name: t.Name(), Type: kind(i, t)}
	}
	if err := to.Columns(columns); err != nil {
		return err
	}
	row, into := make([]any, len(types)), make([]any, len(types))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return sqlMistake(err)
		}
		if err := to.Row(row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return sqlMistake(err)
	}
	return nil
}

// Plain is a value of a column of some type as JSON says it: nil, a truth value, a number or a text.
func Plain(v any, kind string) any { return plain(v, kind) }

// sqlMistake tells an engine's complaint without its source of error.
func sqlMistake(err error) error { return &SQLError{Message: err.Error()} }

// plain makes a value one that JSON can say.
func plain(v any, kind string) any {
	switch v := v.(type) {
	case int64:
		if kind == "BOOLEAN" {
			return v != 0
		}
		return v
	case nil, bool, string, uint64, int8, int16, int32, int, uint8, uint16, uint32, uint:
		return v
	case float32:
		return plain(float64(v), kind)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return v
	case *big.Int:
		if v.IsInt64() {
			return v.Int64()
		}
		return v.String()
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.999Z07:00")
	case []byte:
		if kind == "UUID" && len(v) == 16 {
			return addressText([16]byte(v))
		}
		return fmt.Sprintf("%x", v)
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}

// addressText is the usual text of an address, "" when it is not known.
func addressText(b [16]byte) string {
	if a := netip.AddrFrom16(b).Unmap(); !a.IsUnspecified() {
		return a.String()
	}
	return ""
}
