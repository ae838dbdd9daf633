package ipfix

import (
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/encode"
	"crosstap/internal/ie"
)

// Enterprises whose elements stand for what IANA has none for. docs/formats/ipfix.md says why these.
const (
	ntop = 35632 // ntop's nProbe
	qof  = 35566 // QoF, a flow meter of ETH Zürich
)

// layer2 is what stands between the link layer and the tenant's packet, and how many of the packets were fragments. 347
// comes twice: the source's, then the destination's.
var layer2 = []column{
	col(245, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.InnerVLAN) }),
	col(70, 3, encode.PutLabel),
	col(347, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.SrcVIF) }),
	col(347, 2, func(b []byte, r *flow.Record) []byte { return put16(b, r.DstVIF) }),
	{Field: field(ntop, 80, 4), put: func(b []byte, r *flow.Record) []byte { return put32(b, r.Fragments) }},
}

var quality = []column{
	vmw(958, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.RTTUS) }),
	vmw(959, 4, func(b []byte, r *flow.Record) []byte { return put32(b, r.Retransmits) }),
	{Field: field(qof, 1045, 4), put: func(b []byte, r *flow.Record) []byte { return put32(b, r.ZeroWindows) }},
}

// machines are the ends of the flow: identity and name, the source's, then the destination's.
var machines = []column{
	col(349, ie.Variable, func(b []byte, r *flow.Record) []byte { return putID(b, r.SrcVMID) }),
	col(349, ie.Variable, func(b []byte, r *flow.Record) []byte { return putID(b, r.DstVMID) }),
	col(350, ie.Variable, func(b []byte, r *flow.Record) []byte { return putName(b, r.SrcVM) }),
	col(350, ie.Variable, func(b []byte, r *flow.Record) []byte { return putName(b, r.DstVM) }),
}

var (
	application = []column{
		col(95, 4, encode.PutApplication),
		col(96, ie.Variable, func(b []byte, r *flow.Record) []byte { return putName(b, about.ApplicationName(r)) }),
	}
	// applications are the columns by what names the application.
	applications = [...][]column{
		noApp:   nil,
		appOnly: application,
		appHost: append(application[:2:2], named(ie.IANA, 460)),
		appSNI:  append(application[:2:2], named(ntop, 188)),
		appDNS:  append(application[:2:2], named(ntop, 205)),
		appSSH:  append(application[:2:2], named(ie.CERT, 171)),
	}
)

func named(pen uint32, id uint16) column {
	return column{Field: field(pen, id, ie.Variable), put: func(b []byte, r *flow.Record) []byte { return putName(b, r.AppName) }}
}

// rareColumns are the columns of TCP, for TCP.
func (s shape) rareColumns() []column {
	if s.transport == encode.TCP {
		return quality
	}
	return nil
}

// putID writes a machine's identity: the 16 bytes of a UUID, anything else as text, of 16 bytes with a zero behind it.
func putID(b []byte, id string) []byte {
	if len(id) == 16 {
		return append(append(append(b, 17), id...), 0)
	}
	if len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' {
		at := len(b)
		b = append(b, 16)
		for _, part := range [...]string{id[:8], id[9:13], id[14:18], id[19:23], id[24:]} {
			for i := 0; i < len(part); i += 2 {
				hi, lo := nibble(part[i]), nibble(part[i+1])
				if hi|lo > 15 {
					return putName(b[:at], id)
				}
				b = append(b, hi<<4|lo)
			}
		}
		return b
	}
	return putName(b, id)
}

// nibble reads a lower-case hexadecimal digit; 255 is none. Upper case stays text, so that it comes back as it was.
func nibble(c byte) uint8 {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

func field(pen uint32, id, n uint16) Field { return Field{PEN: pen, ID: id, Len: n} }
