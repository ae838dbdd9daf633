package answer

import (
	"encoding/json"
	"io"
	"reflect"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// Parquet writes the rows of an answer as a Parquet file: a column for each JSON name, integers and times exact, lists as
// lists of text, anything else as JSON text. What stands beside the rows is in the file's metadata under "crosstap.meta".
func Parquet(w io.Writer, v any) error {
	rows := rowsOf(v)
	cols := columnsOf(rows.Type().Elem())
	fields := make([]reflect.StructField, len(cols))
	for i, c := range cols {
		t := rows.Type().Elem().FieldByIndex(c.index).Type
		kind, tag := parquetType(t)
		fields[i] = reflect.StructField{Name: "C" + strconv.Itoa(i), Type: kind, Tag: reflect.StructTag(`parquet:` + strconv.Quote(c.name+tag))}
	}
	row := reflect.StructOf(fields)
	options := []parquet.WriterOption{parquet.SchemaOf(reflect.New(row).Interface()), parquet.Compression(&zstd.Codec{})}
	if m := MetaOf(v); m != nil {
		doc, err := json.Marshal(m)
		if err != nil {
			return err
		}
		options = append(options, parquet.KeyValueMetadata("crosstap.meta", string(doc)))
	}
	out := parquet.NewWriter(w, options...)
	for n := range rows.Len() {
		r := reflect.New(row)
		for i, c := range cols {
			if err := parquetValue(r.Elem().Field(i), rows.Index(n).FieldByIndex(c.index)); err != nil {
				return err
			}
		}
		if err := out.Write(r.Interface()); err != nil {
			return err
		}
	}
	return out.Close()
}

var timeType, textType = reflect.TypeFor[time.Time](), reflect.TypeFor[string]()

// parquetType gives the Go type of a column and the options of its tag.
func parquetType(t reflect.Type) (reflect.Type, string) {
	switch {
	case t == timeType:
		return t, ",timestamp(millisecond)"
	case t.Kind() == reflect.Pointer && t.Elem() == timeType:
		return t, ",optional,timestamp(millisecond)"
	case t.Kind() == reflect.Pointer && plain(t.Elem()):
		return t, ",optional"
	case t.Kind() == reflect.Uint8 || t.Kind() == reflect.Uint16:
		return reflect.TypeFor[uint32](), ""
	case plain(t):
		return t, ""
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return reflect.SliceOf(textType), ",list"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint64:
		return t, ",list"
	}
	return textType, ""
}

func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Float64:
		return true
	}
	return false
}

func parquetValue(to, from reflect.Value) error {
	switch {
	case to.Type() == from.Type():
		to.Set(from)
	case to.Kind() == reflect.Uint32:
		to.SetUint(from.Uint())
	default:
		doc, err := json.Marshal(from.Interface())
		if err != nil {
			return err
		}
		to.SetString(string(doc))
	}
	return nil
}
