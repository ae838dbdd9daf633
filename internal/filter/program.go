package filter

import "encoding/binary"

// program is a filter for the matcher: a graph laid out as an array of instructions.
type program struct {
	code  []instr
	start int
	nodes []*vertex // of the general instructions; without any, the few registers fit on the stack
}

// instr is one instruction. Most read bytes of the frame, mask them, compare them with k, and go on at t or f.
type instr struct {
	op   opcode
	base uint8  // register that is added to off
	dst  uint8  // register that is written
	calc byte   // operator of opCalc
	off  uint32 // of the bytes read
	mask uint32
	k    uint32
	t, f int32
}

// Where a program ends.
const (
	matched = -1
	refused = -2
)

type opcode uint8

// Instructions that read and compare. "At" reads at a constant offset, "From" at an offset from a register; "Again" compares what
// was read last.
const (
	opEqAt1 opcode = iota
	opEqAt2
	opEqAt4
	opGtAt1
	opGtAt2
	opGtAt4
	opEqFrom1
	opEqFrom2
	opEqFrom4
	opGtFrom1
	opGtFrom2
	opGtFrom4
	opEqAgain
	opGtAgain
	opEqLen
	opGtLen
	opHeader4 // dst = length of the IPv4 header at off
	opAdd     // dst = base + off
	opLoad1   // dst = byte at off
	opLoad2
	opLoad4
	opLen   // dst = length of the frame
	opCalc  // dst = dst calc (base + k)
	opEqReg // compares dst with base
	opGtReg
	opGeReg
	opEqRegTo // compares dst with k
	opGtRegTo
	opSet     // any other store: evaluates nodes[k]
	opCompare // any other comparison
	opDeep    // a test of the dissected frame
)

// match runs the program. Register 0 is 0; v is needed by general instructions alone.
func (p *program) match(data []byte, length uint32, regs []uint32, v *view) bool {
	var last uint32
	pc := p.start
	for pc >= 0 {
		in := &p.code[pc]
		yes := false
		switch in.op {
		case opEqAt1:
			if uint64(in.off) >= uint64(len(data)) {
				return false
			}
			last = uint32(data[in.off])
			yes = last&in.mask == in.k
		case opEqAt2:
			if uint64(in.off)+2 > uint64(len(data)) {
				return false
			}
			last = uint32(binary.BigEndian.Uint16(data[in.off:]))
			yes = last&in.mask == in.k
		case opEqAt4:
			if uint64(in.off)+4 > uint64(len(data)) {
				return false
			}
			last = binary.BigEndian.Uint32(data[in.off:])
			yes = last&in.mask == in.k
		case opGtAt1, opGtAt2, opGtAt4:
			b, ok := read(data, in.off, 1<<(in.op-opGtAt1))
			if !ok {
				return false
			}
			last = b
			yes = last&in.mask > in.k
		case opEqFrom2:
			off := in.off + regs[in.base]
			if uint64(off)+2 > uint64(len(data)) {
				return false
			}
			last = uint32(binary.BigEndian.Uint16(data[off:]))
			yes = last&in.mask == in.k
		case opEqFrom1, opEqFrom4:
			b, ok := read(data, in.off+regs[in.base], 1<<(in.op-opEqFrom1))
			if !ok {
				return false
			}
			last = b
			yes = last&in.mask == in.k
		case opGtFrom1, opGtFrom2, opGtFrom4:
			b, ok := read(data, in.off+regs[in.base], 1<<(in.op-opGtFrom1))
			if !ok {
				return false
			}
			last = b
			yes = last&in.mask > in.k
		case opEqAgain:
			yes = last&in.mask == in.k
		case opGtAgain:
			yes = last&in.mask > in.k
		case opEqLen:
			yes = length&in.mask == in.k
		case opGtLen:
			yes = length&in.mask > in.k
		case opHeader4:
			off := in.off + regs[in.base]
			if uint64(off) >= uint64(len(data)) {
				return false
			}
			regs[in.dst] = uint32(data[off]&0xf) << 2
			yes = true
		case opAdd:
			regs[in.dst] = in.off + regs[in.base]
			yes = true
		case opLoad1, opLoad2, opLoad4:
			b, ok := read(data, in.off+regs[in.base], 1<<(in.op-opLoad1))
			if !ok {
				return false
			}
			regs[in.dst] = b
			yes = true
		case opLen:
			regs[in.dst] = length
			yes = true
		case opCalc:
			r := regs[in.base] + in.k
			if r == 0 && (in.calc == '/' || in.calc == '%') {
				return false
			}
			regs[in.dst] = arithmetic(in.calc, regs[in.dst], r)
			yes = true
		case opEqReg:
			yes = regs[in.dst] == regs[in.base]
		case opGtReg:
			yes = regs[in.dst] > regs[in.base]
		case opGeReg:
			yes = regs[in.dst] >= regs[in.base]
		case opEqRegTo:
			yes = regs[in.dst] == in.k
		case opGtRegTo:
			yes = regs[in.dst] > in.k
		default:
			yes = p.general(v, in)
			if v.short {
				return false
			}
		}
		if yes {
			pc = int(in.t)
		} else {
			pc = int(in.f)
		}
	}
	return pc == matched
}

// read loads 1, 2 or 4 bytes, big endian.
func read(data []byte, off uint32, size uint) (uint32, bool) {
	if uint64(off)+uint64(size) > uint64(len(data)) {
		return 0, false
	}
	b := data[off:]
	switch size {
	case 1:
		return uint32(b[0]), true
	case 2:
		return uint32(binary.BigEndian.Uint16(b)), true
	}
	return binary.BigEndian.Uint32(b), true
}

// general runs the instructions that evaluate a tree of values or look at the dissected frame.
func (p *program) general(v *view, in *instr) bool {
	switch n := p.nodes[in.k]; in.op {
	case opSet:
		v.regs[firstSlot+n.set.slot] = v.eval(n.set.v)
		return true
	case opCompare:
		l, r := v.eval(n.cmp.l), v.eval(n.cmp.r)
		switch n.cmp.op {
		case '=':
			return l == r
		case '>':
			return l > r
		}
		return l >= r
	case opDeep:
		return n.deep.test(v.deep)
	}
	return false
}
