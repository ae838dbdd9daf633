package groom

import (
	"encoding/binary"
	"hash/crc32"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Notes of the repair step.
const (
	noteCut       = iota // super-frames that were cut
	noteCompleted        // partial checksums that were completed
	noteUnknown          // checksums that cannot be known, as bytes of the frame were not captured
	noteLeft             // super-frames whose virtio header does not fit their bytes
	noteOversize         // frames longer than the MTU without a virtio header
)

// minSegment is the least that a segment holds, as in Linux: a header that promises smaller ones is not believed.
const minSegment = 8

// repair turns what the sending stack left to hardware into what the hardware would have sent.
type repair struct {
	acc  account
	long int    // frames above this length are more than one wire frame
	head []byte // headers of the segments
	ls   [dissect.MaxLayers]dissect.Layer
}

func newRepair(c Repair) *repair {
	const tags = 2 * wire.VLANLen
	return &repair{
		acc: newAccount("repair", nil, "super-frames cut", "checksums completed", "checksums unknown (cut by the snap length)",
			"super-frames left (virtio header does not fit)", "frames longer than the MTU without a virtio header"),
		long: c.MTU + wire.EthernetLen + tags,
	}
}

// apply calls next for each wire segment of the frame under way.
func (r *repair) apply(it *item, next func()) {
	r.acc.in++
	v := it.f.VNet
	switch {
	case v.Type&^frame.GSOECN == frame.GSONone && v.NeedsCsum:
		r.complete(it)
	case v.Type&^frame.GSOECN == frame.GSONone:
		if it.f.OrigLen > r.long {
			r.acc.note(noteOversize)
		}
	case r.cut(it, next):
		return
	default:
		r.acc.note(noteLeft)
	}
	r.acc.out++
	next()
}

// complete finishes the checksum that covers everything from CsumStart on and whose field holds the sum of the
// pseudo-header.
func (r *repair) complete(it *item) {
	v := it.f.VNet
	start, stop := int(v.CsumStart), packetEnd(it)
	at := start + int(v.CsumOffset)
	if at+2 > len(it.f.Data) || at+2 > stop {
		r.acc.note(noteLeft)
		return
	}
	if stop > len(it.f.Data) {
		it.f.VNet = frame.VNet{}
		r.acc.note(noteUnknown)
		return
	}
	stream := sctp(it, start)
	b := it.own()
	if stream {
		binary.LittleEndian.PutUint32(b[at:], crcWithout(b[start:stop]))
	} else {
		sum := wire.Checksum(b[start:stop])
		if sum == 0 {
			sum = 0xffff // as Linux does in this place, for TCP too
		}
		binary.BigEndian.PutUint16(b[at:], sum)
	}
	it.f.VNet = frame.VNet{}
	r.acc.note(noteCompleted)
}

// packetEnd returns the offset at which the outermost IP packet ends: behind it there is padding.
func packetEnd(it *item) int {
	for _, l := range it.layers() {
		if l.Kind == dissect.KindIPv4 || l.Kind == dissect.KindIPv6 {
			if n, ok := length(it.f.Data, l); ok && int(l.Len) >= wire.IPv4Len {
				return min(int(l.Off)+n, it.f.OrigLen)
			}
			break
		}
	}
	return it.f.OrigLen
}

// sctp reports whether an SCTP packet begins at start: its checksum is a CRC32c.
func sctp(it *item, start int) bool {
	for _, l := range it.layers() {
		if l.Kind == dissect.KindSCTP && int(l.Off) == start && int(l.Len) == wire.SCTPLen {
			return true
		}
	}
	return false
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcWithout returns the CRC32c of an SCTP packet with its checksum field taken as 0 (RFC 9260, section 6.8).
func crcWithout(b []byte) uint32 {
	const field = 8
	c := crc32.Update(0, castagnoli, b[:field])
	c = crc32.Update(c, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(c, castagnoli, b[field+4:])
}

// plan is what a super-frame is cut by.
type plan struct {
	src       frame.Frame
	layers    int // of the segments' headers, in repair.ls
	start     int // offset of the payload in the super-frame
	payload   int // bytes of it
	size      int // of it in each segment but the last
	segments  int
	transport dissect.Layer
}

// cut calls next for every wire segment of a super-frame. It reports false, and has done nothing, when the bytes of the frame are
// not what its virtio header says.
func (r *repair) cut(it *item, next func()) bool {
	p, ok := r.plan(it)
	if !ok {
		return false
	}
	r.acc.note(noteCut)
	r.acc.made += p.segments - 1
	r.acc.out += p.segments
	whole := true
	for k := range p.segments {
		whole = r.segment(it, &p, k) && whole
		next()
	}
	if !whole {
		r.acc.note(noteUnknown)
	}
	return true
}

// plan finds the transport header whose payload is cut and prepares the headers of the segments.
func (r *repair) plan(it *item) (plan, bool) {
	ls := it.layers()
	t := superTransport(ls, it.f.VNet)
	if t < 0 {
		return plan{}, false
	}
	ip := network(ls, t)
	p := plan{src: it.f, layers: t + 1, start: end(ls[t]), size: int(it.f.VNet.Segment)}
	stop := it.f.OrigLen
	ipEnd(it.f.Data, ls[ip], &stop)
	p.payload = stop - p.start
	if p.size < minSegment || p.payload <= 0 || p.start > len(it.f.Data) {
		return plan{}, false
	}
	p.segments = (p.payload + p.size - 1) / p.size
	r.head = append(r.head[:0], it.f.Data[:p.start]...)
	copy(r.ls[:], ls[:t+1])
	for i := t; i > 0; i-- {
		if ls[i].Kind == dissect.KindHopByHop && wire.IPv6Ext(r.head[ls[i].Off:]).Jumbo() != 0 && !r.dropJumbo(&p, i) {
			return plan{}, false
		}
	}
	p.transport = r.ls[p.layers-1]
	return p, p.segments <= 0xffff
}

// superTransport returns the index of the transport header that a virtio header speaks of, -1 when there is
// none: the one whose checksum is partial, or else the innermost.
func superTransport(ls []dissect.Layer, v frame.VNet) int {
	want, under := dissect.KindTCP, dissect.KindIPv4
	switch v.Type &^ frame.GSOECN {
	case frame.GSOTCPv4:
	case frame.GSOTCPv6:
		under = dissect.KindIPv6
	case frame.GSOUDPL4:
		want, under = dissect.KindUDP, dissect.KindNone
	default:
		return -1
	}
	for i := len(ls) - 1; i > 0; i-- {
		l := ls[i]
		if l.Kind != want || v.NeedsCsum && l.Off != v.CsumStart {
			continue
		}
		ip := network(ls, i)
		if ip < 0 || under != dissect.KindNone && ls[ip].Kind != under || want == dissect.KindTCP && l.Len < wire.TCPLen || l.Len < wire.UDPLen {
			return -1
		}
		return i
	}
	return -1
}

// dropJumbo takes the hop-by-hop header off that carries the length of a BIG TCP super-frame (RFC 2675): no
// segment needs it, and Linux takes it off in the same place.
func (r *repair) dropJumbo(p *plan, i int) bool {
	l, before := r.ls[i], r.ls[i-1]
	if l.Len != wire.IPv6ExtMin || before.Kind != dissect.KindIPv6 {
		return false
	}
	wire.IPv6(r.head[before.Off:]).SetNextHeader(wire.IPv6Ext(r.head[l.Off:]).NextHeader())
	r.head = append(r.head[:l.Off], r.head[end(l):]...)
	copy(r.ls[i:], r.ls[i+1:p.layers])
	p.layers--
	for k := i; k < p.layers; k++ {
		r.ls[k].Off -= l.Len
	}
	return true
}

// segment makes the k-th wire segment the frame under way. It reports whether its checksums are right.
func (r *repair) segment(it *item, p *plan, k int) bool {
	from := k * p.size
	n := min(p.size, p.payload-from)
	have := min(max(len(p.src.Data)-p.start-from, 0), n)
	b := it.group.take(len(r.head) + have)
	copy(b[copy(b, r.head):], p.src.Data[p.start+min(from, len(p.src.Data)-p.start):])
	total := len(r.head) + n
	f := p.src
	f.Data, f.OrigLen, f.VNet = b, total, frame.VNet{}
	if p.segments > 1 {
		f.Segments = uint16(p.segments)
	}
	it.load(&f)
	it.owned = true
	ls := r.ls[:p.layers]
	for _, l := range ls {
		r.number(b, l, k, total)
	}
	h := b[p.transport.Off:]
	if p.transport.Kind == dissect.KindTCP {
		sequence(wire.TCP(h), from, k == 0, k == p.segments-1)
	} else if p.src.VNet.NeedsCsum {
		wire.UDP(h).SetChecksum(1) // there shall be one, whatever the partial sum is
	}
	return compute(b, ls, total)
}

// number sets the lengths and identifications of one header of the k-th segment. A sender that gives every packet the
// identification 0, which it may do for packets that must not be fragmented (RFC 6864, section 4.1), is left at that.
func (r *repair) number(b []byte, l dissect.Layer, k, total int) {
	switch l.Kind {
	case dissect.KindIPv4:
		h := wire.IPv4(b[l.Off:])
		if h.ID() != 0 || !h.DontFragment() {
			h.SetID(h.ID() + uint16(k))
		}
	case dissect.KindIPv6, dissect.KindUDP:
	default:
		if _, ok := length(b, l); !ok {
			return
		}
	}
	setLength(b, l, total-int(l.Off))
}

// sequence sets what differs between the TCP headers of a super-frame's segments: PSH and FIN belong to the last
// one, CWR to the first.
func sequence(h wire.TCP, from int, first, last bool) {
	h.SetSeq(h.Seq() + uint32(from))
	f := h.Flags()
	if !last {
		f &^= wire.TCPFin | wire.TCPPsh
	}
	if !first {
		f &^= wire.TCPCwr
	}
	h.SetFlags(f)
}
