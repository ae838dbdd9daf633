package groom

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// hasher hashes bytes with a key that nobody outside knows, so that collisions cannot be arranged. Pieces of 16 bytes are folded into one
// of four lanes by a multiplication to 128 bits, so that the processor works on four at a time. Frames are what it is for: at most one
// branch depends on their length, which the processor cannot foresee.
type hasher [8]uint64

func newHasher() (h hasher) {
	for i := range h {
		h[i] = rand.Uint64()
	}
	return h
}

// pieceLen is the length of a piece.
const pieceLen = 16

// fold mixes a piece into x.
func (h *hasher) fold(x uint64, p *[pieceLen]byte, key int) uint64 {
	return mulFold(binary.LittleEndian.Uint64(p[:8])^x, binary.LittleEndian.Uint64(p[8:])^h[key])
}

func mulFold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// sum returns the hash of b. Where the end of b fills no piece, the last one begins in front of it; the length is a part of the hash.
func (h *hasher) sum(b []byte) uint64 {
	n := len(b)
	if n < 4*pieceLen {
		return h.short(b)
	}
	w, x, y, z := h[4], h[5], h[6], h[7]
	last := (*[4 * pieceLen]byte)(b[n-4*pieceLen:])
	for len(b) > 4*pieceLen {
		p := (*[4 * pieceLen]byte)(b)
		w = h.fold(w, (*[pieceLen]byte)(p[0:]), 0)
		x = h.fold(x, (*[pieceLen]byte)(p[16:]), 1)
		y = h.fold(y, (*[pieceLen]byte)(p[32:]), 2)
		z = h.fold(z, (*[pieceLen]byte)(p[48:]), 3)
		b = b[4*pieceLen:]
	}
	w = h.fold(w, (*[pieceLen]byte)(last[0:]), 0)
	x = h.fold(x, (*[pieceLen]byte)(last[16:]), 1)
	y = h.fold(y, (*[pieceLen]byte)(last[32:]), 2)
	z = h.fold(z, (*[pieceLen]byte)(last[48:]), 3)
	return mulFold(w^y^h[1], x^z^h[0]^uint64(n))
}

// short is sum of less than four pieces.
func (h *hasher) short(b []byte) uint64 {
	n := len(b)
	if n < pieceLen {
		var p [pieceLen]byte
		copy(p[:], b)
		p[pieceLen-1] = byte(n)
		return mulFold(h.fold(h[4], &p, 0)^h[1], h[0])
	}
	end := n - pieceLen
	w := h.fold(h[4], (*[pieceLen]byte)(b), 0)
	x := h.fold(h[5], (*[pieceLen]byte)(b[min(16, end):]), 1)
	y := h.fold(h[6], (*[pieceLen]byte)(b[min(32, end):]), 2)
	z := h.fold(h[7], (*[pieceLen]byte)(b[end:]), 3)
	return mulFold(w^y^h[1], x^z^h[0]^uint64(n))
}

// blinkLen is how many bytes at its start a frame needs for a blink or a glance.
const blinkLen = 3 * pieceLen

// blink returns a hash of a frame's length and of 32 of its first bytes: behind Ethernet, IPv4's identification, checksum and addresses, the ports and TCP
// sequence numbers are there.
func (h *hasher) blink(p *[blinkLen]byte, n int) uint64 {
	le := binary.LittleEndian
	return mulFold(le.Uint64(p[16:])+le.Uint64(p[32:])*(h[0]|1)+h[4], le.Uint64(p[24:])+le.Uint64(p[40:])*(h[1]|1)+h[5]+uint64(n))
}

// further returns where the second blink of a glance looks: at the bytes from 64 to 96, or at the last 32 of a shorter frame. Behind Ethernet, IPv4 and VXLAN
// that is IPv4 with TCP sequence numbers again. Whether a frame is shorter is no branch, as the processor could not foresee it.
func further(b []byte) *[blinkLen]byte {
	short := len(b) - 2*blinkLen
	return (*[blinkLen]byte)(b[blinkLen+short&(short>>(bits.UintSize-1)):])
}
