package filter

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
)

// For every expression that the corpus has libpcap's program of: on frames made to take its branches our matcher and our own
// program must say what it says.
func TestProgramsOfLibpcap(t *testing.T) {
	compared := 0
	lines(t, "compile-accept.jsonl", func(line []byte) {
		var c struct {
			DLT, Name, Opt, Optunopt, Skip string
			Aliases                        []string
			LinuxExt                       int
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		text := c.Opt + c.Optunopt
		if text == "" || c.LinuxExt != 0 || c.Name == "bpf_image" || otherSystems.MatchString(c.Skip) {
			return
		}
		theirs, err := assemble(text)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			return
		}
		opt := options
		opt.Never = true
		f, err := Compile(c.Aliases[0], links[c.DLT], opt)
		if err != nil {
			t.Errorf("%q: %v", c.Aliases[0], err)
			return
		}
		sameResults(t, c.DLT, f, theirs)
		compared++
	})
	if compared < 500 {
		t.Errorf("only %d programs", compared)
	}
}

// otherSystems are those whose libpcap has other numbers for address families and IGRP.
var otherSystems = regexp.MustCompile("^(os_not:[^l].*|os:.*|big_endian_only|igrp88)$")

func sameResults(t *testing.T, dlt string, f *Filter, theirs []bpf.Instruction) {
	t.Helper()
	vm, err := bpf.NewVM(theirs)
	if err != nil { // protochain's loop
		return
	}
	prog, residual, err := f.BPF()
	if err != nil {
		t.Errorf("%q: %v", f.Expr, err)
		return
	}
	ours, err := bpf.NewVM(prog)
	if err != nil {
		t.Errorf("%q: %v", f.Expr, err)
		return
	}
	r := rand.New(rand.NewPCG(31, 32))
	for range 60 {
		data := make([]byte, 300)
		for range r.IntN(100) {
			data[r.IntN(64)] = byte(r.IntN(256))
		}
		plant(r, theirs, data)
		n, err1 := vm.Run(data)
		m, err2 := ours.Run(data)
		want := n > 0
		if err1 != nil || err2 != nil {
			t.Fatalf("%q: %v %v", f.Expr, err1, err2)
		}
		got := f.Match(data, len(data))
		if got != want || oracleMatch(f, data, len(data), frame.Unknown) != want || m > 0 != want && !residual {
			t.Errorf("%s %q: %x: libpcap %t, matcher %t, BPF %d", dlt, f.Expr, data[:96], want, got, m)
			return
		}
	}
}

// plant writes into the frame what a random walk through the program asks for.
func plant(r *rand.Rand, prog []bpf.Instruction, data []byte) {
	var a, x uint32
	var m [16]uint32
	off, size, shift := -1, 0, uint32(0) // where A was loaded from
	for pc := 0; pc < len(prog); pc++ {
		load := func(at uint32, n int) {
			off, size, shift = int(at), n, 0
			if int(at)+n > len(data) {
				off, a = -1, 0
				return
			}
			a = 0
			for _, b := range data[at : int(at)+n] {
				a = a<<8 | uint32(b)
			}
		}
		switch v := prog[pc].(type) {
		case bpf.LoadAbsolute:
			load(v.Off, v.Size)
		case bpf.LoadIndirect:
			load(v.Off+x, v.Size)
		case bpf.LoadConstant:
			if v.Dst == bpf.RegA {
				a, off = v.Val, -1
			} else {
				x = v.Val
			}
		case bpf.LoadMemShift:
			if int(v.Off) < len(data) {
				data[v.Off] = 0x45
				x = 20
			}
		case bpf.LoadScratch:
			if v.Dst == bpf.RegA {
				a, off = m[v.N], -1
			} else {
				x = m[v.N]
			}
		case bpf.StoreScratch:
			if m[v.N] = a; v.Src == bpf.RegX {
				m[v.N] = x
			}
		case bpf.TAX:
			x = a
		case bpf.TXA:
			a, off = x, -1
		case bpf.ALUOpConstant:
			a = arithmetic(operator[v.Op], a, v.Val)
			if v.Op != bpf.ALUOpAnd {
				off = -1
			}
		case bpf.ALUOpX:
			a, off = arithmetic(operator[v.Op], a, x), -1
		case bpf.Jump:
			pc += int(v.Skip)
		case bpf.JumpIf:
			if r.IntN(4) > 0 && off >= 0 {
				k := v.Val
				switch v.Cond {
				case bpf.JumpGreaterThan:
					k += uint32(r.IntN(2))
				case bpf.JumpBitsSet:
					k &= uint32(r.IntN(2)) * 0xffffffff
				}
				var b [4]byte
				binary.BigEndian.PutUint32(b[:], k<<shift)
				copy(data[off:off+size], b[4-size:])
				a = k
			}
			taken := map[bpf.JumpTest]bool{bpf.JumpEqual: a == v.Val, bpf.JumpGreaterThan: a > v.Val, bpf.JumpGreaterOrEqual: a >= v.Val, bpf.JumpBitsSet: a&v.Val != 0}[v.Cond]
			if taken {
				pc += int(v.SkipTrue)
			} else {
				pc += int(v.SkipFalse)
			}
		case bpf.JumpIfX:
			if a == x {
				pc += int(v.SkipTrue)
			} else {
				pc += int(v.SkipFalse)
			}
		default:
			return
		}
	}
}

var operator = func() map[bpf.ALUOp]byte {
	out := map[bpf.ALUOp]byte{}
	for b, op := range alu {
		out[op] = b
	}
	return out
}()

var (
	instructionLine = regexp.MustCompile(`^\((\d+)\) (\S+)\s*([^;]*?)(?:\s+jt (\d+)\s+jf (\d+))?\s*(?:;.*)?$`)
	operandIndirect = regexp.MustCompile(`^\[x \+ (\d+)\]$`)
	operandAbsolute = regexp.MustCompile(`^\[(\d+)\]$`)
	operandHeader   = regexp.MustCompile(`^4\*\(\[(\d+)\]&0xf\)$`)
)

// assemble reads a program as tcpdump -d prints it.
func assemble(text string) (out []bpf.Instruction, err error) {
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		p := instructionLine.FindStringSubmatch(strings.TrimSpace(l))
		if p == nil {
			return nil, fmt.Errorf("%q is no instruction", l)
		}
		pc, _ := strconv.Atoi(p[1])
		ins, err := assembleOne(pc, p[2], strings.TrimSpace(p[3]), p[4], p[5])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", l, err)
		}
		out = append(out, ins)
	}
	return out, nil
}

func assembleOne(pc int, op, arg, jt, jf string) (bpf.Instruction, error) {
	number := func(s string) uint32 { n, _ := strconv.ParseUint(s, 0, 33); return uint32(n) }
	k := number(strings.TrimPrefix(arg, "#"))
	size := map[string]int{"ld": 4, "ldh": 2, "ldb": 1}[op]
	calc := map[string]bpf.ALUOp{"add": bpf.ALUOpAdd, "sub": bpf.ALUOpSub, "mul": bpf.ALUOpMul, "div": bpf.ALUOpDiv, "mod": bpf.ALUOpMod, "and": bpf.ALUOpAnd, "or": bpf.ALUOpOr,
		"xor": bpf.ALUOpXor, "lsh": bpf.ALUOpShiftLeft, "rsh": bpf.ALUOpShiftRight}
	jumps := map[string]bpf.JumpTest{"jeq": bpf.JumpEqual, "jgt": bpf.JumpGreaterThan, "jge": bpf.JumpGreaterOrEqual, "jset": bpf.JumpBitsSet}
	scratch := func() int { return int(number(strings.Trim(arg, "M[]"))) }
	switch {
	case size > 0 && operandAbsolute.MatchString(arg):
		return bpf.LoadAbsolute{Off: number(operandAbsolute.FindStringSubmatch(arg)[1]), Size: size}, nil
	case size > 0 && operandIndirect.MatchString(arg):
		return bpf.LoadIndirect{Off: number(operandIndirect.FindStringSubmatch(arg)[1]), Size: size}, nil
	case op == "ldxb" && operandHeader.MatchString(arg):
		return bpf.LoadMemShift{Off: number(operandHeader.FindStringSubmatch(arg)[1])}, nil
	case op == "ld" && (arg == "#pktlen" || arg == "len"):
		return bpf.LoadExtension{Num: bpf.ExtLen}, nil
	case op == "ld" && strings.HasPrefix(arg, "#"):
		return bpf.LoadConstant{Dst: bpf.RegA, Val: k}, nil
	case op == "ldx" && strings.HasPrefix(arg, "#"):
		return bpf.LoadConstant{Dst: bpf.RegX, Val: k}, nil
	case op == "ld" && strings.HasPrefix(arg, "M"):
		return bpf.LoadScratch{Dst: bpf.RegA, N: scratch()}, nil
	case op == "ldx" && strings.HasPrefix(arg, "M"):
		return bpf.LoadScratch{Dst: bpf.RegX, N: scratch()}, nil
	case op == "stx":
		return bpf.StoreScratch{Src: bpf.RegX, N: scratch()}, nil
	case op == "st":
		return bpf.StoreScratch{Src: bpf.RegA, N: scratch()}, nil
	case op == "tax":
		return bpf.TAX{}, nil
	case op == "txa":
		return bpf.TXA{}, nil
	case op == "ret":
		return bpf.RetConstant{Val: k}, nil
	case op == "ja":
		return bpf.Jump{Skip: number(arg) - uint32(pc) - 1}, nil
	}
	if c, ok := calc[op]; ok {
		if arg == "x" {
			return bpf.ALUOpX{Op: c}, nil
		}
		return bpf.ALUOpConstant{Op: c, Val: k}, nil
	}
	if j, ok := jumps[op]; ok {
		t, f := uint8(number(jt)-uint32(pc)-1), uint8(number(jf)-uint32(pc)-1)
		if arg == "x" {
			return bpf.JumpIfX{Cond: j, SkipTrue: t, SkipFalse: f}, nil
		}
		return bpf.JumpIf{Cond: j, Val: k, SkipTrue: t, SkipFalse: f}, nil
	}
	return nil, fmt.Errorf("unknown")
}
