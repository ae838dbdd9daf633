package kernel

import (
	"github.com/cilium/ebpf/asm"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// A mark stands in the scratch memory beside a clone, so that the wrapper knows it from what the kernel sends by itself, and what is to become of it;
// behind it stands the direction of the frame.
const (
	markWhole = 0x78746170 // to be wrapped as it is
	markCut   = 0x78746371 // a super-frame to be cut, and its segments
	cloneDir  = skbCB + 4
)

// cloneTo is the body of the program at a tapped interface: the frame is cloned to a device, and counted. A super-frame that is to be cut is counted
// with its segments: whether each of them comes back is known behind the device alone.
func cloneTo(c *code, k *hook, device int, x cutter) {
	whole, lost := c.name("whole"), c.name("lost")
	if !x.none() {
		x.unless(c, whole)
		segments(c)
		clone(c, k.dir, device, markCut)
		k.stats.line(c)
		c.add(
			asm.LoadMem(asm.R2, asm.R1, statUp*8, asm.DWord), asm.Add.Imm(asm.R2, 1), asm.StoreMem(asm.R1, statUp*8, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.R1, statSegments*8, asm.DWord), asm.Add.Reg(asm.R2, asm.R7), asm.StoreMem(asm.R1, statSegments*8, asm.R2, asm.DWord),
		)
		c.result(actNext)
		c.at(whole)
	}
	clone(c, k.dir, device, markWhole)
	c.add(asm.JNE.Imm(asm.R0, 0, lost))
	k.stats.count(c, statOut)
	c.result(actNext)
	c.at(lost)
	k.stats.count(c, statLost)
	c.result(actNext)
}

// clone sends a marked clone to a device. R0 is not 0 when it was refused; R1 to R5 are lost.
func clone(c *code, dir frame.Direction, device int, mark int32) {
	c.add(
		asm.Mov.Imm(asm.R1, mark),
		asm.StoreMem(regCtx, skbCB, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R1, int32(dir)),
		asm.StoreMem(regCtx, cloneDir, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R1, regCtx),
		asm.Mov.Imm(asm.R2, int32(device)),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnCloneRedirect.Call(),
	)
}

// cutter says which super-frames go through the device.
type cutter struct {
	all    bool
	orders *orders // while they say that copies are sliced; nil without a budget
}

func (x cutter) none() bool { return !x.all && x.orders == nil }

// unless goes on at whole with frames that are wrapped as they are. R1 is lost.
func (x cutter) unless(c *code, whole string) {
	c.add(asm.LoadMem(asm.R1, regCtx, skbGSOSize, asm.Word), asm.JEq.Imm(asm.R1, 0, whole))
	if !x.all {
		x.orders.load(c, asm.R1, orderKeep)
		c.add(asm.JEq.Imm(asm.R1, 0, whole))
	}
}

// Offsets of what segments looks at.
const (
	tcpDataOffset = 12
	ipv4Protocol  = 9
	ipv6Next      = 6
)

// segments leaves in R7 how many segments the kernel will make of a super-frame. It knows that by itself, but for those of virtual machines: there
// the length of the headers says it (TCP and UDP over IP). R0 to R5 and R8 are lost.
func segments(c *code) {
	const net, ports6 = wire.EthernetLen, wire.EthernetLen + wire.IPv6Len
	known, one, divide := c.name("known"), c.name("one"), c.name("divide")
	six, four, transport, udp := c.name("six"), c.name("four"), c.name("transport"), c.name("datagrams")
	c.add(
		asm.LoadMem(asm.R7, regCtx, skbGSOSegs, asm.Word), asm.JNE.Imm(asm.R7, 0, known),
		asm.Mov.Imm(asm.R8, ports6),
		asm.LoadMem(asm.R1, regCtx, skbProtocol, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JEq.Imm(asm.R1, wire.TypeIPv4, four), asm.JEq.Imm(asm.R1, wire.TypeIPv6, six), asm.Ja.Label(divide),
	)
	c.at(four)
	c.load(asm.LoadAbs(net, asm.Byte), divide)
	c.add(asm.And.Imm(asm.R0, 0xf), asm.LSh.Imm(asm.R0, 2), asm.Add.Imm(asm.R0, net), asm.Mov.Reg(asm.R8, asm.R0))
	c.load(asm.LoadAbs(net+ipv4Protocol, asm.Byte), divide)
	c.add(asm.Ja.Label(transport))
	c.at(six)
	c.load(asm.LoadAbs(net+ipv6Next, asm.Byte), divide)
	c.at(transport)
	c.add(asm.JEq.Imm(asm.R0, wire.ProtoUDP, udp))
	c.load(asm.LoadInd(asm.R0, asm.R8, tcpDataOffset, asm.Byte), divide)
	c.add(asm.RSh.Imm(asm.R0, 4), asm.LSh.Imm(asm.R0, 2), asm.Add.Reg(asm.R8, asm.R0), asm.Ja.Label(divide))
	c.at(udp)
	c.add(asm.Add.Imm(asm.R8, wire.UDPLen))
	c.at(divide)
	c.add(
		asm.LoadMem(asm.R7, regCtx, skbLen, asm.Word), asm.LoadMem(asm.R1, regCtx, skbGSOSize, asm.Word),
		asm.JLE.Reg(asm.R7, asm.R8, one),
		asm.Sub.Reg(asm.R7, asm.R8), asm.Add.Reg(asm.R7, asm.R1), asm.Sub.Imm(asm.R7, 1), asm.Div.Reg(asm.R7, asm.R1), asm.Ja.Label(known),
	)
	c.at(one)
	c.add(asm.Mov.Imm(asm.R7, 1))
	c.at(known)
}
