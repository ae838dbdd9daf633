package capture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
)

// packet builds an Ethernet frame. Bytes that do not matter are random.
type packet struct {
	tags     int
	v6       bool
	src, dst uint32
	proto    uint8
	sport    uint16
	dport    uint16
	fragment bool
	options  int // 32-bit words of them
	vxlan    []byte
	bare     bool // without Ethernet header
}

func (p packet) bytes() []byte {
	var b []byte
	be := binary.BigEndian
	if !p.bare {
		b = append(b, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"...)
		for i := range p.tags {
			b = be.AppendUint16(b, []uint16{0x8100, 0x88a8}[i%2])
			b = be.AppendUint16(b, 5)
		}
	}
	if p.v6 {
		if !p.bare {
			b = be.AppendUint16(b, 0x86dd)
		}
		b = append(b, 0x60, 0, 0, 0, 0, 20, p.proto, 64)
		for _, a := range []uint32{p.src, p.dst} {
			b = append(b, make([]byte, 12)...)
			b = be.AppendUint32(b, a)
		}
	} else {
		if !p.bare {
			b = be.AppendUint16(b, 0x0800)
		}
		b = append(b, 0x45+byte(p.options), 0, 0, 40, 0, 1)
		flags := uint16(0x4000)
		if p.fragment {
			flags = 0x2000
		}
		b = be.AppendUint16(b, flags)
		b = append(b, 64, p.proto, 0, 0)
		b = be.AppendUint32(b, p.src)
		b = be.AppendUint32(b, p.dst)
		b = append(b, make([]byte, 4*p.options)...)
	}
	b = be.AppendUint16(b, p.sport)
	b = be.AppendUint16(b, p.dport)
	b = append(b, 0, 20, 0, 0)
	if p.vxlan != nil {
		return append(append(b, 8, 0, 0, 0, 0, 0, 77, 0), p.vxlan...)
	}
	return append(b, bytes.Repeat([]byte{7}, 20)...)
}

func samplers(t *testing.T) map[frame.LinkType]*bpf.VM {
	t.Helper()
	all := map[frame.LinkType]*bpf.VM{}
	for _, link := range []frame.LinkType{frame.LinkEthernet, frame.LinkRaw} {
		code, err := sampler(link)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bpf.Assemble(code); err != nil {
			t.Fatal(err)
		}
		if all[link], err = bpf.NewVM(code); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestConversation compares the program with the Go code, and both directions of conversations with each other.
func TestConversation(t *testing.T) {
	vm := samplers(t)
	number := func(b []byte, link frame.LinkType) uint32 {
		t.Helper()
		n, err := vm[link].Run(b)
		if err != nil {
			t.Fatal(err)
		}
		if want := conversation(&frame.Frame{Data: b, Link: link}); uint32(n) != want {
			t.Fatalf("%x: the program says %d, Go %d", b, uint32(n), want)
		}
		return uint32(n)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := packet{tags: rnd.IntN(3), v6: rnd.IntN(2) == 0, src: rnd.Uint32(), dst: rnd.Uint32(), proto: []uint8{6, 17, 132, 1, 50}[rnd.IntN(5)],
			sport: uint16(rnd.Uint32()), dport: uint16(rnd.Uint32()), fragment: rnd.IntN(5) == 0, options: rnd.IntN(3), bare: rnd.IntN(4) == 0}
		link := frame.LinkEthernet
		if p.bare {
			link = frame.LinkRaw
		}
		there := number(p.bytes(), link)
		p.src, p.dst, p.sport, p.dport = p.dst, p.src, p.dport, p.sport
		if back := number(p.bytes(), link); back != there || there == 0 {
			t.Fatalf("%+v: %d there, %d back", p, there, back)
		}
		in := packet{src: p.src, dst: p.dst, proto: 6, sport: 1, dport: p.dport}
		out := packet{v6: p.v6, src: 1, dst: 2, proto: 17, sport: uint16(rnd.Uint32()), dport: []uint16{4789, 8472}[rnd.IntN(2)], vxlan: in.bytes()}
		if a, b := number(out.bytes(), frame.LinkEthernet), number(in.bytes(), frame.LinkEthernet); a != b {
			t.Fatalf("in VXLAN %d, alone %d", a, b)
		}
	}
	if n := number([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x06"+"arp, which is none"), frame.LinkEthernet); n != 0 {
		t.Errorf("ARP has number %d", n)
	}
}

// TestSampleShare takes one conversation in so many, roughly, also where they differ only in a port.
func TestSampleShare(t *testing.T) {
	s := Shed{Sample: 16}
	const all = 20000
	n := 0
	for i := range all {
		p := packet{src: 0x0a000001, dst: 0x0a000002, proto: 6, sport: uint16(i), dport: 443}
		if s.Takes(&frame.Frame{Data: p.bytes(), Link: frame.LinkEthernet}) {
			n++
		}
	}
	if n < all/16*8/10 || n > all/16*12/10 {
		t.Errorf("%d of %d conversations", n, all)
	}
}

// TestShedClassic works what is left out into a filter.
func TestShedClassic(t *testing.T) {
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2}, bpf.JumpIf{Val: 0x0800, SkipFalse: 1}, bpf.RetConstant{Val: 300}, bpf.RetConstant{},
	})
	if err != nil {
		t.Fatal(err)
	}
	run := func(base []bpf.RawInstruction, s Shed, b []byte) int {
		t.Helper()
		raw, err := shedClassic(base, frame.LinkEthernet, s)
		if err != nil {
			t.Fatal(err)
		}
		code, all := bpf.Disassemble(raw)
		if !all {
			t.Fatal("not disassembled")
		}
		if len(code) == 0 {
			return len(b)
		}
		vm, err := bpf.NewVM(code)
		if err != nil {
			t.Fatal(err)
		}
		n, err := vm.Run(b)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	s := Shed{Snap: 160, Sample: 4}
	taken := 0
	for port := range 400 {
		b := packet{src: 1, dst: 2, proto: 17, sport: uint16(port), dport: 53}.bytes()
		f := frame.Frame{Data: b, Link: frame.LinkEthernet}
		want := 0
		if s.Takes(&f) {
			taken++
			want = 160
		}
		if got := run(filter, s, b); got != want {
			t.Fatalf("port %d: %d bytes, want %d", port, got, want)
		}
		if got := run(nil, s, b); got != want {
			t.Fatalf("no filter, port %d: %d bytes, want %d", port, got, want)
		}
		if got := run(filter, Shed{Snap: 160}, b); got != 160 {
			t.Fatalf("sliced: %d bytes", got)
		}
		if got := run(filter, Shed{}, b); got != 300 {
			t.Fatalf("full: %d bytes", got)
		}
	}
	if taken == 0 || taken == 400 {
		t.Errorf("%d of 400 taken", taken)
	}
	other := packet{v6: true, proto: 6}.bytes()
	if run(filter, s, other) != 0 || run(filter, Shed{}, other) != 0 {
		t.Error("what the filter does not want is taken")
	}
}
