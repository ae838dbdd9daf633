package enrich

import (
	"math/bits"
	"math/rand/v2"
)

// refs finds numbers by keys of 64 bits: a hash table with open addressing, in which adding and deleting all the time costs
// neither allocation nor more than a line of memory. The zero value is empty. A key is never 0.
//
// Deleting leaves the slot as it is and forgets the number's key, so that the slot is no longer anybody's. When five of eight slots are taken, they are
// filled anew with what is there.
type refs struct {
	slots []slot
	keys  []uint64 // by number; 0 for a number that no key has
	shift uint     // of a tag, to its slot
	n     int      // keys
	taken int      // slots
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

// near gives the number in the key's first slot when that seems to be the key's.
func (t *refs) near(key uint64) (ref int32, ok bool) {
	if t.n == 0 {
		return none, false
	}
	tag := tagOf(key)
	if s := t.slots[tag>>t.shift]; s.next != 0 && s.tag == tag {
		return s.next - 1, true
	}
	return none, false
}

// touch brings the key's first slot close for what follows.
func (t *refs) touch(key uint64) uint32 {
	if t.n == 0 {
		return 0
	}
	return t.slots[tagOf(key)>>t.shift].tag
}

// get returns the number of a key, and its slot, or the one that put would take.
func (t *refs) get(key uint64) (ref int32, at uint32) {
	if len(t.slots) == 0 {
		return none, 0
	}
	tag := tagOf(key)
	for at = tag >> t.shift; ; at = t.after(at) {
		switch s := t.slots[at]; {
		case s.next == 0:
			return none, at
		case s.tag == tag && t.keys[s.next-1] == key:
			return s.next - 1, at
		}
	}
}

// put adds a key, or gives it another number. Numbers are small, and have one key at most.
func (t *refs) put(key uint64, ref int32) {
	old, at := t.get(key)
	t.putAt(at, key, old, ref)
}

// putAt is put with what get has returned; since then del may have been called, and put for keys that were there.
func (t *refs) putAt(at uint32, key uint64, old, ref int32) {
	if old != none {
		t.keys[old] = 0
	} else if t.n++; 8*(t.taken+1) >= 5*len(t.slots) {
		t.refill()
		_, at = t.get(key)
		t.taken++
	} else {
		t.taken++
	}
	for len(t.keys) <= int(ref) {
		t.keys = append(room(t.keys), 0)
	}
	t.keys[ref] = key
	t.slots[at] = slot{tagOf(key), ref + 1}
}

// refill enters all keys anew, in four times as many slots.
func (t *refs) refill() {
	size := 64
	for size < 4*t.n {
		size *= 2
	}
	if size == len(t.slots) {
		clear(t.slots)
	} else {
		t.slots = make([]slot, size)
		largePages(t.slots)
	}
	t.shift, t.taken = 32-uint(bits.Len(uint(size-1))), 0
	for ref, key := range t.keys {
		if key == 0 {
			continue
		}
		tag := tagOf(key)
		at := tag >> t.shift
		for t.slots[at].next != 0 {
			at = t.after(at)
		}
		t.slots[at] = slot{tag, int32(ref) + 1}
		t.taken++
	}
}

// del takes out the key of a number, when it still has it.
func (t *refs) del(key uint64, ref int32) {
	if int(ref) < len(t.keys) && t.keys[ref] == key {
		t.keys[ref] = 0
		t.n--
	}
}

// room is s with place for one more; it doubles, into large pages.
func room[T any](s []T) []T {
	if len(s) < cap(s) {
		return s
	}
	to := make([]T, len(s), max(2*cap(s), 64))
	largePages(to[:cap(to)])
	copy(to, s)
	return to
}
