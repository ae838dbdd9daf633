package segment

import (
	"fmt"
	"reflect"
	"strings"
)

// sqlTypes gives the SQL type of a column from its Go type; times have a type of their own.
var sqlTypes = map[reflect.Kind]string{
	reflect.Uint8: "UTINYINT", reflect.Uint16: "USMALLINT", reflect.Uint32: "UINTEGER", reflect.Uint64: "UBIGINT",
	reflect.Array: "UUID", reflect.String: "VARCHAR", reflect.Int64: "BIGINT", reflect.Float64: "DOUBLE",
}

// Column is a column of the stored rows as SQL sees it.
type Column struct{ Name, Type string }

// Columns lists the columns of the table that View.Table gives.
func Columns() []Column { return flowColumns }

// RollupColumns lists the columns of the table that View.Rollup gives.
func RollupColumns() []Column { return rollupColumns }

var (
	storedColumns, storedRollup = columnsOf(reflect.TypeFor[row]()), columnsOf(reflect.TypeFor[rollup]())
	flowColumns, rollupColumns  = viewColumns(storedColumns), viewColumns(storedRollup)

	// how the columns of views come from the stored ones
	projection, rollupProjection = project(storedColumns), project(storedRollup)
)

// shown are the columns that are stored in another form since schema 2, by the stored column in whose place they stand.
var shown = map[string]struct {
	Column
	from string
}{
	"span_ms":   {Column{"t_start", "TIMESTAMP"}, "make_timestamp_ms(epoch_ms(t_end) - span_ms)"},
	"lag_ms":    {Column{"t_recv", "TIMESTAMP"}, "make_timestamp_ms(epoch_ms(t_end) + lag_ms)"},
	"l2_header": {Column{"l2_octets", "UBIGINT"}, "CASE WHEN l2_header < 65535 THEN octets + l2_header::UBIGINT * packets ELSE l2_other END"},
	"l2_other":  {},
	"flow_key":  {Column{"flow_id", "UBIGINT"}, "xor(flow_key, src_port::UBIGINT * 281474976710656 + dst_port::UBIGINT * 4294967296)"},
}

func viewColumns(stored []Column) (out []Column) {
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
func project(stored []Column) string {
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

func namesOf(columns []Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

func columnsOf(t reflect.Type) []Column {
	out := make([]Column, t.NumField())
	for i := range out {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		out[i] = Column{Name: name, Type: sqlTypes[f.Type.Kind()]}
		if strings.Contains(options, "timestamp") {
			out[i].Type = "TIMESTAMP"
		}
	}
	return out
}

// zeroOf is how a column says "not known".
func zeroOf(c Column) string {
	switch c.Type {
	case "VARCHAR":
		return "''"
	case "UUID":
		return zeroAddr
	}
	return "0"
}

const zeroAddr = "'00000000-0000-0000-0000-000000000000'::UUID"

// complete adds to rows by read_parquet what files of an older version lack.
func complete(rows string, columns []Column) string {
	var fill []string
	for _, c := range columns {
		if c.Type != "TIMESTAMP" {
			fill = append(fill, fmt.Sprintf("coalesce(%[1]s, %[2]s) AS %[1]s", c.Name, zeroOf(c)))
		}
	}
	return fmt.Sprintf("(SELECT * REPLACE (%s) FROM (SELECT * FROM %s UNION ALL BY NAME SELECT * FROM %s))", strings.Join(fill, ", "), rows, emptyTable(columns))
}

// emptyTable has the columns and no row.
func emptyTable(columns []Column) string {
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
