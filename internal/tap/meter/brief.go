package meter

import (
	"encoding/binary"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// brief is what a packet adds to a flow that is there already, of the most frequent frames: those of plain with IPv4, without what opens or ends a
// connection. It fills one line of the processor's cache; an arrival fills four, of which such a packet needs as much as this.
type brief struct {
	key    briefKey
	hash   uint64 // then the number of the likely flow
	timeNS int64
	seq    uint32 // of TCP, as tcpFlags are
	seqLen uint32 // sequence numbers that the segment takes

	octets   uint16 // IP total length
	l2Octets uint16
	tcpFlags uint16
	ttl      uint8
	states   state // of the flow, of which only sLive suits it; 0 when the frame is none of these
}

// briefKey is what there is in a key of IPv4 outside tunnels: MAC addresses and VLANs; ports, protocol, place and observation point; addresses. Of
// any other key, which has no placeBrief, it is the beginning.
type briefKey [4]uint64

const (
	restWords = len(key{}) - len(briefKey{})
	briefBits = 0xffff | (placeV6|placeBrief)<<placeShift // of its third word, where a key in brief differs
	v4Prefix  = 0xffff0000                                // the word before an IPv4 address in a key
)

// brief reports whether there is no more in the key than a briefKey holds.
func (k *key) brief() bool {
	return k[2]&briefBits|k[3]&^(0xffff<<32) == 0 && uint32(k[5]) == v4Prefix && uint32(k[7]) == v4Prefix && k[4]|k[6]|k[8]|k[9]|k[10]|k[11]|k[12] == 0
}

// The last two words of a key in brief.
func (k *key) briefPlace() uint64 { return k[2] | placeBrief<<placeShift | k[3]>>32 }
func (k *key) briefAddrs() uint64 { return k[5]>>32 | k[7]&^0xffffffff }

// setKey gives the flow its key.
func (e *entry) setKey(k *key) {
	if k.brief() {
		e.brief = briefKey{k[0], k[1], k.briefPlace(), k.briefAddrs()}
		return
	}
	copy(e.brief[:], k[:])
	copy(e.rest[:], k[len(e.brief):])
}

// key returns the flow's key.
func (e *entry) key() (k key) {
	b := &e.brief
	if !b.whole() {
		copy(k[:], b[:])
		copy(k[len(b):], e.rest[:])
		return k
	}
	k[0], k[1], k[2], k[3] = b[0], b[1], b[2]&^briefBits, b[2]&0xffff<<32
	k[5], k[7] = v4Prefix|b[3]<<32, v4Prefix|b[3]&^0xffffffff
	return k
}

// same reports whether the flow's key is k. Most that are compared are the same, so that no word is worth a branch of its own.
func (e *entry) same(k *key) bool {
	b, r := &e.brief, &e.rest
	d := (b[0] ^ k[0]) | (b[1] ^ k[1])
	if k.brief() {
		return d|(b[2]^k.briefPlace())|(b[3]^k.briefAddrs()) == 0
	}
	d |= (b[2] ^ k[2]) | (b[3] ^ k[3]) | (r[0] ^ k[4]) | (r[1] ^ k[5]) | (r[2] ^ k[6]) | (r[3] ^ k[7])
	return d|(r[4]^k[8])|(r[5]^k[9])|(r[6]^k[10])|(r[7]^k[11])|(r[8]^k[12]) == 0
}

func (b *briefKey) whole() bool  { return b[2]&(placeBrief<<placeShift) != 0 }
func (b *briefKey) proto() uint8 { return uint8(b[2] >> 24) }

func (b *briefKey) same(o *briefKey) bool {
	return (b[0]^o[0])|(b[1]^o[1])|(b[2]^o[2])|(b[3]^o[3]) == 0
}

// brief is hash for the words of a key in brief.
func (s *hasher) brief(b0, b1, place, addrs uint64) uint64 {
	return fold(fold(b0^s[9], b1^s[10])^addrs^s[11], place^s[12])
}

// How a frame becomes an arrival.
type way uint8

const (
	wayBrief     way = iota // it is one in brief, until its flow turns out to need more
	wayArrive               // arrive
	wayDissected            // plain would not take it
)

// brief fills q from a frame.
func (w *front) brief(q *brief, f *frame.Frame) way {
	const (
		tagged   = wire.EthernetLen + wire.VLANLen
		shortest = tagged + wire.IPv4Len + wire.UDPLen
	)
	q.states = 0
	b := f.Data
	end := max(f.OrigLen, len(b))
	if len(b) < shortest || f.Link != frame.LinkEthernet || f.VNet.Type != frame.GSONone || end > 0xffff || f.Point > 0xffff {
		return wayArrive
	}
	be, le := binary.BigEndian, binary.LittleEndian
	eth := (*[tagged]byte)(b)
	n := wire.EthernetLen
	src := be.Uint64(eth[6:]) // and the type
	t, vlan := uint16(src), uint64(0)
	if t == wire.TypeVLAN {
		n, t, vlan = tagged, be.Uint16(eth[16:]), uint64(be.Uint16(eth[14:])&0x0fff)
	}
	if t != wire.TypeIPv4 {
		return wayArrive
	}
	h := (*[wire.IPv4Len + wire.UDPLen]byte)(b[n:])
	total := int(be.Uint16(h[2:]))
	if h[0] != 0x45 || be.Uint16(h[6:])&0x3fff != 0 || n+total > end {
		return wayDissected
	}
	ports, proto := be.Uint32(h[wire.IPv4Len:]), h[9]
	start := wire.IPv4Len + wire.UDPLen
	states := sLive
	switch {
	case proto == wire.ProtoUDP:
		if start > total || w.cfg.Dissector.Tunnel(uint16(ports)) {
			return wayDissected
		}
	case proto == wire.ProtoTCP && len(b) >= n+wire.IPv4Len+wire.TCPLen:
		h := (*[wire.TCPLen]byte)(b[n+wire.IPv4Len:])
		size := int(h[12]>>4) * 4
		if start = wire.IPv4Len + size; size < wire.TCPLen || n+start > len(b) || start > total {
			return wayDissected
		}
		q.tcpFlags = be.Uint16(h[12:]) & 0x01ff
		if q.tcpFlags&(tcpSYN|tcpFIN|tcpRST) != 0 || be.Uint16(h[14:]) == 0 {
			return wayArrive
		}
		q.seq, q.seqLen = be.Uint32(h[4:]), uint32(total-start)
	default:
		return wayDissected
	}
	if start < total && n+start < len(b) {
		states |= sLook
	}
	k := &q.key
	k[0], k[1] = src&^0xffff|vlan, be.Uint64(eth[:])&^0xffff
	k[2] = uint64(ports)<<32 | uint64(proto)<<24 | (uint64(f.Dir)&dirMask|placeBrief)<<placeShift | uint64(f.Point)
	k[3] = le.Uint64(h[12:])
	q.octets, q.l2Octets, q.ttl, q.timeNS, q.states = uint16(total), uint16(end), h[8], f.TimeNS, states
	q.hash = w.hasher.brief(k[0], k[1], k[2], k[3])
	return wayBrief
}

// quick counts a packet of a flow that is in the state in which most are: nothing ends or begins with it, and its record is open. It
// reports false for any other, of which nothing is counted yet.
func (m *shard) quick(q *brief) bool {
	number := uint32(q.hash)
	if number == none {
		return false
	}
	e := m.cache.at(number)
	if !e.brief.same(&q.key) || e.packets == 0 || e.state&q.states != sLive {
		return false
	}
	lead := e
	if e.state&sFollows != 0 {
		lead = m.cache.at(e.peer - 1)
	}
	if m.clock >= min(lead.deadline, lead.lastClock+int64(m.cfg.IdleTimeout)) {
		return false
	}
	lead.lastClock = m.clock
	e.packets++
	e.octets += uint64(q.octets)
	e.l2Octets += uint64(q.l2Octets)
	e.at(q.timeNS)
	if q.octets < e.minLen || q.octets > e.maxLen {
		e.minLen, e.maxLen = min(e.minLen, q.octets), max(e.maxLen, q.octets)
	}
	if q.ttl < e.minTTL || q.ttl > e.maxTTL {
		e.minTTL, e.maxTTL = min(e.minTTL, q.ttl), max(e.maxTTL, q.ttl)
	}
	if q.key.proto() == wire.ProtoTCP {
		e.tcpFlags |= q.tcpFlags
		if e.state&(sSeq|sSyn) == sSeq && q.seq == e.nextSeq {
			e.nextSeq += q.seqLen
		} else {
			e.segment(sequence{seq: q.seq, len: q.seqLen, flags: q.tcpFlags, packets: 1, timeNS: q.timeNS})
		}
	}
	return true
}
