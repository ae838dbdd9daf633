package ipfix

import (
	"encoding/binary"

	"crosstap/internal/flowproto/decode"
)

// sets walks the sets of a message.
func (s *Session) sets(b []byte) {
	for off := HeaderLen; off < len(b); {
		left := len(b) - off
		if left < setHdrLen {
			if !decode.AllZero(b[off:]) {
				s.Refuse(decode.BadSet, 0, off, setHdrLen, left)
			}
			return
		}
		id, size := binary.BigEndian.Uint16(b[off:]), int(binary.BigEndian.Uint16(b[off+2:]))
		if size < setHdrLen || size > left {
			s.Refuse(decode.BadSet, id, off, size, left)
			return
		}
		s.set(id, off, b[off+setHdrLen:off+size])
		off += size
	}
}

func (s *Session) set(id uint16, off int, body []byte) {
	switch {
	case id == setTemplate, id == setOptionsTemplate:
		s.templateSet(off, body, id == setOptionsTemplate)
	case id < minDataSet:
		s.Refuse(decode.UnknownSet, id, off, 0, 0)
	default:
		s.Data(id, off, body)
	}
}

// templateSet takes in the template records of a set. A record without fields takes templates back (RFC 7011, section
// 8.1): one, or all of a kind when its identifier is that of their set.
func (s *Session) templateSet(off int, body []byte, options bool) {
	for at := off + setHdrLen; len(body) >= 4; {
		r, need, ok := nextTemplate(body, options)
		if !ok || r.ID < minDataSet && r.Count > 0 {
			if !decode.AllZero(body) {
				s.Problem(decode.BadTemplate, r.ID, at, need, len(body))
			}
			return
		}
		switch {
		case r.Count > 0:
			s.Define(r, at)
		case r.ID >= minDataSet:
			s.Withdraw(r.ID)
		case r.ID == setTemplate, r.ID == setOptionsTemplate:
			s.WithdrawAll(r.ID, r.ID == setOptionsTemplate)
		case decode.AllZero(body):
			return // padding
		default:
			s.Problem(decode.BadTemplate, r.ID, at, 0, len(body))
			return
		}
		body, at = body[need:], at+need
	}
}

// nextTemplate cuts the first template record out of b. It returns false when b does not hold a whole one; size
// is the number of bytes that it takes.
func nextTemplate(b []byte, options bool) (r decode.Spec, size int, ok bool) {
	if len(b) < 4 {
		return r, 4, false
	}
	r = decode.Spec{ID: binary.BigEndian.Uint16(b), Count: int(binary.BigEndian.Uint16(b[2:])), Options: options}
	size = 4
	if options && r.Count > 0 {
		if len(b) < 6 {
			return r, 6, false
		}
		r.Scope, size = int(binary.BigEndian.Uint16(b[4:])), 6
	}
	start := size
	for range r.Count {
		n := 4
		if size+n <= len(b) && b[size]&0x80 != 0 {
			n = 8
		}
		if size+n > len(b) {
			return r, size + n, false
		}
		size += n
	}
	r.Def = b[start:size]
	return r, size, true
}

// parseFields reads field specifiers, RFC 7011, section 3.2.
func parseFields(fields []Field, def []byte, _ int) []Field {
	for len(def) >= 4 {
		f := Field{ID: binary.BigEndian.Uint16(def), Len: binary.BigEndian.Uint16(def[2:])}
		def = def[4:]
		if f.ID&0x8000 != 0 {
			f.ID &^= 0x8000
			f.PEN = binary.BigEndian.Uint32(def)
			def = def[4:]
		}
		fields = append(fields, f)
	}
	return fields
}
