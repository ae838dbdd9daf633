package tunnel

import "time"

// bucket bounds the rate of what is sent. The zero value lets all pass.
type bucket struct {
	bits uint64 // each second
	have int64  // bits that may be sent now
	last time.Time
}

// burst is what may leave at once after a while of silence.
const burst = 20 * time.Millisecond

// refill adds what time has brought.
func (b *bucket) refill(now time.Time) {
	if b.bits == 0 {
		return
	}
	most := max(int64(float64(b.bits)*burst.Seconds()), 8*maxPath)
	if b.last.IsZero() {
		b.have, b.last = most, now
		return
	}
	b.have = min(b.have+int64(float64(b.bits)*now.Sub(b.last).Seconds()), most)
	b.last = now
}

// take reports whether n bytes may be sent, and counts them.
func (b *bucket) take(n int) bool {
	if b.bits == 0 {
		return true
	}
	if b.have < int64(n)*8 {
		return false
	}
	b.have -= int64(n) * 8
	return true
}

// wait returns after which time n bytes may be sent.
func (b *bucket) wait(n int) time.Duration {
	return max(time.Duration(float64(int64(n)*8-b.have)/float64(b.bits)*float64(time.Second)), time.Millisecond)
}
