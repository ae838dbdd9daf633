package capture

import (
	"encoding/binary"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
)

// Shed says what is left out of the frames that match the filter, so that a tap costs less. The zero value is nothing.
type Shed struct {
	Off    bool // everything: the kernel does not look at frames any more
	Snap   int  // bytes beyond; 0 for none
	Sample int  // all but one conversation in so many; 0 and 1 for none
}

// Both directions of a conversation have the same number: addresses and ports are combined by exclusive or. Packets in VXLAN count by
// what is inside. What is not IP has no conversation, and is never left out by sampling.

// threshold is the greatest number of a conversation that is kept; 0 for all.
func (s Shed) threshold() uint32 {
	if s.Sample <= 1 {
		return 0
	}
	return uint32((1<<32 - 1) / uint64(s.Sample))
}

// Takes reports whether a frame is not left out. Cutting it is left to the caller.
func (s Shed) Takes(f *frame.Frame) bool {
	return !s.Off && (s.Sample <= 1 || conversation(f) <= s.threshold())
}

// Ethertypes, protocols and ports that the programs know.
const (
	typeIPv4, typeIPv6           = 0x0800, 0x86dd
	typeVLAN, typeQinQ, typeOld  = 0x8100, 0x88a8, 0x9100
	protoTCP, protoUDP, protoSCT = 6, 17, 132
	portVXLAN, portVXLANOld      = 4789, 8472
	golden, mix, fnv             = 0x9e3779b1, 0x85ebca6b, 0x01000193
)

// conversation returns the number of a frame's conversation; 0 for one that has none. It agrees with the program of sampler.
func conversation(f *frame.Frame) uint32 {
	b := f.Data
	switch f.Link {
	case frame.LinkEthernet:
		return ethernetNumber(b, 0, true)
	case frame.LinkRaw, frame.LinkIPv4, frame.LinkIPv6:
		if len(b) > 0 {
			switch b[0] >> 4 {
			case 4:
				return ipv4Number(b, 0, true)
			case 6:
				return ipv6Number(b, 0, true)
			}
		}
	}
	return 0
}

func ethernetNumber(b []byte, at int, outer bool) uint32 {
	for range 3 {
		if len(b) < at+14 {
			return 0
		}
		switch binary.BigEndian.Uint16(b[at+12:]) {
		case typeVLAN, typeQinQ, typeOld:
			at += 4
		case typeIPv4:
			return ipv4Number(b, at+14, outer)
		case typeIPv6:
			return ipv6Number(b, at+14, outer)
		default:
			return 0
		}
	}
	return 0
}

func ipv4Number(b []byte, at int, outer bool) uint32 {
	if len(b) < at+20 {
		return 0
	}
	be := binary.BigEndian
	n := be.Uint32(b[at+12:]) ^ be.Uint32(b[at+16:])
	if be.Uint16(b[at+6:])&0x3fff != 0 { // a fragment: by its addresses
		return mixed(n)
	}
	return ports(b, at+4*int(b[at]&15), b[at+9], n, outer)
}

func ipv6Number(b []byte, at int, outer bool) uint32 {
	if len(b) < at+40 {
		return 0
	}
	n := uint32(0)
	for i := at + 8; i < at+40; i += 4 {
		n ^= binary.BigEndian.Uint32(b[i:])
	}
	return ports(b, at+40, b[at+6], n, outer)
}

func ports(b []byte, at int, proto uint8, n uint32, outer bool) uint32 {
	if proto != protoTCP && proto != protoUDP && proto != protoSCT || len(b) < at+4 {
		return mixed(n)
	}
	src, dst := binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	if outer && proto == protoUDP && (dst == portVXLAN || dst == portVXLANOld) {
		return ethernetNumber(b, at+16, false)
	}
	return mixed(n*fnv ^ uint32(src^dst))
}

func mixed(n uint32) uint32 {
	n *= golden
	n ^= n >> 16
	n *= mix
	return max(n^n>>13, 1)
}

// sampler returns a program that leaves the number of a frame's conversation in A and returns it.
func sampler(link frame.LinkType) ([]bpf.Instruction, error) {
	var p listing
	if link == frame.LinkEthernet {
		p.add(bpf.LoadConstant{Dst: bpf.RegX, Val: 0})
		p.ethernet("o")
	} else {
		p.add(bpf.LoadConstant{Dst: bpf.RegX, Val: 0})
		p.add(bpf.LoadAbsolute{Off: 0, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4})
		p.equal(4, "o4")
		p.equal(6, "o6")
		p.jump("none")
	}
	p.ip("o", "i")
	p.ethernet("i")
	p.ip("i", "")
	p.finish()
	return p.link()
}

// Scratch cells of the program.
const (
	cellNumber = iota // as far as it is known
	cellIP            // where the IP header begins
	cellProto
	cellL4
	cellPort
)

// listing is a program under construction, with labels.
type listing struct {
	code  []bpf.Instruction
	refs  map[int]string // instruction that jumps to a label when it is true, or always
	marks map[string]int
}

func (p *listing) add(ins ...bpf.Instruction) { p.code = append(p.code, ins...) }

func (p *listing) label(name string) {
	if p.marks == nil {
		p.marks, p.refs = map[string]int{}, map[int]string{}
	}
	p.marks[name] = len(p.code)
}

func (p *listing) refer(name string, ins bpf.Instruction) {
	if p.refs == nil {
		p.label("begin")
	}
	p.refs[len(p.code)] = name
	p.code = append(p.code, ins)
}

func (p *listing) jump(name string) { p.refer(name, bpf.Jump{}) }

// equal jumps when A is a value. The jump itself is a long one: labels may be far.
func (p *listing) equal(v uint32, name string) {
	p.add(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1})
	p.jump(name)
}

// ethernet reads the header at X, with at most two tags, and goes on to the IP header.
func (p *listing) ethernet(name string) {
	p.label(name + "eth")
	for i := range 3 {
		p.add(bpf.LoadIndirect{Off: 12, Size: 2})
		p.equal(typeIPv4, name+"4at14")
		p.equal(typeIPv6, name+"6at14")
		if i == 2 {
			break
		}
		tag := name + "tag" + string(rune('0'+i))
		p.equal(typeVLAN, tag)
		p.equal(typeQinQ, tag)
		p.equal(typeOld, tag)
		p.jump("none")
		p.label(tag)
		p.forward(4)
	}
	p.jump("none")
	for _, v := range []string{"4", "6"} {
		p.label(name + v + "at14")
		p.forward(14)
		p.jump(name + v)
	}
}

// forward moves X.
func (p *listing) forward(n uint32) {
	p.add(bpf.TXA{}, bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: n}, bpf.TAX{})
}

// combine has the word at X+off in the number; X is where the IP header begins.
func (p *listing) combine(off uint32) {
	p.add(bpf.LoadIndirect{Off: off, Size: 4}, bpf.LoadScratch{Dst: bpf.RegX, N: cellNumber}, bpf.ALUOpX{Op: bpf.ALUOpXor},
		bpf.StoreScratch{Src: bpf.RegA, N: cellNumber}, bpf.LoadScratch{Dst: bpf.RegX, N: cellIP})
}

// ip reads the IP header at X. Labels that begin with inner are for what is in VXLAN; "" for not looking there.
func (p *listing) ip(name, inner string) {
	p.label(name + "4")
	p.begin()
	p.combine(12)
	p.combine(16)
	p.add(bpf.LoadIndirect{Off: 9, Size: 1}, bpf.StoreScratch{Src: bpf.RegA, N: cellProto}, bpf.LoadIndirect{Off: 6, Size: 2},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x3fff}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1})
	p.jump("mixed")
	p.add(bpf.LoadIndirect{Off: 0, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 15}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2},
		bpf.ALUOpX{Op: bpf.ALUOpAdd}, bpf.TAX{})
	p.jump(name + "l4")
	p.label(name + "6")
	p.begin()
	for off := uint32(8); off < 40; off += 4 {
		p.combine(off)
	}
	p.add(bpf.LoadIndirect{Off: 6, Size: 1}, bpf.StoreScratch{Src: bpf.RegA, N: cellProto})
	p.forward(40)
	p.label(name + "l4")
	p.add(bpf.LoadScratch{Dst: bpf.RegA, N: cellProto})
	for _, proto := range []uint32{protoTCP, protoUDP, protoSCT} {
		p.equal(proto, name+"ports")
	}
	p.jump("mixed")
	p.label(name + "ports")
	p.ports(name, inner)
}

// begin remembers where the IP header is, and that nothing is known.
func (p *listing) begin() {
	p.add(bpf.TXA{}, bpf.StoreScratch{Src: bpf.RegA, N: cellIP}, bpf.LoadConstant{Dst: bpf.RegA, Val: 0}, bpf.StoreScratch{Src: bpf.RegA, N: cellNumber})
}

// ports has the ports at X in the number.
func (p *listing) ports(name, inner string) {
	// A frame that was cut in front of its ports counts by its addresses.
	p.add(bpf.TXA{}, bpf.StoreScratch{Src: bpf.RegA, N: cellL4}, bpf.LoadExtension{Num: bpf.ExtLen}, bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: 4},
		bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1})
	p.jump("mixed")
	p.add(bpf.LoadIndirect{Off: 0, Size: 2}, bpf.StoreScratch{Src: bpf.RegA, N: cellPort}, bpf.LoadIndirect{Off: 2, Size: 2})
	if inner != "" {
		p.vxlan(name, inner)
	}
	p.add(bpf.LoadScratch{Dst: bpf.RegX, N: cellPort}, bpf.ALUOpX{Op: bpf.ALUOpXor}, bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: cellNumber},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: fnv}, bpf.ALUOpX{Op: bpf.ALUOpXor}, bpf.StoreScratch{Src: bpf.RegA, N: cellNumber})
	p.jump("mixed")
}

// vxlan goes on with the inner frame when A is a port of VXLAN and the protocol UDP.
func (p *listing) vxlan(name, inner string) {
	p.add(bpf.TAX{}) // the port
	p.add(bpf.LoadScratch{Dst: bpf.RegA, N: cellProto})
	p.equal(protoUDP, name+"udp")
	p.add(bpf.TXA{})
	p.jump(name + "plain")
	p.label(name + "udp")
	p.add(bpf.TXA{})
	p.equal(portVXLAN, name+"vxlan")
	p.equal(portVXLANOld, name+"vxlan")
	p.jump(name + "plain")
	p.label(name + "vxlan")
	p.add(bpf.LoadScratch{Dst: bpf.RegX, N: cellL4})
	p.forward(16)
	p.jump(inner + "eth")
	p.label(name + "plain")
}

// finish mixes the number. 0 is for what has no conversation.
func (p *listing) finish() {
	p.label("mixed")
	shift := func(n uint32) {
		p.add(bpf.TAX{}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: n}, bpf.ALUOpX{Op: bpf.ALUOpXor})
	}
	p.add(bpf.LoadScratch{Dst: bpf.RegA, N: cellNumber}, bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: golden})
	shift(16)
	p.add(bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: mix})
	shift(13)
	p.add(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1}, bpf.LoadConstant{Dst: bpf.RegA, Val: 1}, bpf.RetA{})
	p.label("none")
	p.add(bpf.LoadConstant{Dst: bpf.RegA, Val: 0}, bpf.RetA{})
}

// link fills in the jumps. A label of a part that is not there is where nothing is known.
func (p *listing) link() ([]bpf.Instruction, error) {
	for i, name := range p.refs {
		to, ok := p.marks[name]
		if !ok {
			to = p.marks["none"]
		}
		p.code[i] = bpf.Jump{Skip: uint32(to - i - 1)}
	}
	return p.code, nil
}
