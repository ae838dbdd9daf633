package groom

import (
	"encoding/binary"

	"crosstap/internal/dissect"
	"crosstap/internal/wire"
)

// keyer computes the hash by which copies of a packet are found.
type keyer struct {
	hasher
	spec Dedup
	head [128]byte
}

func newKeyer(s Dedup) keyer { return keyer{hasher: newHasher(), spec: s} }

// of returns the hash of what makes the frame under way the same packet elsewhere: of an IP packet the headers but for
// the fields to ignore, and all that follows up to the packet's end; of any other frame all its bytes.
func (k *keyer) of(it *item) uint64 {
	data := it.f.Data
	if k.spec.Frame {
		return k.sum(data)
	}
	p := it.packet()
	f := p.Outer()
	level := uint8(0)
	if k.spec.Inner {
		f, level = p.Inner(), uint8(max(p.NLevels-1, 0))
	}
	if !f.HasIP {
		return k.sum(data[min(levelStart(p, level), len(data)):])
	}
	stop := min(int(f.NetOff)+int(f.IPLen32), len(data))
	rest := data[f.NetOff:max(stop, int(f.NetOff))]
	b := k.link(k.head[:0], f)
	b, rest, next := k.network(b, rest)
	if f.TransOff != 0 {
		if gap := int(f.TransOff) - next - int(f.NetOff); gap > 0 && gap <= len(rest) { // extension headers
			b = binary.LittleEndian.AppendUint64(b, k.sum(rest[:gap]))
			rest = rest[gap:]
		}
		b, rest = k.transport(b, rest, f.Proto)
	}
	return k.sum(binary.LittleEndian.AppendUint64(b, k.sum(rest)))
}

func (k *keyer) ignores(f Field) bool { return k.spec.Ignore&f != 0 }

// link appends what is to be compared of the link header.
func (k *keyer) link(b []byte, f *dissect.Flow) []byte {
	if !k.ignores(FieldMAC) {
		b = binary.LittleEndian.AppendUint64(b, uint64(f.SrcMAC))
		b = binary.LittleEndian.AppendUint64(b, uint64(f.DstMAC))
	}
	if !k.ignores(FieldVLAN) {
		b = binary.LittleEndian.AppendUint16(b, f.VLAN)
		b = binary.LittleEndian.AppendUint16(b, f.InnerVLAN)
	}
	return b
}

// network appends the fixed part of an IP header. It also returns what follows and the length of that part.
func (k *keyer) network(b, rest []byte) ([]byte, []byte, int) {
	at := len(b)
	switch {
	case wire.IPv4(rest).Valid():
		b = append(b, rest[:wire.IPv4Len]...)
		h := wire.IPv4(b[at:])
		if k.ignores(FieldToS) {
			h.SetToS(0)
		}
		if k.ignores(FieldID) {
			h.SetID(0)
		}
		if k.ignores(FieldTTL) {
			h.SetTTL(0)
		}
		if k.ignores(FieldChecksum) || k.ignores(FieldTTL|FieldToS|FieldID) {
			h.SetChecksum(0)
		}
		return b, rest[wire.IPv4Len:], wire.IPv4Len
	case wire.IPv6(rest).Valid():
		b = append(b, rest[:wire.IPv6Len]...)
		h := wire.IPv6(b[at:])
		if k.ignores(FieldToS) {
			h[0], h[1] = h[0]&0xf0, h[1]&0x0f
		}
		if k.ignores(FieldTTL) {
			h.SetHopLimit(0)
		}
		return b, rest[wire.IPv6Len:], wire.IPv6Len
	}
	return b, rest, 0
}

// transport appends the ports and what else has a fixed place in a transport header, and returns what follows.
func (k *keyer) transport(b, rest []byte, proto uint8) ([]byte, []byte) {
	at := len(b)
	switch {
	case proto == wire.ProtoTCP && wire.TCP(rest).Valid():
		b = append(b, rest[:wire.TCPLen]...)
		h := wire.TCP(b[at:])
		if k.ignores(FieldChecksum) {
			h.SetChecksum(0)
		}
		if k.ignores(FieldSeq) {
			h.SetSeq(0)
		}
		return b, rest[wire.TCPLen:]
	case proto == wire.ProtoUDP && wire.UDP(rest).Valid():
		b = append(b, rest[:wire.UDPLen]...)
		if k.ignores(FieldChecksum) {
			wire.UDP(b[at:]).SetChecksum(0)
		}
		return b, rest[wire.UDPLen:]
	}
	return b, rest
}
