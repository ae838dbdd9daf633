package enrich

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

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

// What a key's hash is of; it keeps the kinds apart. Stored identifiers are made with them.
const (
	kindExact     = 1
	kindAmbiguous = 5
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

// Seeds of the keys that no record carries, drawn at start: what arrives cannot be chosen to collide.
var seeds = [8]uint64{rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1}

// fold hashes two words.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hashEnd hashes an address with its port.
func hashEnd(a *flow.Addr, port uint16) uint64 {
	return fold(binary.LittleEndian.Uint64(a[:8])^seeds[0], binary.LittleEndian.Uint64(a[8:])^uint64(port)*seeds[6]^seeds[1])
}

// tupleKeys hashes a 5-tuple, and what both directions share: the ends in an order of their own, and the MAC addresses, or
// the segment where there are none. low tells whether the source is the lower end. Neither key is 0.
func tupleKeys(t *tuple, seg flow.Segment, src, dst flow.MAC, fabric string) (tup, conv uint64, low bool) {
	from, to := hashEnd(&t.src, t.srcPort), hashEnd(&t.dst, t.dstPort)
	kind := (uint64(t.etherType)<<8 | uint64(t.proto)) * seeds[7]
	tup = fold(from^kind^seeds[2], to^seeds[3]) | 1
	if low = from <= to; !low {
		from, to, src, dst = to, from, dst, src
	}
	conv = fold(from^kind^seeds[4], to^seeds[5])
	if src == 0 && dst == 0 || src.Group() || dst.Group() {
		conv = fold(conv^uint64(seg), seeds[2]^fabricSeed(fabric))
	} else {
		conv = fold(conv^uint64(src)<<1, uint64(dst)^seeds[3]^fabricSeed(fabric))
	}
	return tup, conv | 1, low
}

// seenBy identifies the place that saw the packets: exporter, domain, point and name, what kind of place it
// is, and the direction. Two rows of one flow with one identifier never tell of the same packet: a packet enters
// a switch once, and leaves it once unless it goes to a group, when each port it leaves by is a place of its
// own. Two rows with different identifiers may.
type seenBy struct {
	observer  string
	exporter  flow.Addr
	point     uint64
	domain    uint32
	port      uint32
	role      flow.Role
	direction uint8
}

func observerPlace(r *flow.Record) seenBy {
	return seenBy{
		observer: r.Observer, exporter: r.Exporter, point: r.Point, domain: r.Domain, port: observerPort(r), role: r.Role, direction: r.Direction,
	}
}

// observerPort is the port where a packet to a group left, which makes each a place of its own, else 0.
func observerPort(r *flow.Record) uint32 {
	if r.Direction == 1 && (r.DstMAC.Group() || unowned(r.Dst)) {
		return r.OutIf
	}
	return 0
}

// is reports whether the record's observer is at the place: all of observerPlace, with nothing copied.
func (p *seenBy) is(r *flow.Record) bool {
	return p.domain == r.Domain && p.point == r.Point && p.direction == r.Direction && p.role == r.Role && p.exporter == r.Exporter &&
		p.observer == r.Observer && p.port == observerPort(r)
}

func (p *seenBy) id() uint64 {
	var b [48]byte
	copy(b[:], p.exporter[:])
	binary.BigEndian.PutUint32(b[16:], p.domain)
	binary.BigEndian.PutUint64(b[20:], p.point)
	binary.BigEndian.PutUint32(b[28:], p.port)
	b[32], b[33] = byte(p.role), p.direction
	binary.BigEndian.PutUint64(b[40:], xxh3.HashString(p.observer))
	h := xxh3.Hash(b[:])
	if h == 0 {
		return 1
	}
	return h
}

// observerIDs remembers the identifiers of the observers met last: records of one come in runs.
type observerIDs [16]struct {
	seenBy
	id uint64
}

func (o *observerIDs) of(r *flow.Record) uint64 {
	e := &o[(uint32(r.Direction)+r.Domain<<1+uint32(r.Point)<<1)%uint32(len(o))]
	if e.id == 0 || !e.is(r) {
		e.seenBy = observerPlace(r)
		e.id = e.seenBy.id()
	}
	return e.id
}
