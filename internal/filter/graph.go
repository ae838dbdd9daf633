package filter

import "slices"

// graph is a filter as a decision graph: each vertex makes one test and knows where to go on. Successors have lower
// indexes than the vertices before them.
type graph struct {
	v    []vertex
	root int
	seen map[vertexKey]int
}

// The last two vertices of every graph.
const (
	reject = 0
	accept = 1
)

// vertex is one test, store or call of the dissected frame's tests. Exactly one of cmp, set and deep is in use.
type vertex struct {
	cmp  cmp // compares with a constant by = or >, or two values by = > or g
	set  set
	deep *deep
	kind vertexKind
	t, f int // where to go on; a set goes to t
}

type vertexKind uint8

const (
	vertexEnd vertexKind = iota
	vertexCmp
	vertexSet
	vertexDeep
)

// vertexKey tells vertices apart that do the same.
type vertexKey struct {
	kind vertexKind
	cmp  cmp
	set  set
	t, f int
}

// newGraph makes the graph of a test, optimized.
func newGraph(n Node) *graph {
	g := &graph{v: make([]vertex, 2), seen: map[vertexKey]int{}}
	g.root = g.build(n, accept, reject)
	g.rebuild()
	for range 24 { // each round may show more; the bound is for hostile expressions
		if !g.thread() {
			break
		}
		g.rebuild()
	}
	return g
}

// build adds the vertices of a test that goes on to t or f and returns its first.
func (g *graph) build(n Node, t, f int) int {
	switch n := n.(type) {
	case conj:
		for _, x := range slices.Backward(n.x) {
			t = g.build(x, t, f)
		}
		return t
	case disj:
		for _, x := range slices.Backward(n.x) {
			f = g.build(x, t, f)
		}
		return f
	case inv:
		return g.build(n.x, f, t)
	case yes:
		if n {
			return t
		}
		return f
	case set:
		return g.add(vertex{kind: vertexSet, set: n, t: t, f: t})
	case deep:
		return g.add(vertex{kind: vertexDeep, deep: &n, t: t, f: f})
	case cmp:
		return g.add(canonical(n, t, f))
	}
	return reject
}

// canonical turns the comparisons with a constant into = and >.
func canonical(c cmp, t, f int) vertex {
	k, isConst := c.r.(imm)
	switch {
	case c.op == '!':
		c.op, t, f = '=', f, t
	case c.op == '&':
		c, t, f = cmp{'=', calc{'&', c.l, c.r}, imm(0)}, f, t
	case c.op == 'g' && isConst && k > 0:
		c.op, c.r = '>', k-1
	case c.op == 'g' && isConst:
		c, f = cmp{'>', c.l, imm(0)}, t // true of every number, but it must be there
	}
	return vertex{kind: vertexCmp, cmp: c, t: t, f: f}
}

// add returns the vertex that does the same if there is one.
func (g *graph) add(v vertex) int {
	if v.t == v.f && (v.t == reject || v.t == accept && v.kind == vertexSet && !loads(v.set.v)) {
		return v.t
	}
	if v.kind == vertexSet && v.set.v == slot(v.set.slot) {
		return v.t
	}
	if v.t == v.f && v.kind == vertexCmp && !loads(v.cmp.l) && !loads(v.cmp.r) {
		return v.t
	}
	if v.kind == vertexDeep {
		g.v = append(g.v, v)
		return len(g.v) - 1
	}
	key := vertexKey{v.kind, v.cmp, v.set, v.t, v.f}
	if i, ok := g.seen[key]; ok {
		return i
	}
	g.v = append(g.v, v)
	g.seen[key] = len(g.v) - 1
	return len(g.v) - 1
}

// loads reports whether a value reads bytes of the frame or divides, either of which can end the filter.
func loads(v value) bool {
	switch v := v.(type) {
	case load, header4:
		return true
	case calc:
		return v.op == '/' || v.op == '%' || loads(v.l) || loads(v.r)
	}
	return false
}

// thread leads every edge past the tests that are decided by what was learned on every way to it.
func (g *graph) thread() (changed bool) {
	known := make([]*facts, len(g.v)) // at the vertex, nil when it is not reached
	known[g.root] = &facts{}
	for i := g.root; i > accept; i-- {
		at, v := known[i], &g.v[i]
		if at == nil {
			continue
		}
		known[i] = nil
		t, f := at.after(v, true), at.after(v, false)
		nt, nf := g.follow(v.t, &t), g.follow(v.f, &f)
		if v.kind == vertexSet {
			nf = nt
		}
		changed = changed || nt != v.t || nf != v.f
		v.t, v.f = nt, nf
		meet(known, nt, t)
		if v.kind != vertexSet {
			meet(known, nf, f)
		}
	}
	return changed
}

// follow returns where an edge to vertex i leads when this is known.
func (g *graph) follow(i int, k *facts) int {
	for i > accept && g.v[i].kind == vertexCmp {
		v := g.v[i]
		yes, decided := k.decide(v.cmp)
		switch {
		case decided && yes:
			i = v.t
		case decided:
			i = v.f
		case v.t == v.f && k.has(v.cmp.l) && k.has(v.cmp.r):
			i = v.t
		default:
			return i
		}
	}
	return i
}

// meet keeps at vertex i what is known on every way there.
func meet(known []*facts, i int, k facts) {
	if i <= accept {
		return
	}
	if known[i] == nil {
		known[i] = &k
		return
	}
	known[i].intersect(k)
}

// rebuild drops vertices that are not reached and joins those that have become the same.
func (g *graph) rebuild() {
	old := g.v
	live := make([]bool, len(old))
	live[g.root] = true
	for i := g.root; i > accept; i-- {
		if live[i] {
			live[old[i].t], live[old[i].f] = true, true
		}
	}
	to := make([]int, len(old))
	needed := make([]slots, len(old)) // the scratch slots that are read from a vertex on
	to[accept] = accept
	g.v, g.seen = make([]vertex, 2), map[vertexKey]int{}
	for i := accept + 1; i <= g.root; i++ {
		if !live[i] {
			continue
		}
		v := old[i]
		needed[i] = v.reads() | (needed[v.t]|needed[v.f])&^v.writes()
		if v.kind == vertexSet && needed[v.t]&v.writes() == 0 && !loads(v.set.v) {
			needed[i], to[i] = needed[v.t], to[v.t]
			continue
		}
		v.t, v.f = to[v.t], to[v.f]
		to[i] = g.add(v)
	}
	g.root = to[g.root]
}

// unset returns the slots that are read on a way on which they were not written.
func (g *graph) unset() (missing slots) {
	written := make([]slots, len(g.v))
	for i := range written {
		written[i] = ^slots(0)
	}
	written[g.root] = 0
	for i := g.root; i > accept; i-- {
		v := &g.v[i]
		missing |= v.reads() &^ written[i]
		after := written[i] | v.writes()
		written[v.t] &= after
		written[v.f] &= after
	}
	return missing
}

// slots is a set of scratch slots.
type slots uint32

// reads returns the slots that a vertex reads.
func (v *vertex) reads() slots {
	switch v.kind {
	case vertexCmp:
		return slotsIn(v.cmp.l) | slotsIn(v.cmp.r)
	case vertexSet:
		return slotsIn(v.set.v)
	}
	return 0
}

// writes returns the slot that a vertex writes.
func (v *vertex) writes() slots {
	if v.kind == vertexSet {
		return 1 << v.set.slot
	}
	return 0
}

// slotsIn returns the slots that a value depends on.
func slotsIn(v value) slots {
	switch v := v.(type) {
	case slot:
		return 1 << v
	case load:
		return slotsIn(v.off)
	case header4:
		return slotsIn(v.off)
	case calc:
		return slotsIn(v.l) | slotsIn(v.r)
	case truth:
		return slotsIn(v.l) | slotsIn(v.r)
	}
	return 0
}
