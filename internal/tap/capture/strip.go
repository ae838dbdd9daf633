package capture

import (
	"bytes"
	"encoding/binary"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Reasons under which a mirror's packets are dropped.
const (
	DropMirrorKernel  = iota // the kernel found no room in the socket's buffer
	DropMirrorLost           // their sequence numbers never came
	DropMirrorHeader         // what stands before the frame is cut or wrong
	DropMirrorPayload        // what is inside is no frame that can be read
	DropMirrorNoFrame        // they carry none: keep-alives, markers of a clock
	DropMirrorSession        // another session, VNI or key
	DropMirrorSender         // another sender
	DropMirrorStopped        // the source was told to stop before the next stage took it
)

// mirrorReasons name the reasons.
var mirrorReasons = []string{"kernel_dropped", "lost_on_the_way", "bad_header", "unknown_payload", "no_frame", "other_session", "other_sender", "stopped"}

const accepted = -1

// copied is what one packet of a mirror carries.
type copied struct {
	data       []byte // the frame, in the packet's memory
	orig       int    // bytes that the frame had at least
	link       frame.LinkType
	dir        frame.Direction
	session    uint32 // session, VNI or key
	seq        uint32 // when hasSeq
	hasSession bool
	hasSeq     bool
	stamp      stamp
}

// stamp is a time of the sender: ns of a clock that wraps after so many, or with wrap = 0 since 1970. The zero value is none.
type stamp struct {
	ns, wrap int64
	ok       bool
}

// strip takes what stands before the frame off a packet and returns accepted, or the reason not to. For GRE and ERSPAN the packet
// begins with the GRE header, else behind UDP. It moves bytes to put a VLAN tag back.
func (c *copied) strip(e *Endpoint, b []byte) int {
	*c = copied{link: frame.LinkEthernet, dir: frame.Unknown}
	if asks(e, b) {
		return DropMirrorNoFrame
	}
	reason := DropMirrorHeader
	switch e.Encap {
	case EncapVXLAN:
		reason = c.vxlan(b)
	case EncapGeneve:
		reason = c.geneve(b)
	case EncapUDP:
		c.link = e.Link
		reason = c.payload(b)
	case EncapTZSP:
		reason = c.tzsp(b)
	default:
		reason = c.gre(b)
	}
	if reason == accepted && !e.wants(c.session) {
		return DropMirrorSession
	}
	return reason
}

// asks reports whether a packet only asks if somebody listens, as a tap does before its first copy: it is empty or, where no port
// tells whose it is, a GRE header with the zeros of an ERSPAN header that says nothing.
func asks(e *Endpoint, b []byte) bool {
	if !e.Encap.raw() {
		return len(b) == 0
	}
	h := wire.GRE(b)
	if !h.Valid() || h.Len() > len(b) {
		return false
	}
	rest := b[h.Len():]
	return len(rest) <= wire.ERSPAN3Len+wire.ERSPANPlatformLen && len(bytes.Trim(rest, "\x00")) == 0
}

// payload takes the rest of a packet for the frame.
func (c *copied) payload(b []byte) int {
	if len(b) == 0 {
		return DropMirrorNoFrame
	}
	if c.link == frame.LinkRaw && b[0]>>4 != 4 && b[0]>>4 != 6 || c.link == frame.LinkEthernet && len(b) < wire.EthernetLen {
		return DropMirrorPayload
	}
	c.data = b
	c.orig = max(c.orig, len(b))
	return accepted
}

// typed takes the rest for what its EtherType says.
func (c *copied) typed(kind uint16, b []byte) int {
	switch kind {
	case wire.TypeTEB:
		return c.payload(b)
	case wire.TypeIPv4, wire.TypeIPv6:
		c.link = frame.LinkRaw
		return c.payload(b)
	}
	return DropMirrorPayload
}

func (c *copied) vxlan(b []byte) int {
	h := wire.VXLAN(b)
	if !h.Valid() {
		return DropMirrorHeader
	}
	c.session, c.hasSession = h.VNI(), true
	b = b[wire.VXLANLen:]
	switch h.GPENext() {
	case wire.GPEEthernet:
		return c.payload(b)
	case wire.GPEIPv4, wire.GPEIPv6:
		c.link = frame.LinkRaw
		return c.payload(b)
	}
	return DropMirrorPayload
}

func (c *copied) geneve(b []byte) int {
	h := wire.Geneve(b)
	if !h.Valid() || h.Len() > len(b) {
		return DropMirrorHeader
	}
	if h.Control() {
		return DropMirrorNoFrame
	}
	c.session, c.hasSession = h.VNI(), true
	return c.typed(h.Protocol(), b[h.Len():])
}

// tzsp has its numbers of link types from the sniffers it was made for.
func (c *copied) tzsp(b []byte) int {
	h := wire.TZSP(b)
	if !h.Valid() {
		return DropMirrorHeader
	}
	if h.Type() > wire.TZSPTransmit { // configuration, keep-alive, port opener
		return DropMirrorNoFrame
	}
	if h.Len() > len(b) {
		return DropMirrorHeader
	}
	switch h.Protocol() {
	case wire.TZSPEthernet:
	case 0x12:
		c.link = frame.LinkWLAN
	case 0x77:
		c.link = frame.LinkPrism
	case 0x7f:
		c.link = frame.LinkAVS
	default:
		return DropMirrorPayload
	}
	if n := h.Tag(wire.TZSPTagLen); len(n) == 2 {
		c.orig = int(binary.BigEndian.Uint16(n))
	}
	return c.payload(b[h.Len():])
}

// gre reads GRE and, inside of it, ERSPAN.
func (c *copied) gre(b []byte) int {
	h := wire.GRE(b)
	if !h.Valid() || h.Version() != 0 || h.Len() > len(b) {
		return DropMirrorHeader
	}
	if h.HasChecksum() && !wire.ChecksumOK(b) {
		return DropMirrorHeader
	}
	if h.HasSeq() {
		c.seq, c.hasSeq = h.Seq(), true
	}
	rest := b[h.Len():]
	switch h.Protocol() {
	case wire.TypeERSPAN:
		if !h.HasSeq() { // type I
			return c.payload(rest)
		}
		return c.erspan2(rest)
	case wire.TypeERSPAN3:
		return c.erspan3(rest)
	}
	if h.HasKey() {
		c.session, c.hasSession = h.Key(), true
	}
	return c.typed(h.Protocol(), rest)
}

// erspan2 puts the tag back that the switch took off (draft-foschiano-erspan-03, section 4.2).
func (c *copied) erspan2(b []byte) int {
	const isl, dot1q = 1, 2
	h := wire.ERSPAN(b)
	if !h.Valid() || h.Version() != wire.ERSPANVersion2 {
		return DropMirrorHeader
	}
	c.session, c.hasSession = uint32(h.Session()), true
	cut, encap := h.Truncated(), h.Encap()
	tci := uint16(h.CoS())<<13 | h.VLAN()
	reason := c.payload(b[wire.ERSPAN2Len:])
	if reason != accepted {
		return reason
	}
	if encap == isl || encap == dot1q {
		c.data = retag(b[wire.ERSPAN2Len-wire.VLANLen:], tci)
		c.orig = len(c.data)
	}
	if cut {
		c.orig = wholeLen(c.data)
	}
	return accepted
}

// retag moves the MAC addresses of a frame, which begins behind 4 bytes of room, forward and puts a tag behind them.
func retag(b []byte, tci uint16) []byte {
	const macs = 12
	copy(b, b[wire.VLANLen:wire.VLANLen+macs])
	binary.BigEndian.PutUint16(b[macs:], wire.TypeVLAN)
	binary.BigEndian.PutUint16(b[macs+2:], tci)
	return b
}

// wholeLen returns how long a frame was at least that was cut: as its IP header says, else a byte more.
func wholeLen(b []byte) int {
	off, n := wire.EthernetLen, len(b)+1
	kind := binary.BigEndian.Uint16(b[off-2:])
	for kind == wire.TypeVLAN && len(b) >= off+wire.VLANLen {
		kind = binary.BigEndian.Uint16(b[off+2:])
		off += wire.VLANLen
	}
	switch {
	case kind == wire.TypeIPv4 && len(b) >= off+4:
		n = max(n, off+int(binary.BigEndian.Uint16(b[off+2:])))
	case kind == wire.TypeIPv6 && len(b) >= off+6:
		n = max(n, off+wire.IPv6Len+int(binary.BigEndian.Uint16(b[off+4:])))
	}
	return n
}

// erspan3 reads type III (draft-foschiano-erspan-03, section 4.3).
func (c *copied) erspan3(b []byte) int {
	h := wire.ERSPAN(b)
	if !h.Valid() || h.Version() != wire.ERSPANVersion3 || h.Len() > len(b) {
		return DropMirrorHeader
	}
	c.session, c.hasSession = uint32(h.Session()), true
	c.dir = frame.Ingress
	if h.Egress() {
		c.dir = frame.Egress
	}
	c.stamp = erspanStamp(h, b)
	switch h.FrameType() {
	case wire.ERSPANFrameEthernet:
	case wire.ERSPANFrameIP:
		c.link = frame.LinkRaw
	case wire.ERSPANFrameTime:
		return DropMirrorNoFrame
	default:
		return DropMirrorPayload
	}
	reason := c.payload(b[h.Len():])
	if reason == accepted && h.Truncated() && c.link == frame.LinkEthernet {
		c.orig = wholeLen(c.data)
	} else if reason == accepted && h.Truncated() {
		c.orig = len(c.data) + 1
	}
	return reason
}

// erspanStamp reads the time of a type III header.
func erspanStamp(h wire.ERSPAN, b []byte) stamp {
	const seconds = 5 // the platform whose sub-header has the seconds
	switch h.Granularity() {
	case 0:
		return stamp{ns: int64(h.Timestamp()) * 100_000, wrap: 1 << 32 * 100_000, ok: true}
	case 1:
		return stamp{ns: int64(h.Timestamp()) * 100, wrap: 1 << 32 * 100, ok: true}
	case 2:
		if !h.HasPlatform() {
			return stamp{}
		}
		p := wire.ERSPANPlatform(b[wire.ERSPAN3Len:])
		if sec, ok := p.TimestampHigh(); ok && p.ID() == seconds {
			return stamp{ns: int64(sec)*1e9 + int64(h.Timestamp()), ok: true}
		}
	}
	return stamp{}
}
