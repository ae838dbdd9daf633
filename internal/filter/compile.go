package filter

import "slices"

// compile makes the matcher's program of a test.
func compile(n Node) *program {
	g := newGraph(n)
	c := &compiler{g: g, at: make([]int32, len(g.v)), last: make([]value, len(g.v)), held: make([][]value, len(g.v))}
	c.p = &program{}
	c.run()
	if len(c.p.nodes) == 0 && !c.p.pack() { // too many registers for the stack: any general instruction asks for more
		c.p.nodes = append(c.p.nodes, nil)
	}
	return c.p
}

// pack numbers the registers that are in use anew; false when there are too many.
func (p *program) pack() bool {
	to, used := [registers]uint8{}, uint8(1)
	for _, in := range p.code {
		for _, r := range []uint8{in.base, in.dst} {
			if r != 0 && to[r] == 0 {
				to[r] = used
				used++
			}
		}
	}
	if used > fewRegisters {
		return false
	}
	for i := range p.code {
		p.code[i].base, p.code[i].dst = to[p.code[i].base], to[p.code[i].dst]
	}
	return true
}

// mostHeaders is where the registers for intermediate results begin.
const mostHeaders = registers - 6

// compiler lays a graph out. Vertices are taken in an order in which all ways to one come before it, so that it is
// known what every way there has read last and which IPv4 header lengths it keeps in registers.
type compiler struct {
	g    *graph
	p    *program
	at   []int32   // first instruction of each vertex
	last []value   // the bytes read last on every way to a vertex, nil when they differ
	held [][]value // by header register, on every way to a vertex
	seen []bool
}

func (c *compiler) run() {
	c.seen = make([]bool, len(c.g.v))
	c.seen[c.g.root] = true
	for i := c.g.root; i > accept; i-- {
		c.at[i] = int32(len(c.p.code))
		c.vertex(i)
	}
	c.at[accept], c.at[reject] = matched, refused
	c.p.start = int(c.at[c.g.root])
	for i := range c.p.code { // targets were vertices so far
		in := &c.p.code[i]
		in.t, in.f = c.target(in.t), c.target(in.f)
	}
}

// target resolves a jump: a vertex, or ^i for instruction i.
func (c *compiler) target(t int32) int32 {
	if t < 0 {
		return ^t
	}
	return c.at[t]
}

func (c *compiler) vertex(i int) {
	v := &c.g.v[i]
	last, held := c.last[i], slices.Clone(c.held[i])
	in := instr{t: int32(v.t), f: int32(v.f)}
	switch v.kind {
	case vertexDeep:
		c.general(&in, opDeep, v)
	case vertexSet:
		last = c.set(&in, v, last, &held)
	case vertexCmp:
		last = c.compare(&in, v, last, &held)
	}
	c.p.code = append(c.p.code, in)
	for _, next := range []int{v.t, v.f} {
		c.arrive(next, last, held)
	}
}

// general makes in an instruction that evaluates its vertex.
func (c *compiler) general(in *instr, op opcode, v *vertex) {
	in.op, in.k = op, uint32(len(c.p.nodes))
	c.p.nodes = append(c.p.nodes, v)
}

// set stores a value in a slot, and forgets what depends on the slot's old one.
func (c *compiler) set(in *instr, v *vertex, last value, held *[]value) value {
	dst := uint8(firstSlot + v.set.slot)
	if base, k, ok := sum(v.set.v); !ok {
		c.compute(in, v, held)
	} else if in.base, ok = c.register(base, held); ok {
		in.op, in.off, in.dst = opAdd, k, dst
	} else {
		c.general(in, opSet, v)
	}
	for r, h := range *held {
		if slotsIn(h)&v.writes() != 0 {
			(*held)[r] = nil
		}
	}
	if slotsIn(last)&v.writes() != 0 {
		return nil
	}
	return last
}

// compute evaluates a slot's value in the registers.
func (c *compiler) compute(in *instr, v *vertex, held *[]value) {
	mark := len(c.p.code)
	if c.value(v.set.v, registers-1, held) {
		in.op, in.base, in.dst = opAdd, registers-1, uint8(firstSlot+v.set.slot)
		return
	}
	c.p.code = c.p.code[:mark]
	*held = nil
	c.general(in, opSet, v)
}

// compare picks the instructions of a comparison and returns what was read last behind it.
func (c *compiler) compare(in *instr, v *vertex, last value, held *[]value) value {
	k, isConst := v.cmp.r.(imm)
	l, mask := unmask(v.cmp.l)
	if isConst {
		in.k, in.mask = uint32(k), mask
		if after, ok := c.read(in, v.cmp.op == '>', l, last, held); ok {
			return after
		}
	}
	mark := len(c.p.code)
	const x, y = registers - 1, registers - 2
	if c.value(v.cmp.l, x, held) && (isConst || c.value(v.cmp.r, y, held)) {
		in.dst = x
		if isConst {
			in.op = map[byte]opcode{'=': opEqRegTo, '>': opGtRegTo}[v.cmp.op]
			return last
		}
		in.base, in.op = y, map[byte]opcode{'=': opEqReg, '>': opGtReg, 'g': opGeReg}[v.cmp.op]
		return last
	}
	c.p.code = c.p.code[:mark]
	*held = nil // what was computed just now is gone
	c.general(in, opCompare, v)
	return last
}

// read picks the instruction that reads l and compares it with a constant, if there is one.
func (c *compiler) read(in *instr, greater bool, l, last value, held *[]value) (after value, ok bool) {
	pick := func(eq, gt opcode) {
		if in.op = eq; greater {
			in.op = gt
		}
	}
	switch l := l.(type) {
	case length:
		pick(opEqLen, opGtLen)
		return last, true
	case load:
		if last == l {
			pick(opEqAgain, opGtAgain)
			return last, true
		}
		size := opcode(l.size / 2) // 1, 2, 4 bytes are 0, 1, 2
		if l.off == nil {
			in.off = uint32(l.k)
			pick(opEqAt1+size, opGtAt1+size)
			return l, true
		}
		if base, k, ok := c.offset(l.k, l.off, held); ok {
			in.base, in.off = base, k
			pick(opEqFrom1+size, opGtFrom1+size)
			return l, true
		}
	}
	return last, false
}

// offset splits k + off into a register and a constant.
func (c *compiler) offset(k int, off value, held *[]value) (uint8, uint32, bool) {
	base, n, ok := sum(off)
	if !ok {
		return 0, 0, false
	}
	r, ok := c.register(base, held)
	return r, uint32(k) + n, ok
}

// value computes a value into the register dst, with those below it for intermediate results; false when they do not
// suffice.
func (c *compiler) value(v value, dst uint8, held *[]value) bool {
	if dst < mostHeaders {
		return false
	}
	in := instr{dst: dst}
	switch v := v.(type) {
	case imm:
		in.op, in.off = opAdd, uint32(v)
	case length:
		in.op = opLen
	case slot:
		in.op, in.base = opAdd, uint8(firstSlot+v)
	case header4:
		r, ok := c.header(v, held)
		if !ok {
			return false
		}
		in.op, in.base = opAdd, r
	case load:
		base, k, ok := c.offset(v.k, v.off, held)
		if !ok {
			if !c.value(v.off, dst, held) {
				return false
			}
			base, k = dst, uint32(v.k)
		}
		in.op, in.base, in.off = opLoad1+opcode(v.size/2), base, k
	case calc:
		if !c.value(v.l, dst, held) {
			return false
		}
		in.op, in.calc = opCalc, v.op
		if k, ok := v.r.(imm); ok {
			in.k = uint32(k)
		} else if in.base = dst - 1; !c.value(v.r, dst-1, held) {
			return false
		}
	default:
		return false
	}
	c.then(in)
	return true
}

// then adds an instruction that goes on at the next one.
func (c *compiler) then(in instr) {
	in.t = ^int32(len(c.p.code) + 1)
	in.f = in.t
	c.p.code = append(c.p.code, in)
}

// arrive notes at vertex i what a way there leaves behind.
func (c *compiler) arrive(i int, last value, held []value) {
	if !c.seen[i] {
		c.seen[i], c.last[i], c.held[i] = true, last, slices.Clone(held)
		return
	}
	if c.last[i] != last {
		c.last[i] = nil
	}
	for r := range c.held[i] {
		if r >= len(held) || c.held[i][r] != held[r] {
			c.held[i][r] = nil
		}
	}
}

// register returns the register that holds a value: nil is register 0, a slot has its own, and the length of an IPv4
// header is computed into one before.
func (c *compiler) register(v value, held *[]value) (uint8, bool) {
	switch v := v.(type) {
	case nil:
		return 0, true
	case slot:
		return uint8(firstSlot + v), true
	case header4:
		return c.header(v, held)
	}
	return 0, false
}

func (c *compiler) header(v header4, held *[]value) (uint8, bool) {
	if r := slices.Index(*held, value(v)); r >= 0 {
		return uint8(firstHeader4 + r), true
	}
	base, k, ok := sum(v.off)
	if !ok {
		return 0, false
	}
	from, ok := c.register(base, held)
	if !ok {
		return 0, false
	}
	free := slices.Index(*held, nil)
	if free < 0 {
		if free = len(*held); firstHeader4+free == mostHeaders {
			return 0, false
		}
		*held = append(*held, nil)
	}
	(*held)[free] = v
	c.then(instr{op: opHeader4, base: from, dst: uint8(firstHeader4 + free), off: uint32(v.k) + k})
	return uint8(firstHeader4 + free), true
}

// sum splits an offset into a value that a register can hold, nil for none, and a constant.
func sum(v value) (base value, k uint32, ok bool) {
	switch v := v.(type) {
	case nil:
		return nil, 0, true
	case imm:
		return nil, uint32(v), true
	case slot, header4:
		return v, 0, true
	case calc:
		n, isConst := v.r.(imm)
		if v.op != '+' || !isConst {
			return nil, 0, false
		}
		base, k, ok = sum(v.l)
		return base, k + uint32(n), ok
	}
	return nil, 0, false
}

// unmask splits a value into another one and the mask that is applied to it.
func unmask(v value) (value, uint32) {
	if c, ok := v.(calc); ok && c.op == '&' {
		if k, ok := c.r.(imm); ok {
			l, mask := unmask(c.l)
			return l, mask & uint32(k)
		}
	}
	return v, anything
}
