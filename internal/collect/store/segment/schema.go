package segment

import (
	"fmt"
	"reflect"
	"strings"

	"crosstap/internal/collect/store"
)

// sqlTypes gives the SQL type of a column from its Go type; times have a type of their own.
var sqlTypes = map[reflect.Kind]string{
	reflect.Uint8: "UTINYINT", reflect.Uint16: "USMALLINT", reflect.Uint32: "UINTEGER", reflect.Uint64: "UBIGINT",
	reflect.Array: "UUID", reflect.String: "VARCHAR", reflect.Int64: "BIGINT", reflect.Float64: "DOUBLE",
}

// Columns lists the columns of the table that View.Table gives.
func Columns() []store.Column { return flowColumns }

// RollupColumns lists the columns of the table that View.Rollup gives.
func RollupColumns() []store.Column { return rollupColumns }

var (
	storedColumns, storedRollup = columnsOf(reflect.TypeFor[row]()), columnsOf(reflect.TypeFor[rollup]())
	flowColumns, rollupColumns  = viewColumns(storedColumns), viewColumns(storedRollup)

	// how the columns of views come from the stored ones
	projection, rollupProjection = project(storedColumns), project(storedRollup)
)

// shown are the columns that are stored in another form since schema 2, by the stored column in whose place they stand.
var shown = map[string]struct {
	store.Column
	from string
}{
	"span_ms":   {store.Column{Name: "t_start", Type: "TIMESTAMP"}, "make_timestamp_ms(epoch_ms(t_end) - span_ms)"},
	"lag_ms":    {store.Column{Name: "t_recv", Type: "TIMESTAMP"}, "make_timestamp_ms(epoch_ms(t_end) + lag_ms)"},
	"l2_header": {store.Column{Name: "l2_octets", Type: "UBIGINT"}, "CASE WHEN l2_header < 65535 THEN octets + l2_header::UBIGINT * packets ELSE l2_other END"},
	"l2_other":  {},
	"flow_key":  {store.Column{Name: "flow_id", Type: "UBIGINT"}, "xor(flow_key, src_port::UBIGINT * 281474976710656 + dst_port::UBIGINT * 4294967296)"},
}

func viewColumns(stored []store.Column) (out []store.Column) {
	for _, c := range stored {
		if other, changed := shown[c.Name]; changed {
			c = other.Column
		}
		if c.Name != "" {
			out = append(out, c)
		}
	}
	return out
}

// project gives the columns of a view from the stored ones.
func project(stored []store.Column) string {
	var all []string
	for _, c := range stored {
		other, changed := shown[c.Name]
		switch {
		case !changed:
			all = append(all, c.Name)
		case other.from != "":
			all = append(all, other.from+" AS "+other.Name)
		}
	}
	return strings.Join(all, ", ")
}

func namesOf(columns []store.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

func columnsOf(t reflect.Type) []store.Column {
	out := make([]store.Column, t.NumField())
	for i := range out {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		out[i] = store.Column{Name: name, Type: sqlTypes[f.Type.Kind()]}
		if strings.Contains(options, "timestamp") {
			out[i].Type = "TIMESTAMP"
		}
	}
	return out
}

// complete adds to rows by read_parquet what files of an older version lack.
func complete(rows string, columns []store.Column) string {
	var fill []string
	for _, c := range columns {
		if c.Type != "TIMESTAMP" {
			fill = append(fill, fmt.Sprintf("coalesce(%[1]s, %[2]s) AS %[1]s", c.Name, c.Zero()))
		}
	}
	return fmt.Sprintf("(SELECT * REPLACE (%s) FROM (SELECT * FROM %s UNION ALL BY NAME SELECT * FROM %s))", strings.Join(fill, ", "), rows, emptyTable(columns))
}

// emptyTable has the columns and no row.
func emptyTable(columns []store.Column) string {
	var b strings.Builder
	b.WriteString("(SELECT ")
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("NULL::" + c.Type + " AS " + c.Name)
	}
	b.WriteString(" WHERE false)")
	return b.String()
}
