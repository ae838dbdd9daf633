package collect

import (
	"context"
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/collect/listen"
	"crosstap/internal/flow"
)

// null is a store that keeps nothing.
type null struct{ memory }

func (*null) Append(context.Context, []flow.Record) error { return nil }

const (
	benchRecords  = 24 // in a datagram
	benchSessions = 64
	benchRecord   = 57
)

// benchMessage is a datagram of one exporter: addresses, ports, counters, times and MAC addresses. n numbers its
// flows.
func benchMessage(seq, n uint32, at time.Time, template bool) []byte {
	b := make([]byte, 0, 1500)
	b = append(b, 0, 10, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(at.Unix()))
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, 1)
	if template {
		fields := []uint16{8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 1, 8, 2, 8, 152, 8, 153, 8, 56, 6, 80, 6}
		b = append(b, 0, 2, 0, byte(8+2*len(fields)), 1, 0, 0, byte(len(fields)/2))
		for _, f := range fields {
			b = binary.BigEndian.AppendUint16(b, f)
		}
	}
	b = append(b, 1, 0)
	b = binary.BigEndian.AppendUint16(b, 4+benchRecords*benchRecord)
	ms := uint64(at.UnixMilli())
	for i := range uint32(benchRecords) {
		k := n*benchRecords + i
		b = append(b, 10, 0, byte(k>>8), byte(k), 10, 1, 0, byte(k>>4))
		b = binary.BigEndian.AppendUint16(b, uint16(32768+k%8192))
		b = append(b, 1, 187, 6)
		b = binary.BigEndian.AppendUint64(b, 1400)
		b = binary.BigEndian.AppendUint64(b, 1)
		b = binary.BigEndian.AppendUint64(b, ms-1000)
		b = binary.BigEndian.AppendUint64(b, ms)
		b = append(b, 2, 0, 0, 0, byte(k>>8), byte(k), 2, 1, 0, 0, 0, byte(k>>4))
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// endless gives n datagrams of many exporters in batches.
type endless struct{ n int }

func (s endless) Run(ctx context.Context, out chan<- listen.Batch) error {
	now := time.Now()
	local := netip.MustParseAddrPort("192.0.2.1:4739")
	var first, rest [benchSessions][]byte
	for i := range uint32(benchSessions) {
		first[i], rest[i] = benchMessage(0, i, now, true), benchMessage(benchRecords, i, now, false)
	}
	for done := 0; done < s.n; {
		b := listen.Batch{Datagrams: make([]listen.Datagram, 32)}
		for i := range b.Datagrams {
			k := (done + i) % benchSessions
			data := rest[k]
			if done+i < benchSessions {
				data = first[k]
			}
			b.Datagrams[i] = listen.Datagram{
				Data: data, From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(k)}), 5000), Local: local, TimeNS: now.UnixNano(),
			}
		}
		select {
		case out <- b:
			done += len(b.Datagrams)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// BenchmarkLine runs the line from datagrams to a store that keeps nothing. Its figure is in seconds of CPU, which the
// other work of the machine does not change.
func BenchmarkLine(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import, cfg.Workers = &null{}, []Source{endless{b.N}}, true, 1
	c, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	if err := c.Run(context.Background()); err != nil {
		b.Fatal(err)
	}
	records := float64(c.Status().Books[2].In)
	b.ReportMetric(records/(cpu(b)-before).Seconds(), "records/cpu-s")
	b.ReportMetric(0, "ns/op")
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
