package platform

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// Count tells how many packets have passed a port so far, and after that how many of them were copied. It adds up what no copy was ever
// made of with what is on its way between the two counters.
type Count func(ctx context.Context) (passed, copied int64, err error)

// How long Missed reads.
const (
	missedFor   = 3 * time.Second
	missedReads = 150
	missedVotes = 3
	missedRest  = 5 * time.Millisecond   // between two readings, and up to five times as long: no rhythm of the traffic's
	stillFor    = 100 * time.Millisecond // a port where nothing passes speaks again after this
	quietFor    = time.Second            // and without a copy the number is taken after this: a switch may begin to copy later than it says
)

// Missed returns how many packets have passed a port without being copied, once everything that passes it is. Their number no longer changes
// then, but what has been counted at the port may not have been copied yet. So it reads again and again: a reading in which nothing passes
// is a vote, and what three of them say, and hardly any other, is the number once packets have been copied between them. When packets never pause it returns what most readings
// leave possible, and an error when it could not read at all. It takes 3 s at most.
func Missed(ctx context.Context, count Count) (least, most int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, missedFor)
	defer cancel()
	v := votes{of: map[int64]int{}, since: map[int64]int64{}, began: time.Now()}
	for range missedReads {
		from, copied, err := count(ctx)
		if err != nil {
			return v.bounds(err)
		}
		to, later, err := count(ctx)
		if err != nil {
			return v.bounds(err)
		}
		v.add(from, to, copied, later)
		if n, sure := v.elected(); sure {
			return n, n, nil
		}
		select {
		case <-ctx.Done():
			return v.bounds(ctx.Err())
		case <-time.After(missedRest + rand.N(4*missedRest)): //nolint:gosec // no secret
		}
	}
	return v.bounds(nil)
}

// votes are what readings say.
type votes struct {
	of       map[int64]int   // how many say so
	since    map[int64]int64 // what was copied at the first that says so
	all      int
	copied   int64
	began    time.Time
	passed   int64     // at the last vote
	at       time.Time // of it
	low, top []int64   // of what each reading leaves possible
}

// add takes a reading: what had passed before and after, and the copies that were counted in between and at the end.
func (v *votes) add(from, to, copied, later int64) {
	v.low, v.top = append(v.low, from-copied), append(v.top, to-copied)
	if from != to || copied != later || v.all > 0 && from == v.passed && time.Since(v.at) < stillFor {
		return
	}
	n := from - copied
	if v.of[n] == 0 {
		if copied == 0 { // what passes before the first copy is missed: earlier votes did not know it
			clear(v.of)
			v.all = 0
		}
		v.since[n] = copied
	}
	v.of[n]++
	v.all++
	v.passed, v.copied, v.at = from, copied, time.Now()
}

// elected returns the number that has enough votes.
func (v *votes) elected() (int64, bool) {
	for n, votes := range v.of {
		if votes >= missedVotes && votes > 2*(v.all-votes) && (v.copied > v.since[n] || time.Since(v.began) > quietFor) {
			return n, n >= 0
		}
	}
	return 0, false
}

// bounds are what half of the readings leave possible: a few were disturbed by what was on its way. Without a reading it returns the error.
func (v *votes) bounds(err error) (least, most int64, _ error) {
	if len(v.low) == 0 {
		return 0, -1, err
	}
	slices.Sort(v.low)
	slices.Sort(v.top)
	half := len(v.low) / 2
	least, most = max(v.low[half], 0), max(v.top[half], 0)
	for n := range v.of {
		least, most = min(least, max(n, 0)), max(most, n)
	}
	return least, most, nil
}
