package rpcap

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"

	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// TestProgram compares our machine with the one of x/net on what filters compile to.
func TestProgram(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, expr := range []string{
		"ip", "arp or ip6", "tcp port 443", "udp dst port 53 and host 10.0.0.1", "tcp[tcpflags] & tcp-syn != 0", "net 10.0.0.0/8 and not icmp", "len > 100",
		"vlan 5 and tcp", "ip[2:2] - ((ip[0] & 0xf) << 2) > 10", "ip6 and udp port 5353", "ether[0] & 1 = 0", "ip[6:2] & 0x1fff = 0 and ip[8] % 2 = 1",
	} {
		f, err := filter.Compile(expr, frame.LinkEthernet, filter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		prog, _, err := f.BPF()
		if err != nil {
			t.Fatal(err)
		}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := bpf.Assemble(prog)
		if err != nil {
			t.Fatal(err)
		}
		p, err := checkProgram(raw)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		for range 3000 {
			b := likely(rnd)
			want, err := vm.Run(b)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.run(b, len(b)); got != uint32(want) {
				t.Fatalf("%s on %x: %d, want %d", expr, b, got, want)
			}
		}
	}
}

// likely is a frame that filters look into.
func likely(rnd *rand.Rand) []byte {
	b := make([]byte, rnd.IntN(140))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	pick := func(at int, v ...byte) {
		if at < len(b) {
			b[at] = v[rnd.IntN(len(v))]
		}
	}
	pick(12, 8, 0x86, 0x81)
	pick(13, 0, 6, 0xdd)
	pick(14, 0x45, 0x46, 0x60, 0)
	pick(15, 5, 0)
	pick(20, 0, 6, 17)
	pick(21, 0)
	pick(23, 6, 17, 1)
	pick(26, 10)
	pick(36, 1, 0)
	pick(37, 0xbb, 53)
	return b
}

func TestProgramRefused(t *testing.T) {
	f := func(p ...bpf.RawInstruction) {
		t.Helper()
		if _, err := checkProgram(p); err == nil {
			t.Errorf("%v is taken", p)
		}
	}
	ret := bpf.RawInstruction{Op: 6}
	f(bpf.RawInstruction{Op: 0x28, K: 12})      // no return
	f(bpf.RawInstruction{Op: 0x15, Jt: 1}, ret) // beyond the end
	f(bpf.RawInstruction{Op: 0x05, K: 1}, ret)  // the same, always
	f(bpf.RawInstruction{Op: 0x05, K: 1<<32 - 1}, ret)
	f(bpf.RawInstruction{Op: 0x34}, ret)        // division by zero
	f(bpf.RawInstruction{Op: 0x60, K: 16}, ret) // scratch memory
	f(bpf.RawInstruction{Op: 0x02, K: 16}, ret)
	f(bpf.RawInstruction{Op: 0xffff}, ret)
	f(bpf.RawInstruction{Op: 0x01 | 0x20}, ret) // ldx has no absolute mode
	f(bpf.RawInstruction{Op: 0xf4, K: 1}, ret)
	f(bpf.RawInstruction{Op: 0x0e}, ret)
	f(bpf.RawInstruction{Op: 0x18 | 0x20}, ret)
}

func FuzzProgram(f *testing.F) {
	f.Add(appendFilter(nil, []bpf.RawInstruction{{Op: 0x28, K: 12}, {Op: 0x15, Jf: 1, K: 0x800}, {Op: 6, K: 100}, {Op: 6}}), []byte("frame"))
	f.Fuzz(func(t *testing.T, text, data []byte) {
		raw, err := parseFilter(text)
		if err != nil {
			return
		}
		if again, err := parseFilter(appendFilter(nil, raw)); err != nil || len(again) != len(raw) {
			t.Fatal(err)
		}
		p, err := checkProgram(raw)
		if err != nil {
			return
		}
		p.run(data, len(data))
		p.run(data[:len(data)/2], len(data))
	})
}

func FuzzMessages(f *testing.F) {
	f.Add(appendInterfaces(nil, []Interface{{Name: "eth0", Addresses: []Address{{Addr: []byte{10, 0, 0, 1}}, {Addr: make([]byte, 16)}}}}))
	f.Add(start{snapLen: 100, filter: []bpf.RawInstruction{{Op: 6}}}.append(nil))
	f.Add(credentials{authPassword, "user", "password"}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := parseInterfaces(b, min(len(b), 5)); err == nil {
			again, err := parseInterfaces(appendInterfaces(nil, list), len(list))
			if err != nil || len(again) != len(list) {
				t.Fatal(err)
			}
		}
		if s, err := parseStart(b); err == nil {
			if again := s.append(nil); !bytes.Equal(again[:startLen], b[:startLen]) {
				t.Fatalf("%x becomes %x", b, again)
			}
		}
		_, _ = parseCredentials(b)
		_, _ = parseSampling(b)
		_, _ = parseStats(b)
		_, _, _ = readMessage(bytes.NewReader(b), nil, maxRequest)
	})
}

func TestPublishAllocatesNothing(t *testing.T) {
	s := serve(t, nil)
	c := begin(t, s, ClientConfig{}, CaptureConfig{})
	go func() {
		for {
			if _, _, err := c.Next(make([]byte, 0, 2000)); err != nil {
				return
			}
		}
	}()
	frames := packets(0, 64)
	for range 50 { // until the buffers have their size
		s.Publish(frames)
	}
	for cp := range s.captures {
		cp.mu.Lock()
		cp.fill = append(make([]byte, 0, 1<<20), cp.fill...)
		cp.mu.Unlock()
	}
	other := packets(1, 64) // goes through everything but the filter
	if n := testkit.Allocs(100, func() { s.Publish(other) }); n != 0 {
		t.Errorf("%v allocations for frames of another point", n)
	}
	var p program
	for cp := range s.captures {
		p = cp.filter
	}
	if n := testkit.Allocs(100, func() { p.run(frames[0].Data, 60) }); n != 0 {
		t.Errorf("%v allocations in the filter", n)
	}
	buf := make([]byte, 0, 1<<16)
	if n := testkit.Allocs(100, func() { appendPacket(buf[:0], &frames[1], 60, 7) }); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	c := DefaultServerConfig()
	c.Addr, c.Interfaces = "127.0.0.1:0", func() []Interface { return nil }
	s, err := NewServer(c)
	if err != nil {
		b.Fatal(err)
	}
	f, _ := filter.Compile("tcp port 443", frame.LinkEthernet, filter.Options{})
	prog, _, _ := f.BPF()
	raw, _ := bpf.Assemble(prog)
	p, err := checkProgram(raw)
	if err != nil {
		b.Fatal(err)
	}
	s.captures[&capture{server: s, filter: p, snap: maxCaptured, ready: make(chan struct{}, 1), done: make(chan struct{})}] = struct{}{}
	frames := packets(0, 256)
	b.ReportAllocs()
	for b.Loop() {
		s.Publish(frames)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(frames)), "ns/frame")
}
