package ipfix

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

	def     []byte // the template record's field specifiers as they came
	options bool
	minLen  int // the least bytes of a record
	fixed   bool
	unknown int // fields that the tables do not name
	plan    plan
	usedNS  int64 // receive time of the last definition
}

// Options reports whether the template describes option records.
func (t *Template) Options() bool { return t.options }

// templateRecord is a template record cut out of a template set, not yet compiled.
type templateRecord struct {
	id, scope uint16
	count     int
	def       []byte // the field specifiers
	size      int    // bytes of the whole record in the set
}

// withdrawal reports whether the record takes templates back, RFC 7011, section 8.1.
func (r templateRecord) withdrawal() bool { return r.count == 0 }

// nextTemplate cuts the first template record out of b. It returns false when b does not hold a whole one; need
// is the number of bytes it would take.
func nextTemplate(b []byte, options bool) (r templateRecord, need int, ok bool) {
	if len(b) < 4 {
		return r, 4, false
	}
	r = templateRecord{id: binary.BigEndian.Uint16(b), count: int(binary.BigEndian.Uint16(b[2:])), size: 4}
	if options && r.count > 0 {
		if len(b) < 6 {
			return r, 6, false
		}
		r.scope, r.size = binary.BigEndian.Uint16(b[4:]), 6
	}
	start := r.size
	for range r.count {
		n := 4
		if r.size+n <= len(b) && b[r.size]&0x80 != 0 {
			n = 8
		}
		if r.size+n > len(b) {
			return r, r.size + n, false
		}
		r.size += n
	}
	r.def = b[start:r.size]
	return r, r.size, true
}

// newTemplate compiles a template record. It returns nil when its records would have no length, for such
// a set has no end, or more than a message holds.
func newTemplate(domain uint32, r templateRecord, options bool) *Template {
	t := &Template{
		Domain: domain, ID: r.id, Scope: int(r.scope), options: options, fixed: true,
		Fields: make([]Field, 0, r.count), def: append([]byte(nil), r.def...),
	}
	for b := t.def; len(b) > 0; {
		f := Field{ID: binary.BigEndian.Uint16(b), Len: binary.BigEndian.Uint16(b[2:])}
		b = b[4:]
		if f.ID&0x8000 != 0 {
			f.ID &^= 0x8000
			f.PEN = binary.BigEndian.Uint32(b)
			b = b[4:]
		}
		t.add(f)
	}
	if t.minLen == 0 || t.minLen > MaxMessage || t.Scope > len(t.Fields) {
		return nil
	}
	t.plan = compile(t.Fields)
	return t
}

func (t *Template) add(f Field) {
	t.Fields = append(t.Fields, f)
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

// recordLen returns the length of the record at the start of b and whether b holds all of it.
func (t *Template) recordLen(b []byte) (int, bool) {
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
		n, ok := t.recordLen(b)
		if !ok {
			return false
		}
		b = b[n:]
	}
	return len(b) < 4 && allZero(b)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
