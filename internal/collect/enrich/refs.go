package enrich

import (
	"math/bits"
	"math/rand/v2"
)

// refs finds numbers by keys of 64 bits: a hash table with open addressing, in which adding and deleting all the time costs
// neither allocation nor more than a line of memory or two. The zero value is empty.
type refs struct {
	slots []slot
	keys  []uint64 // by number
	shift uint     // of a tag, to its slot
	n     int
}

// slot holds a number. Its tag are the top bits of the key's hash, of which the first say where the slot should be.
type slot struct {
	tag  uint32
	next int32 // the number + 1, 0 for an empty slot
}

// hashMul is drawn at start: what arrives cannot be chosen to collide.
var hashMul = rand.Uint64() | 1

func tagOf(key uint64) uint32 {
	hi, lo := bits.Mul64(key, hashMul)
	return uint32((hi ^ lo) >> 32)
}

func (t *refs) len() int { return t.n }

func (t *refs) after(at uint32) uint32 { return (at + 1) & uint32(len(t.slots)-1) }

// near reports whether the key's first slot seems to have it. It brings the slot close for what follows.
func (t *refs) near(key uint64) bool {
	if t.n == 0 {
		return false
	}
	tag := tagOf(key)
	s := t.slots[tag>>t.shift]
	return s.next != 0 && s.tag == tag
}

func (t *refs) get(key uint64) (ref int32, ok bool) {
	if t.n == 0 {
		return none, false
	}
	if at, ok := t.find(key); ok {
		return t.slots[at].next - 1, true
	}
	return none, false
}

// find gives the slot of a key; the table must not be empty.
func (t *refs) find(key uint64) (at uint32, ok bool) {
	tag := tagOf(key)
	for at = tag >> t.shift; ; at = t.after(at) {
		switch s := t.slots[at]; {
		case s.next == 0:
			return at, false
		case s.tag == tag && t.keys[s.next-1] == key:
			return at, true
		}
	}
}

// put adds a key, or gives it another number. Numbers are small.
func (t *refs) put(key uint64, ref int32) {
	if 2*t.n >= len(t.slots) {
		t.grow()
	}
	for len(t.keys) <= int(ref) {
		t.keys = append(t.keys, 0)
	}
	at, ok := t.find(key)
	if !ok {
		t.n++
	}
	t.keys[ref] = key
	t.slots[at] = slot{tagOf(key), ref + 1}
}

// grow doubles the table.
func (t *refs) grow() {
	old := t.slots
	t.slots = make([]slot, max(2*len(old), 64))
	t.shift = 32 - uint(bits.Len(uint(len(t.slots)-1)))
	for _, s := range old {
		if s.next == 0 {
			continue
		}
		at := s.tag >> t.shift
		for t.slots[at].next != 0 {
			at = t.after(at)
		}
		t.slots[at] = s
	}
}

// del takes a key out and moves what had to give way to it.
func (t *refs) del(key uint64) {
	if t.n == 0 {
		return
	}
	hole, ok := t.find(key)
	if !ok {
		return
	}
	mask := uint32(len(t.slots) - 1)
	for at := t.after(hole); t.slots[at].next != 0; at = t.after(at) {
		if s := t.slots[at]; (at-s.tag>>t.shift)&mask >= (at-hole)&mask {
			t.slots[hole], hole = s, at
		}
	}
	t.slots[hole] = slot{}
	t.n--
}
