package decode

import (
	"encoding/binary"

	"crosstap/internal/ie"
)

// Field is one field specifier of a template, RFC 7011, section 3.2.
type Field struct {
	PEN uint32 // enterprise number, 0 for IANA's elements
	ID  uint16 // element identifier without the enterprise bit
	Len uint16 // bytes in the record, ie.Variable when each record says how many
}

// Element returns what the tables know of the field's element.
func (f Field) Element() (*ie.Element, bool) { return ie.Lookup(f.PEN, f.ID) }

// Template says how the records of one set identifier are laid out. It is not changed once made.
type Template struct {
	Domain uint32
	ID     uint16
	Scope  int // of an options template, the number of leading fields that are its scope; else 0
	Fields []Field

	protocol Protocol
	def      []byte // the template record's field specifiers as they came
	options  bool
	minLen   int // the least bytes of a record
	fixed    bool
	unknown  int // fields that the tables do not name
	plan     plan
	usedNS   int64 // receive time of the last definition
}

// maxRecord is the most that a record can have: a message's greatest length.
const maxRecord = 65535

// New compiles a template of these fields. It returns nil when its records would have no length, for such
// a set has no end, or more than a message holds.
func New(p Protocol, domain uint32, id uint16, fields []Field, scope int, options bool) *Template {
	t := &Template{protocol: p, Domain: domain, ID: id, Scope: scope, options: options, fixed: true, Fields: fields}
	for _, f := range fields {
		t.add(f)
	}
	if t.minLen == 0 || t.minLen > maxRecord || t.Scope > len(t.Fields) {
		return nil
	}
	t.plan = compile(p, t.Fields)
	return t
}

func (t *Template) add(f Field) {
	if f.Len == ie.Variable {
		t.fixed = false
		t.minLen++
	} else {
		t.minLen += int(f.Len)
	}
	if _, ok := f.Element(); !ok {
		t.unknown++
	}
}

// Options reports whether the template describes option records.
func (t *Template) Options() bool { return t.options }

// Protocol returns the protocol that brought the template.
func (t *Template) Protocol() Protocol { return t.protocol }

// Def returns the field specifiers as they came. They must not be changed.
func (t *Template) Def() []byte { return t.def }

// UsedNS returns the receive time of the last definition.
func (t *Template) UsedNS() int64 { return t.usedNS }

// MinLen returns the least bytes of a record.
func (t *Template) MinLen() int { return t.minLen }

// RecordLen returns the length of the record at the start of b and whether b holds all of it.
func (t *Template) RecordLen(b []byte) (int, bool) {
	if t.fixed {
		return t.minLen, t.minLen <= len(b)
	}
	n := 0
	for _, f := range t.Fields {
		if f.Len != ie.Variable {
			n += int(f.Len)
			continue
		}
		if n > len(b) {
			return n, false
		}
		size, head := variableLen(b[n:])
		n += size + head
	}
	return n, n <= len(b)
}

// variableLen reads the length that stands before a variable-length field: one byte, or 255 and two
// more (RFC 7011, section 7). head is the number of bytes the length itself takes; when b is too short for
// it, the sum reaches beyond b.
func variableLen(b []byte) (size, head int) {
	switch {
	case len(b) < 1:
		return 0, 1
	case b[0] < 255:
		return int(b[0]), 1
	case len(b) < 3:
		return 0, 3
	}
	return int(binary.BigEndian.Uint16(b[1:])), 3
}

// fits reports whether b is a whole number of records, but for less than four bytes of zero padding.
func (t *Template) fits(b []byte) bool {
	if len(b) < t.minLen {
		return false
	}
	for len(b) >= t.minLen {
		n, ok := t.RecordLen(b)
		if !ok {
			return false
		}
		b = b[n:]
	}
	return len(b) < 4 && AllZero(b)
}

// AllZero reports whether b holds nothing but zeros: padding.
func AllZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
