package dissect_test

import (
	"net/netip"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// shapes are the frames whose cost is measured.
var shapes = []struct{ name, frame string }{
	{"tcp4", eth4 + ip4(6, 40) + tcp80},
	{"udp6", eth6 + ip6(17, 12) + dns},
	{"arp", "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002"},
	{"vxlan-7", eth4 + ip4(17, 90) + udp(4789, 70) + vxlan1 + eth4 + ip4(6, 40) + tcp80},
	{"vxlan-8", eth4 + ip4(17, 94) + udp(4789, 74) + vxlan1 + "020000000004 020000000003 8100 0064 0800 " + ip4(6, 40) + tcp80},
}

func BenchmarkDissect(b *testing.B) {
	d := dissect.New(dissect.Config{})
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			data, p := bytesOf(b, s.frame), new(dissect.Packet)
			b.ReportAllocs()
			for b.Loop() {
				d.Dissect(p, frame.LinkEthernet, data, len(data))
			}
			b.ReportMetric(float64(p.NLayers), "layers")
		})
	}
}

func TestNoAllocations(t *testing.T) {
	d, p := dissect.New(dissect.Config{}), new(dissect.Packet)
	for _, s := range shapes {
		data := bytesOf(t, s.frame)
		if n := testkit.Allocs(100, func() { d.Dissect(p, frame.LinkEthernet, data, len(data)) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", s.name, n)
		}
		if p.Issues != 0 {
			t.Errorf("%s: issues = %#x, want none (%s)", s.name, p.Issues, stack(p))
		}
	}
}
