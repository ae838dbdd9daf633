package rpcap

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
)

// Parts of an instruction's code (bpf(4)).
const (
	classLD, classLDX, classST, classSTX, classALU, classJMP, classRET, classMISC = 0, 1, 2, 3, 4, 5, 6, 7

	sizeW, sizeH, sizeB = 0x00, 0x08, 0x10

	modeIMM, modeABS, modeIND, modeMEM, modeLEN, modeMSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xa0

	sourceX = 0x08

	opADD, opSUB, opMUL, opDIV, opOR, opAND, opLSH, opRSH, opNEG, opMOD, opXOR = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0

	jumpA, jumpEQ, jumpGT, jumpGE, jumpSET = 0x00, 0x10, 0x20, 0x30, 0x40

	returnA = 0x10
	miscTXA = 0x80

	scratchWords = 16
)

// program is a checked filter of another host. The empty one takes all frames.
type program []instruction

// instruction is one of a program.
type instruction bpf.RawInstruction

// checkProgram refuses what does not end, or reaches beyond the program and its scratch memory. Jumps go forward only, so that every program
// ends.
func checkProgram(p []bpf.RawInstruction) (program, error) {
	for at, in := range p {
		if err := checkInstruction(in, len(p)-at-1); err != nil {
			return nil, fmt.Errorf("rpcap: filter: instruction %d: %w", at, err)
		}
	}
	if n := len(p); n > 0 && p[n-1].Op&7 != classRET {
		return nil, fmt.Errorf("rpcap: filter: its last instruction is no return")
	}
	out := make(program, len(p))
	for i, in := range p {
		out[i] = instruction(in)
	}
	return out, nil
}

// checkInstruction checks one that so many follow.
func checkInstruction(in bpf.RawInstruction, left int) error {
	unknown := fmt.Errorf("code %#02x is not known", in.Op)
	switch in.Op & 7 {
	case classLD, classLDX:
		return checkLoad(in)
	case classST, classSTX:
		if in.Op&^7 != 0 {
			return unknown
		}
		return checkScratch(in.K)
	case classALU:
		op := in.Op & 0xf0
		if op > opXOR || in.Op > 0xff {
			return unknown
		}
		if (op == opDIV || op == opMOD) && in.Op&sourceX == 0 && in.K == 0 {
			return fmt.Errorf("division by zero")
		}
	case classJMP:
		op := in.Op & 0xf0
		if op > jumpSET || in.Op > 0xff {
			return unknown
		}
		far := uint64(max(in.Jt, in.Jf))
		if op == jumpA {
			far = uint64(in.K)
		}
		if far >= uint64(left) {
			return fmt.Errorf("jump by %d, %d instructions are left", far, left)
		}
	case classRET:
		if in.Op != classRET && in.Op != classRET|returnA {
			return unknown
		}
	case classMISC:
		if in.Op != classMISC && in.Op != classMISC|miscTXA {
			return unknown
		}
	}
	return nil
}

func checkLoad(in bpf.RawInstruction) error {
	size, mode, index := in.Op&0x18, in.Op&0xe0, in.Op&7 == classLDX
	ok := in.Op <= 0xff
	switch mode {
	case modeIMM, modeLEN:
		ok = ok && size == sizeW
	case modeMEM:
		if size == sizeW && ok {
			return checkScratch(in.K)
		}
		ok = false
	case modeABS, modeIND:
		ok = ok && !index && size <= sizeB
	case modeMSH:
		ok = ok && index && size == sizeB
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("code %#02x is not known", in.Op)
	}
	return nil
}

func checkScratch(k uint32) error {
	if k >= scratchWords {
		return fmt.Errorf("word %d of %d in the scratch memory", k, scratchWords)
	}
	return nil
}

// run returns how many bytes of a frame the program keeps, 0 for none. length is what the frame had where it was captured. A read beyond
// the bytes that are there ends the program with 0, as does a division by zero.
func (p program) run(b []byte, length int) uint32 {
	if len(p) == 0 {
		return maxCaptured
	}
	var a, x uint32
	var scratch [scratchWords]uint32
	for pc := 0; pc < len(p); pc++ {
		in := &p[pc]
		operand := in.K
		switch in.Op & 7 {
		case classLD:
			v, ok := in.load(b, length, x, &scratch)
			if !ok {
				return 0
			}
			a = v
		case classLDX:
			v, ok := in.load(b, length, x, &scratch)
			if !ok {
				return 0
			}
			x = v
		case classST:
			scratch[in.K] = a
		case classSTX:
			scratch[in.K] = x
		case classALU:
			if in.Op&sourceX != 0 {
				operand = x
			}
			v, ok := alu(in.Op&0xf0, a, operand)
			if !ok {
				return 0
			}
			a = v
		case classJMP:
			if in.Op&sourceX != 0 {
				operand = x
			}
			pc += in.jump(a, operand)
		case classRET:
			if in.Op&returnA != 0 {
				return a
			}
			return in.K
		case classMISC:
			if in.Op&miscTXA != 0 {
				a = x
			} else {
				x = a
			}
		}
	}
	return 0
}

func (in *instruction) load(b []byte, length int, x uint32, scratch *[scratchWords]uint32) (uint32, bool) {
	off := uint64(in.K)
	switch in.Op & 0xe0 {
	case modeIMM:
		return in.K, true
	case modeLEN:
		return uint32(length), true
	case modeMEM:
		return scratch[in.K], true
	case modeMSH:
		if off >= uint64(len(b)) {
			return 0, false
		}
		return uint32(b[off]&15) * 4, true
	case modeIND:
		off = uint64(in.K + x) // wraps as the kernel's does
	}
	switch size := in.Op & 0x18; {
	case size == sizeB && off < uint64(len(b)):
		return uint32(b[off]), true
	case size == sizeH && off+2 <= uint64(len(b)):
		return uint32(binary.BigEndian.Uint16(b[off:])), true
	case size == sizeW && off+4 <= uint64(len(b)):
		return binary.BigEndian.Uint32(b[off:]), true
	}
	return 0, false
}

func alu(op uint16, a, k uint32) (uint32, bool) {
	switch op {
	case opADD:
		return a + k, true
	case opSUB:
		return a - k, true
	case opMUL:
		return a * k, true
	case opOR:
		return a | k, true
	case opAND:
		return a & k, true
	case opLSH:
		return a << k, true
	case opRSH:
		return a >> k, true
	case opNEG:
		return -a, true
	case opXOR:
		return a ^ k, true
	}
	if k == 0 {
		return 0, false
	}
	if op == opDIV {
		return a / k, true
	}
	return a % k, true
}

// jump returns how many instructions to pass over.
func (in *instruction) jump(a, k uint32) int {
	var yes bool
	switch in.Op & 0xf0 {
	case jumpA:
		return int(in.K)
	case jumpEQ:
		yes = a == k
	case jumpGT:
		yes = a > k
	case jumpGE:
		yes = a >= k
	case jumpSET:
		yes = a&k != 0
	}
	if yes {
		return int(in.Jt)
	}
	return int(in.Jf)
}
