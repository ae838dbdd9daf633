package filter

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/net/bpf"
)

// maxInstructions is what the kernel takes in one socket filter (BPF_MAXINSNS).
const maxInstructions = 4096

// BPF returns the filter as a classic BPF program that returns the snap length for a match and 0 otherwise. residual
// reports that the program lets through more than the filter matches, because a test needs the dissected frame: whoever
// receives the frames must ask Match too.
func (f *Filter) BPF() (prog []bpf.Instruction, residual bool, err error) {
	root := approximate(f.root, true, &residual)
	a := &assembler{temp: 15}
	for _, s := range slices.Sorted(maps.Keys(slotsOf(root))) { // the kernel refuses a read of a slot that was never written
		a.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: 0}, bpf.StoreScratch{Src: bpf.RegA, N: s})
		a.floor = max(a.floor, s+1)
	}
	accept, reject := a.label(), a.label()
	a.test(root, accept, reject)
	a.place(accept)
	a.emit(bpf.RetConstant{Val: f.opt.SnapLen})
	a.place(reject)
	a.emit(bpf.RetConstant{Val: 0})
	if a.err != nil {
		return nil, residual, fmt.Errorf("filter: classic BPF: %w", a.err)
	}
	prog = a.link()
	if len(prog) > maxInstructions {
		return nil, residual, fmt.Errorf("filter: classic BPF: %d instructions, at most %d; shorten the expression", len(prog), maxInstructions)
	}
	return prog, residual, nil
}

// approximate replaces what BPF cannot test by what lets more frames through: true where a match is
// wanted, false under a negation.
func approximate(n Node, want bool, residual *bool) Node {
	each := func(x []Node) (out []Node) {
		for _, c := range x {
			out = append(out, approximate(c, want, residual))
		}
		return out
	}
	switch n := n.(type) {
	case conj:
		return and(each(n.x)...)
	case disj:
		return or(each(n.x)...)
	case inv:
		return negate(approximate(n.x, !want, residual))
	case deep:
		*residual = true
		return yes(want)
	}
	return n
}

// slotsOf returns the scratch slots that a test sets.
func slotsOf(n Node) map[int]bool {
	out := map[int]bool{}
	var walk func(Node)
	walk = func(n Node) {
		switch n := n.(type) {
		case conj:
			for _, c := range n.x {
				walk(c)
			}
		case disj:
			for _, c := range n.x {
				walk(c)
			}
		case inv:
			walk(n.x)
		case set:
			out[n.slot] = true
		}
	}
	walk(n)
	return out
}

// assembler emits instructions with labels for jump targets.
type assembler struct {
	code   []line
	labels []int // line each label stands before
	temp   int   // highest free scratch slot for intermediate values
	floor  int   // lowest one
	err    error
}

// line is an instruction, or a conditional or plain jump to labels.
type line struct {
	ins    bpf.Instruction
	jump   bool
	always bool
	x      bool // compare with X
	cond   bpf.JumpTest
	val    uint32
	t, f   int
}

func (a *assembler) emit(ins ...bpf.Instruction) {
	for _, i := range ins {
		a.code = append(a.code, line{ins: i})
	}
}

func (a *assembler) label() int {
	a.labels = append(a.labels, -1)
	return len(a.labels) - 1
}

func (a *assembler) place(l int) { a.labels[l] = len(a.code) }

// test emits a test that jumps to t or f.
func (a *assembler) test(n Node, t, f int) {
	switch n := n.(type) {
	case conj:
		for i, x := range n.x {
			next := t
			if i < len(n.x)-1 {
				next = a.label()
			}
			a.test(x, next, f)
			if next != t {
				a.place(next)
			}
		}
	case disj:
		for i, x := range n.x {
			next := f
			if i < len(n.x)-1 {
				next = a.label()
			}
			a.test(x, t, next)
			if next != f {
				a.place(next)
			}
		}
	case inv:
		a.test(n.x, f, t)
	case yes:
		if !n {
			t = f
		}
		a.code = append(a.code, line{jump: true, always: true, t: t})
	case set:
		a.eval(n.v)
		a.emit(bpf.StoreScratch{Src: bpf.RegA, N: n.slot})
		a.code = append(a.code, line{jump: true, always: true, t: t})
	case cmp:
		a.compare(n, t, f)
	}
}

var jumps = map[byte]bpf.JumpTest{'=': bpf.JumpEqual, '!': bpf.JumpNotEqual, '>': bpf.JumpGreaterThan, 'g': bpf.JumpGreaterOrEqual, '&': bpf.JumpBitsSet}

func (a *assembler) compare(c cmp, t, f int) {
	j := line{jump: true, cond: jumps[c.op], t: t, f: f}
	if k, ok := c.r.(imm); ok {
		a.eval(c.l)
		j.val = uint32(k)
	} else {
		a.pair(c.l, c.r)
		j.x = true
	}
	a.code = append(a.code, j)
}

// pair leaves l in A and r in X.
func (a *assembler) pair(l, r value) {
	a.eval(r)
	if _, simple := l.(imm); simple {
		a.emit(bpf.TAX{})
		a.eval(l)
		return
	}
	if a.temp < a.floor {
		a.err = fmt.Errorf("the arithmetic needs more than 16 scratch slots")
		return
	}
	n := a.temp
	a.temp--
	a.emit(bpf.StoreScratch{Src: bpf.RegA, N: n})
	a.eval(l)
	a.emit(bpf.LoadScratch{Dst: bpf.RegX, N: n})
	a.temp++
}

// eval leaves a value in A; X is lost.
func (a *assembler) eval(v value) {
	switch v := v.(type) {
	case imm:
		a.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(v)})
	case length:
		a.emit(bpf.LoadExtension{Num: bpf.ExtLen})
	case packetType:
		a.emit(bpf.LoadExtension{Num: bpf.ExtType})
	case slot:
		a.emit(bpf.LoadScratch{Dst: bpf.RegA, N: int(v)})
	case load:
		if v.off == nil {
			a.emit(bpf.LoadAbsolute{Off: uint32(v.k), Size: v.size})
			return
		}
		a.index(v.off)
		a.emit(bpf.LoadIndirect{Off: uint32(v.k), Size: v.size})
	case header4:
		if v.off == nil {
			a.emit(bpf.LoadMemShift{Off: uint32(v.k)}, bpf.TXA{})
			return
		}
		a.index(v.off)
		a.emit(bpf.LoadIndirect{Off: uint32(v.k), Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2})
	case calc:
		a.calc(v)
	}
}

// index leaves an offset in X.
func (a *assembler) index(off value) {
	switch v := off.(type) {
	case header4:
		if v.off == nil {
			a.emit(bpf.LoadMemShift{Off: uint32(v.k)})
			return
		}
	case slot:
		a.emit(bpf.LoadScratch{Dst: bpf.RegX, N: int(v)})
		return
	}
	a.eval(off)
	a.emit(bpf.TAX{})
}

var alu = map[byte]bpf.ALUOp{'+': bpf.ALUOpAdd, '-': bpf.ALUOpSub, '*': bpf.ALUOpMul, '/': bpf.ALUOpDiv, '%': bpf.ALUOpMod, '&': bpf.ALUOpAnd,
	'|': bpf.ALUOpOr, '^': bpf.ALUOpXor, '<': bpf.ALUOpShiftLeft, '>': bpf.ALUOpShiftRight}

func (a *assembler) calc(c calc) {
	if k, ok := c.r.(imm); ok {
		a.eval(c.l)
		a.emit(bpf.ALUOpConstant{Op: alu[c.op], Val: uint32(k)})
		return
	}
	a.pair(c.l, c.r)
	a.emit(bpf.ALUOpX{Op: alu[c.op]})
}

// link resolves the labels. A conditional jump reaches 255 instructions; one that must go farther jumps over plain
// jumps, which reach anywhere.
func (a *assembler) link() []bpf.Instruction {
	far := make([]bool, len(a.code))
	for {
		pos := a.positions(far)
		again := false
		for i, l := range a.code {
			if !l.jump || l.always || far[i] {
				continue
			}
			if a.distance(pos, i, l.t) > 255 || a.distance(pos, i, l.f) > 255 {
				far[i], again = true, true
			}
		}
		if !again {
			return a.instructions(pos, far)
		}
	}
}

// positions returns the index of each line's first instruction; jumps to the next line take none.
func (a *assembler) positions(far []bool) []int {
	pos := make([]int, len(a.code)+1)
	n := 0
	for i, l := range a.code {
		pos[i] = n
		switch {
		case far[i]:
			n += 3
		case l.jump && l.always && a.labels[l.t] == i+1:
		default:
			n++
		}
	}
	pos[len(a.code)] = n
	return pos
}

func (a *assembler) distance(pos []int, i, label int) int { return pos[a.labels[label]] - pos[i] - 1 }

func (a *assembler) instructions(pos []int, far []bool) (out []bpf.Instruction) {
	for i, l := range a.code {
		switch {
		case !l.jump:
			out = append(out, l.ins)
		case l.always:
			if a.labels[l.t] != i+1 {
				out = append(out, bpf.Jump{Skip: uint32(a.distance(pos, i, l.t))})
			}
		case far[i]:
			out = append(out, l.branch(0, 1), bpf.Jump{Skip: uint32(a.distance(pos, i, l.t) - 1)}, bpf.Jump{Skip: uint32(a.distance(pos, i, l.f) - 2)})
		default:
			out = append(out, l.branch(uint8(a.distance(pos, i, l.t)), uint8(a.distance(pos, i, l.f))))
		}
	}
	return out
}

func (l line) branch(t, f uint8) bpf.Instruction {
	if l.x {
		return bpf.JumpIfX{Cond: l.cond, SkipTrue: t, SkipFalse: f}
	}
	return bpf.JumpIf{Cond: l.cond, Val: l.val, SkipTrue: t, SkipFalse: f}
}
