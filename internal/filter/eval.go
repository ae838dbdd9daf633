package filter

import (
	"encoding/binary"
	"sync"

	"crosstap/internal/byteregexp"
	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// view is one run of a program with general instructions over one frame. Register 0 stays 0, the scratch slots follow, and
// behind them the lengths of IPv4 headers that the program keeps, and intermediate results from the last register down.
type view struct {
	data  []byte
	len   uint32
	short bool // a read went beyond the captured bytes: the frame does not match
	dir   frame.Direction
	regs  [registers]uint32
	deep  *state // for the tests that need the dissected frame
}

const (
	registers    = 32
	fewRegisters = 8 // of a program without general instructions
	firstSlot    = 1
	firstHeader4 = firstSlot + 16
)

// state is a view whose frame can be dissected.
type state struct {
	view
	link      frame.LinkType
	packet    dissect.Packet // filled when a test asks for it
	dissected bool
	reader    byteregexp.Reader // of a regular expression
}

// Match reports whether a frame matches: data are the bytes captured, origLen the length it had. It is safe for
// concurrent use and allocates nothing at steady state.
func (f *Filter) Match(data []byte, origLen int) bool {
	return f.match.run(f.Link, data, uint32(max(origLen, len(data))), frame.Unknown)
}

// MatchFrame is Match with the direction the capture saw, for "inbound" and "outbound".
func (f *Filter) MatchFrame(fr *frame.Frame) bool {
	return f.match.run(f.Link, fr.Data, uint32(max(fr.OrigLen, len(fr.Data))), fr.Dir)
}

// states are reused, because a test that dissects keeps a reference to its state.
var states = sync.Pool{New: func() any { return new(state) }}

// run matches a frame of that link type.
func (p *program) run(link frame.LinkType, data []byte, length uint32, dir frame.Direction) bool {
	if len(p.nodes) == 0 {
		var regs [fewRegisters]uint32
		return p.match(data, length, regs[:], nil)
	}
	s := states.Get().(*state)
	s.view = view{data: data, len: length, dir: dir, deep: s}
	s.link, s.dissected = link, false
	ok := p.match(data, length, s.regs[:], &s.view)
	s.data = nil
	states.Put(s)
	return ok
}

func (s *view) eval(v value) uint32 {
	switch v := v.(type) {
	case imm:
		return uint32(v)
	case load:
		return s.load(v.size, s.offset(v.k, v.off))
	case header4:
		return 4 * (s.load(1, s.offset(v.k, v.off)) & 0xf)
	case slot:
		return s.regs[firstSlot+v]
	case length:
		return s.len
	case packetType:
		if s.dir == frame.Egress {
			return 4
		}
		return 0
	case calc:
		l, r := s.eval(v.l), s.eval(v.r)
		if r == 0 && (v.op == '/' || v.op == '%') { // a division by zero ends a BPF program with "no match"
			s.short = true
			return 0
		}
		return arithmetic(v.op, l, r)
	}
	return 0
}

// offset adds as BPF does, in 32 bits.
func (s *view) offset(k int, off value) uint32 {
	if off == nil {
		return uint32(k)
	}
	return uint32(k) + s.eval(off)
}

func (s *view) load(size int, off uint32) uint32 {
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

// arithmetic computes as BPF does, in 32 bits. A division by zero gives 0 here.
func arithmetic(op byte, l, r uint32) uint32 {
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
		return l << r // all bits are gone from 32 on
	case '>':
		return l >> r
	}
	switch {
	case r == 0:
		return 0
	case op == '/':
		return l / r
	}
	return l % r
}
