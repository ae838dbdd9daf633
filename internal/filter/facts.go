package filter

import "slices"

// facts are what tests have shown about values, on the way to a vertex. A value that is listed at all was computed
// without a short read.
type facts struct{ list []fact }

// fact bounds a value: it lies in [lo, hi] and is none of not.
type fact struct {
	v      value
	lo, hi uint32
	not    []uint32 // shared, never written in place
}

// More than this is forgotten, so that long expressions compile in linear time.
const (
	maxFacts = 32
	maxNot   = 16
)

// truth stands for the result of a comparison of two values, 0 or 1.
type truth struct{ cmp }

func (truth) value() {}

const anything = 1<<32 - 1

func (k *facts) find(v value) *fact {
	for i := range k.list {
		if k.list[i].v == v {
			return &k.list[i]
		}
	}
	return nil
}

// has reports whether a value can be computed without a short read.
func (k *facts) has(v value) bool {
	if !loads(v) {
		return true
	}
	return k.find(v) != nil
}

// constant returns a value that is known exactly.
func (k *facts) constant(v value) (uint32, bool) {
	if c, ok := v.(imm); ok {
		return uint32(c), true
	}
	if f := k.find(v); f != nil && f.lo == f.hi {
		return f.lo, true
	}
	if c, ok := v.(calc); ok && c.op != '/' && c.op != '%' {
		l, ok1 := k.constant(c.l)
		r, ok2 := k.constant(c.r)
		return arithmetic(c.op, l, r), ok1 && ok2
	}
	return 0, false
}

// decide returns the result of a comparison that is already clear.
func (k *facts) decide(c cmp) (result, decided bool) {
	r, isConst := c.r.(imm)
	if !isConst {
		f := k.find(truth{c})
		return f != nil && f.lo == 1, f != nil && f.lo == f.hi
	}
	f := fact{lo: 0, hi: anything}
	if n, ok := k.constant(c.l); ok {
		f.lo, f.hi = n, n
	} else if known := k.find(c.l); known != nil {
		f = *known
	} else if loads(c.l) {
		return false, false // no bound says that the bytes are there
	}
	n := uint32(r)
	if c.op == '=' {
		return f.lo == f.hi && f.lo == n, f.lo == f.hi || n < f.lo || n > f.hi || slices.Contains(f.not, n)
	}
	return f.lo > n, f.lo > n || f.hi <= n
}

// after returns what is known behind a vertex with this result.
func (k *facts) after(v *vertex, result bool) facts {
	out := facts{slices.Clone(k.list)}
	switch v.kind {
	case vertexSet:
		out.learn(v.set.v, func(*fact) {})
		out.list = slices.DeleteFunc(out.list, func(f fact) bool { return slotsIn(f.v)&v.writes() != 0 })
	case vertexCmp:
		r, isConst := v.cmp.r.(imm)
		if !isConst {
			out.learn(v.cmp.l, func(*fact) {})
			out.learn(v.cmp.r, func(*fact) {})
			out.learn(truth{v.cmp}, func(f *fact) { f.lo, f.hi = bit(result), bit(result) })
			return out
		}
		out.learn(v.cmp.l, func(f *fact) { f.narrow(v.cmp.op, uint32(r), result) })
	}
	return out
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// learn notes a value and the values it is made of.
func (k *facts) learn(v value, narrow func(*fact)) {
	switch c := v.(type) {
	case imm, nil:
		return
	case calc:
		k.learn(c.l, func(*fact) {})
		k.learn(c.r, func(*fact) {})
	}
	f := k.find(v)
	if f == nil {
		if len(k.list) == maxFacts {
			k.list = slices.Delete(k.list, 0, 1)
		}
		k.list = append(k.list, fact{v: v, hi: anything})
		f = &k.list[len(k.list)-1]
	}
	narrow(f)
}

// narrow applies the result of a comparison with n.
func (f *fact) narrow(op byte, n uint32, result bool) {
	switch {
	case op == '=' && result:
		f.lo, f.hi, f.not = n, n, nil
	case op == '=':
		if len(f.not) < maxNot && !slices.Contains(f.not, n) {
			f.not = append(slices.Clone(f.not), n)
		}
	case result:
		f.lo = max(f.lo, n+1)
	default:
		f.hi = min(f.hi, n)
	}
}

// excludes reports whether the value cannot be n.
func (f *fact) excludes(n uint32) bool {
	return n < f.lo || n > f.hi || slices.Contains(f.not, n)
}

// intersect keeps what holds in both.
func (k *facts) intersect(other facts) {
	k.list = slices.DeleteFunc(k.list, func(f fact) bool { return other.find(f.v) == nil })
	for i := range k.list {
		f, o := &k.list[i], other.find(k.list[i].v)
		var not []uint32
		for _, n := range f.not {
			if o.excludes(n) {
				not = append(not, n)
			}
		}
		for _, n := range o.not {
			if f.excludes(n) && !slices.Contains(not, n) {
				not = append(not, n)
			}
		}
		f.lo, f.hi, f.not = min(f.lo, o.lo), max(f.hi, o.hi), not
	}
}
