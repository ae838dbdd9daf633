package session

import "time"

// rate is the mean number of records in a second over the last minute, from a count taken every few seconds.
type rate struct {
	at    [rateSlots]int64  // when
	count [rateSlots]uint64 // records so far
	n     int               // taken; the newest is at (n-1) % rateSlots
}

const (
	rateSlots = 13
	rateStep  = 5 * time.Second
)

// tick takes the count when it is time.
func (r *rate) tick(nowNS int64, records uint64) {
	if r.n > 0 && nowNS-r.at[(r.n-1)%rateSlots] < int64(rateStep) {
		return
	}
	r.at[r.n%rateSlots], r.count[r.n%rateSlots] = nowNS, records
	r.n++
}

func (r *rate) read() float64 {
	if r.n < 2 {
		return 0
	}
	newest, oldest := (r.n-1)%rateSlots, 0
	if r.n > rateSlots {
		oldest = r.n % rateSlots
	}
	d := time.Duration(r.at[newest] - r.at[oldest]).Seconds()
	if d <= 0 {
		return 0
	}
	return float64(r.count[newest]-r.count[oldest]) / d
}
