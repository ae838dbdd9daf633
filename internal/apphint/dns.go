package apphint

import (
	"encoding/binary"

	"crosstap/internal/flow"
)

const (
	portDNS   = 53
	portMDNS  = 5353
	portLLMNR = 5355
)

func dnsPort(port uint16) bool { return port == portDNS || port == portMDNS || port == portLLMNR }

const (
	dnsHeader = 12
	maxLabel  = 63
	maxOpcode = 6
)

// dns reads the first question of a message (RFC 1035, section 4.1): of a query, or repeated in its answer. A message that was cut is
// told without its name.
func (in *Inspector) dns(b []byte, p *Packet) Hint {
	h := Hint{App: DNS, How: flow.AppDNS}
	switch {
	case p.SrcPort == portMDNS || p.DstPort == portMDNS:
		h.App = MDNS
	case p.SrcPort == portLLMNR || p.DstPort == portLLMNR:
		h.App = LLMNR
	}
	if len(b) < dnsHeader || b[2]>>3&15 > maxOpcode {
		return Hint{}
	}
	questions := binary.BigEndian.Uint16(b[4:])
	if questions == 0 && h.App == MDNS { // RFC 6762, section 6: answers repeat no question
		return h
	}
	if questions == 0 || questions > 32 {
		return Hint{}
	}
	name, ok := in.question(b[dnsHeader:])
	if !ok {
		return Hint{}
	}
	h.Name = name
	return h
}

// plainQuery reports whether a message on any port begins as a resolver's query does: one question, no answer, no more than two
// additional records.
func plainQuery(b []byte) bool {
	return len(b) > dnsHeader+4 && b[2]&^1 == 0 && b[3]&0x4f == 0 && string(b[4:11]) == "\x00\x01\x00\x00\x00\x00\x00" && b[11] <= 2
}

// question reads the name of a question, which has no compression to point to. The name is nil when it is cut.
func (in *Inspector) question(b []byte) (name []byte, ok bool) {
	n := 0
	for {
		if len(b) == 0 {
			return nil, true
		}
		size := int(b[0])
		if size > maxLabel {
			return nil, false
		}
		b = b[1:]
		if size == 0 {
			break
		}
		if size > len(b) {
			return nil, true
		}
		if n+size+1 > MaxName {
			return nil, false
		}
		if n > 0 {
			in.name[n] = '.'
			n++
		}
		n += copy(in.name[n:], b[:size])
		b = b[size:]
	}
	if len(b) >= 4 {
		const unicast = 0x8000 // RFC 6762, section 5.4
		switch binary.BigEndian.Uint16(b[2:]) &^ unicast {
		case 1, 3, 4, 254, 255: // IN, CH, HS, NONE, ANY
		default:
			return nil, false
		}
	}
	if n == 0 {
		in.name[0] = '.' // the root
		return in.name[:1], true
	}
	return in.clean(in.name[:n]), true
}
