package netflow9

import (
	"encoding/binary"

	"crosstap/internal/flowproto/decode"
)

// AppendTemplates appends datagrams of one flow set each that define every template of the session to b, in the order of source
// and identifier. SavedLen tells them apart.
func (s *Session) AppendTemplates(b []byte) []byte {
	for _, t := range s.All() {
		b = appendTemplate(b, t)
	}
	return b
}

func appendTemplate(b []byte, t *decode.Template) []byte {
	set, head := uint16(setTemplates), []uint16{t.ID, uint16(len(t.Fields))}
	if t.Options() {
		set, head = setOptions, []uint16{t.ID, uint16(t.Scope * specifier), uint16((len(t.Fields) - t.Scope) * specifier)}
	}
	b = binary.BigEndian.AppendUint16(b, Version)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(t.UsedNS()/1e9))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, t.Domain)
	b = binary.BigEndian.AppendUint16(b, set)
	b = binary.BigEndian.AppendUint16(b, uint16(flowSetHeader+2*len(head)+len(t.Def())))
	for _, v := range head {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, t.Def()...)
}

// SavedLen returns the length of the datagram at the start of what AppendTemplates wrote.
func SavedLen(b []byte) int {
	if len(b) < HeaderLen+flowSetHeader {
		return len(b)
	}
	return min(HeaderLen+max(int(binary.BigEndian.Uint16(b[HeaderLen+2:])), flowSetHeader), len(b))
}
