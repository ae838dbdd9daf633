package segment

import (
	"fmt"
	"reflect"
	"strings"
)

// sqlTypes gives the SQL type of a column from its Go type; times have a type of their own.
var sqlTypes = map[reflect.Kind]string{
	reflect.Uint8: "UTINYINT", reflect.Uint16: "USMALLINT", reflect.Uint32: "UINTEGER", reflect.Uint64: "UBIGINT",
	reflect.Array: "UUID", reflect.String: "VARCHAR", reflect.Int64: "TIMESTAMP",
}

// Column is a column of the stored rows as SQL sees it.
type Column struct{ Name, Type string }

// Columns lists the columns of the table that View.Table gives.
func Columns() []Column {
	t := reflect.TypeFor[row]()
	out := make([]Column, t.NumField())
	for i := range out {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		out[i] = Column{Name: name, Type: sqlTypes[f.Type.Kind()]}
	}
	return out
}

// later are the columns that older files do not have, with their "not known".
var later = []struct{ name, zero string }{{"src_vm_id", "''"}, {"dst_vm_id", "''"}}

// complete adds to rows by read_parquet what files of an older version lack.
func complete(rows string) string {
	fill := make([]string, len(later))
	for i, c := range later {
		fill[i] = fmt.Sprintf("coalesce(%[1]s, %[2]s) AS %[1]s", c.name, c.zero)
	}
	return fmt.Sprintf("(SELECT * REPLACE (%s) FROM (SELECT * FROM %s UNION ALL BY NAME SELECT * FROM %s))", strings.Join(fill, ", "), rows, emptyTable)
}

// emptyTable has the columns and no row.
var emptyTable = func() string {
	var b strings.Builder
	b.WriteString("(SELECT ")
	for i, c := range Columns() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("NULL::" + c.Type + " AS " + c.Name)
	}
	b.WriteString(" WHERE false)")
	return b.String()
}()
