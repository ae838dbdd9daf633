package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// assembler emits the instructions of a graph. It knows which values the registers hold on every way to a vertex, so
// that it loads them once.
type assembler struct {
	g      *graph
	code   []line
	labels []int  // line that each vertex stands before
	at     []held // on every way to each vertex
	now    held
	temp   int // highest free scratch slot for intermediate values
	floor  int // lowest one
	err    error
}

// held is what the registers hold, nil when that is not known.
type held struct {
	a, x    value
	reached bool
}

func newAssembler(g *graph) *assembler {
	return &assembler{g: g, labels: make([]int, len(g.v)), at: make([]held, len(g.v)), temp: 15}
}

// run emits the program: the vertices in an order in which all ways to one come before it, then the two ends.
func (a *assembler) run(snapLen uint32) {
	a.initSlots()
	a.at[a.g.root].reached = true
	if a.g.root <= accept {
		a.jump(a.g.root)
	}
	for i := a.g.root; i > accept; i-- {
		a.labels[i], a.now = len(a.code), a.at[i]
		a.vertex(&a.g.v[i])
	}
	a.labels[accept] = len(a.code)
	a.emit(bpf.RetConstant{Val: snapLen})
	a.labels[reject] = len(a.code)
	a.emit(bpf.RetConstant{Val: 0})
}

// initSlots writes 0 to the slots that are read on a way on which they were not written: the kernel refuses that.
func (a *assembler) initSlots() {
	missing, used := a.g.unset(), slots(0)
	for i := a.g.root; i > accept; i-- {
		used |= a.g.v[i].reads() | a.g.v[i].writes()
	}
	for s := range 16 {
		if used&(1<<s) != 0 {
			a.floor = s + 1
		}
		if missing&(1<<s) != 0 {
			a.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: 0}, bpf.StoreScratch{Src: bpf.RegA, N: s})
		}
	}
}

func (a *assembler) emit(ins ...bpf.Instruction) {
	for _, i := range ins {
		a.code = append(a.code, line{ins: i})
	}
}

func (a *assembler) jump(to int) { a.code = append(a.code, line{jump: true, always: true, t: to}) }

func (a *assembler) vertex(v *vertex) {
	switch v.kind {
	case vertexSet:
		a.eval(v.set.v)
		a.emit(bpf.StoreScratch{Src: bpf.RegA, N: v.set.slot})
		if slotsIn(a.now.a)&v.writes() != 0 {
			a.now.a = nil
		}
		if slotsIn(a.now.x)&v.writes() != 0 {
			a.now.x = nil
		}
		a.jump(v.t)
	case vertexCmp:
		a.compare(v)
	}
	a.arrive(v.t)
	a.arrive(v.f)
}

// arrive notes at vertex i what a way there leaves in the registers.
func (a *assembler) arrive(i int) {
	at := &a.at[i]
	if !at.reached {
		*at = a.now
		at.reached = true
		return
	}
	if at.a != a.now.a {
		at.a = nil
	}
	if at.x != a.now.x {
		at.x = nil
	}
}

func (a *assembler) compare(v *vertex) {
	j := line{jump: true, t: v.t, f: v.f}
	c := v.cmp
	k, isConst := c.r.(imm)
	bits, isBits := c.l.(calc)
	var mask imm
	if isBits {
		mask, isBits = bits.r.(imm)
	}
	switch {
	case c.op == '=' && isConst && k == 0 && isBits && bits.op == '&' && a.now.a != c.l: // one jset instead of and, jeq
		a.eval(bits.l)
		j.cond, j.val, j.t, j.f = bpf.JumpBitsSet, uint32(mask), v.f, v.t
	case isConst:
		a.eval(c.l)
		j.cond, j.val = jumps[c.op], uint32(k)
	default:
		a.pair(c.l, c.r)
		j.cond, j.x = jumps[c.op], true
	}
	a.code = append(a.code, j)
}

var jumps = map[byte]bpf.JumpTest{'=': bpf.JumpEqual, '>': bpf.JumpGreaterThan, 'g': bpf.JumpGreaterOrEqual}

// pair leaves l in A and r in X.
func (a *assembler) pair(l, r value) {
	if a.now.x == r && simple(l) {
		a.eval(l)
		return
	}
	a.eval(r)
	if simple(l) {
		a.emit(bpf.TAX{})
		a.now.x = r
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
	a.now.x = r
	a.temp++
}

// simple reports whether a value is loaded without X.
func simple(v value) bool {
	switch v := v.(type) {
	case imm, length, packetType, slot, vlanPresent, vlanTCI, vlanTPID:
		return true
	case load:
		return v.off == nil
	}
	return false
}

// eval leaves a value in A.
func (a *assembler) eval(v value) {
	if a.now.a == v && v != nil {
		return
	}
	switch v := v.(type) {
	case imm:
		a.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(v)})
	case length:
		a.emit(bpf.LoadExtension{Num: bpf.ExtLen})
	case packetType:
		a.emit(bpf.LoadExtension{Num: bpf.ExtType})
	case vlanPresent:
		a.emit(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	case vlanTCI:
		a.emit(bpf.LoadExtension{Num: bpf.ExtVLANTag})
	case vlanTPID:
		a.emit(bpf.LoadExtension{Num: bpf.ExtVLANProto})
	case slot:
		a.emit(bpf.LoadScratch{Dst: bpf.RegA, N: int(v)})
	case load:
		a.load(v)
	case header4:
		a.header(v)
	case calc:
		a.calc(v)
	}
	a.now.a = v
}

func (a *assembler) load(v load) {
	if v.off == nil {
		a.emit(bpf.LoadAbsolute{Off: uint32(v.k), Size: v.size})
		return
	}
	a.index(v.off)
	a.emit(bpf.LoadIndirect{Off: uint32(v.k), Size: v.size})
}

func (a *assembler) header(v header4) {
	if v.off == nil {
		a.index(v)
		a.emit(bpf.TXA{})
		return
	}
	a.index(v.off)
	a.emit(bpf.LoadIndirect{Off: uint32(v.k), Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2})
}

// index leaves an offset in X. Only the length of an IPv4 header and a slot leave A as it is.
func (a *assembler) index(off value) {
	if a.now.x == off {
		return
	}
	switch v := off.(type) {
	case header4:
		if v.off == nil {
			a.emit(bpf.LoadMemShift{Off: uint32(v.k)})
			a.now.x = v
			return
		}
	case slot:
		a.emit(bpf.LoadScratch{Dst: bpf.RegX, N: int(v)})
		a.now.x = v
		return
	}
	a.eval(off)
	a.emit(bpf.TAX{})
	a.now.x = off
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
