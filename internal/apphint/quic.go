package apphint

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"crosstap/internal/flow"
)

const (
	maxCID      = 20   // bytes of a connection identifier (RFC 9000, section 17.2)
	maxDatagram = 2048 // of which a QUIC packet is read
	minInitial  = 64   // with less there is no ClientHello in it
	sampleLen   = 16
)

// version is what differs between the versions of QUIC in an Initial packet: RFC 9001, section 5.2, and RFC 9369,
// sections 3.2 and 3.3.
type version struct {
	number uint32
	kind   byte // of an Initial packet, in bits 4 and 5
	salt   string
	prefix string // of the labels
}

var versions = [...]version{
	{1, 0, "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic "},
	{0x6b3343cf, 1, "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 "},
}

// initial returns the version of a packet that begins as an Initial packet does, nil for others.
func initial(b []byte) *version {
	if len(b) < minInitial || b[0]&0xc0 != 0xc0 { // long header, fixed bit
		return nil
	}
	for i := range versions {
		v := &versions[i]
		if binary.BigEndian.Uint32(b[1:]) == v.number && b[0]>>4&3 == v.kind {
			return v
		}
	}
	return nil
}

// Costly reports whether a look at the packet means to decrypt it.
func Costly(p *Packet) bool { return p.Proto == protoUDP && initial(p.Payload) != nil }

// quic opens an Initial packet (RFC 9000, section 17.2.2) and reads the ClientHello in it. One that does not open, such as a server's,
// is QUIC without a name.
func (in *Inspector) quic(b []byte, part *Part) Hint {
	h := Hint{App: QUIC, How: flow.AppQUIC}
	v := initial(b)
	b = b[:min(len(b), maxDatagram)]
	dcid, packet, pn, ok := initialHeader(b)
	if !ok {
		return Hint{}
	}
	if part == nil {
		part = &in.whole
		part.Reset()
	}
	plain, ok := in.open(v, dcid, packet, pn)
	if !ok && part.cid > 0 { // the client takes over the server's identifier, but keeps the keys
		plain, ok = in.open(v, part.dcid[:part.cid], packet, pn)
	}
	if !ok {
		return h
	}
	if part.cid == 0 {
		part.cid = copy(part.dcid[:], dcid)
	}
	cryptoFrames(part, plain)
	msg := part.prefix()
	if len(msg) == 0 {
		h.More = part.n > 0
		return h
	}
	found := in.hello(msg, QUIC, flow.AppQUIC)
	if found.How == flow.AppUnknown {
		return h
	}
	found.More = found.More && !part.full()
	return found
}

// initialHeader finds the destination connection identifier, the packet without what may be coalesced behind it, and the offset of the
// packet number.
func initialHeader(b []byte) (dcid, packet []byte, pn int, ok bool) {
	at := 5
	n := int(b[at])
	if n > maxCID || at+1+n >= len(b) {
		return
	}
	dcid = b[at+1 : at+1+n]
	at += 1 + n
	n = int(b[at])
	if at += 1 + n; n > maxCID {
		return
	}
	token, w := varint(b, at)
	if at += w; w == 0 || token > uint64(len(b)-at) {
		return
	}
	at += int(token)
	size, w := varint(b, at)
	if at += w; w == 0 || size > uint64(len(b)-at) || size < 4+sampleLen {
		return
	}
	return dcid, b[:at+int(size)], at, true
}

// varint reads a variable-length integer (RFC 9000, section 16) and its width, 0 when it is not there.
func varint(b []byte, at int) (v uint64, width int) {
	if at < 0 || at >= len(b) {
		return 0, 0
	}
	width = 1 << (b[at] >> 6)
	if at+width > len(b) {
		return 0, 0
	}
	v = uint64(b[at] & 0x3f)
	for _, c := range b[at+1 : at+width] {
		v = v<<8 | uint64(c)
	}
	return v, width
}

// open removes the protection of a client's Initial packet (RFC 9001, sections 5.3 and 5.4), whose keys everybody can derive. The
// result is valid until the next call.
func (in *Inspector) open(v *version, dcid, packet []byte, pn int) ([]byte, bool) {
	keys, err := v.clientKeys(dcid)
	if err != nil {
		return nil, false
	}
	var mask [sampleLen]byte
	keys.hp.Encrypt(mask[:], packet[pn+4:pn+4+sampleLen])
	head := in.plain[:copy(in.plain[:], packet[:pn+4])]
	head[0] ^= mask[0] & 0x0f
	width := int(head[0]&3) + 1
	number := uint64(0)
	for i := range width {
		head[pn+i] ^= mask[1+i]
		number = number<<8 | uint64(head[pn+i])
	}
	nonce := keys.iv
	for i := range 8 {
		nonce[11-i] ^= byte(number >> (8 * i))
	}
	out := in.plain[pn+width : pn+width]
	plain, err := keys.aead.Open(out, nonce[:], packet[pn+width:], head[:pn+width])
	return plain, err == nil
}

// keys protect the Initial packets of one side.
type keys struct {
	aead cipher.AEAD
	iv   [12]byte
	hp   cipher.Block
}

// clientKeys derives the keys of the client's side from the identifier in its first packet.
func (v *version) clientKeys(dcid []byte) (k keys, err error) {
	secret, err := hkdf.Extract(sha256.New, dcid, []byte(v.salt))
	if err != nil {
		return k, err
	}
	client, err := expand(secret, "client in", sha256.Size)
	if err != nil {
		return k, err
	}
	key, err := expand(client, v.prefix+"key", 16)
	if err != nil {
		return k, err
	}
	iv, err := expand(client, v.prefix+"iv", len(k.iv))
	if err != nil {
		return k, err
	}
	copy(k.iv[:], iv)
	hp, err := expand(client, v.prefix+"hp", 16)
	if err != nil {
		return k, err
	}
	if k.hp, err = aes.NewCipher(hp); err != nil {
		return k, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return k, err
	}
	k.aead, err = cipher.NewGCM(block)
	return k, err
}

// expand is HKDF-Expand-Label without a context (RFC 8446, section 7.1).
func expand(secret []byte, label string, n int) ([]byte, error) {
	const prefix = "tls13 "
	info := string([]byte{byte(n >> 8), byte(n), byte(len(prefix) + len(label))}) + prefix + label + "\x00"
	return hkdf.Expand(sha256.New, secret, info, n)
}

// The frames that an Initial packet may have (RFC 9000, section 12.4).
const (
	framePadding = 0x00
	framePing    = 0x01
	frameAck     = 0x02
	frameAckECN  = 0x03
	frameCrypto  = 0x06
)

// cryptoFrames joins the CRYPTO frames of a packet, which may come in any order.
func cryptoFrames(part *Part, b []byte) {
	for at := 0; at < len(b); {
		switch b[at] {
		case framePadding, framePing:
			at++
		case frameAck, frameAckECN:
			at = skipAck(b, at)
		case frameCrypto:
			offset, w := varint(b, at+1)
			n, w2 := varint(b, at+1+w)
			if w == 0 || w2 == 0 || n > uint64(len(b)) {
				return
			}
			if at += 1 + w + w2; at+int(n) > len(b) {
				return
			}
			if offset < partBytes {
				part.add(int(offset), b[at:at+int(n)])
			}
			at += int(n)
		default:
			return
		}
	}
}

// skipAck returns where the frame behind an ACK frame begins (RFC 9000, section 19.3), the end when it is not whole.
func skipAck(b []byte, at int) int {
	kind := b[at]
	at++
	next := func() (v uint64) {
		v, w := varint(b, at)
		if w == 0 {
			at = len(b)
		}
		at += w
		return v
	}
	next() // largest acknowledged
	next() // delay
	ranges := next()
	next() // first range
	for ; ranges > 0 && at < len(b); ranges-- {
		next()
		next()
	}
	if kind == frameAckECN {
		next()
		next()
		next()
	}
	return at
}
