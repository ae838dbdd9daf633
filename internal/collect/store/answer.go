package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
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
		return moment(v.UTC(), kind)
	case []byte:
		if kind == "UUID" && len(v) == 16 {
			return addressText([16]byte(v))
		}
		return fmt.Sprintf("%x", v)
	case []any:
		return jsonText(plainList(v, kind))
	case map[string]any:
		return jsonText(plainMap(v))
	}
	switch {
	case kind == "INTERVAL":
		return interval(v)
	case strings.HasPrefix(kind, "MAP("):
		return jsonText(v) // the driver's own type, which keeps the order of keys
	}
	return fmt.Sprint(v)
}

// moment is the text of a time, a day, or a time of day with the digits that it has.
func moment(t time.Time, kind string) string {
	switch kind {
	case "DATE":
		return t.Format(time.DateOnly)
	case "TIME":
		return t.Format("15:04:05.999999")
	}
	return t.Format("2006-01-02T15:04:05.999999999Z07:00")
}

// interval is the text of an INTERVAL as the engine itself writes it, such as "2 months 3 days 00:00:01.5". The type of the value is one of the
// engine's driver, without which programs must be built, too: it is known by its fields.
func interval(v any) string {
	s := reflect.ValueOf(v)
	if s.Kind() != reflect.Struct {
		return fmt.Sprint(v)
	}
	part := func(name string) int64 {
		if f := s.FieldByName(name); f.IsValid() && f.CanInt() {
			return f.Int()
		}
		return 0
	}
	var words []string
	for _, p := range []struct {
		n    int64
		unit string
	}{{part("Months") / 12, "year"}, {part("Months") % 12, "month"}, {part("Days"), "day"}} {
		switch p.n {
		case 0:
		case 1, -1:
			words = append(words, fmt.Sprint(p.n, " ", p.unit))
		default:
			words = append(words, fmt.Sprint(p.n, " ", p.unit, "s"))
		}
	}
	if us := part("Micros"); us != 0 || len(words) == 0 {
		sign, n := "", uint64(us) //nolint:gosec // the least number is its own negative, and right without sign
		if us < 0 {
			sign, n = "-", -n
		}
		text := fmt.Sprintf("%s%02d:%02d:%02d", sign, n/3_600_000_000, n/60_000_000%60, n/1_000_000%60)
		if n %= 1_000_000; n != 0 {
			text += strings.TrimRight(fmt.Sprintf(".%06d", n), "0")
		}
		words = append(words, text)
	}
	return strings.Join(words, " ")
}

// plainList and plainMap are what lists and structures hold, as JSON says it.
func plainList(v []any, kind string) []any {
	out := make([]any, len(v))
	for i, x := range v {
		out[i] = plainPart(x, strings.TrimSuffix(kind, "[]"))
	}
	return out
}

func plainMap(v map[string]any) map[string]any {
	out := make(map[string]any, len(v))
	for k, x := range v {
		kind := ""
		if b, is := x.([]byte); is && len(b) == 16 {
			kind = "UUID"
		}
		out[k] = plainPart(x, kind)
	}
	return out
}

func plainPart(v any, kind string) any {
	switch v := v.(type) {
	case []any:
		return plainList(v, kind)
	case map[string]any:
		return plainMap(v)
	}
	return plain(v, kind)
}

// jsonText is a value as JSON, in one line.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// addressText is the usual text of an address, "" when it is not known.
func addressText(b [16]byte) string {
	if a := netip.AddrFrom16(b).Unmap(); !a.IsUnspecified() {
		return a.String()
	}
	return ""
}
