package filter

// Node is a test on a frame.
type Node interface{ node() }

// value is a 32-bit number computed from a frame.
type value interface{ value() }

type (
	// conj and disj evaluate from the left and stop at the first false or true.
	conj struct{ x []Node }
	disj struct{ x []Node }
	inv  struct{ x Node }
	yes  bool
	// cmp compares two values; op is one of = ! > g(>=) and & (any common bit).
	cmp struct {
		op   byte
		l, r value
	}
	// set stores a value in a scratch slot and is true. At most 16 slots, as classic BPF has.
	set struct {
		slot int
		v    value
	}
	// deep is a test that needs the dissected frame: only the Go matcher has it.
	deep struct {
		text string
		test func(*state) bool
	}
)

type (
	imm uint32
	// length is the length of the frame as captured on the wire.
	length struct{}
	// load reads size bytes, big endian, at k + off (nil for 0).
	load struct {
		size int
		k    int
		off  value
	}
	// packetType is the kernel's packet type of a frame: 4 for outgoing.
	packetType struct{}
	// vlanPresent is 1 when the kernel has taken an 802.1Q tag out of the frame, 0 otherwise. vlanTCI and vlanTPID are
	// what the tag said, where there was one.
	vlanPresent struct{}
	vlanTCI     struct{}
	vlanTPID    struct{}
	// slot reads a scratch slot.
	slot int
	// calc is an arithmetic operation: + - * / % & | ^ < (shift left) > (shift right).
	calc struct {
		op   byte
		l, r value
	}
	// header4 is the length in bytes of an IPv4 header at offset k + off: 4 times the low half of its first byte.
	header4 struct {
		k   int
		off value
	}
)

func (conj) node()         {}
func (disj) node()         {}
func (inv) node()          {}
func (yes) node()          {}
func (cmp) node()          {}
func (set) node()          {}
func (deep) node()         {}
func (imm) value()         {}
func (length) value()      {}
func (load) value()        {}
func (packetType) value()  {}
func (vlanPresent) value() {}
func (vlanTCI) value()     {}
func (vlanTPID) value()    {}
func (slot) value()        {}
func (calc) value()        {}
func (header4) value()     {}

// and joins tests; constants fold.
func and(x ...Node) Node {
	var out []Node
	for _, n := range x {
		switch n := n.(type) {
		case nil:
		case yes:
			if !n {
				return no(out)
			}
		case conj:
			out = append(out, n.x...)
		default:
			out = append(out, n)
		}
	}
	switch len(out) {
	case 0:
		return yes(true)
	case 1:
		return out[0]
	}
	return conj{out}
}

// no is false after the tests before it, which may still end the filter by a short read; nothing
// can be true any more, so they need not run.
func no([]Node) Node { return yes(false) }

// or joins tests; constants fold.
func or(x ...Node) Node {
	var out []Node
	for _, n := range x {
		switch n := n.(type) {
		case nil:
		case yes:
			if n {
				return yes(true)
			}
		case disj:
			out = append(out, n.x...)
		default:
			out = append(out, n)
		}
	}
	switch len(out) {
	case 0:
		return yes(false)
	case 1:
		return out[0]
	}
	return disj{out}
}

func negate(x Node) Node {
	switch x := x.(type) {
	case yes:
		return !x
	case inv:
		return x.x
	}
	return inv{x}
}

func equal(l value, k uint32) Node { return cmp{'=', l, imm(k)} }

// masked returns v & mask, v for a mask of all ones of its size.
func masked(v load, mask uint32) value {
	if mask == uint32(1<<(8*v.size)-1) {
		return v
	}
	return calc{'&', v, imm(mask)}
}

// plus adds two values, nil standing for 0.
func plus(a, b value) value {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	x, ok1 := a.(imm)
	y, ok2 := b.(imm)
	if ok1 && ok2 {
		return x + y
	}
	return calc{'+', a, b}
}
