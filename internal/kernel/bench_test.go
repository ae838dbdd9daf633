package kernel

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// packetOf returns a packet of 508 bytes from one of many hosts.
func packetOf(host uint32) []byte {
	b := make([]byte, 508)
	copy(b, []byte{2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8, 8, 0, 0x45, 0, 1, 238, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 128, 0, 1, 4, 0, 20, 233, 1, 218})
	binary.BigEndian.PutUint32(b[26:], 0x0a000000+host)
	return b
}

// bench is a program of which the kernel says what a run takes.
type bench struct {
	*line
	k     *hook
	reset func() // between measurements; nil for nothing
}

func newBench(b *testing.B, l *line) *bench {
	b.Helper()
	k := &hook{link: 1}
	if err := l.loadHook(k); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(k.close)
	return &bench{line: l, k: k}
}

// took returns nanoseconds for each run: the least of a few measurements.
func (x *bench) took(b *testing.B, packet []byte, runs int) time.Duration {
	b.Helper()
	var all []time.Duration
	for range 5 {
		if x.reset != nil {
			x.reset()
		}
		_, d, err := x.k.prog.Benchmark(packet, runs, nil)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, d)
	}
	return slices.Min(all)
}

// BenchmarkPrograms has the kernel run the programs of an interface again and again on a packet of 512 bytes; what it says is what a program adds
// to the way of a packet, without the way to it: the time of an empty program is taken off.
func BenchmarkPrograms(b *testing.B) {
	c := Config{Interfaces: []string{"none"}}
	h, err := NewHeaders(HeadersConfig{Config: c, Keep: 112, RingBytes: 1 << 28})
	if err != nil {
		b.Fatal(err)
	}
	body := h.body
	h.body = func(c *code, _ *hook) { c.result(actNext) }
	nothing := newBench(b, &h.line).took(b, packetOf(1), 1_000_000)
	f := func(name string, l *line, runs int, reset func()) {
		b.Run(name, func(b *testing.B) {
			x := newBench(b, l)
			x.reset = reset
			for b.Loop() {
				b.ReportMetric(float64((x.took(b, packetOf(1), runs) - nothing).Nanoseconds()), "ns/packet")
			}
		})
	}
	idle := c
	idle.Filter = "tcp port 9999"
	m, err := NewMirror(MirrorConfig{Config: idle, Outer: (&lab{}).vxlan(1)})
	if err != nil {
		b.Fatal(err)
	}
	m.devices = []*device{{index: 1}}
	f("filter", &m.line, 1_000_000, nil)
	for _, mode := range []SampleMode{Every, Random, ByFlows} {
		few := c
		few.Sample = Sample{Rate: 1 << 20, Mode: mode}
		if m, err = NewMirror(MirrorConfig{Config: few, Outer: (&lab{}).vxlan(1)}); err != nil {
			b.Fatal(err)
		}
		m.devices = []*device{{index: 1}}
		f([...]string{"sample", "sample/random", "sample/conversations"}[mode], &m.line, 1_000_000, nil)
	}
	x, err := NewFlows(FlowsConfig{Config: c, Idle: 1e9, Active: 1e9, MaxFlows: 100_000, RingBytes: minRing})
	if err != nil {
		b.Fatal(err)
	}
	if x.ring, err = newRing(minRing, flowsKeep); err == nil {
		x.feed.ring = x.ring
		x.tables, err = newTables(tableFlows)
	}
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	f("flows", &x.line, 1_000_000, nil)
	h.body = body
	if h.ring, err = newRing(1<<28, 112); err != nil {
		b.Fatal(err)
	}
	defer h.ring.close()
	f("headers", &h.line, 400_000, func() {
		for i := range h.ring.lanes {
			h.ring.done(i).Store(h.ring.next(i).Load())
		}
	})
}
