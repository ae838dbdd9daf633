// Package answer writes the answers of reports in the formats that the API and the command line
// offer: JSON, JSON lines, CSV, YAML, and tables for people. Both use the same code, so an answer
// is the same bytes wherever it is asked for.
package answer

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/nearest"
)

// JSON writes the whole document on one line. It is the body of the API's answer and the output of
// "-o json", byte for byte.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// JSONL writes one line for each row, each a JSON object.
func JSONL(w io.Writer, v any) error {
	rows := rowsOf(v)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for i := range rows.Len() {
		if err := enc.Encode(rows.Index(i).Interface()); err != nil {
			return err
		}
	}
	return nil
}

// MetaOf returns what stands beside the rows of an answer, nil for a document without.
func MetaOf(v any) *report.Meta {
	f := reflect.Indirect(reflect.ValueOf(v)).FieldByName("Meta")
	if !f.IsValid() {
		return nil
	}
	m, ok := f.Interface().(report.Meta)
	if !ok {
		return nil
	}
	return &m
}

// points lays a time series out as rows, line after line: the bucket's start, a column for each name the
// series is split by, the value. The rest, which has one key only, has it in the first.
func points(s report.Series) reflect.Value {
	fields := []reflect.StructField{{Name: "Time", Type: reflect.TypeFor[time.Time](), Tag: `json:"time"`}}
	for i, by := range s.By {
		fields = append(fields, reflect.StructField{Name: "By" + strconv.Itoa(i), Type: reflect.TypeFor[string](), Tag: reflect.StructTag(`json:` + strconv.Quote(by))})
	}
	fields = append(fields, reflect.StructField{Name: "Value", Type: reflect.TypeFor[float64](), Tag: `json:"value"`})
	row := reflect.StructOf(fields)
	out := reflect.MakeSlice(reflect.SliceOf(row), 0, len(s.Lines)*len(s.Times))
	for _, l := range s.Lines {
		for i := range min(len(l.Values), len(s.Times)) {
			r := reflect.New(row).Elem()
			r.Field(0).Set(reflect.ValueOf(s.Times[i]))
			for k := range min(len(l.Key), len(s.By)) {
				r.Field(1 + k).SetString(l.Key[k])
			}
			r.Field(len(fields) - 1).SetFloat(l.Values[i])
			out = reflect.Append(out, r)
		}
	}
	return out
}

// topRows lays out the greatest with a column for each name of the key.
func topRows(t report.Top) reflect.Value {
	by := append(append([]string{}, t.Per...), t.By...)
	one := reflect.TypeFor[report.TopRow]()
	var fields []reflect.StructField
	var from []int // of TopRow; negative for a part of the key
	for i := range one.NumField() {
		f := one.Field(i)
		switch f.Name {
		case "Key":
			for k, name := range by {
				fields = append(fields, reflect.StructField{Name: "By" + strconv.Itoa(k), Type: reflect.TypeFor[string](), Tag: reflect.StructTag(`json:` + strconv.Quote(name))})
				from = append(from, -1-k)
			}
			continue
		case "Period":
			if t.PeriodMS == 0 {
				continue
			}
		}
		fields, from = append(fields, f), append(from, i)
	}
	row := reflect.StructOf(fields)
	out := reflect.MakeSlice(reflect.SliceOf(row), len(t.Rows), len(t.Rows))
	for n := range t.Rows {
		in, r := reflect.ValueOf(t.Rows[n]), out.Index(n)
		for i, f := range from {
			switch {
			case f >= 0:
				r.Field(i).Set(in.Field(f))
			case -1-f < len(t.Rows[n].Key):
				r.Field(i).SetString(t.Rows[n].Key[-1-f])
			}
		}
	}
	return out
}

// rowsOf returns the slice of rows of an answer: the field Rows or Links, the points of a time series.
// An answer without rows is its own only row.
func rowsOf(v any) reflect.Value {
	rv := reflect.Indirect(reflect.ValueOf(v))
	switch v := rv.Interface().(type) {
	case report.Series:
		return points(v)
	case report.Top:
		return topRows(v)
	}
	for _, name := range []string{"Rows", "Links", "Edges", "Peers"} {
		if f := rv.FieldByName(name); f.IsValid() {
			return f
		}
	}
	one := reflect.MakeSlice(reflect.SliceOf(rv.Type()), 0, 1)
	return reflect.Append(one, rv)
}

// RowCount returns the number of rows in an answer.
func RowCount(v any) int { return rowsOf(v).Len() }

// column is one field of a row, by its JSON name.
type column struct {
	name  string
	index []int
}

// columnsOf lists the fields of a row in the order of its JSON, embedded structs in place.
func columnsOf(t reflect.Type) []column {
	var out []column
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for _, c := range columnsOf(f.Type) {
				out = append(out, column{c.name, append([]int{i}, c.index...)})
			}
		case name != "" && name != "-":
			out = append(out, column{name, []int{i}})
		}
	}
	return out
}

// Columns returns the JSON names of the columns of row type T.
func Columns[T any]() []string { return names(columnsOf(reflect.TypeFor[T]())) }

func names(cols []column) []string {
	out := make([]string, len(cols))
	for i, c := range cols {
		out[i] = c.name
	}
	return out
}

// pick chooses columns by name, in the order asked for; none means all.
func pick(cols []column, want []string) ([]column, error) {
	if len(want) == 0 {
		return cols, nil
	}
	var out []column
	for _, name := range want {
		i := indexOf(cols, name)
		if i < 0 {
			i = indexOf(cols, strings.Replace(name, "bytes", "octets", 1)) // as filters and metrics call them, too
		}
		if i < 0 {
			return nil, &ColumnError{Name: name, Nearest: nearest.Of(name, names(cols)), Columns: names(cols)}
		}
		out = append(out, cols[i])
	}
	return out, nil
}

func indexOf(cols []column, name string) int {
	for i, c := range cols {
		if c.name == name {
			return i
		}
	}
	return -1
}

// ColumnError says that there is no column with that name.
type ColumnError struct {
	Name    string
	Nearest string // "" when nothing is near
	Columns []string
}

// Error gives "no column NAME; did you mean NEAREST?" or the list of columns.
func (e *ColumnError) Error() string {
	if e.Nearest != "" {
		return fmt.Sprintf("no column %q; did you mean %q?", e.Name, e.Nearest)
	}
	return fmt.Sprintf("no column %q; there are %s", e.Name, strings.Join(e.Columns, ", "))
}
