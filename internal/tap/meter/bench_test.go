package meter_test

import (
	"context"
	"os"
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/meter"
)

// BenchmarkFile meters the capture that CROSSTAP_BENCH_PCAP names, such as one of test/bench/mixedpcap.
func BenchmarkFile(b *testing.B) {
	path := os.Getenv("CROSSTAP_BENCH_PCAP")
	if path == "" {
		b.Skip("CROSSTAP_BENCH_PCAP names no capture")
	}
	packets := uint64(0)
	for b.Loop() {
		packets += meterFile(b, path)
	}
	b.ReportMetric(float64(packets)/b.Elapsed().Seconds()/1e6, "Mpackets/s")
	b.ReportMetric(0, "ns/op")
}

func meterFile(tb testing.TB, path string) (packets uint64) {
	src, err := capture.NewFile(capture.FileConfig{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	m, err := meter.New(meter.DefaultConfig())
	if err != nil {
		tb.Fatal(err)
	}
	in, out := make(chan frame.Batch, 8), make(chan []flow.Record, 8)
	go func() {
		defer close(in)
		if err := src.Run(context.Background(), in); err != nil {
			tb.Error(err)
		}
	}()
	go func() {
		defer close(out)
		if err := m.Run(context.Background(), in, out); err != nil {
			tb.Error(err)
		}
	}()
	for records := range out {
		for i := range records {
			packets += records[i].Packets
		}
	}
	return packets
}
