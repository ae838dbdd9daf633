package apphint

const (
	partBytes = 4096 // of a message that are put together: more than a ClientHello with post-quantum keys has
	maxSpans  = 16
)

// Part is the beginning of a message whose pieces come in any order.
type Part struct {
	buf   [partBytes]byte
	spans [maxSpans]span // what is there: in order, apart from one another
	n     int
	seq   uint32 // TCP sequence number of buf[0]
	dcid  [maxCID]byte
	cid   int // length of dcid
}

type span struct{ from, to int }

// Reset empties the part.
func (p *Part) Reset() { p.n, p.cid = 0, 0 }

// add puts a piece at its place. What does not fit is left out.
func (p *Part) add(at int, b []byte) {
	if at < 0 || at >= partBytes || len(b) == 0 {
		return
	}
	s := span{at, at + copy(p.buf[at:], b)}
	i := 0
	for i < p.n && p.spans[i].to < s.from {
		i++
	}
	j := i // spans[i:j] touch s
	for j < p.n && p.spans[j].from <= s.to {
		s.from, s.to = min(s.from, p.spans[j].from), max(s.to, p.spans[j].to)
		j++
	}
	if i == j && p.n == maxSpans {
		return
	}
	rest := p.n - j
	copy(p.spans[i+1:i+1+rest], p.spans[j:p.n])
	p.spans[i] = s
	p.n = i + 1 + rest
}

// prefix returns the bytes from the beginning to the first that is missing.
func (p *Part) prefix() []byte {
	if p.n == 0 || p.spans[0].from != 0 {
		return nil
	}
	return p.buf[:p.spans[0].to]
}

// full reports whether no more bytes can help.
func (p *Part) full() bool { return len(p.prefix()) == partBytes }
