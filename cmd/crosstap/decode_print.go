package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/flowproto"
	"crosstap/internal/ie"

	"github.com/goccy/go-yaml"
)

// recordPrinter writes decoded items in one format. A nil one prints nothing.
type recordPrinter interface {
	item(file, exporter string, it *flowproto.Item)
	close() error
}

func newRecordPrinter(format string, w *bufio.Writer) recordPrinter {
	switch format {
	case "none":
		return nil
	case "json":
		return &jsonPrinter{w: w, array: true}
	case "jsonl":
		return &jsonPrinter{w: w}
	case "yaml":
		return &yamlPrinter{w: w}
	case "csv":
		return newCSVPrinter(w)
	}
	return &tablePrinter{w: w}
}

// appendItem appends an item as one JSON object.
func appendItem(b []byte, file, exporter string, it *flowproto.Item) []byte {
	b = append(b, `{"kind":`...)
	b = strconv.AppendQuote(b, it.Kind.String())
	b = appendMember(b, "file", file)
	if exporter != "" {
		b = appendMember(b, "exporter", exporter)
	}
	b = appendMember(b, "protocol", it.Protocol.String())
	b = fmt.Appendf(b, `,"domain":%d,"template":%d,"sequence":%d`, it.Domain, it.ID, it.Sequence)
	b = appendMember(b, "export_time", it.Export.Format(time.RFC3339))
	if it.RecvNS != 0 {
		b = appendMember(b, "received", time.Unix(0, it.RecvNS).UTC().Format(time.RFC3339Nano))
	}
	if it.Borrowed {
		b = append(b, `,"borrowed":true`...)
	}
	if it.Late {
		b = append(b, `,"late":true`...)
	}
	if it.Data != nil {
		return append(appendValues(b, it), '}')
	}
	return append(appendSpecifiers(b, it), '}')
}

func appendMember(b []byte, name, value string) []byte {
	v, err := json.Marshal(value)
	if err != nil { // a string always marshals
		v = []byte(`""`)
	}
	return append(fmt.Appendf(b, `,%q:`, name), v...)
}

func appendValues(b []byte, it *flowproto.Item) []byte {
	b = append(b, `,"fields":[`...)
	first := true
	for v := range it.Fields() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = fmt.Appendf(b, `{"pen":%d,"id":%d,"name":%q,"type":%q,"value":`, v.PEN, v.ID, v.Name(), v.Type())
		b = append(v.AppendJSON(b), '}')
	}
	return append(b, ']')
}

// appendSpecifiers appends the fields of a template.
func appendSpecifiers(b []byte, it *flowproto.Item) []byte {
	if it.Template == nil {
		return b
	}
	b = fmt.Appendf(b, `,"scope_fields":%d,"fields":[`, it.Template.Scope)
	for i, f := range it.Template.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		v := value(f)
		b = fmt.Appendf(b, `{"pen":%d,"id":%d,"name":%q,"type":%q,"length":%s}`, f.PEN, f.ID, v.Name(), declared(v), fieldLength(f, `"variable"`))
	}
	return append(b, ']')
}

func value(f flowproto.Field) flowproto.Value {
	v := flowproto.Value{Field: f}
	v.Element, _ = f.Element()
	return v
}

// declared is the type that the registry gives a template's field.
func declared(v flowproto.Value) ie.Type {
	if v.Element == nil {
		return ie.OctetArray
	}
	return v.Element.Type
}

func fieldLength(f flowproto.Field, variable string) string {
	if f.Len == ie.Variable {
		return variable
	}
	return strconv.Itoa(int(f.Len))
}

type jsonPrinter struct {
	w     *bufio.Writer
	array bool
	buf   []byte
	n     int
}

func (p *jsonPrinter) item(file, exporter string, it *flowproto.Item) {
	p.buf = p.buf[:0]
	switch {
	case p.array && p.n == 0:
		p.buf = append(p.buf, "[\n"...)
	case p.array:
		p.buf = append(p.buf, ",\n"...)
	}
	p.buf = appendItem(p.buf, file, exporter, it)
	if !p.array {
		p.buf = append(p.buf, '\n')
	}
	p.n++
	_, _ = p.w.Write(p.buf) // bufio keeps the error until Flush
}

func (p *jsonPrinter) close() error {
	var err error
	switch {
	case p.array && p.n == 0:
		_, err = p.w.WriteString("[]\n")
	case p.array:
		_, err = p.w.WriteString("\n]\n")
	}
	return err
}

type yamlPrinter struct {
	w   *bufio.Writer
	err error
	n   int
}

func (p *yamlPrinter) item(file, exporter string, it *flowproto.Item) {
	text, err := yaml.JSONToYAML(appendItem(nil, file, exporter, it))
	if err != nil {
		p.err = errors.Join(p.err, err)
		return
	}
	lead := "- "
	for line := range bytes.Lines(text) {
		_, _ = p.w.WriteString(lead) // bufio keeps the error until Flush
		_, _ = p.w.Write(line)
		lead = "  "
	}
	p.n++
}

func (p *yamlPrinter) close() error {
	if p.n == 0 {
		_, _ = p.w.WriteString("[]\n")
	}
	return p.err
}

type csvPrinter struct {
	w *csv.Writer
	n int
}

func newCSVPrinter(w *bufio.Writer) *csvPrinter {
	p := &csvPrinter{w: csv.NewWriter(w)}
	_ = p.w.Write([]string{"item", "kind", "file", "exporter", "domain", "template", "sequence", "export_time", "pen", "id", "name", "type", "value"})
	return p
}

func (p *csvPrinter) item(file, exporter string, it *flowproto.Item) {
	p.n++
	row := []string{
		strconv.Itoa(p.n), it.Kind.String(), file, exporter, strconv.FormatUint(uint64(it.Domain), 10), strconv.Itoa(int(it.ID)),
		strconv.FormatUint(uint64(it.Sequence), 10), it.Export.Format(time.RFC3339), "", "", "", "", "",
	}
	write := func(v flowproto.Value, typ, text string) {
		row[8], row[9], row[10] = strconv.FormatUint(uint64(v.PEN), 10), strconv.Itoa(int(v.ID)), v.Name()
		row[11], row[12] = typ, answer.CSVCell(text)
		_ = p.w.Write(row) // csv keeps the error until close
	}
	switch {
	case it.Data != nil:
		for v := range it.Fields() {
			write(v, v.Type().String(), v.Text())
		}
	case it.Template != nil:
		for _, f := range it.Template.Fields {
			v := value(f)
			write(v, declared(v).String(), fieldLength(f, "variable"))
		}
	default:
		_ = p.w.Write(row)
	}
}

func (p *csvPrinter) close() error {
	p.w.Flush()
	return p.w.Error()
}

type tablePrinter struct {
	w *bufio.Writer
	n int
}

func (p *tablePrinter) item(file, exporter string, it *flowproto.Item) {
	p.n++
	if exporter == "" {
		exporter = file
	}
	from := fmt.Sprintf("template %d", it.ID)
	if it.ID == 0 { // the protocol has no templates
		from = it.Protocol.String()
	}
	fmt.Fprintf(p.w, "%s %d  exporter %s  domain %d  %s  sequence %d  exported %s%s\n",
		it.Kind, p.n, exporter, it.Domain, from, it.Sequence, it.Export.Format(time.RFC3339), notes(it))
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	switch {
	case it.Data != nil:
		for v := range it.Fields() {
			fmt.Fprintf(t, "  %s\t%d/%d\t%s\t%s\n", v.Name(), v.PEN, v.ID, v.Type(), v.Text())
		}
	case it.Template != nil:
		for i, f := range it.Template.Fields {
			v, scope := value(f), ""
			if i < it.Template.Scope {
				scope = "\tscope"
			}
			fmt.Fprintf(t, "  %s\t%d/%d\t%s\tlength %s%s\n", v.Name(), f.PEN, f.ID, declared(v), fieldLength(f, "variable"), scope)
		}
	}
	_ = t.Flush() // bufio keeps the error until Flush
	_ = p.w.WriteByte('\n')
}

func notes(it *flowproto.Item) (s string) {
	if it.Borrowed {
		s += "  template borrowed from another domain"
	}
	if it.Late {
		s += "  decoded late"
	}
	return s
}

func (p *tablePrinter) close() error { return nil }
