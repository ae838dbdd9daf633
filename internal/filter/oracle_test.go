package filter

import "crosstap/internal/frame"

// oracleMatch walks the tests of a filter as they were generated: what the compiled program must say too.
func oracleMatch(f *Filter, data []byte, origLen int, dir frame.Direction) bool {
	s := &state{link: f.Link, view: view{data: data, len: uint32(max(origLen, len(data))), dir: dir}}
	s.deep = s
	return s.test(f.root) && !s.short
}

func (s *state) test(n Node) bool {
	switch n := n.(type) {
	case conj:
		for _, x := range n.x {
			if !s.test(x) || s.short {
				return false
			}
		}
		return true
	case disj:
		for _, x := range n.x {
			if s.test(x) || s.short {
				return true
			}
		}
		return false
	case inv:
		return !s.test(n.x)
	case cmp:
		return s.compare(n)
	case yes:
		return bool(n)
	case set:
		s.regs[firstSlot+n.slot] = s.eval(n.v)
		return true
	case deep:
		return n.test(s)
	}
	return false
}

func (s *state) compare(c cmp) bool {
	l, r := s.eval(c.l), s.eval(c.r)
	if s.short {
		return false
	}
	switch c.op {
	case '=':
		return l == r
	case '!':
		return l != r
	case '>':
		return l > r
	case 'g':
		return l >= r
	}
	return l&r != 0
}
