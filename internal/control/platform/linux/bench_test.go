//go:build linux

package linux

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/testns"
)

// BenchmarkRead reads a host with 1,000 ports, of which half are tapped, and plans for all of them. It makes them itself, which takes a
// while: run it with CROSSTAP_BENCH_PORTS=1000.
func BenchmarkRead(b *testing.B) {
	n := 0
	if _, err := fmt.Sscan(os.Getenv("CROSSTAP_BENCH_PORTS"), &n); err != nil {
		b.Skip("CROSSTAP_BENCH_PORTS is not set")
	}
	host, peers := testns.New(b), testns.New(b)
	var script strings.Builder
	script.WriteString("ip link add br0 type bridge && ip link set br0 up && ip link add tool type veth peer name tool1\nip -batch - <<E\n")
	for i := range n {
		fmt.Fprintf(&script, "link add v%d master br0 type veth peer name p%d netns NS\n", i, i)
	}
	script.WriteString("E\n")
	host.Sh(script.String(), peers)
	p, err := New(Config{Name: "h", Host: "h", NetNS: host.Path()})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	s := platform.Session{Mark: platform.Mark{Owner: "o", Policy: "p"}, Method: platform.MethodMirror, Outputs: []platform.Output{{Name: "t", Port: "tool"}}}
	for i := range n / 2 {
		s.Sources = append(s.Sources, platform.Source{Port: fmt.Sprintf("v%d", i), Dir: platform.Both})
	}
	want := platform.Want{Owner: "o", Sessions: []platform.Session{s}}
	now, err := p.Read(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	steps, refused := p.Steps(now, want)
	if len(refused) > 0 {
		b.Fatal(refused[0])
	}
	for _, s := range steps {
		if err := p.Apply(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d steps applied", len(steps))
	for b.Loop() {
		if now, err = p.Read(b.Context()); err != nil {
			b.Fatal(err)
		}
		if left, _ := p.Steps(now, want); len(left) > 0 {
			b.Fatal(left[0])
		}
	}
}
