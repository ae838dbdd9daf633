package tunnel

import (
	"encoding/binary"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Headers between the outer IP header and the frame. UDP is the socket's.
const (
	greSeqLen  = wire.GRELen + 4
	maxHeader  = greSeqLen + wire.ERSPAN3Len + wire.ERSPANPlatformLen + wire.EthernetLen
	ipv4Header = wire.IPv4Len
	ipv6Header = wire.IPv6Len
)

// encap writes what stands in front of a frame. It is for one goroutine.
type encap struct {
	kind  Kind
	head  [maxHeader]byte // what is the same in all packets
	n     int             // bytes of it
	seqAt int             // offset of the sequence number, 0 for none
	seq   uint32          // of the next packet
	t     *Target
}

const greSeq = 0x10 // S in the first byte

func newEncap(t *Target) encap {
	e := encap{kind: t.Kind, t: t}
	be := binary.BigEndian
	switch b := e.head[:]; t.Kind {
	case VXLAN: // RFC 7348, section 5
		b[0] = 0x08
		be.PutUint32(b[4:], t.VNI<<8)
		e.n = wire.VXLANLen
	case Geneve: // RFC 8926, section 3.4: version 0, no options
		be.PutUint16(b[2:], wire.TypeTEB)
		be.PutUint32(b[4:], t.VNI<<8)
		e.n = wire.GeneveLen
	case GRE: // RFC 2784, section 2; RFC 2890, section 2
		be.PutUint16(b[2:], wire.TypeTEB)
		e.n = wire.GRELen
		if t.HasKey {
			b[0] |= 0x20
			be.PutUint32(b[e.n:], t.Key)
			e.n += 4
		}
		if t.Seq {
			b[0] |= greSeq
			e.seqAt = e.n
			e.n += 4
		}
	case ERSPAN2:
		b[0] = greSeq
		be.PutUint16(b[2:], wire.TypeERSPAN)
		e.seqAt, e.n = wire.GRELen, greSeqLen+wire.ERSPAN2Len
	case ERSPAN3:
		b[0] = greSeq
		be.PutUint16(b[2:], wire.TypeERSPAN3)
		e.seqAt, e.n = wire.GRELen, greSeqLen+wire.ERSPAN3Len
		if t.Granularity == PTP {
			e.n += wire.ERSPANPlatformLen
		}
	}
	return e
}

// put writes the headers for f to b, which has room for maxHeader bytes, and returns their length. cut says that the copy is shorter than
// the frame was.
func (e *encap) put(b []byte, f *frame.Frame, cut bool) int {
	copy(b[:maxHeader], e.head[:])
	if e.seqAt != 0 {
		binary.BigEndian.PutUint32(b[e.seqAt:], e.seq)
		e.seq++
	}
	switch e.kind {
	case ERSPAN2:
		e.erspan2(b[greSeqLen:], f, cut)
	case ERSPAN3:
		e.erspan3(b[greSeqLen:], f, cut)
	}
	return e.n
}

// first writes the word that both types begin with: version, VLAN, class of service, encap, truncated, session.
func (e *encap) first(b []byte, f *frame.Frame, version, encap uint32, cut bool) {
	const en, t = 11, 10 // shifts
	w := version<<28 | encap<<en | uint32(e.t.Session)
	if tci, ok := tag(f.Data); ok {
		w |= uint32(tci&0x0fff)<<16 | uint32(tci>>13)<<13
	}
	if cut {
		w |= 1 << t
	}
	binary.BigEndian.PutUint32(b, w)
}

// erspan2 writes a type II header (draft-foschiano-erspan-03, section 4.2). A tag stays in the frame, and En says so.
func (e *encap) erspan2(b []byte, f *frame.Frame, cut bool) {
	const kept = 3
	encap := uint32(0)
	if _, ok := tag(f.Data); ok {
		encap = kept
	}
	e.first(b, f, wire.ERSPANVersion2, encap, cut)
	index := e.t.Index
	if index == 0 {
		index = (f.Point + 1) & maxIndex
	}
	binary.BigEndian.PutUint32(b[4:], index)
}

// erspan3 writes a type III header (draft-foschiano-erspan-03, section 4.3): P is set, the frame type is Ethernet. With time stamps
// in seconds and nanoseconds a sub-header of platform 5 follows.
func (e *encap) erspan3(b []byte, f *frame.Frame, cut bool) {
	const good, p, egress, more = 0, 0x8000, 0x0008, 0x0001
	be := binary.BigEndian
	e.first(b, f, wire.ERSPANVersion3, good, cut)
	ns := uint64(f.TimeNS)
	w := uint16(p) | uint16(e.t.HardwareID)<<4 | uint16(e.t.Granularity)<<1
	if f.Dir == frame.Egress {
		w |= egress
	}
	stamp := uint32(ns / 100_000)
	switch e.t.Granularity {
	case Nanos100:
		stamp = uint32(ns / 100)
	case PTP:
		const platform = 5
		w |= more
		stamp = uint32(ns % 1e9)
		be.PutUint32(b[wire.ERSPAN3Len:], platform<<26|uint32(e.t.Switch)<<16|(f.Point+1)&0xffff)
		be.PutUint32(b[wire.ERSPAN3Len+4:], uint32(ns/1e9))
	}
	be.PutUint32(b[4:], stamp)
	be.PutUint16(b[8:], e.t.SGT)
	be.PutUint16(b[10:], w)
}

// tag returns the tag control information of a frame's outermost tag.
func tag(data []byte) (uint16, bool) {
	const at = 12
	if len(data) < at+4 {
		return 0, false
	}
	switch binary.BigEndian.Uint16(data[at:]) {
	case wire.TypeVLAN, wire.TypeSVLAN, wire.TypeQinQ:
		return binary.BigEndian.Uint16(data[at+2:]), true
	}
	return 0, false
}

// Ethernet headers for packets that were captured without one.
var (
	bareIPv4 = []byte{0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00}
	bareIPv6 = []byte{0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x86, 0xdd}
)

// linkHeader returns what has to stand in front of a frame to make it one of Ethernet: nothing, or a header for a bare IP
// packet; false when it cannot be one.
func linkHeader(f *frame.Frame) ([]byte, bool) {
	switch f.Link {
	case frame.LinkEthernet:
		return nil, len(f.Data) > 0
	case frame.LinkRaw, frame.LinkIPv4, frame.LinkIPv6:
		if len(f.Data) == 0 {
			return nil, false
		}
		switch f.Data[0] >> 4 {
		case 4:
			return bareIPv4, true
		case 6:
			return bareIPv6, true
		}
	}
	return nil, false
}

// conversation returns a hash that is the same for all packets of a conversation, both ways.
func conversation(p *dissect.Packet) uint64 {
	f := p.Inner()
	if !f.HasIP {
		return mix(uint64(min(f.SrcMAC, f.DstMAC))) ^ mix(uint64(max(f.SrcMAC, f.DstMAC)))
	}
	a, b := fold(f.Src[:]), fold(f.Dst[:])
	if !f.MoreFrags && f.FragOff == 0 { // ports that some fragments lack must not part them
		a, b = mix(a+uint64(f.SrcPort)), mix(b+uint64(f.DstPort))
	}
	return mix(a + b + uint64(f.Proto))
}

func fold(a []byte) uint64 {
	return mix(binary.LittleEndian.Uint64(a)) + binary.LittleEndian.Uint64(a[8:])
}

// mix spreads the bits of x (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
