package enrich

import (
	"math"
	"testing"

	"crosstap/internal/flow"
)

// TestSampling: what an exporter counted at a rate that it tells stands for all packets; one that tells none is believed.
func TestSampling(t *testing.T) {
	f := func(rate uint32, in, want [3]uint64) {
		t.Helper()
		recs := []flow.Record{{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: 17, EndNS: 1e9, RecvNS: 1e9, Sampling: rate,
			Packets: in[0], Octets: in[1], L2Octets: in[2]}}
		enricher(t, nil).Records(recs)
		r := recs[0]
		if got := [3]uint64{r.Packets, r.Octets, r.L2Octets}; got != want || r.Is(flow.MarkSampled) != (rate > 1) || r.Sampling != rate {
			t.Errorf("1 in %d: %d gives %d, rate %d, marks %b; want %d", rate, in, got, r.Sampling, r.Marks, want)
		}
	}
	seen := [3]uint64{3, 300, 342}
	f(0, seen, seen)
	f(1, seen, seen)
	f(64, seen, [3]uint64{192, 19200, 21888})
	f(math.MaxUint32, [3]uint64{1, 1 << 32, 0}, [3]uint64{math.MaxUint32, math.MaxUint32 << 32, 0})
	f(math.MaxUint32, [3]uint64{1, 1<<32 + 2, 1 << 63}, [3]uint64{math.MaxUint32, math.MaxUint64, math.MaxUint64})
}
