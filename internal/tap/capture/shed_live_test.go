//go:build linux

package capture

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// told sets what is left out and waits until that holds.
func (l *live) told(t *testing.T, s Shed) {
	t.Helper()
	done := make(chan struct{})
	l.SetShed(s, func(time.Time) { close(done) })
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("not obeyed")
	}
}

// governedFrames are frames of conversations that only differ in a port, with a tail.
func governedFrames(n int) (all [][]byte) {
	for i := range n {
		all = append(all, append(packet{src: 1, dst: 2, proto: 17, sport: uint16(i), dport: 53}.bytes(), strings.Repeat("x", 400)...))
	}
	return all
}

// TestShedLive leaves frames out in the kernel, with a program that counts and with classic ones, and accounts for every frame that was sent.
func TestShedLive(t *testing.T) {
	f := func(name string, translate translator) {
		t.Run(name, func(t *testing.T) {
			a, b := cable(t)
			send := sender(t, a, "a0")
			c := testLive(b, "b0")
			c.RingBytes, c.Govern, c.IngressOnly = 8<<20, translate, true
			l := startLive(t, c, 1024)
			frames := governedFrames(200)
			send(frames...)
			l.settled(t, 200)
			l.told(t, Shed{Snap: 160})
			send(frames...)
			l.settled(t, 400)
			s := Shed{Snap: 160, Sample: 8}
			l.told(t, s)
			send(frames...)
			taken := 0
			for _, b := range frames {
				if s.Takes(&frame.Frame{Data: b, Link: frame.LinkEthernet}) {
					taken++
				}
			}
			l.settled(t, 400+taken)
			l.told(t, Shed{Off: true})
			send(frames...)
			l.told(t, Shed{})
			send(frames...)
			l.settled(t, 600+taken)
			all, books := l.finish(t)
			if len(all) != 600+taken || len(all[0].Data) != len(frames[0]) || len(all[300].Data) != 160 || all[300].OrigLen != len(frames[0]) || len(all[599].Data) != len(frames[0]) {
				t.Errorf("%d frames, want %d; %+v", len(all), 600+taken, books)
			}
			k := l.Kernel()
			want := Kernel{Exact: true, Seen: 800, Matched: 800, Bytes: 800 * uint64(len(frames[0])), Passed: uint64(600 + taken)}
			shed := books.Dropped[len(books.Dropped)-1].N
			if k.Exact && (k != want || shed != uint64(200-taken)) {
				t.Errorf("the kernel counts %+v, want %+v; %d in the books as shed", k, want, shed)
			}
			if k.Exact != (name == "counting") {
				t.Errorf("exact: %v", k.Exact)
			}
		})
	}
	f("counting", filter.Translate)
	f("classic", func([]bpf.Instruction) (asm.Instructions, error) { return nil, errors.New("none here") })
}

// settled waits until that many frames have come.
func (l *live) settled(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if s := l.Book().Read(); s.Out+s.Dropped[DropKernel].N >= uint64(n) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, want %d frames", l.Book().Read(), n)
		}
	}
}

// TestShedWithoutRight says which right is missing where programs may not be loaded.
func TestShedWithoutRight(t *testing.T) {
	testkit.Root(t)
	runtime.LockOSThread() // which ends with the test, and its rights with it
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		t.Fatal(err)
	}
	_, err := newGovernor(nil, 1, filter.Translate)
	if err == nil || !strings.Contains(err.Error(), "needs CAP_BPF") || strings.Contains(err.Error(), "MEMLOCK") {
		t.Error(err)
	}
}

// BenchmarkGoverned is what the kernel takes for one frame with the program that counts and leaves out.
func BenchmarkGoverned(b *testing.B) {
	testkit.Root(b)
	frame := governedFrames(1)[0]
	for _, c := range []struct {
		name string
		Shed
	}{{"full", Shed{}}, {"sliced", Shed{Snap: 160}}, {"sampled", Shed{Snap: 160, Sample: 16}}} {
		b.Run(c.name, func(b *testing.B) {
			g, err := newGovernor(nil, 1, filter.Translate)
			if err != nil {
				b.Skip(err)
			}
			defer g.close()
			if err := g.set(c.Shed); err != nil {
				b.Fatal(err)
			}
			const repeat = 1_000_000
			_, took, err := g.prog.Benchmark(frame, repeat, nil)
			if err != nil {
				b.Skip(err)
			}
			for b.Loop() { // it is not this that is measured
			}
			b.ReportMetric(float64(took.Nanoseconds()), "ns/frame")
		})
	}
}
