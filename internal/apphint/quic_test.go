package apphint

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// Of RFC 9001, appendix A.2, and RFC 9369, appendix A.2: the CRYPTO frame of the client's Initial packet, and the first 32 and the last
// 16 bytes of that packet as it is protected in either version.
const (
	sampleDCID  = "8394c8f03e515708"
	sampleFrame = `060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868
		04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578
		616d706c652e636f6dff01000100000a00080006001d00170018001000070005
		04616c706e000500050100000000003300260024001d00209370b2c9caa47fba
		baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400
		0d0010000e0403050306030203080408050806002d00020101001c0002400100
		3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000
		75300901100f088394c8f03e51570806048000ffff`
	v1Header, v2Header = "c300000001088394c8f03e5157080000449e00000002", "d36b3343cf088394c8f03e5157080000449e00000002"
	v1Begin, v1End     = "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11", "e221af44860018ab0856972e194cd934"
	v2Begin, v2End     = "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485", "a18b2faa745b6fe189cf772a9f84cbfc"
	samplePayload      = 1162
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// seal protects an Initial packet with the header, which has a packet number of 4 bytes.
func seal(v *version, dcid, header, frames []byte) []byte {
	k, err := v.clientKeys(dcid)
	if err != nil {
		panic(err)
	}
	nonce := k.iv
	for i := range 4 {
		nonce[8+i] ^= header[len(header)-4+i]
	}
	b := k.aead.Seal(bytes.Clone(header), nonce[:], frames, header)
	var mask [16]byte
	k.hp.Encrypt(mask[:], b[len(header):len(header)+16])
	b[0] ^= mask[0] & 0x0f
	for i := range 4 {
		b[len(header)-4+i] ^= mask[1+i]
	}
	return b
}

// sample returns the RFC's packet of a version.
func sample(i int) []byte {
	frames := append(unhex(sampleFrame), make([]byte, samplePayload-len(unhex(sampleFrame)))...)
	return seal(&versions[i], unhex(sampleDCID), unhex([]string{v1Header, v2Header}[i]), frames)
}

func TestQUICSamples(t *testing.T) {
	f := func(i int, begin, end string) {
		t.Helper()
		b := sample(i)
		if !bytes.HasPrefix(b, unhex(begin)) || !bytes.HasSuffix(b, unhex(end)) || len(b) != 1200 {
			t.Errorf("%x … %x", b[:32], b[len(b)-16:])
		}
		if got := text(New().Look(udpTo(443, string(b)), nil)); got != "quic quic example.com" {
			t.Error(got)
		}
		b[300]++
		if got := text(New().Look(udpTo(443, string(b)), nil)); got != "quic quic " {
			t.Errorf("damaged: %s", got)
		}
		if got := text(New().Look(udpTo(443, string(b[:200])), nil)); got != "  " {
			t.Errorf("cut: %s", got)
		}
	}
	f(0, v1Begin, v1End)
	f(1, v2Begin, v2End)
}

// cryptoFrame is a CRYPTO frame with both lengths in two bytes.
func cryptoFrame(offset int, b string) string {
	return "\x06" + u16(0x4000|offset) + u16(0x4000|len(b)) + b
}

// initialOf is an Initial packet of version 1 with any frames.
func initialOf(dcid, frames string, number byte) string {
	frames += strings.Repeat("\x00", max(0, 1100-len(frames)))
	header := "\xc3\x00\x00\x00\x01" + string([]byte{byte(len(dcid))}) + dcid + "\x04scid\x00" + u16(0x4000|(4+len(frames)+16)) + "\x00\x00\x00" + string([]byte{number})
	return string(seal(&versions[0], []byte("original"), []byte(header), []byte(frames)))
}

// TestQUICFrames reads a ClientHello whose CRYPTO frames are out of order, between others, and over two packets, the second
// with another connection identifier.
func TestQUICFrames(t *testing.T) {
	msg := hello("quic.example", 300, "h3")
	const ack = "\x02\x05\x01\x01\x00\x00\x01"
	const ackECN = "\x03\x05\x01\x00\x00\x01\x02\x03"
	one := cryptoFrame(200, msg[200:]) + "\x01\x00\x00" + ack + cryptoFrame(0, msg[:100]) + ackECN + cryptoFrame(90, msg[90:210])
	if got := text(New().Look(udpTo(4433, initialOf("original", one, 0)), nil)); got != "https quic quic.example" {
		t.Error(got)
	}
	in, part := New(), new(Part)
	f := func(packet, want string) {
		t.Helper()
		if got := text(in.Look(udpTo(443, packet), part)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f(initialOf("original", cryptoFrame(250, msg[250:]), 0), "quic quic  more")
	f(initialOf("server", cryptoFrame(0, msg[:250]), 1), "https quic quic.example")
}
