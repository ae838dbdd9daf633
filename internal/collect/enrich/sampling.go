package enrich

import (
	"math"
	"math/bits"

	"crosstap/internal/flow"
)

// scale makes the counters of a sampled record estimates of all packets: the exporter that tells its rate in the record
// counted one in Sampling. This is the only place that multiplies.
func scale(r *flow.Record) {
	if r.Sampling <= 1 {
		return
	}
	r.Marks |= flow.MarkSampled
	for _, n := range [...]*uint64{&r.Packets, &r.Octets, &r.L2Octets} {
		*n = saturated(*n, r.Sampling)
	}
}

// saturated is n × by, the greatest number when that is too great.
func saturated(n uint64, by uint32) uint64 {
	over, product := bits.Mul64(n, uint64(by))
	if over != 0 {
		return math.MaxUint64
	}
	return product
}
