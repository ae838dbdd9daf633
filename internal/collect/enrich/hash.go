package enrich

import (
	"bytes"
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"crosstap/internal/flow"
)

// tuple is the 5-tuple in wire order. ICMP types are left out: they are attributes of the rows. Frames without
// IP are told apart by their ethertype.
type tuple struct {
	src, dst         flow.Addr
	srcPort, dstPort uint16
	proto            uint8
	etherType        uint16
}

func tupleOf(r *flow.Record) tuple {
	t := tuple{src: r.Src, dst: r.Dst, srcPort: r.SrcPort, dstPort: r.DstPort, proto: r.Proto}
	if isICMP(r.Proto) {
		t.srcPort, t.dstPort = 0, 0 // some exporters put type and code here
	}
	if r.Src.IsZero() && r.Dst.IsZero() {
		t.etherType = r.EtherType
	}
	return t
}

func isICMP(proto uint8) bool { return proto == 1 || proto == 58 }

const (
	tupleLen = 39 // the addresses, room for two ports, ethertype and protocol
	keyLen   = tupleLen + 8 + 16 + 8
)

// What a key's hash is of; it keeps the kinds apart.
const (
	kindExact = iota + 1
	kindNoMAC
	kindNoSeg
	kindBoth
	kindAmbiguous
	kindTuple
)

// exactKey hashes the whole merge key. The ports are not mixed in but stand over the hash of the rest, so that the identifiers of the flows
// between two machines differ in their ports alone, which the store makes use of.
func exactKey(t *tuple, seg flow.Segment, src, dst flow.MAC, fabric string, kind uint64) uint64 {
	var b [keyLen]byte
	copy(b[:], t.src[:])
	copy(b[16:], t.dst[:])
	binary.BigEndian.PutUint16(b[36:], t.etherType)
	b[38] = t.proto
	binary.BigEndian.PutUint64(b[tupleLen:], uint64(seg))
	binary.BigEndian.PutUint64(b[tupleLen+8:], uint64(src))
	binary.BigEndian.PutUint64(b[tupleLen+16:], uint64(dst))
	binary.BigEndian.PutUint64(b[tupleLen+24:], kind)
	h := xxh3.HashSeed(b[:], fabricSeed(fabric)) ^ (uint64(t.srcPort)<<48 | uint64(t.dstPort)<<32)
	if h == 0 {
		return 1
	}
	return h
}

// fabricSeed keeps fabrics apart. The default fabric has none, so that its identifiers do not depend on a name.
func fabricSeed(fabric string) uint64 {
	if fabric == "" || fabric == "default" {
		return 0
	}
	return xxh3.HashString(fabric)
}

// conversationKey hashes what both directions share: the ends in an order of their own, and the MAC addresses, or
// the segment where there are none. low tells whether the source is the lower end.
func conversationKey(t *tuple, seg flow.Segment, src, dst flow.MAC, fabric string) (h uint64, low bool) {
	c := *t
	low = lower(t)
	if !low {
		c.src, c.dst, c.srcPort, c.dstPort = t.dst, t.src, t.dstPort, t.srcPort
		src, dst = dst, src
	}
	if src == 0 && dst == 0 || src.Group() || dst.Group() {
		src, dst = 0, 0
	} else {
		seg = 0
	}
	return exactKey(&c, seg, src, dst, fabric, kindBoth), low
}

// lower reports whether the source is the lower end.
func lower(t *tuple) bool {
	if c := bytes.Compare(t.src[:], t.dst[:]); c != 0 {
		return c < 0
	}
	return t.srcPort <= t.dstPort
}

// observerID identifies the place that saw the packets: exporter, domain, point and name, what kind of place it
// is, and the direction. Two rows of one flow with one identifier never tell of the same packet: a packet enters
// a switch once, and leaves it once unless it goes to a group, when each port it leaves by is a place of its
// own. Two rows with different identifiers may.
func observerID(r *flow.Record) uint64 {
	port := uint32(0)
	if r.Direction == 1 && (r.DstMAC.Group() || unowned(r.Dst)) {
		port = r.OutIf
	}
	var b [48]byte
	copy(b[:], r.Exporter[:])
	binary.BigEndian.PutUint32(b[16:], r.Domain)
	binary.BigEndian.PutUint64(b[20:], r.Point)
	binary.BigEndian.PutUint32(b[28:], port)
	b[32], b[33] = byte(r.Role), r.Direction
	binary.BigEndian.PutUint64(b[40:], xxh3.HashString(r.Observer))
	h := xxh3.Hash(b[:])
	if h == 0 {
		return 1
	}
	return h
}
