package kernel

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/cilium/ebpf"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// sampled returns the program that draws a sample and does nothing else, and how many frames were of it.
func sampled(t *testing.T, s Sample) (k *hook, of func() counts) {
	testkit.Root(t)
	h, err := NewHeaders(HeadersConfig{Config: Config{Interfaces: []string{"none"}, Sample: s}, Keep: MinKeep, RingBytes: minRing})
	fail(t, err)
	h.body = func(c *code, k *hook) {
		k.stats.count(c, statOut)
		c.result(actNext)
	}
	k = &hook{link: frame.LinkEthernet}
	fail(t, h.loadHook(k))
	t.Cleanup(k.close)
	return k, func() counts {
		c, err := k.stats.read()
		fail(t, err)
		return c
	}
}

// A random sample takes frames with its probability.
func TestRandomSample(t *testing.T) {
	onOne(t)
	f := func(rate, n int) {
		t.Helper()
		k, of := sampled(t, Sample{Rate: rate, Mode: Random})
		_, _, err := k.prog.Benchmark(packetOf(1), n, nil)
		fail(t, err)
		c := of()
		want := float64(n) / float64(rate)
		if got := float64(c[statOut]); c.seen() != uint64(n) || math.Abs(got-want) > 7*math.Sqrt(want) {
			t.Errorf("1 in %d of %d: %v, want %.0f", rate, n, c, want)
		}
	}
	f(2, 100_000)
	f(16, 100_000)
	f(1000, 400_000)
}

// numberOf is the conversation's number as conversation says it, in the obvious way.
func numberOf(b []byte) (n uint32, ok bool) {
	ip, header, proto := b[14:], 20, byte(0)
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(ip[at:]) }
	whole := true
	switch binary.BigEndian.Uint16(b[12:]) {
	case 0x0800:
		n, proto = word(12)+word(16), ip[9]
		whole = ip[0] == 0x45 && binary.BigEndian.Uint16(ip[6:])&0x3fff == 0
	case 0x86dd:
		for at := 8; at < 40; at += 4 {
			n += word(at)
		}
		proto, header = ip[6], 40
	default:
		return 0, false
	}
	if whole && (proto == 6 || proto == 17) {
		n += (uint32(binary.NativeEndian.Uint16(ip[header:])) + uint32(binary.NativeEndian.Uint16(ip[header+2:]))) * golden
	}
	n += uint32(proto)
	for range 2 {
		n *= golden
		n ^= n >> 15
	}
	return n * golden, true
}

// A sample by conversation takes those whose numbers are small; what is no conversation's is always taken.
func TestConversationSample(t *testing.T) {
	onOne(t)
	const rate = 3
	k, of := sampled(t, Sample{Rate: rate, Mode: ByFlows})
	taken, n := 0, 0
	for _, b := range corpusFrames(t, 25) {
		before := of()[statOut]
		_, err := k.prog.Run(&ebpf.RunOptions{Data: b})
		fail(t, err)
		got := of()[statOut] > before
		number, ok := numberOf(b)
		if want := !ok || number <= math.MaxUint32/rate; got != want {
			t.Fatalf("%x: number %#x: taken %t, want %t", b, number, got, want)
		}
		if ok {
			n++
			if got {
				taken++
			}
		}
	}
	if taken < n/10 || taken > n*9/10 {
		t.Errorf("%d of %d frames taken", taken, n)
	}
}
