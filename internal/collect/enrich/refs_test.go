package enrich

import (
	"math/rand/v2"
	"testing"
)

// all gives the numbers in the table.
func (t *refs) all(yield func(int32) bool) {
	for _, s := range t.slots {
		if s.next != 0 && !yield(s.next-1) {
			return
		}
	}
}

// TestRefs compares with a map. Keys are few, so that they meet, and some have the same tag.
func TestRefs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	for _, keys := range []uint64{4, 60, 5000} {
		var fast refs
		slow := map[uint64]int32{}
		for range 50_000 {
			key := rnd.Uint64N(keys)
			if rnd.IntN(4) == 0 {
				key |= 1 << 63
			}
			switch rnd.IntN(3) {
			case 0:
				fast.del(key)
				delete(slow, key)
			case 1:
				ref := int32(key) // as in the table of flows a number has one key
				if key>>63 == 1 {
					ref += int32(keys)
				}
				fast.put(key, ref)
				slow[key] = ref
			}
			got, ok := fast.get(key)
			want, there := slow[key]
			if ok != there || ok && got != want || fast.len() != len(slow) {
				t.Fatalf("key %x: %d %v, want %d %v; %d of %d keys", key, got, ok, want, there, fast.len(), len(slow))
			}
			if there && fast.slots[tagOf(key)>>fast.shift].tag == tagOf(key) && !fast.near(key) {
				t.Fatalf("key %x is not near", key)
			}
		}
		n := 0
		for range fast.all {
			n++
		}
		if n != len(slow) {
			t.Errorf("%d slots in use for %d keys", n, len(slow))
		}
	}
}
