package kernel

import (
	"math"

	"github.com/cilium/ebpf/asm"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// draw goes on at aside when the frame is not of the sample. R0 to R5, R7 and R8 are lost.
func (s Sample) draw(c *code, k *hook, aside string) {
	if s.Rate <= 1 {
		return
	}
	threshold := int32(math.MaxUint32 / uint32(s.Rate))
	switch s.Mode {
	case Random:
		chance(c, k)
		c.add(asm.JGT.Imm32(asm.R2, threshold, aside))
	case ByFlows:
		conversation(c, k.link)
		c.add(asm.JGT.Imm32(asm.R8, threshold, aside))
	default:
		s.every(c, k, aside)
	}
}

// chance leaves 32 bits in R2, by a generator of each processor's own, which the kernel's begins (xorshift, Marsaglia 2003): asking that one each time
// costs more than all else.
func chance(c *code, k *hook) {
	const state = statTurn * 8
	begun := c.name("begun")
	k.stats.line(c)
	c.add(
		asm.LoadMem(asm.R2, asm.R1, state, asm.DWord),
		asm.JNE.Imm(asm.R2, 0, begun),
		asm.FnGetPrandomU32.Call(),
		asm.Mov.Reg(asm.R7, asm.R0),
	)
	k.stats.line(c)
	c.add(asm.Mov.Reg(asm.R2, asm.R7), asm.LSh.Imm(asm.R2, 1), asm.Or.Imm(asm.R2, 1))
	c.at(begun)
	for _, x := range []struct {
		op asm.ALUOp
		n  int32
	}{{asm.LSh, 13}, {asm.RSh, 7}, {asm.LSh, 17}} {
		c.add(asm.Mov.Reg(asm.R3, asm.R2), x.op.Imm(asm.R3, x.n), asm.Xor.Reg(asm.R2, asm.R3))
	}
	c.add(asm.StoreMem(asm.R1, state, asm.R2, asm.DWord), asm.RSh.Imm(asm.R2, 32))
}

// every counts frames up to the rate. The first one is of the sample.
func (s Sample) every(c *code, k *hook, aside string) {
	const turn = statTurn * 8
	keep, store := c.name("turn"), c.name("store")
	k.stats.line(c)
	c.add(
		asm.LoadMem(asm.R2, asm.R1, turn, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.Add.Imm(asm.R3, 1),
		asm.JLT.Imm(asm.R3, int32(s.Rate), store),
		asm.Mov.Imm(asm.R3, 0),
	)
	c.at(store)
	c.add(
		asm.StoreMem(asm.R1, turn, asm.R3, asm.DWord),
		asm.JEq.Imm(asm.R2, 0, keep),
		asm.Ja.Label(aside),
	)
	c.at(keep)
}

// Offsets in the bytes that conversation reads, from the IP header on.
const (
	hashBytes  = 44 // the most it reads: an IPv6 header and the ports
	hashAt     = -192
	golden     = 0x61c88647 // 2^32 divided by the golden ratio, which spreads bits when multiplied by
	ipv4Src    = 12
	ipv4Dst    = 16
	ipv6Src    = 8
	ipv6Words  = 4
	fragBits   = 0x3fff // MF and the offset
	ipv4Ports  = wire.IPv4Len
	ipv6Ports  = wire.IPv6Len
	plainIPv4  = 0x45 // version 4, no options
	fragOffset = 6
)

// conversation leaves a hash in R8 that is the same for all frames of a conversation, both ways and on every host: of addresses,
// protocol and ports, without the ports for fragments. R0 to R5 and R7 are lost.
func conversation(c *code, link frame.LinkType) {
	net := int32(wire.EthernetLen)
	if link == frame.LinkRaw {
		net = 0
	}
	done, v6, ports := c.name("hashed"), c.name("hash6"), c.name("ports")
	word := func(dst asm.Register, off int16) asm.Instruction {
		return asm.LoadMem(dst, asm.RFP, hashAt+off, asm.Word)
	}
	loaded := func(n int32, otherwise string) { toStack(c, net, n, hashAt, otherwise) }
	c.add(
		asm.Mov.Imm(asm.R8, 0),
		asm.LoadMem(asm.R7, regCtx, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R7, asm.Half),
		asm.JEq.Imm(asm.R7, wire.TypeIPv6, v6),
		asm.JNE.Imm(asm.R7, wire.TypeIPv4, done),
	)
	loaded(ipv4Ports+4, done)
	c.add(
		word(asm.R8, ipv4Src), word(asm.R2, ipv4Dst), asm.Add.Reg32(asm.R8, asm.R2),
		asm.LoadMem(asm.R7, asm.RFP, hashAt+9, asm.Byte), // protocol
		asm.LoadMem(asm.R1, asm.RFP, hashAt, asm.Byte),
		asm.JNE.Imm(asm.R1, plainIPv4, ports),
		asm.LoadMem(asm.R1, asm.RFP, hashAt+fragOffset, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.And.Imm(asm.R1, fragBits),
		asm.JNE.Imm(asm.R1, 0, ports),
	)
	sum(c, ipv4Ports, ports)
	c.add(asm.Ja.Label(ports))
	c.at(v6)
	loaded(hashBytes, done)
	c.add(word(asm.R8, ipv6Src))
	for i := int16(1); i < 2*ipv6Words; i++ {
		c.add(word(asm.R2, ipv6Src+4*i), asm.Add.Reg32(asm.R8, asm.R2))
	}
	c.add(asm.LoadMem(asm.R7, asm.RFP, hashAt+6, asm.Byte)) // next header
	sum(c, ipv6Ports, ports)
	c.at(ports)
	c.add(asm.Add.Reg32(asm.R8, asm.R7))
	for range 2 {
		c.add(asm.Mul.Imm32(asm.R8, golden), asm.Mov.Reg32(asm.R2, asm.R8), asm.RSh.Imm32(asm.R2, 15), asm.Xor.Reg32(asm.R8, asm.R2))
	}
	c.add(asm.Mul.Imm32(asm.R8, golden))
	c.at(done)
}

// toStack copies bytes of the frame, a multiple of 4, to the stack, and goes on at otherwise when it has not so many. R0 to R5 are lost.
func toStack(c *code, from, n int32, to int16, otherwise string) {
	far, there := c.name("far"), c.name("there")
	c.add(
		asm.LoadMem(asm.R2, regCtx, skbData, asm.Word), asm.LoadMem(asm.R3, regCtx, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R2), asm.Add.Imm(asm.R1, from+n), asm.JGT.Reg(asm.R1, asm.R3, far),
	)
	for at := int32(0); at < n; {
		size := asm.DWord
		if n-at < 8 {
			size = asm.Word
		}
		c.add(asm.LoadMem(asm.R1, asm.R2, int16(from+at), size), asm.StoreMem(asm.RFP, to+int16(at), asm.R1, size))
		at += int32(size.Sizeof())
	}
	c.add(asm.Ja.Label(there))
	c.at(far)
	c.add(asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, from), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, n), asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, otherwise))
	c.at(there)
}

// sum adds the ports of TCP and UDP, whichever comes first, to R8. Other protocols have none.
func sum(c *code, off int16, otherwise string) {
	has := c.name("has")
	c.add(asm.JEq.Imm(asm.R7, wire.ProtoTCP, has), asm.JNE.Imm(asm.R7, wire.ProtoUDP, otherwise))
	c.at(has)
	c.add(
		asm.LoadMem(asm.R2, asm.RFP, hashAt+off, asm.Half),
		asm.LoadMem(asm.R3, asm.RFP, hashAt+off+2, asm.Half),
		asm.Add.Reg32(asm.R2, asm.R3),
		asm.Mul.Imm32(asm.R2, golden),
		asm.Add.Reg32(asm.R8, asm.R2),
	)
}
