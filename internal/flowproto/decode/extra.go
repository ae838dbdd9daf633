package decode

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"iter"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
	"crosstap/internal/ie"
)

// kept are the elements that the tables name and no field holds, but which tell something of the flow that is wanted later: what a
// translator made of it, what a firewall decided, which rule and which machine it belonged to. Routing (next hops, autonomous
// systems, prefix lengths) and all else that only makes the records of routers longer is left out.
var kept = func() map[key]bool {
	m := make(map[key]bool)
	add := func(pen uint32, ids ...uint16) {
		for _, id := range ids {
			m[key{pen, id}] = true
		}
	}
	add(ie.IANA, 48, 89, 95, 148, 225, 226, 227, 228, 230, 233, 234, 235, 236, 281, 282, 283, 302, 361, 362, 363, 364, 371, 372)
	add(ie.VMware, 950, 951, 952, 953, 954, 955, 956, 957, 960, 961)
	add(ie.Cisco, 234, 7232, 7233, 7234, 7235, 7236, 7237)
	add(ie.PaloAlto, 56701, 56702)
	add(antreaPEN, 100, 101, 102, 103, 104, 105, 108, 109, 110, 111, 112, 113, 137)
	add(viptelaPEN, 4321)
	return m
}()

const (
	antreaPEN  = 56506
	viptelaPEN = 41916
)

// keeps reports whether a field's value goes into flow.Record's Extra when no field holds it: elements of kept, and those
// that no table names, so that they become readable when a definition comes.
func keeps(f Field) bool {
	if f.Len == 0 || f.PEN == ie.NetFlow9Scope || f.PEN == ie.IANA && f.ID == 0 {
		return false
	}
	if kept[key{f.PEN, f.ID}] {
		return true
	}
	e, ok := f.Element()
	return !ok || e.Custom
}

// extra is a field that is kept as text.
type extra struct {
	key
	at    int    // in context.extra
	label string // "0.225="
}

// addExtra gives a field a place in the text and returns what captures its value.
func (p *plan) addExtra(f Field) setter {
	i := len(p.extra)
	p.extra = append(p.extra, extra{
		key: key{f.PEN, f.ID}, at: i, label: strconv.FormatUint(uint64(f.PEN), 10) + "." + strconv.Itoa(int(f.ID)) + "=",
	})
	p.after |= afterExtra
	return func(_ *flow.Record, c *context, b []byte) { c.extra[i] = b }
}

// sortExtra brings the kept fields into the order of the text: enterprise number, then identifier.
func (p *plan) sortExtra() {
	slices.SortStableFunc(p.extra, func(a, b extra) int { return cmp.Or(cmp.Compare(a.pen, b.pen), cmp.Compare(a.id, b.id)) })
}

// maxExtra bounds the text of one record. Values that do not fit whole are left out.
const maxExtra = 4096

// appendExtra appends the text of the kept fields. Values of zeros alone say "none" and are left out.
func (p *plan) appendExtra(b []byte, values [][]byte) []byte {
	for _, x := range p.extra {
		v := values[x.at]
		if AllZero(v) || len(b)+1+len(x.label)+2*len(v) > maxExtra {
			continue
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, x.label...)
		b = hex.AppendEncode(b, v)
	}
	return b
}

// setExtra makes the text of a record. Equal texts share their bytes; the number kept for that is bounded.
func (s *Decoder) setExtra(p *plan, r *flow.Record) {
	s.text = p.appendExtra(s.text[:0], s.ctx.extra)
	if len(s.text) == 0 {
		return
	}
	text, ok := s.extras[string(s.text)]
	if !ok {
		if len(s.extras) >= s.lim.Names {
			clear(s.extras)
		}
		text = string(s.text)
		s.extras[text] = text
	}
	r.Extra = text
}

// Extra yields the elements of a record's Extra, with what the tables now know of each. It ends at the first part
// that is no element.
func Extra(text string) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		for part := range strings.FieldsSeq(text) {
			name, value, ok := strings.Cut(part, "=")
			pen, id, dot := strings.Cut(name, ".")
			p, errP := strconv.ParseUint(pen, 10, 32)
			i, errI := strconv.ParseUint(id, 10, 16)
			b, errB := hex.DecodeString(value)
			if !ok || !dot || errP != nil || errI != nil || errB != nil {
				return
			}
			v := Value{Field: Field{PEN: uint32(p), ID: uint16(i), Len: uint16(len(b))}, Bytes: b}
			v.Element, _ = v.Field.Element()
			if !yield(v) {
				return
			}
		}
	}
}

// ExtraTexts returns the elements of a record's Extra as "name=value", by what the tables now know of each: an element
// without a name has its numbers, as "4242/1=0x05".
func ExtraTexts(text string) []string {
	out := []string{}
	for v := range Extra(text) {
		out = append(out, string(v.AppendText(append([]byte(v.Name()), '='))))
	}
	return out
}

// application reads applicationId (RFC 6759, section 4): the engine in one byte, then its number, as "13:431". The names that
// go with it come in option records.
func application(b []byte) []byte {
	if len(b) < 2 || len(b) > 8 {
		return nil
	}
	out := strconv.AppendUint(nil, uint64(b[0]), 10)
	return strconv.AppendUint(append(out, ':'), be(b[1:]), 10)
}

// setApp tells the application that the exporter found: by the name in the record, else by its number.
func (s *Decoder) setApp(r *flow.Record) {
	name := bytes.TrimRight(s.ctx.app, "\x00")
	switch {
	case len(name) > 0:
		r.App = s.intern(name)
		if r.AppHow == flow.AppUnknown {
			r.AppHow = flow.AppExporter
		}
	case r.AppHow == flow.AppExporter && len(s.ctx.appID) > 0 && !AllZero(s.ctx.appID):
		r.App = s.intern(application(s.ctx.appID))
	}
}
