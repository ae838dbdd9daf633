package segment

import (
	"encoding/binary"
	"math/bits"
)

// stretches are indexes into a dictionary, equal ones beside each other counted.
type stretches struct {
	all  []indexRun
	last uint32 // of the rows counted by n, which are not in all yet
	n    uint32
	at   int    // page: the next of all,
	used uint32 // and how many of it are on pages before
}

type indexRun struct{ index, n uint32 }

// change begins a run with another index.
func (s *stretches) change(index uint32) {
	if s.n > 0 {
		s.all = append(s.all, indexRun{s.last, s.n})
	}
	s.last, s.n = index, 0
}

func (s *stretches) reset() { *s = stretches{all: s.all[:0]} }

// runs gives all of them; what is added to later begins another run.
func (s *stretches) runs() []indexRun {
	if s.n > 0 {
		s.change(s.last)
	}
	return s.all
}

// expand appends the index of each row.
func (s *stretches) expand(dst []uint32) []uint32 {
	for _, r := range s.runs() {
		if r.n == 1 {
			dst = append(dst, r.index)
			continue
		}
		for range r.n {
			dst = append(dst, r.index)
		}
	}
	return dst
}

// page appends the next n indexes in the hybrid of run lengths and bit packing (Parquet format, Encodings, RLE_DICTIONARY). Pages
// are asked for in order.
func (s *stretches) page(dst []byte, n, different int) []byte {
	s.runs()
	width := max(bits.Len(uint(different-1)), 1)
	h := hybrid{dst: append(dst, byte(width)), width: uint(width)}
	for n > 0 {
		r := s.all[s.at]
		take := min(int(r.n-s.used), n)
		h.add(r.index, take)
		n -= take
		if s.used += uint32(take); s.used == r.n {
			s.at, s.used = s.at+1, 0
		}
	}
	return h.finish()
}

// hybrid writes runs of eight and more as such and packs what is between them.
type hybrid struct {
	dst   []byte
	width uint
	head  int // place of the packed groups' header, of one byte; 0 for none
	n     int // values packed since
	acc   uint64
	have  uint
}

// packedMost is how many values fit a header of one byte: 63 groups of eight.
const packedMost = 63 * 8

func (h *hybrid) add(v uint32, n int) {
	if n > 7 {
		for ; h.n&7 != 0; n-- { // to the end of the group of eight
			h.pack(v)
		}
		if n > 7 {
			h.closePacked()
			h.dst = binary.AppendUvarint(h.dst, uint64(n)<<1)
			for i := uint(0); i < h.width; i += 8 {
				h.dst = append(h.dst, byte(v>>i))
			}
			return
		}
	}
	for range n {
		h.pack(v)
	}
}

func (h *hybrid) pack(v uint32) {
	if h.n == packedMost {
		h.closePacked()
	}
	if h.n == 0 {
		h.head = len(h.dst)
		h.dst = append(h.dst, 0)
	}
	h.n++
	h.acc |= uint64(v) << h.have
	if h.have += h.width; h.have >= 32 {
		h.dst = binary.LittleEndian.AppendUint32(h.dst, uint32(h.acc))
		h.acc >>= 32
		h.have -= 32
	}
}

// closePacked ends the packed groups; what lacks to the last one is zero.
func (h *hybrid) closePacked() {
	if h.n == 0 {
		return
	}
	groups := (h.n + 7) / 8
	h.dst[h.head] = byte(groups<<1 | 1)
	for end := h.head + 1 + groups*int(h.width); len(h.dst) < end; h.acc >>= 8 {
		h.dst = append(h.dst, byte(h.acc))
	}
	h.n, h.acc, h.have = 0, 0, 0
}

func (h *hybrid) finish() []byte {
	h.closePacked()
	return h.dst
}
