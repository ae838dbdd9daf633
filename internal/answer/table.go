package answer

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"crosstap/internal/collect/report"
)

// Options say how a table for people looks.
type Options struct {
	Wide      bool     // more columns, nothing shortened
	Columns   []string // JSON names; none means the table's own choice
	NoHeaders bool
	Numeric   bool           // addresses and numbers instead of names
	Location  *time.Location // of the times shown; nil means local time
	Now       time.Time      // times of the same day are shown without their date
	Width     int            // of the terminal, in characters: columns that are missed least are left out until a row fits; 0 leaves none out
	Left      *[]string      // takes the titles of columns that were left out
}

// field is one column of a table for people.
type field[T any] struct {
	title string
	right bool // aligned to the right: figures
	wide  bool // only in the wide table
	text  func(*T, *Options) string
}

// Table writes an answer as a table for people: SI units, local time, names before addresses.
func Table(w io.Writer, v any, o Options) error {
	if len(o.Columns) > 0 {
		o.Width = 0
		return anyTable(w, v, &o)
	}
	switch a := v.(type) {
	case *report.Pairs:
		return write(w, a.Rows, pairFields, &o)
	case *report.Conversations:
		return write(w, a.Rows, conversationFields, &o)
	case *report.Flows:
		return write(w, a.Rows, flowFields, &o)
	case *report.Map:
		return write(w, namedEdges(a), edgeFields, &o)
	case *report.Series:
		return write(w, a.Lines, lineFields(a), &o)
	case *report.VMPage:
		return vmPage(w, a, &o)
	case *report.Observers:
		return sights(w, a, &o)
	}
	if !o.Wide {
		o.Columns = narrowOf(v)
	}
	return anyTable(w, v, &o)
}

func write[T any](w io.Writer, rows []T, fields []field[T], o *Options) error {
	var g grid
	for _, f := range fields {
		if o.Wide || !f.wide {
			g.titles = append(g.titles, f.title)
			g.right = append(g.right, f.right)
		}
	}
	for i := range rows {
		var line []string
		for _, f := range fields {
			if o.Wide || !f.wide {
				line = append(line, f.text(&rows[i], o))
			}
		}
		g.lines = append(g.lines, line)
	}
	g.fit(o)
	return g.write(w, !o.NoHeaders)
}

// anyTable writes the rows of any answer by the JSON names of its columns.
func anyTable(w io.Writer, v any, o *Options) error {
	rows := rowsOf(v)
	cols, err := pick(columnsOf(rows.Type().Elem()), o.Columns)
	if err != nil {
		return err
	}
	var g grid
	for _, c := range cols {
		kind := rows.Type().Elem().FieldByIndex(c.index).Type.Kind()
		g.titles = append(g.titles, strings.ToUpper(strings.ReplaceAll(c.name, "_", " ")))
		g.right = append(g.right, kind >= reflect.Int && kind <= reflect.Float64)
	}
	for i := range rows.Len() {
		line := make([]string, len(cols))
		for j, c := range cols {
			line[j] = o.human(c.name, rows.Index(i).FieldByIndex(c.index))
		}
		g.lines = append(g.lines, line)
	}
	g.fit(o)
	return g.write(w, !o.NoHeaders)
}

// human returns the text of a field for people, chosen by its name and type.
func (o *Options) human(name string, v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		switch {
		case v.IsNil() && name == "ends":
			return "never"
		case v.IsNil():
			return "unknown"
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return o.clock(x)
	case []string:
		return strings.Join(x, ", ")
	case uint64:
		if strings.Contains(name, "octets") || strings.HasSuffix(name, "bytes") {
			return Bytes(x)
		}
		return Count(x)
	case float64:
		switch name {
		case "share", "seen", "seen_most", "cpu":
			return Percent(x)
		}
		if strings.HasSuffix(name, "ratio") {
			return Percent(x)
		}
		return strconv.FormatFloat(x, 'g', 4, 64)
	}
	return exact(v)
}

// clock gives a time of day to the second, with its date when it is not today.
func (o *Options) clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	loc := o.Location
	if loc == nil {
		loc = time.Local
	}
	t, now := t.In(loc), o.Now.In(loc)
	layout := "15:04:05"
	if t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		layout = "2006-01-02 15:04:05"
	}
	return t.Format(layout)
}

// grid is a table as text.
type grid struct {
	titles []string
	right  []bool
	lines  [][]string
}

// spare are the titles of columns that a narrow terminal does without, those first that are missed least.
var spare = []string{"COUNTED", "MARKS", "FLAGS", "SHARE", "OCTETS ERROR", "FIRST SEEN", "SEEN BY", "OCTETS SAME HOST", "MAX PACKET", "NEEDED MTU", "DEST VTEP", "SOURCE VTEP", "SEGMENTS", "ADDRS", "HOSTS", "VTEPS",
	"OUTER SRC PORT", "OVERLAY OCTETS", "UNDERLAY OCTETS", "TENANTS", "LINKS", "NEW", "GONE", "OCTETS BEFORE", "LAST SEEN", "PACKETS", "TENANT", "OBSERVER", "APP"}

// fit leaves columns out until a row fits into the width: empty ones first, then spare ones. A table that still does not fit stays as it is then.
func (g *grid) fit(o *Options) {
	if o.Width <= 0 {
		return
	}
	empty := func(i int) bool {
		return !slices.ContainsFunc(g.lines, func(line []string) bool { return line[i] != "" })
	}
	for i := len(g.titles) - 1; i >= 0 && len(g.lines) > 0 && g.width() > o.Width; i-- {
		if empty(i) {
			g.leave(i, o)
		}
	}
	for _, title := range spare {
		if i := slices.Index(g.titles, title); i >= 0 && g.width() > o.Width {
			g.leave(i, o)
		}
	}
}

// width is that of the longest row, in characters.
func (g *grid) width() (sum int) {
	for i, title := range g.titles {
		longest := utf8.RuneCountInString(title)
		for _, line := range g.lines {
			longest = max(longest, utf8.RuneCountInString(line[i]))
		}
		sum += longest + 2
	}
	return sum - 2
}

// leave takes a column out.
func (g *grid) leave(i int, o *Options) {
	if o.Left != nil && g.titles[i] != "" && !slices.Contains(*o.Left, g.titles[i]) {
		*o.Left = append(*o.Left, g.titles[i])
	}
	g.titles, g.right = slices.Delete(g.titles, i, i+1), slices.Delete(g.right, i, i+1)
	for n, line := range g.lines {
		g.lines[n] = slices.Delete(line, i, i+1)
	}
}

// write pads the columns with two spaces between them. Control characters, which names from the
// network may hold, are shown as "?", so that no row can drive the terminal.
func (g *grid) write(w io.Writer, header bool) error {
	lines := g.lines
	if header {
		lines = append([][]string{g.titles}, lines...)
	}
	width := make([]int, len(g.titles))
	for _, line := range lines {
		for i, cell := range line {
			line[i] = strings.Map(printable, cell)
			width[i] = max(width[i], utf8.RuneCountInString(line[i]))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		b.Reset()
		for i, cell := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if g.right[i] {
				b.WriteString(pad + cell + "  ")
			} else {
				b.WriteString(cell + pad + "  ")
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

func printable(r rune) rune {
	if unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
		return '?'
	}
	return r
}
