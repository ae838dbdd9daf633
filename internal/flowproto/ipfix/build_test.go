package ipfix

import (
	"encoding/binary"
)

// message builds a message from its sets.
func message(domain, sequence uint32, sets ...[]byte) []byte {
	b := make([]byte, HeaderLen)
	for _, s := range sets {
		b = append(b, s...)
	}
	Header{Length: len(b), ExportTime: exportTime, Sequence: sequence, Domain: domain}.put(b)
	return b
}

// set builds a set from its content.
func set(id uint16, parts ...[]byte) []byte {
	b := []byte{0, 0, 0, 0}
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint16(b, id)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// template builds a template record of IANA elements; fields are pairs of identifier and length.
func template(id uint16, fields ...uint16) []byte {
	b := put16(put16(nil, id), uint16(len(fields)/2))
	for _, f := range fields {
		b = put16(b, f)
	}
	return b
}

// optionsTemplate is likewise, with a number of scope fields.
func optionsTemplate(id, scope uint16, fields ...uint16) []byte {
	b := put16(put16(put16(nil, id), uint16(len(fields)/2)), scope)
	for _, f := range fields {
		b = put16(b, f)
	}
	return b
}

// withdrawal builds the record that takes a template back.
func withdrawal(id uint16) []byte { return put16(put16(nil, id), 0) }

// bytesOf joins integers of one byte.
func bytesOf(v ...byte) []byte { return v }
