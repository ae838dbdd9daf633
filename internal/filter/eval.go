package filter

import (
	"encoding/binary"
	"sync"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// state is one run of the matcher over one frame.
type state struct {
	data      []byte
	len       uint32
	slots     [16]uint32
	short     bool // a read went beyond the captured bytes: the frame does not match
	dir       frame.Direction
	f         *Filter
	packet    dissect.Packet // filled when a test asks for it
	dissected bool
}

// Match reports whether a frame matches: data are the bytes captured, origLen the length it had. It is safe for
// concurrent use and allocates nothing at steady state.
func (f *Filter) Match(data []byte, origLen int) bool {
	return f.run(data, origLen, frame.Unknown)
}

// MatchFrame is Match with the direction the capture saw, for "inbound" and "outbound".
func (f *Filter) MatchFrame(fr *frame.Frame) bool {
	return f.run(fr.Data, fr.OrigLen, fr.Dir)
}

// states are reused, because a test that dissects keeps a reference to its state.
var states = sync.Pool{New: func() any { return new(state) }}

func (f *Filter) run(data []byte, origLen int, dir frame.Direction) bool {
	s := states.Get().(*state)
	s.data, s.len, s.dir, s.f = data, uint32(max(origLen, len(data))), dir, f
	s.short, s.dissected = false, false
	clear(s.slots[:])
	ok := s.test(f.root) && !s.short
	s.data = nil
	states.Put(s)
	return ok
}

func (s *state) test(n Node) bool {
	switch n := n.(type) {
	case conj:
		for _, x := range n.x {
			if !s.test(x) || s.short {
				return false
			}
		}
		return true
	case disj:
		for _, x := range n.x {
			if s.test(x) || s.short {
				return true
			}
		}
		return false
	case inv:
		return !s.test(n.x)
	case cmp:
		return s.compare(n)
	case yes:
		return bool(n)
	case set:
		s.slots[n.slot] = s.eval(n.v)
		return true
	case deep:
		return n.test(s)
	}
	return false
}

func (s *state) compare(c cmp) bool {
	l, r := s.eval(c.l), s.eval(c.r)
	if s.short {
		return false
	}
	switch c.op {
	case '=':
		return l == r
	case '!':
		return l != r
	case '>':
		return l > r
	case 'g':
		return l >= r
	}
	return l&r != 0
}

func (s *state) eval(v value) uint32 {
	switch v := v.(type) {
	case imm:
		return uint32(v)
	case load:
		return s.load(v.size, s.offset(v.k, v.off))
	case header4:
		return 4 * (s.load(1, s.offset(v.k, v.off)) & 0xf)
	case slot:
		return s.slots[v]
	case length:
		return s.len
	case packetType:
		if s.dir == frame.Egress {
			return 4
		}
		return 0
	case calc:
		return s.calc(v.op, s.eval(v.l), s.eval(v.r))
	}
	return 0
}

// offset adds as BPF does, in 32 bits.
func (s *state) offset(k int, off value) uint32 {
	if off == nil {
		return uint32(k)
	}
	return uint32(k) + s.eval(off)
}

func (s *state) load(size int, off uint32) uint32 {
	if uint64(off)+uint64(size) > uint64(len(s.data)) {
		s.short = true
		return 0
	}
	b := s.data[off:]
	switch size {
	case 1:
		return uint32(b[0])
	case 2:
		return uint32(binary.BigEndian.Uint16(b))
	}
	return binary.BigEndian.Uint32(b)
}

func (s *state) calc(op byte, l, r uint32) uint32 {
	switch op {
	case '+':
		return l + r
	case '-':
		return l - r
	case '*':
		return l * r
	case '&':
		return l & r
	case '|':
		return l | r
	case '^':
		return l ^ r
	case '<':
		return shift(l, r, true)
	case '>':
		return shift(l, r, false)
	}
	if r == 0 { // a division by zero ends a BPF program with "no match"
		s.short = true
		return 0
	}
	if op == '/' {
		return l / r
	}
	return l % r
}

// shift shifts by r; all bits are gone from 32 on.
func shift(l, r uint32, left bool) uint32 {
	if r > 31 {
		return 0
	}
	if left {
		return l << r
	}
	return l >> r
}
