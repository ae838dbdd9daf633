package segment

import (
	"encoding/binary"

	"crosstap/internal/collect/store"
)

// outsideAdder counts, of one segment after the other, pairs with an end that has no name, the addresses of these ends, and tunnel endpoints.
type outsideAdder struct {
	*bySegment
	each    func([]store.Outside)
	out     []store.Outside // by fabric
	pairs   []outsidePair   // each once
	addrs   []outsideAddr   // each once
	vteps   map[outsideAddr]bool
	isPair  table
	hasAddr table
}

type outsidePair struct {
	a, b       [16]byte
	aWho, bWho string
	fabric     int // in out
}

type outsideAddr struct {
	addr   [16]byte
	fabric int
}

// add counts a segment.
func (a *outsideAdder) add(segment uint64) error {
	a.isPair.empty(len(a.pairs))
	a.hasAddr.empty(len(a.addrs))
	a.pairs, a.addrs, a.out, a.vteps = a.pairs[:0], a.addrs[:0], nil, map[outsideAddr]bool{}
	for i, r := range a.readers {
		p := &a.in[i]
		fabric := -1 // of the row before, if it counts
		for ; ; r.i++ {
			row, err := r.row()
			if err != nil {
				return err
			}
			if row == nil || row.Segment != segment {
				break
			}
			if row.Rows == 0 || !p.counts(row.Bucket) {
				fabric = -1
				continue
			}
			before := r.previous()
			fresh := fabric < 0 || row.Fabric != before.Fabric
			if fresh {
				fabric = a.fabric(segment, row.Fabric)
			}
			if fresh || row.OuterSrc != before.OuterSrc || row.OuterDst != before.OuterDst {
				a.tunnel(row.OuterSrc, fabric)
				a.tunnel(row.OuterDst, fabric)
				if len(a.vteps) > mostPairs {
					return store.ErrNotSummed
				}
			}
			if !fresh && row.sameEnds(before) || (row.SrcVM != "" || row.SrcVMID != "") && (row.DstVM != "" || row.DstVMID != "") {
				continue
			}
			if !a.pair(outsidePair{row.Src, row.Dst, who(row.SrcVM, row.SrcVMID), who(row.DstVM, row.DstVMID), fabric}) {
				return store.ErrNotSummed
			}
		}
	}
	for ; len(a.rest) > 0 && a.rest[0].Segment == segment; a.rest = a.rest[1:] {
		s := &a.rest[0]
		if !a.pair(outsidePair{s.A, s.B, s.AWho, s.BWho, a.fabric(segment, s.Fabric)}) {
			return store.ErrNotSummed
		}
	}
	if len(a.out) > 0 {
		a.each(a.out)
	}
	return nil
}

// fabric gives the number of a fabric of the segment.
func (a *outsideAdder) fabric(segment uint64, name string) int {
	for i := range a.out {
		if a.out[i].Fabric == name {
			return i
		}
	}
	a.out = append(a.out, store.Outside{Segment: segment, Fabric: name})
	return len(a.out) - 1
}

// tunnel takes note of a tunnel endpoint.
func (a *outsideAdder) tunnel(addr [16]byte, fabric int) {
	if addr == ([16]byte{}) {
		return
	}
	if at := (outsideAddr{addr, fabric}); !a.vteps[at] {
		a.vteps[at] = true
		a.out[fabric].VTEPs = append(a.out[fabric].VTEPs, addr)
	}
}

// pair counts a pair, whichever way it is told; false when there are too many.
func (a *outsideAdder) pair(p outsidePair) bool {
	if store.CompareEnds(p.a, p.aWho, p.b, p.bWho) > 0 {
		p.a, p.b, p.aWho, p.bWho = p.b, p.a, p.bWho, p.aWho
	}
	if a.isPair.full(len(a.pairs)) {
		a.isPair.grow(len(a.pairs), func(i int) uint64 { return endsHash(&a.pairs[i].a, &a.pairs[i].b) })
	}
	at := endsHash(&p.a, &p.b) >> a.isPair.shift
	for ; a.isPair.slots[at] != 0; at = a.isPair.after(at) {
		if a.pairs[a.isPair.slots[at]-1] == p {
			return true
		}
	}
	if len(a.pairs) == mostPairs {
		return false
	}
	a.pairs = append(a.pairs, p)
	a.isPair.slots[at] = uint32(len(a.pairs))
	a.out[p.fabric].Pairs++
	if p.aWho == "" {
		a.address(outsideAddr{p.a, p.fabric})
	}
	if p.bWho == "" {
		a.address(outsideAddr{p.b, p.fabric})
	}
	return true
}

// address counts the address of an end without a name.
func (a *outsideAdder) address(n outsideAddr) {
	if n.addr == ([16]byte{}) {
		return
	}
	if a.hasAddr.full(len(a.addrs)) {
		a.hasAddr.grow(len(a.addrs), func(i int) uint64 { return addrHash(&a.addrs[i].addr) })
	}
	at := addrHash(&n.addr) >> a.hasAddr.shift
	for ; a.hasAddr.slots[at] != 0; at = a.hasAddr.after(at) {
		if a.addrs[a.hasAddr.slots[at]-1] == n {
			return
		}
	}
	a.addrs = append(a.addrs, n)
	a.hasAddr.slots[at] = uint32(len(a.addrs))
	a.out[n.fabric].Addrs++
}

// addrHash tells addresses apart mostly.
func addrHash(a *[16]byte) uint64 {
	return address{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}.hash()
}

// endsHash tells pairs of addresses apart mostly.
func endsHash(a, b *[16]byte) uint64 { return addrHash(a) ^ (addrHash(b)*hashMul + hashMul2) }
