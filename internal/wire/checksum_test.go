package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// slow is RFC 1071 word by word.
func slow(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if s += w; s > 0xffff {
			s = s&0xffff + 1
		}
	}
	return ^uint16(s)
}

func TestChecksum(t *testing.T) {
	f := func(b []byte, want uint16) {
		t.Helper()
		if got := Checksum(b); got != want {
			t.Errorf("Checksum(% x) = %#04x, want %#04x", b, got, want)
		}
	}
	f(nil, 0xffff)
	f([]byte{0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7}, ^uint16(0xddf2)) // the example of RFC 1071, section 3
	f([]byte{0xff}, 0x00ff)
	f([]byte{0xff, 0xff, 0xff, 0xff}, 0)
	f([]byte{0x45, 0, 0, 0x54, 0, 0, 0x40, 0, 0x40, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, 0x26a7)
}

func TestChecksumAgainstSlow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			if b[i] = byte(r.Uint32()); n%3 == 0 {
				b[i] |= 0xf0
			}
		}
		if got, want := Checksum(b), slow(b); got != want {
			t.Fatalf("%d bytes: Checksum = %#04x, want %#04x", n, got, want)
		}
	}
}

// An updated checksum is the one of the changed packet, for every kind of update. One's complement has two zeros;
// a packet with anything but zeros never sums to +0 (RFC 1624, section 3).
func TestUpdateChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		b := make([]byte, 40)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] |= 1
		old := Checksum(b)
		at := 2 + 2*r.IntN(8)
		changed := append([]byte(nil), b...)
		v := r.Uint32()
		if r.IntN(4) == 0 {
			v = 0xffff0000
		}
		binary.BigEndian.PutUint32(changed[at:], v)
		want := Checksum(changed)
		by32 := UpdateChecksum32(old, binary.BigEndian.Uint32(b[at:]), v)
		by16 := UpdateChecksum(UpdateChecksum(old, binary.BigEndian.Uint16(b[at:]), uint16(v>>16)), binary.BigEndian.Uint16(b[at+2:]), uint16(v))
		byBytes := UpdateChecksumBytes(old, b[at:at+4], changed[at:at+4])
		if by32 != want || by16 != want || byBytes != want {
			t.Fatalf("updates = %#04x, %#04x, %#04x, want %#04x", by32, by16, byBytes, want)
		}
	}
	if got := UpdateChecksum(0xdd2f, 0x5555, 0x3285); got != 0 { // the example of RFC 1624, section 4
		t.Errorf("UpdateChecksum = %#04x, want 0", got)
	}
}

func TestTransportChecksum(t *testing.T) {
	src, dst := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	segment := []byte{0xc0, 1, 0, 53, 0, 9, 0, 0, 0x61}
	pseudo := append(append(append([]byte(nil), src...), dst...), 0, ProtoUDP, 0, byte(len(segment)))
	if got, want := TransportChecksum(src, dst, ProtoUDP, segment), slow(append(pseudo, segment...)); got != want {
		t.Errorf("TransportChecksum = %#04x, want %#04x", got, want)
	}
}

func TestUpdateIPv4Checksum(t *testing.T) {
	h := IPv4{0x45, 0, 0, 0x54, 0, 0, 0x40, 0, 0x40, 1, 0xff, 0xff, 10, 0, 0, 1, 10, 0, 0, 2}
	h.UpdateChecksum()
	if h.Checksum() != 0x26a7 || !ChecksumOK(h) {
		t.Errorf("checksum = %#04x, want 0x26a7", h.Checksum())
	}
}

func BenchmarkChecksum1500(b *testing.B) {
	data := make([]byte, 1500)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Checksum(data)
	}
}
