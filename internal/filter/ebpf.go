package filter

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
)

// Offsets in struct __sk_buff (linux/bpf.h).
const (
	skbLen         = 0
	skbPktType     = 4
	skbVLANPresent = 20
	skbVLANTCI     = 24
	skbVLANProto   = 28 // in network order
)

// The registers that stand for classic BPF's: results of packet loads arrive in R0, R6 must hold the context for
// them, R7 is not lost by them.
const (
	regA   = asm.R0
	regCtx = asm.R6
	regX   = asm.R7
)

// EBPF returns the filter as an eBPF program for tc, TCX or a socket (program types SchedCLS and SocketFilter) that returns the snap
// length for a match and 0 otherwise. residual is as for BPF.
func (f *Filter) EBPF() (prog asm.Instructions, residual bool, err error) {
	classic, residual, err := f.BPF()
	if err != nil {
		return nil, residual, err
	}
	body, err := Translate(classic)
	if err != nil {
		return nil, residual, err
	}
	return append(asm.Instructions{asm.Mov.Reg(regCtx, asm.R1), asm.Mov.Imm(regA, 0), asm.Mov.Imm(regX, 0)}, body...), residual, nil
}

// Translate returns a classic program in eBPF, to stand behind instructions that put the context into R6 and 0 into R0 and R7. R9 is
// not used. Its labels are l0, l1 … and d0, d1 …
func Translate(classic []bpf.Instruction) (prog asm.Instructions, err error) {
	live := reachable(classic)
	for i, ins := range classic {
		if !live[i] { // the verifier refuses dead code
			continue
		}
		out, err := translate(i, ins)
		if err != nil {
			return nil, fmt.Errorf("filter: eBPF: instruction %d: %w", i, err)
		}
		out[0] = out[0].WithSymbol(lineSymbol(i))
		prog = append(prog, out...)
	}
	return prog, nil
}

// reachable says which instructions can run. Jumps only go forward.
func reachable(prog []bpf.Instruction) []bool {
	live := make([]bool, len(prog)+1)
	live[0] = true
	for i, ins := range prog {
		if !live[i] {
			continue
		}
		switch v := ins.(type) {
		case bpf.RetConstant, bpf.RetA:
		case bpf.Jump:
			live[i+1+int(v.Skip)] = true
		case bpf.JumpIf:
			live[i+1+int(v.SkipTrue)], live[i+1+int(v.SkipFalse)] = true, true
		case bpf.JumpIfX:
			live[i+1+int(v.SkipTrue)], live[i+1+int(v.SkipFalse)] = true, true
		default:
			live[i+1] = true
		}
	}
	return live
}

func lineSymbol(i int) string { return fmt.Sprintf("l%d", i) }

func stackOffset(n int) int16 { return int16(-4 * (n + 1)) }

var loadSize = map[int]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word}

var ebpfALU = map[bpf.ALUOp]asm.ALUOp{bpf.ALUOpAdd: asm.Add, bpf.ALUOpSub: asm.Sub, bpf.ALUOpMul: asm.Mul, bpf.ALUOpDiv: asm.Div, bpf.ALUOpMod: asm.Mod,
	bpf.ALUOpAnd: asm.And, bpf.ALUOpOr: asm.Or, bpf.ALUOpXor: asm.Xor, bpf.ALUOpShiftLeft: asm.LSh, bpf.ALUOpShiftRight: asm.RSh}

// translate turns the classic instruction at index i into eBPF.
func translate(i int, ins bpf.Instruction) (asm.Instructions, error) {
	one := func(x asm.Instruction) (asm.Instructions, error) { return asm.Instructions{x}, nil }
	switch v := ins.(type) {
	case bpf.LoadConstant:
		if v.Dst == bpf.RegX {
			return one(asm.Mov.Imm32(regX, int32(v.Val)))
		}
		return one(asm.Mov.Imm32(regA, int32(v.Val)))
	case bpf.LoadScratch:
		if v.Dst == bpf.RegX {
			return one(asm.LoadMem(regX, asm.RFP, stackOffset(v.N), asm.Word))
		}
		return one(asm.LoadMem(regA, asm.RFP, stackOffset(v.N), asm.Word))
	case bpf.StoreScratch:
		return one(asm.StoreMem(asm.RFP, stackOffset(v.N), regA, asm.Word))
	case bpf.LoadAbsolute:
		return one(asm.LoadAbs(int32(v.Off), loadSize[v.Size]))
	case bpf.LoadIndirect:
		return one(asm.LoadInd(regA, regX, int32(v.Off), loadSize[v.Size]))
	case bpf.LoadMemShift: // X = 4*([k]&0xf); A stays
		return asm.Instructions{asm.Mov.Reg32(asm.R8, regA), asm.LoadAbs(int32(v.Off), asm.Byte), asm.And.Imm32(asm.R0, 0xf),
			asm.LSh.Imm32(asm.R0, 2), asm.Mov.Reg32(regX, asm.R0), asm.Mov.Reg32(regA, asm.R8)}, nil
	case bpf.LoadExtension:
		switch v.Num {
		case bpf.ExtLen:
			return one(asm.LoadMem(regA, regCtx, skbLen, asm.Word))
		case bpf.ExtType:
			return one(asm.LoadMem(regA, regCtx, skbPktType, asm.Word))
		case bpf.ExtVLANTagPresent:
			return one(asm.LoadMem(regA, regCtx, skbVLANPresent, asm.Word))
		case bpf.ExtVLANTag:
			return one(asm.LoadMem(regA, regCtx, skbVLANTCI, asm.Word))
		case bpf.ExtVLANProto:
			return asm.Instructions{asm.LoadMem(regA, regCtx, skbVLANProto, asm.Word), asm.HostTo(asm.BE, regA, asm.Half)}, nil
		}
	case bpf.TAX:
		return one(asm.Mov.Reg32(regX, regA))
	case bpf.TXA:
		return one(asm.Mov.Reg32(regA, regX))
	case bpf.ALUOpConstant:
		return one(ebpfALU[v.Op].Imm32(regA, int32(v.Val)))
	case bpf.ALUOpX:
		return aluX(i, v.Op), nil
	case bpf.RetConstant:
		return asm.Instructions{asm.Mov.Imm32(asm.R0, int32(v.Val)), asm.Return()}, nil
	case bpf.RetA:
		return one(asm.Return())
	case bpf.Jump:
		return one(asm.Ja.Label(lineSymbol(i + 1 + int(v.Skip))))
	case bpf.JumpIf:
		t, f := lineSymbol(i+1+int(v.SkipTrue)), lineSymbol(i+1+int(v.SkipFalse))
		if op, ok := ebpfJump[v.Cond]; ok {
			return asm.Instructions{op.Imm32(regA, int32(v.Val), t), asm.Ja.Label(f)}, nil
		}
	case bpf.JumpIfX:
		t, f := lineSymbol(i+1+int(v.SkipTrue)), lineSymbol(i+1+int(v.SkipFalse))
		if op, ok := ebpfJump[v.Cond]; ok {
			return asm.Instructions{op.Reg32(regA, regX, t), asm.Ja.Label(f)}, nil
		}
	}
	return nil, fmt.Errorf("%v has no translation", ins)
}

var ebpfJump = map[bpf.JumpTest]asm.JumpOp{bpf.JumpEqual: asm.JEq, bpf.JumpNotEqual: asm.JNE, bpf.JumpGreaterThan: asm.JGT, bpf.JumpGreaterOrEqual: asm.JGE, bpf.JumpBitsSet: asm.JSet}

// aluX is arithmetic with X; a division by zero ends the program with no match, and a shift by 32 or more leaves
// nothing, as classic BPF has it.
func aluX(i int, op bpf.ALUOp) asm.Instructions {
	done := fmt.Sprintf("d%d", i)
	calc := ebpfALU[op].Reg32(regA, regX)
	switch op {
	case bpf.ALUOpDiv, bpf.ALUOpMod:
		return asm.Instructions{asm.JNE.Imm32(regX, 0, done), asm.Mov.Imm32(asm.R0, 0), asm.Return(), calc.WithSymbol(done)}
	case bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight:
		over := fmt.Sprintf("o%d", i)
		return asm.Instructions{asm.JGE.Imm32(regX, 32, over), calc, asm.Ja.Label(done), asm.Mov.Imm32(regA, 0).WithSymbol(over), asm.Mov.Reg32(regX, regX).WithSymbol(done)}
	}
	return asm.Instructions{calc}
}
