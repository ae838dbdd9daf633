package filter

import (
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// The kernel runs the eBPF program as it would run it at a tc hook.
func TestEBPFAgrees(t *testing.T) {
	testkit.Root(t)
	m := maker{rand.New(rand.NewPCG(11, 12))}
	frames := make([][]byte, 300)
	for i := range frames {
		for frames[i] = m.frame(); len(frames[i]) < 60; frames[i] = m.frame() { // the test run pads shorter ones
		}
	}
	for _, e := range append(append([]string{"tcp[0:2] / (tcp[12] & 0xf) = 3", "ip[1] << ip[8] = 0", "len % ip[9] = 1"}, agreed...), own...) {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		ins, _, err := f.EBPF()
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: ins, License: "Apache-2.0"})
		if err != nil {
			t.Errorf("%q: the verifier says: %v", e, err)
			continue
		}
		for i, b := range frames {
			ret, err := prog.Run(&ebpf.RunOptions{Data: b})
			if err != nil {
				t.Fatalf("%q: %v", e, err)
			}
			if want := f.Match(b, len(b)); ret > 0 != want {
				t.Errorf("%q: frame %d %x: matcher %t, eBPF %d", e, i, b, want, ret)
				break
			}
		}
		prog.Close()
	}
}
