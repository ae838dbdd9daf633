package netflow9

import (
	"encoding/binary"

	"crosstap/internal/flowproto/decode"
	"crosstap/internal/ie"
)

// Field types of 16 bits stand for more than the registry's elements. Types up to 32767 are IANA's. Above, vendors put their
// own elements: Cisco those that it sends in IPFIX under its enterprise number, with the high bit set, and ntop its own
// from 57472 on.
const (
	vendorBit = 0x8000
	ntopBase  = 57472
	ntopEnd   = ntopBase + 2048
	lastScope = 5

	panAppID, panUserID = 56701, 56702 // of PAN-OS
)

func parseFields(fields []decode.Field, def []byte, scope int) []decode.Field {
	for ; len(def) >= specifier; def = def[specifier:] {
		t, n := binary.BigEndian.Uint16(def), binary.BigEndian.Uint16(def[2:])
		if len(fields) < scope && t >= 1 && t <= lastScope {
			fields = append(fields, decode.Field{PEN: ie.NetFlow9Scope, ID: t, Len: n})
			continue
		}
		pen, id := Element(t)
		fields = append(fields, decode.Field{PEN: pen, ID: id, Len: n})
	}
	return fields
}

// Element returns the enterprise number and identifier under which the tables have a field type.
func Element(t uint16) (pen uint32, id uint16) {
	switch {
	case t < vendorBit:
		return ie.IANA, t
	case t == panAppID, t == panUserID:
		return ie.PaloAlto, t
	case t >= ntopBase && t < ntopEnd:
		return ie.Ntop, t - ntopBase
	}
	return ie.Cisco, t &^ vendorBit
}
