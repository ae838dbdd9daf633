package clickhouse

import (
	"testing"

	"crosstap/internal/collect/store/clickhouse/chtest"
)

// BenchmarkInsert is the client's side of storing: columns, compression and the wire. rows/cpu-s of the process are rows ÷ its CPU seconds.
func BenchmarkInsert(b *testing.B) {
	srv := chtest.Start(b)
	s, err := Open(b.Context(), Config{Addrs: []string{srv.Addr}, RollAfter: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	recs := records(0, 100_000)
	b.ResetTimer()
	for b.Loop() {
		if err := s.Append(b.Context(), recs); err != nil {
			b.Fatal(err)
		}
		if err := s.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(recs))/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkColumns fills a block: it does not allocate once it has its size.
func BenchmarkColumns(b *testing.B) {
	recs := records(0, 10_000)
	bl := newBlock()
	b.ReportAllocs()
	for b.Loop() {
		bl.add(recs)
		bl.reset()
	}
	b.ReportMetric(float64(b.N)*float64(len(recs))/b.Elapsed().Seconds(), "rows/s")
}
