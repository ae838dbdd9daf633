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
//
// A slot has 32 bits, so that the tables of a quarter of a million flows stay in a processor's cache: the number + 1 in as many low bits as a place
// has, since numbers are less than the slots, and above it the tag, which are those bits of the key's hash that do not say the place. 0 is an empty slot.
type refs struct {
	slots []uint32
	keys  []uint64 // by number; 0 for a number that no key has
	limit int      // numbers that there will be at most, as far as it is known
	bits  uint     // of a place
	n     int      // keys
	taken int      // slots
}

// hashMul is drawn at start: what arrives cannot be chosen to collide.
var hashMul = rand.Uint64() | 1

func hashOf(key uint64) uint32 {
	hi, lo := bits.Mul64(key, hashMul)
	return uint32((hi ^ lo) >> 32)
}

// place is where a hash should be.
func (t *refs) place(hash uint32) uint32 { return hash >> (32 - t.bits) }

// tag is what a slot of a hash has above the number.
func (t *refs) tag(hash uint32) uint32 { return hash << t.bits }

// split takes a slot that is not empty apart.
func (t *refs) split(slot uint32) (tag uint32, ref int32) {
	mask := uint32(len(t.slots) - 1)
	return slot &^ mask, int32(slot&mask) - 1
}

func (t *refs) len() int { return t.n }

func (t *refs) after(at uint32) uint32 { return (at + 1) & uint32(len(t.slots)-1) }

// near gives the number in the key's first slot when that seems to be the key's.
func (t *refs) near(key uint64) (ref int32, ok bool) {
	if t.n == 0 {
		return none, false
	}
	hash := hashOf(key)
	if s := t.slots[t.place(hash)]; s != 0 {
		if tag, ref := t.split(s); tag == t.tag(hash) {
			return ref, true
		}
	}
	return none, false
}

// touch brings the key's first slot close for what follows.
func (t *refs) touch(key uint64) uint32 {
	if t.n == 0 {
		return 0
	}
	return t.slots[t.place(hashOf(key))]
}

// get returns the number of a key, and its slot, or the one that put would take.
func (t *refs) get(key uint64) (ref int32, at uint32) {
	if len(t.slots) == 0 {
		return none, 0
	}
	hash := hashOf(key)
	want := t.tag(hash)
	for at = t.place(hash); ; at = t.after(at) {
		s := t.slots[at]
		if s == 0 {
			return none, at
		}
		if tag, ref := t.split(s); tag == want && t.keys[ref] == key {
			return ref, at
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
	for len(t.keys) <= int(ref) {
		t.keys = append(room(t.keys, t.limit), 0)
	}
	full := int(ref)+1 >= len(t.slots)
	if old != none {
		t.keys[old] = 0
	} else {
		t.n++
		full = full || 8*(t.taken+1) >= 5*len(t.slots)
	}
	if full {
		t.refill()
		_, at = t.get(key)
	}
	if full || old == none {
		t.taken++
	}
	t.keys[ref] = key
	t.slots[at] = t.tag(hashOf(key)) | uint32(ref+1)
}

// refill enters all keys anew, in four times as many slots at least, and in more than there are numbers.
func (t *refs) refill() {
	size := 64
	for size < 4*t.n || size <= len(t.keys) {
		size *= 2
	}
	if size == len(t.slots) {
		clear(t.slots)
	} else {
		t.slots = make([]uint32, size)
		largePages(t.slots)
	}
	t.bits, t.taken = uint(bits.Len(uint(size-1))), 0
	for ref, key := range t.keys {
		if key == 0 {
			continue
		}
		hash := hashOf(key)
		at := t.place(hash)
		for t.slots[at] != 0 {
			at = t.after(at)
		}
		t.slots[at] = t.tag(hash) | uint32(ref+1)
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

// room is s with place for one more, of limit that there will be at most. It grows fourfold, into large pages: what is not used yet takes no
// memory, and little is copied.
func room[T any](s []T, limit int) []T {
	if len(s) < cap(s) {
		return s
	}
	size := max(4*cap(s), 64)
	if len(s) < limit {
		size = min(size, limit)
	}
	to := make([]T, len(s), size)
	largePages(to[:cap(to)])
	copy(to, s)
	return to
}
