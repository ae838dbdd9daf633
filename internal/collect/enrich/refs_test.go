package enrich

import (
	"math/rand/v2"
	"testing"
)

// all gives the numbers in the table.
func (t *refs) all(yield func(int32) bool) {
	for _, key := range t.keys {
		if ref, _ := t.get(key); key != 0 && !yield(ref) {
			return
		}
	}
}

// TestRefs compares with maps. Keys and numbers are few, so that they meet and change, and some keys have the same tag.
func TestRefs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	for _, keys := range []uint64{4, 60, 5000} {
		var fast refs
		slow, keyOf := map[uint64]int32{}, map[int32]uint64{}
		del := func(key uint64) {
			if ref, there := slow[key]; there {
				fast.del(key, ref)
				delete(slow, key)
				delete(keyOf, ref)
			}
		}
		for range 50_000 {
			key := 1 + rnd.Uint64N(keys)
			if rnd.IntN(4) == 0 {
				key |= 1 << 63
			}
			switch rnd.IntN(3) {
			case 0:
				del(key)
			case 1:
				ref := int32(rnd.Uint64N(2 * keys))
				if other, taken := keyOf[ref]; taken && other != key { // as in the table of flows a number has one key
					del(other)
				}
				if was, there := slow[key]; there {
					delete(keyOf, was)
				}
				fast.put(key, ref)
				slow[key], keyOf[ref] = ref, key
			}
			got, _ := fast.get(key)
			want, there := slow[key]
			if !there {
				want = none
			}
			if got != want || fast.len() != len(slow) {
				t.Fatalf("key %x: %d, want %d; %d of %d keys", key, got, want, fast.len(), len(slow))
			}
			if n, near := fast.near(key); there && fast.slots[fast.place(hashOf(key))] == fast.tag(hashOf(key))|uint32(want+1) && (!near || n != want) {
				t.Fatalf("key %x is not near", key)
			}
		}
		n := 0
		for range fast.all {
			n++
		}
		if n != len(slow) {
			t.Errorf("%d numbers have keys, want %d", n, len(slow))
		}
	}
}
