package export

import (
	"testing"

	"crosstap/internal/flowproto/about"
	"crosstap/internal/flowproto/netflow5"
)

// The header of NetFlow v5 tells how packets were chosen: here by chance, because flows were.
func TestNetFlow5TellsRandomSampling(t *testing.T) {
	f := func(sample uint32, random bool, mode uint8) {
		t.Helper()
		c := listen(t, "udp4", "127.0.0.1:0")
		target := c.target(t)
		target.Format, target.Sample = NetFlow5, sample
		cfg := config(target)
		cfg.About = func(x *about.Exporter) { x.Packets.Random = random }
		l := start(t, t.Context(), cfg)
		recs := records(100)
		for i := range recs {
			recs[i].Sampling = 10
		}
		l.in <- recs
		l.end(t)
		for _, d := range gather(c.conn) {
			if h := netflow5.Header(d); h.SamplingMode() != mode {
				t.Errorf("flows 1 in %d, random %t: mode %d, want %d", sample, random, h.SamplingMode(), mode)
			}
		}
	}
	f(1, false, netflow5.SamplingDeterministic)
	f(1, true, netflow5.SamplingRandom)
	f(2, false, netflow5.SamplingRandom)
}
