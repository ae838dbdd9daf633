package decode

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"crosstap/internal/flow"
	"crosstap/internal/ie"
)

// Name returns the element's name, or its numbers as PEN/ID when the tables do not name it.
func (v Value) Name() string {
	if v.Element != nil {
		return v.Element.Name
	}
	return strconv.FormatUint(uint64(v.PEN), 10) + "/" + strconv.Itoa(int(v.ID))
}

// Type returns the abstract data type by which the value is read: octetArray for elements that the tables do not
// name and for values whose length their type does not allow.
func (v Value) Type() ie.Type {
	if v.Element != nil && v.Element.Type.Unsigned() && len(v.Bytes) > v.Element.Type.Len() && len(v.Bytes) <= 8 {
		return ie.Unsigned64 // NetFlow v9 exporters give some numbers more bytes than the registry
	}
	if v.Element == nil || !v.Element.Type.Fits(len(v.Bytes)) {
		return ie.OctetArray
	}
	return v.Element.Type
}

// Text returns the value for people: addresses and times in their usual form, numbers in decimal, octets in
// hexadecimal after 0x.
func (v Value) Text() string { return string(v.AppendText(nil)) }

// AppendText appends Text to b.
func (v Value) AppendText(b []byte) []byte {
	if v.isRecords() {
		return v.appendRecords(b, false)
	}
	return appendText(b, v.Type(), v.Bytes)
}

func appendText(b []byte, t ie.Type, v []byte) []byte {
	switch {
	case t.Unsigned():
		return strconv.AppendUint(b, be(v), 10)
	case t.Signed():
		return strconv.AppendInt(b, signed(v), 10)
	}
	switch t {
	case ie.Float32, ie.Float64:
		return appendFloat(b, v)
	case ie.Boolean:
		return appendBool(b, v[0])
	case ie.MACAddress:
		if m := flow.MACFrom(v); m != 0 {
			return append(b, m.String()...)
		}
		return append(b, "00:00:00:00:00:00"...)
	case ie.IPv4Address:
		return netip.AddrFrom4([4]byte(v)).AppendTo(b)
	case ie.IPv6Address:
		return netip.AddrFrom16([16]byte(v)).AppendTo(b)
	case ie.String:
		return appendString(b, v)
	case ie.DateTimeSeconds, ie.DateTimeMilliseconds, ie.DateTimeMicroseconds, ie.DateTimeNanoseconds:
		return appendTime(b, t, v)
	case ie.BasicList:
		if l, ok := parseList(v); ok {
			return l.appendText(b)
		}
	}
	return hex.AppendEncode(append(b, "0x"...), v)
}

// signed reads a two's-complement integer of one to eight bytes.
func signed(v []byte) int64 {
	shift := 64 - 8*len(v)
	return int64(be(v)<<shift) >> shift
}

func appendFloat(b, v []byte) []byte {
	if len(v) == 4 {
		return strconv.AppendFloat(b, float64(math.Float32frombits(be32(v))), 'g', -1, 32)
	}
	return strconv.AppendFloat(b, math.Float64frombits(be64(v)), 'g', -1, 64)
}

// appendBool writes a boolean: 1 is true and 2 is false (RFC 7011, section 6.1.5).
func appendBool(b []byte, v byte) []byte {
	switch v {
	case 1:
		return append(b, "true"...)
	case 2:
		return append(b, "false"...)
	}
	return strconv.AppendUint(b, uint64(v), 10)
}

// appendString writes a string without the zero bytes that pad strings of fixed length.
func appendString(b, v []byte) []byte {
	s := strings.TrimRight(string(v), "\x00")
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return append(b, s...)
}

func appendTime(b []byte, t ie.Type, v []byte) []byte {
	switch t {
	case ie.DateTimeSeconds:
		return time.Unix(int64(be32(v)), 0).UTC().AppendFormat(b, time.RFC3339)
	case ie.DateTimeMilliseconds:
		ms := be64(v)
		if ms > math.MaxInt64/1_000_000 {
			return strconv.AppendUint(b, ms, 10)
		}
		return time.UnixMilli(int64(ms)).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	case ie.DateTimeMicroseconds:
		return time.Unix(0, ntpNS(be64(v))).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	}
	return time.Unix(0, ntpNS(be64(v))).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z07:00")
}

// AppendJSON appends the value as JSON: numbers and booleans as such, basic lists as arrays, all else as
// strings like Text.
func (v Value) AppendJSON(b []byte) []byte {
	if v.isRecords() {
		return v.appendRecords(b, true)
	}
	return appendJSON(b, v.Type(), v.Bytes)
}

func appendJSON(b []byte, t ie.Type, v []byte) []byte {
	switch {
	case t.Unsigned(), t.Signed():
		return appendText(b, t, v)
	case t == ie.Boolean && (v[0] == 1 || v[0] == 2):
		return appendBool(b, v[0])
	case t == ie.Float32, t == ie.Float64:
		if s := appendFloat(nil, v); s[len(s)-1] <= '9' { // JSON has no NaN and no Inf
			return append(b, s...)
		}
	case t == ie.BasicList:
		if l, ok := parseList(v); ok {
			return l.appendJSON(b)
		}
	}
	s, err := json.Marshal(string(appendText(nil, t, v)))
	if err != nil { // a string always marshals
		return append(b, "null"...)
	}
	return append(b, s...)
}

// list is a basicList, RFC 6313, section 4.5.1: how the elements relate, which element, its values.
type list struct {
	semantic uint8
	typ      ie.Type
	values   [][]byte
}

func parseList(v []byte) (l list, ok bool) {
	if len(v) < 5 {
		return l, false
	}
	f := Field{ID: binary.BigEndian.Uint16(v[1:]), Len: binary.BigEndian.Uint16(v[3:])}
	l.semantic, v = v[0], v[5:]
	if f.ID&0x8000 != 0 {
		if len(v) < 4 {
			return l, false
		}
		f.ID, f.PEN, v = f.ID&^0x8000, be32(v), v[4:]
	}
	l.typ = ie.OctetArray
	if e, ok := f.Element(); ok && e.Type != ie.BasicList {
		l.typ = e.Type
	}
	for len(v) > 0 {
		size, head := int(f.Len), 0
		if f.Len == ie.Variable {
			size, head = variableLen(v)
		}
		if size+head == 0 || size+head > len(v) || !l.typ.Fits(size) {
			return l, false
		}
		l.values, v = append(l.values, v[head:head+size]), v[head+size:]
	}
	return l, true
}

func (l list) appendText(b []byte) []byte {
	b = append(b, '[')
	for i, v := range l.values {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendText(b, l.typ, v)
	}
	return append(b, ']')
}

func (l list) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, v := range l.values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, l.typ, v)
	}
	return append(b, ']')
}
