package ipfix

import (
	"testing"

	"crosstap/internal/flow"
	"crosstap/test/bench/vds"
)

func vdsMessages(n int, shape vds.Shape) (msgs [][]byte) {
	vds.Stream(n, shape, func(m []byte) bool {
		msgs = append(msgs, append([]byte(nil), m...))
		return true
	})
	return msgs
}

func benchmarkDecode(b *testing.B, msgs [][]byte) {
	s := NewSession(Limits{})
	recs := make([]flow.Record, 0, 64)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for _, m := range msgs {
			var res Result
			recs, res, _ = s.Decode(m, 1, recs[:0])
			n += res.Records
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
}

func BenchmarkDecodeVDS(b *testing.B)      { benchmarkDecode(b, vdsMessages(10000, vds.Plain)) }
func BenchmarkDecodeVDSVXLAN(b *testing.B) { benchmarkDecode(b, vdsMessages(10000, vds.VXLAN)) }

func BenchmarkDecodeOVS(b *testing.B) {
	var msgs [][]byte
	for _, d := range ipfixDatagrams(b) {
		if d.dstPort == Port && d.from == ipfixDatagrams(b)[0].from {
			msgs = append(msgs, d.payload)
		}
		if len(msgs) == 500 {
			break
		}
	}
	benchmarkDecode(b, msgs)
}

func BenchmarkDecodeOwn(b *testing.B) {
	recs := sampleRecords()
	for len(recs) < 500 {
		recs = append(recs, recs...)
	}
	benchmarkDecode(b, encoded(b, EncoderConfig{MaxLen: 1472}, recs))
}

func BenchmarkEncode(b *testing.B) {
	for _, p := range []Profile{OVS, VMware} {
		b.Run(p.String(), func(b *testing.B) {
			recs := sampleRecords()
			r := recs[7]
			e := NewEncoder(EncoderConfig{Profile: p, MaxLen: 1472})
			emit := func([]byte, int) error { return nil }
			b.ReportAllocs()
			for b.Loop() {
				_ = e.Add(&r, exportTime, emit)
			}
		})
	}
}
