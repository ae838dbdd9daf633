package decode

import (
	"encoding/binary"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// section is the start of a packet that came in a record.
type section struct {
	link frame.LinkType
	data []byte
	size int // of the packet; 0 when not said
	kind int // dataLinkFrameType: 1 is Ethernet, 2 is 802.11; 0 when not said
}

const linkEthernet = 1

// setFrame fills the record from a section of its packet: the packet itself is the best witness of what it was.
func (s *Decoder) setFrame(r *flow.Record) {
	x := &s.ctx.section
	if len(x.data) == 0 || x.link == frame.LinkEthernet && x.kind > linkEthernet {
		return
	}
	var h flow.Record
	n := Header(&s.packet, &h, x.link, x.data, x.size)
	if h.Src.IsZero() && h.SrcMAC == 0 {
		return
	}
	if h.VLAN == 0 {
		h.VLAN = r.VLAN
	}
	r.Src, r.Dst, r.SrcPort, r.DstPort, r.Proto, r.EtherType = h.Src, h.Dst, h.SrcPort, h.DstPort, h.Proto, h.EtherType
	r.SrcMAC, r.DstMAC, r.VLAN, r.InnerVLAN, r.MPLS = h.SrcMAC, h.DstMAC, h.VLAN, h.InnerVLAN, h.MPLS
	r.ToS, r.MinTTL, r.MaxTTL, r.MinLen, r.MaxLen = h.ToS, h.MinTTL, h.MaxTTL, h.MinLen, h.MaxLen
	r.TCPFlags, r.ICMPTypeCode, r.Fragments = r.TCPFlags|h.TCPFlags, h.ICMPTypeCode, h.Fragments
	r.Marks |= h.Marks
	if h.Tunnel != (flow.Tunnel{}) {
		r.Tunnel = h.Tunnel
	}
	if h.Segment != 0 {
		r.Segment = h.Segment
	}
	if r.Packets == 0 {
		r.Packets = 1
	}
	if r.Octets == 0 {
		r.Octets = uint64(n) * r.Packets
	}
	if r.L2Octets == 0 && x.link == frame.LinkEthernet && x.size > 0 {
		r.L2Octets = uint64(x.size) * r.Packets
	}
}

// listRef is a list of records inside a record, RFC 6313, section 4.5.
type listRef struct {
	multi bool
	data  []byte
}

// listDepth bounds lists in lists.
const listDepth = 3

// sublists runs the records of a list. Those of a template with addresses become flow records of their own, which have everything
// else from the record around them; the others say more of that record, which is at index at.
func (s *Decoder) sublists(at int, domain uint32, c *context, depth int) {
	for _, l := range c.lists {
		eachSublist(l, func(id uint16, body []byte) {
			t := s.Find(domain, id)
			if t == nil || t.options {
				s.res.MissingSets++
				return
			}
			for len(body) >= t.minLen {
				n, ok := s.sublist(at, domain, t, c, body, depth)
				if !ok {
					return
				}
				body = body[n:]
			}
		})
	}
}

// sublist runs one record of a list.
func (s *Decoder) sublist(at int, domain uint32, t *Template, c *context, body []byte, depth int) (int, bool) {
	sub := context{exportNS: c.exportNS, bootNS: c.bootNS, uptime: c.uptime, uptimeMS: c.uptimeMS, back: c.back, extra: make([][]byte, len(t.plan.extra))}
	r := s.recs[at]
	n, ok := t.plan.runRecord(&r, &sub, body)
	if !ok {
		s.res.Problems[BadRecord]++
		if s.err == nil {
			s.err = &Error{Protocol: s.msg.Protocol, Reason: BadRecord, Set: t.ID, Need: n, Have: len(body)}
		}
		return n, false
	}
	if t.plan.after&(afterKey|afterGRE) != 0 {
		t.plan.settle(&r, &sub)
	}
	if t.plan.flow {
		s.recs = append(s.recs, r)
		at = len(s.recs) - 1
	} else {
		s.recs[at], c.back = r, sub.back
	}
	if depth < listDepth {
		s.sublists(at, domain, &sub, depth+1)
	}
	return n, true
}

// eachSublist calls f with each run of records of one template in a list.
func eachSublist(l listRef, f func(id uint16, body []byte)) {
	b := l.data
	if len(b) < 1 {
		return
	}
	b = b[1:] // how the records relate
	if !l.multi {
		if len(b) >= 2 {
			f(binary.BigEndian.Uint16(b), b[2:])
		}
		return
	}
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return
		}
		f(binary.BigEndian.Uint16(b), b[4:n])
		b = b[n:]
	}
}
