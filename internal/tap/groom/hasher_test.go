package groom

import "testing"

// TestHasherTellsApart hashes inputs that differ in one bit, in their length, or in the order of what they consist of.
func TestHasherTellsApart(t *testing.T) {
	h := newHasher()
	seen := map[uint64]string{}
	add := func(b []byte, what string) {
		t.Helper()
		x := h.sum(b)
		if old, ok := seen[x]; ok && old != string(b) {
			t.Fatalf("%s of %d bytes: the hash of another", what, len(b))
		}
		seen[x] = string(b)
	}
	for n := range 700 {
		add(make([]byte, n), "zeros")
	}
	for n := 1; n < 200; n++ { // a length that the bytes could undo
		for v := range 256 {
			b := make([]byte, n)
			b[0] = byte(v)
			add(b, "a first byte")
		}
	}
	for _, n := range []int{1, 7, 15, 16, 17, 33, 63, 64, 65, 79, 127, 128, 129, 300} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i/16 + 1)
		}
		for i := range 8 * n {
			b[i/8] ^= 1 << (i % 8)
			add(b, "a bit")
			b[i/8] ^= 1 << (i % 8)
		}
		for i := 16; i+32 <= n; i += 16 { // pieces that change places
			c := append([]byte(nil), b...)
			copy(c[i:], b[i+16:i+32])
			copy(c[i+16:], b[i:i+16])
			add(c, "a swap")
		}
	}
	other := newHasher()
	if h.sum(make([]byte, 100)) == other.sum(make([]byte, 100)) {
		t.Error("two keys give the same hash")
	}
}

// TestHasherGlance looks where it says, and nowhere else.
func TestHasherGlance(t *testing.T) {
	h := newHasher()
	d := &nearby{hash: h, look: glance}
	for _, n := range []int{1, 15, 40, 47, 48, 49, 64, 79, 80, 95, 96, 97, 1500} {
		b := make([]byte, n)
		g, second := d.key(b), min(64, n-32)
		for i := range b {
			b[i] = 1
			if differs, want := d.key(b) != g, n < blinkLen || i >= 16 && i < 48 || i >= second && i < second+32; differs != want {
				t.Errorf("byte %d of %d: differs %v, want %v", i, n, differs, want)
			}
			b[i] = 0
		}
	}
	for _, n := range []int{blinkLen, 100} {
		b := (*[blinkLen]byte)(make([]byte, blinkLen))
		g := h.blink(b, n)
		for i := range b {
			b[i] = 1
			if differs, want := h.blink(b, n) != g, i >= pieceLen; differs != want {
				t.Errorf("byte %d of %d: differs %v, want %v", i, n, differs, want)
			}
			b[i] = 0
		}
		if h.blink(b, n+1) == g {
			t.Errorf("%d bytes and %d look the same", n, n+1)
		}
	}
}
