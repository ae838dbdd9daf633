package groom

import "sync/atomic"

// balance chooses the output of a frame.
type balance struct {
	acc  account
	n    int
	up   atomic.Uint64 // bit set of the outputs that take frames
	hash FlowHash
	out  []atomic.Uint64 // frames that left, for each output
}

// newBalance returns the last step; without a spec there is one output.
func newBalance(s *Balance) *balance {
	if s == nil {
		b := &balance{acc: newAccount("groom", []string{"stopped"}), n: 1, out: make([]atomic.Uint64, 1)}
		b.up.Store(1)
		return b
	}
	b := &balance{acc: newAccount("balance", []string{"stopped"}, "moved to another output"), n: s.Outputs, hash: s.Hash, out: make([]atomic.Uint64, s.Outputs)}
	b.up.Store(1<<s.Outputs - 1)
	return b
}

// pick returns the output with the highest weight for the frame's conversation among those that are up (rendezvous
// hashing): when one fails, only its conversations move, and they come back with it.
func (b *balance) pick(it *item) int {
	if b.n == 1 {
		return 0
	}
	h := b.hash.of(it)
	up := b.up.Load()
	best, bestWeight := 0, uint64(0)
	first, firstWeight := 0, uint64(0)
	for i := range b.n {
		w := mix(h ^ uint64(i+1)*0x9e3779b97f4a7c15)
		if w > firstWeight {
			first, firstWeight = i, w
		}
		if up>>i&1 != 0 && w > bestWeight {
			best, bestWeight = i, w
		}
	}
	if bestWeight == 0 { // all are down: as if all were up
		return first
	}
	if best != first {
		b.acc.note(0)
	}
	return best
}

func (b *balance) sent(output, n int) {
	b.acc.out += n
	b.out[output].Add(uint64(n))
}

// SetOutput says whether an output takes frames. The conversations of an output that is down go to the others and come
// back with it; with all outputs down every conversation keeps its own.
func (p *Pipeline) SetOutput(output int, up bool) {
	for {
		old := p.balance.up.Load()
		mask := old &^ (1 << output)
		if up {
			mask |= 1 << output
		}
		if p.balance.up.CompareAndSwap(old, mask) {
			return
		}
	}
}

// Sent returns the number of frames that left through each output.
func (p *Pipeline) Sent() []uint64 {
	all := make([]uint64, p.balance.n)
	for i := range all {
		all[i] = p.balance.out[i].Load()
	}
	return all
}
