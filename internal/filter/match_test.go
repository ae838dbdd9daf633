package filter

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

func TestMatchDoesNotAllocate(t *testing.T) {
	b := maker{rand.New(rand.NewPCG(5, 6))}.ethernet(2)
	for _, e := range []string{"vxlan 5001 and tcp port 80 or host 10.0.0.1", "ip[2:2] - ((ip[0]&0xf)<<2) > 40", "vxlan and vxlan and vxlan and tcp", "inbound", "inner tcp"} {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := testkit.Allocs(100, func() { f.Match(b, len(b)) }); n != 0 {
			t.Errorf("%q: %v allocations", e, n)
		}
	}
}

// One filter serves many goroutines.
func TestMatchConcurrently(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(61, 62))}
	frames := make([][]byte, 200)
	for i := range frames {
		frames[i] = m.ethernet(2)
	}
	for _, e := range []string{"tcp port 80 or vxlan 5001", "inner (tcp or udp) or payload hex 00", "inbound and ip[0] % ip[1] = 1"} {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]bool, len(frames))
		for i, b := range frames {
			want[i] = oracleMatch(f, b, len(b), frame.Unknown)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i, b := range frames {
					if f.Match(b, len(b)) != want[i] {
						t.Errorf("%q: frame %d: not %t", e, i, want[i])
					}
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkMatch(b *testing.B) {
	m := maker{rand.New(rand.NewPCG(7, 8))}
	frames := make([][]byte, 256)
	for i := range frames {
		frames[i] = m.ethernet(2)
	}
	for _, e := range []string{"tcp", "tcp port 80", "host 10.0.0.1", "net 10.0.0.0/8 and not port 22", "ip6 and udp port 53", "tcp[tcpflags] & tcp-syn != 0", "vlan and tcp port 80",
		"vxlan 5001 and tcp port 80", "ip[2:2] - ((ip[0]&0xf)<<2) > 40"} {
		b.Run(strings.ReplaceAll(e, "/", "_"), func(b *testing.B) {
			f, err := Compile(e, frame.LinkEthernet, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f.Match(frames[i&255], len(frames[i&255]))
			}
		})
	}
}
