package answer

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/collect/report"
)

// CSV writes comment lines that say what the figures are (report, range, filter, sampling, loss), a
// line of column names, then a line for each row (RFC 4180, but lines end in LF): integers exact, times RFC 3339 in
// UTC, lists joined by ";", cells by CSVCell. Columns are JSON names; none means all.
func CSV(w io.Writer, v any, columns []string, header bool) error {
	rows := rowsOf(v)
	cols, err := pick(columnsOf(rows.Type().Elem()), columns)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	if header {
		comments(out, v)
	}
	cw := csv.NewWriter(out)
	if header {
		err = cw.Write(names(cols))
	}
	line := make([]string, len(cols))
	for i := 0; i < rows.Len() && err == nil; i++ {
		for j, c := range cols {
			line[j] = CSVCell(exact(rows.Index(i).FieldByIndex(c.index)))
		}
		err = cw.Write(line)
	}
	cw.Flush()
	if err == nil {
		err = cw.Error()
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// CSVCell makes a text one that spreadsheets do not take for a formula: names come from machines' owners, who may be anybody. An apostrophe goes before a text that begins
// with = + - @, a tab or a carriage return and is no number.
func CSVCell(text string) string {
	if text == "" || !strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	return "'" + text
}

// comments writes the lines above a CSV table. Each begins with "# " and holds no line break.
func comments(w io.Writer, v any) {
	m := MetaOf(v)
	if m == nil {
		return
	}
	note := func(format string, args ...any) {
		fmt.Fprintln(w, "# "+strings.Map(oneLine, fmt.Sprintf(format, args...)))
	}
	note("crosstap %s, schema %d", m.Report, m.Schema)
	note("range: %s to %s", stamp(m.Since), stamp(m.Until))
	note("filter: %s", orNone(m.Filter))
	note("rows: %d of %d, sorted by %s, resolution %s", RowCount(v), m.Total.Rows, orNone(m.Sort), orNone(m.Resolution))
	flows := "flows not counted"
	if m.Total.Flows != nil {
		flows = fmt.Sprintf("%d flows", *m.Total.Flows)
	}
	note("total: %d octets, %d packets, %s", m.Total.Octets, m.Total.Packets, flows)
	c := m.Completeness
	note("sampling: %d rows are estimates; ambiguous: %d rows", c.SampledRows, c.AmbiguousRows)
	note("loss: %d records lost by exporters, %d received but not stored, completeness %s", c.LostRecords, c.DroppedRecords, ratio(c.Ratio))
	if c.UncertainRows > 0 {
		note("uncertain: %d packets, %d octets of %d rows at the ends of observers' gaps may be counted twice or left out", c.UncertainPackets, c.UncertainOctets, c.UncertainRows)
	}
	for _, g := range c.Gaps {
		note("gap: %s to %s, %s", stamp(g.From), stamp(g.To), gapCause(g))
	}
	for _, n := range m.Notes {
		note("note: %s", n)
	}
}

func gapCause(g report.Gap) string {
	return strings.TrimSpace(g.Scope+" "+g.Who) + ": " + g.Reason
}

func oneLine(r rune) rune {
	if r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 {
		return ' '
	}
	return r
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func ratio(r *float64) string {
	if r == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*r, 'g', -1, 64)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// exact returns the machine's text of a field.
func exact(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Time:
		if x.IsZero() {
			return ""
		}
		return stamp(x)
	case []string:
		return strings.Join(x, ";")
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return exact(v.Elem())
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = exact(v.Index(i))
		}
		return strings.Join(parts, ";")
	}
	if _, ok := v.Interface().(fmt.Stringer); !ok && v.Kind() == reflect.Struct {
		if doc, err := json.Marshal(v.Interface()); err == nil {
			return string(doc)
		}
	}
	return fmt.Sprint(v.Interface())
}
