package kernel

import "testing"

// BenchmarkPrograms has the kernel run the programs of an interface again and again on a packet of 512 bytes; what it says is what a program adds
// to the way of a packet, without the way to it.
func BenchmarkPrograms(b *testing.B) {
	packet := make([]byte, 508)
	copy(packet, []byte{2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8, 8, 0, 0x45, 0, 1, 238, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 128, 0, 1, 4, 0, 20, 233, 1, 218})
	f := func(name string, l *line) {
		k := &hook{link: 1}
		var err error
		if k.stats, err = newStats(); err != nil {
			b.Fatal(err)
		}
		defer k.close()
		ins, err := l.program(k)
		if err == nil {
			k.prog, err = load(l.name, ins)
		}
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			_, took, err := k.prog.Benchmark(packet, 2_000_000, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds()), "ns/packet")
		})
	}
	c := Config{Interfaces: []string{"none"}}
	if h, err := NewHeaders(HeadersConfig{Config: c, Keep: 112, RingBytes: minRing}); err == nil {
		h.body = func(c *code, _ *hook) { c.result(actNext) }
		f("nothing", &h.line)
	}
	idle := c
	idle.Filter = "tcp port 9999"
	m, err := NewMirror(MirrorConfig{Config: idle, Outer: (&lab{}).vxlan(1)})
	if err != nil {
		b.Fatal(err)
	}
	m.devices = []*device{{index: 1}}
	f("filter that does not match", &m.line)
	for name, flows := range map[string]int{"flow table": 1000} {
		x, err := NewFlows(FlowsConfig{Config: c, Idle: 1e9, Active: 1e9, MaxFlows: flows, RingBytes: minRing})
		if err != nil {
			b.Fatal(err)
		}
		if x.ring, err = newRing(minRing); err != nil {
			b.Fatal(err)
		}
		for i, n := range []int{key4Len, key6Len} {
			if x.tables[i], err = newTable(n, flows); err != nil {
				b.Fatal(err)
			}
		}
		f(name, &x.line)
	}
	h, err := NewHeaders(HeadersConfig{Config: c, Keep: 112, RingBytes: 1 << 29})
	if err != nil {
		b.Fatal(err)
	}
	if h.ring, err = newRing(1 << 29); err != nil {
		b.Fatal(err)
	}
	defer h.ring.close()
	f("headers", &h.line)
}
