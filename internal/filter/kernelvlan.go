package filter

import "math"

// On a packet socket and at a tc hook the kernel has taken the outermost 802.1Q or 802.1ad tag out of the frame and keeps it
// beside it; the capture puts it back before the matcher sees the frame. A program for the kernel must therefore read
// the frame as if the tag were still there.

const (
	tagAt  = 12 // offset of the tag in the restored frame
	tagLen = 4
)

// untagged rewrites a test of the restored frame into one of the frame as the kernel has it.
func untagged(n Node) Node {
	present := equal(vlanPresent{}, 1)
	r := restorer{newGraph(n).unset()}
	return or(and(present, r.test(n)), and(negate(present), n))
}

// restorer rewrites the tests of one filter.
type restorer struct{ unset slots }

// test rewrites a test for a frame whose tag was taken out. What cannot be rewritten is left to the matcher.
func (r restorer) test(n Node) Node {
	switch n := n.(type) {
	case conj:
		return and(r.all(n.x)...)
	case disj:
		return or(r.all(n.x)...)
	case inv:
		return negate(r.test(n.x))
	case set:
		v, ok := r.value(n.v)
		if !ok {
			return deep{unreachable, nil}
		}
		return set{n.slot, v}
	case cmp:
		x, ok1 := r.value(n.l)
		y, ok2 := r.value(n.r)
		if !ok1 || !ok2 {
			return deep{unreachable, nil}
		}
		if k, ok := y.(imm); ok && x == (vlanTPID{}) && n.op == '=' && k != typeVLAN && k != typeQinQ {
			return yes(false) // the kernel takes out no other tags
		}
		return cmp{n.op, x, y}
	}
	return n
}

func (r restorer) all(x []Node) (out []Node) {
	for _, c := range x {
		out = append(out, r.test(c))
	}
	return out
}

const unreachable = "bytes at a computed offset beside a VLAN tag"

// value rewrites a value of the restored frame. Scratch slots keep offsets in the restored frame; only loads are
// moved.
func (r restorer) value(v value) (value, bool) {
	switch v := v.(type) {
	case length:
		return calc{'+', v, imm(tagLen)}, true
	case load:
		return r.load(v)
	case header4:
		if v.off == nil && v.k >= tagAt+tagLen {
			return header4{v.k - tagLen, nil}, true
		}
		b, ok := r.load(load{1, v.k, v.off})
		return calc{'<', calc{'&', b, imm(0xf)}, imm(2)}, ok
	case calc:
		x, ok1 := r.value(v.l)
		y, ok2 := r.value(v.r)
		return calc{v.op, x, y}, ok1 && ok2
	}
	return v, true
}

func (r restorer) load(v load) (value, bool) {
	if v.off != nil {
		off, ok := r.value(v.off)
		return load{v.size, v.k - tagLen, off}, ok && v.k+r.least(v.off) >= tagAt+tagLen && most(v.off) < math.MaxInt32
	}
	switch {
	case v.k+v.size <= tagAt:
		return v, true
	case v.k >= tagAt+tagLen:
		return load{v.size, v.k - tagLen, nil}, true
	case v.size == 2 && v.k == tagAt:
		return vlanTPID{}, true
	case v.size == 2 && v.k == tagAt+2:
		return vlanTCI{}, true
	}
	var out value
	for i := range v.size {
		if out == nil {
			out = restoredByte(v.k)
			continue
		}
		out = calc{'|', calc{'<', out, imm(8)}, restoredByte(v.k + i)}
	}
	return out, true
}

// restoredByte is the byte at an offset of the restored frame.
func restoredByte(k int) value {
	switch {
	case k < tagAt:
		return load{1, k, nil}
	case k == tagAt:
		return calc{'>', vlanTPID{}, imm(8)}
	case k == tagAt+1:
		return calc{'&', vlanTPID{}, imm(0xff)}
	case k == tagAt+2:
		return calc{'>', vlanTCI{}, imm(8)}
	case k == tagAt+3:
		return calc{'&', vlanTCI{}, imm(0xff)}
	}
	return load{1, k - tagLen, nil}
}

// most bounds an offset from above.
func most(v value) uint64 {
	const any = math.MaxUint32
	switch v := v.(type) {
	case imm:
		return uint64(v)
	case load:
		return 1<<(8*v.size) - 1
	case header4:
		return 60
	case slot: // an offset in the frame
		return math.MaxUint16 * 4
	case length:
		return math.MaxUint32
	case calc:
		l, r := most(v.l), most(v.r)
		switch v.op {
		case '+':
			return min(any, l+r)
		case '*':
			return min(any, l*min(r, any))
		case '&':
			return min(l, r)
		case '>', '/':
			return l
		case '<':
			if k, ok := v.r.(imm); ok && k < 32 {
				return min(any, l<<k)
			}
		}
	}
	return any
}

// least bounds an offset from below: a slot that is surely set is an offset behind the outer headers.
func (r restorer) least(v value) int {
	switch v := v.(type) {
	case slot:
		if r.unset&slotsIn(v) == 0 {
			return tagAt + tagLen
		}
	case imm:
		return int(v)
	case calc:
		if v.op == '+' && most(v) < math.MaxInt32 {
			return r.least(v.l) + r.least(v.r)
		}
	}
	return 0
}
