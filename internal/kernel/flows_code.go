package kernel

import (
	"github.com/cilium/ebpf/asm"

	"crosstap/internal/wire"
)

// Keys of the flow table, ports and addresses in network order: addresses, ports (of ICMP type and code in place of the second),
// protocol, direction, VLAN, MAC addresses (destination first), point.
const (
	key4Len, key6Len = 32, 56

	keyPorts, keyProto, keyDir, keyVLAN = 0, 4, 5, 6 // behind the addresses
	keyMACs, keyPoint                   = 8, 20
)

// Values of the flow table.
const (
	valPackets, valOctets, valL2, valFirst, valLast = 0, 8, 16, 24, 32
	valFlags, valToS, valFirstFlags                 = 40, 42, 43
	valMinTTL, valMaxTTL, valMinLen, valMaxLen      = 44, 45, 46, 48
	valLen                                          = 56
)

// Places on the stack.
const (
	keyAt  = -key6Len - 8
	valAt  = keyAt - valLen - 8
	zeroAt = valAt - 8
)

// pullBytes is what a frame's headers may need of its linear part.
const pullBytes = wire.EthernetLen + wire.IPv6Len + wire.TCPLen

// counter assembles the body of the program that counts frames in the flow table. What it cannot count by itself goes to user space
// through the ring: fragments, options and extension headers, packets in tunnels, other protocols, damaged packets, and flows for
// which the table has no room.
type counter struct {
	f *Flows
	k *hook
	c *code
}

// Labels of the program.
const (
	toUser  = "to_user"
	tooFew  = "too_few"
	counted = "counted"
)

// Registers: the frame's bytes and their end; R9 holds what lasts from step to step.
const (
	regData = asm.R7
	regEnd  = asm.R8
)

func (w counter) assemble() {
	c := w.c
	begin := c.name("begin")
	c.add(asm.Mov.Imm(asm.R9, 0))
	for _, at := range []int16{zeroAt, valAt + valFlags, valAt + valFlags + 8} { // all else of the value is filled in
		c.add(asm.StoreMem(asm.RFP, at, asm.R9, asm.DWord))
	}
	c.at(begin)
	c.add(asm.LoadMem(regData, regCtx, skbData, asm.Word), asm.LoadMem(regEnd, regCtx, skbDataEnd, asm.Word))
	w.has(wire.EthernetLen + wire.IPv4Len)
	v6 := c.name("ipv6")
	w.packetBE(asm.R1, 12)
	c.add(asm.JEq.Imm(asm.R1, wire.TypeIPv6, v6), asm.JNE.Imm(asm.R1, wire.TypeIPv4, toUser))
	w.ipv4()
	c.at(v6)
	w.ipv6()
	w.pull(begin)
	c.at(toUser)
	toRing(c, w.k, w.f.ring.m, w.f.keep)
	c.result(actNext)
	c.at(counted)
	w.k.stats.count(c, statOut)
	c.result(actNext)
}

// pull makes the headers linear where they are not, and begins anew once.
func (w counter) pull(begin string) {
	c, long := w.c, w.c.name("long")
	c.at(tooFew)
	c.add(
		asm.JNE.Imm(asm.R9, 0, toUser),
		asm.LoadMem(asm.R2, regCtx, skbLen, asm.Word),
		asm.JLE.Imm(asm.R2, pullBytes, long),
		asm.Mov.Imm(asm.R2, pullBytes),
	)
	c.at(long)
	c.add(
		asm.Mov.Reg(asm.R1, regCtx),
		asm.FnSkbPullData.Call(),
		asm.JNE.Imm(asm.R0, 0, toUser),
		asm.Mov.Imm(asm.R9, 1),
		asm.Ja.Label(begin),
	)
}

// has goes on at tooFew when the linear part ends before the frame's first n bytes do.
func (w counter) has(n int32) {
	w.c.add(asm.Mov.Reg(asm.R1, regData), asm.Add.Imm(asm.R1, n), asm.JGT.Reg(asm.R1, regEnd, tooFew))
}

// packetBE reads 16 bits of the frame.
func (w counter) packetBE(r asm.Register, off int16) {
	w.c.add(asm.LoadMem(r, regData, off, asm.Half), asm.HostTo(asm.BE, r, asm.Half))
}

// move copies words of the frame to the stack.
func (w counter) move(from, to, n int16) {
	for i := int16(0); i < n; i += 4 {
		w.c.add(asm.LoadMem(asm.R1, regData, from+i, asm.Word), asm.StoreMem(asm.RFP, to+i, asm.R1, asm.Word))
	}
}

// moveByte copies a byte of the frame to the stack.
func (w counter) moveByte(from, to int16) {
	w.c.add(asm.LoadMem(asm.R1, regData, from, asm.Byte), asm.StoreMem(asm.RFP, to, asm.R1, asm.Byte))
}

// whole goes on to user space when the packet, of R1 bytes, is longer than the frame.
func (w counter) whole() {
	w.c.add(asm.LoadMem(asm.R2, regCtx, skbLen, asm.Word), asm.Sub.Imm(asm.R2, wire.EthernetLen), asm.JGT.Reg(asm.R1, asm.R2, toUser))
}

func (w counter) ipv4() {
	const ip, tos, length, frag, ttl, proto, addresses = 14, 15, 16, 20, 22, 23, 26
	c := w.c
	c.add(asm.LoadMem(asm.R1, regData, ip, asm.Byte), asm.JNE.Imm(asm.R1, plainIPv4, toUser))
	w.packetBE(asm.R1, frag)
	c.add(asm.And.Imm(asm.R1, fragBits), asm.JNE.Imm(asm.R1, 0, toUser))
	w.packetBE(asm.R1, length)
	c.add(asm.JLT.Imm(asm.R1, wire.IPv4Len, toUser))
	w.whole()
	w.moveByte(tos, valAt+valToS)
	w.ttl(ttl)
	w.move(addresses, keyAt, 8)
	w.rest(key4Len, proto, wire.ProtoICMP, length, 0)
}

func (w counter) ipv6() {
	const ip, length, proto, hops, addresses = 14, 18, 20, 21, 22
	c := w.c
	w.has(wire.EthernetLen + wire.IPv6Len)
	w.packetBE(asm.R1, ip)
	c.add(asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, 12), asm.JNE.Imm(asm.R2, 6, toUser),
		asm.RSh.Imm(asm.R1, 4), asm.StoreMem(asm.RFP, valAt+valToS, asm.R1, asm.Byte))
	w.packetBE(asm.R1, length)
	c.add(asm.JEq.Imm(asm.R1, 0, toUser), asm.Add.Imm(asm.R1, wire.IPv6Len))
	w.whole()
	w.ttl(hops)
	w.move(addresses, keyAt, 32)
	w.rest(key6Len, proto, wire.ProtoICMPv6, length, wire.IPv6Len)
}

func (w counter) ttl(from int16) {
	w.moveByte(from, valAt+valMinTTL)
	w.c.add(asm.StoreMem(asm.RFP, valAt+valMaxTTL, asm.R1, asm.Byte))
}

// rest does what is left for a packet of one IP version: its transport header, the rest of the key, sizes, and the table.
func (w counter) rest(keyLen int, proto int16, icmp int32, length int16, extra int32) {
	c := w.c
	transport, tail := int16(wire.EthernetLen+wire.IPv4Len), int16(keyAt+8)
	if keyLen == key6Len {
		transport, tail = wire.EthernetLen+wire.IPv6Len, keyAt+32
	}
	udp, ping, known := c.name("udp"), c.name("ping"), c.name("known")
	c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, tail+keyPorts, asm.R1, asm.DWord)) // what has no ports and no tag
	w.moveByte(proto, tail+keyProto)
	c.add(asm.JEq.Imm(asm.R1, wire.ProtoUDP, udp), asm.JEq.Imm(asm.R1, icmp, ping), asm.JNE.Imm(asm.R1, wire.ProtoTCP, toUser))
	w.tcp(transport, tail, known)
	c.at(udp)
	w.udp(transport, tail, known)
	c.at(ping)
	w.has(int32(transport) + 4)
	c.add(asm.LoadMem(asm.R1, regData, transport, asm.Half), asm.StoreMem(asm.RFP, tail+keyPorts+2, asm.R1, asm.Half), asm.Mov.Imm(asm.R3, wire.UDPLen))
	c.at(known)
	w.place(tail)
	w.packetBE(asm.R9, length)
	if extra != 0 {
		c.add(asm.Add.Imm(asm.R9, extra))
	}
	w.sizes(int32(transport) - wire.EthernetLen)
	w.table(keyLen)
}

// tcp reads ports and flags and leaves the length of the header in R3.
func (w counter) tcp(transport, tail int16, known string) {
	w.has(int32(transport) + wire.TCPLen)
	w.move(transport, tail+keyPorts, 4)
	w.packetBE(asm.R1, transport+12)
	w.c.add(
		asm.Mov.Reg(asm.R3, asm.R1), asm.RSh.Imm(asm.R3, 12), asm.LSh.Imm(asm.R3, 2),
		asm.JLT.Imm(asm.R3, wire.TCPLen, toUser),
		asm.And.Imm(asm.R1, 0x1ff),
		asm.StoreMem(asm.RFP, valAt+valFlags, asm.R1, asm.Half), asm.StoreMem(asm.RFP, valAt+valFirstFlags, asm.R1, asm.Byte),
		asm.Ja.Label(known),
	)
}

// udp reads the ports. A packet to a tunnel's port has another one inside.
func (w counter) udp(transport, tail int16, known string) {
	w.has(int32(transport) + wire.UDPLen)
	w.move(transport, tail+keyPorts, 4)
	if len(w.f.tunnels) > 0 {
		w.packetBE(asm.R1, transport+2)
		for _, port := range w.f.tunnels {
			w.c.add(asm.JEq.Imm(asm.R1, int32(port), toUser))
		}
	}
	w.c.add(asm.Mov.Imm(asm.R3, wire.UDPLen), asm.Ja.Label(known))
}

// place fills in the parts of the key that say where the packet is seen, and the length of the frame.
func (w counter) place(tail int16) {
	const dmac, vlanID = 0, 0x0fff
	c, untagged := w.c, w.c.name("untagged")
	w.move(dmac, tail+keyMACs, 12)
	c.add(
		asm.StoreImm(asm.RFP, tail+keyDir, int64(w.k.dir), asm.Byte),
		asm.StoreImm(asm.RFP, tail+keyPoint, int64(w.k.point), asm.Word),
		asm.LoadMem(asm.R4, regCtx, skbLen, asm.Word),
		asm.Mov.Imm(asm.R5, wire.EthernetLen),
		asm.LoadMem(asm.R1, regCtx, skbVLANPresent, asm.Word),
		asm.JEq.Imm(asm.R1, 0, untagged),
		asm.LoadMem(asm.R1, regCtx, skbVLANTCI, asm.Word),
		asm.And.Imm(asm.R1, vlanID),
		asm.StoreMem(asm.RFP, tail+keyVLAN, asm.R1, asm.Half),
		asm.Add.Imm(asm.R4, wire.VLANLen),
		asm.Add.Imm(asm.R5, wire.VLANLen),
	)
	c.at(untagged)
}

// sizes fills in packets and octets. R9 holds the IP length, R3 that of the transport header, R4 the length of the frame, R5 that of the
// link header. A super-frame counts as the segments that the wire would have carried, each with all headers.
func (w counter) sizes(ipHeader int32) {
	c, super, done, short := w.c, w.c.name("super"), w.c.name("sized"), w.c.name("short")
	store := func(at int16, r asm.Register, size asm.Size) { c.add(asm.StoreMem(asm.RFP, valAt+at, r, size)) }
	c.add(asm.LoadMem(asm.R2, regCtx, skbGSOSize, asm.Word), asm.JNE.Imm(asm.R2, 0, super), asm.Mov.Imm(asm.R1, 1))
	store(valPackets, asm.R1, asm.DWord)
	store(valOctets, asm.R9, asm.DWord)
	store(valL2, asm.R4, asm.DWord)
	store(valMinLen, asm.R9, asm.Half)
	store(valMaxLen, asm.R9, asm.Half)
	c.add(asm.Ja.Label(done))
	c.at(super)
	c.add(
		asm.Add.Imm(asm.R3, ipHeader), // headers of each segment
		asm.JLE.Reg(asm.R9, asm.R3, toUser),
		asm.Sub.Reg(asm.R9, asm.R3),                                                                                   // payload
		asm.Mov.Reg(asm.R4, asm.R9), asm.Add.Reg(asm.R4, asm.R2), asm.Sub.Imm(asm.R4, 1), asm.Div.Reg(asm.R4, asm.R2), // segments
	)
	store(valPackets, asm.R4, asm.DWord)
	c.add(asm.Mov.Reg(asm.R1, asm.R4), asm.Mul.Reg(asm.R1, asm.R3), asm.Add.Reg(asm.R1, asm.R9))
	store(valOctets, asm.R1, asm.DWord)
	c.add(asm.Mul.Reg(asm.R5, asm.R4), asm.Add.Reg(asm.R5, asm.R1))
	store(valL2, asm.R5, asm.DWord)
	c.add(asm.Mov.Reg(asm.R1, asm.R2), asm.JLE.Reg(asm.R1, asm.R9, short), asm.Mov.Reg(asm.R1, asm.R9))
	c.at(short)
	c.add(asm.Add.Reg(asm.R1, asm.R3))
	store(valMaxLen, asm.R1, asm.Half)
	c.add(asm.Sub.Imm(asm.R4, 1), asm.Mul.Reg(asm.R4, asm.R2), asm.Sub.Reg(asm.R9, asm.R4), asm.Add.Reg(asm.R9, asm.R3))
	store(valMinLen, asm.R9, asm.Half)
	c.at(done)
	c.add(asm.FnJiffies64.Call())
	store(valFirst, asm.R0, asm.DWord)
	store(valLast, asm.R0, asm.DWord)
}

// table adds the packet to its flow. The table in use stands in another one, so that user space can change it for an empty one.
func (w counter) table(keyLen int) {
	c, found, full := w.c, w.c.name("found"), w.c.name("full")
	outer := w.f.tables[0].outer
	if keyLen == key6Len {
		outer = w.f.tables[1].outer
	}
	key := func(r asm.Register, at int32) { c.add(asm.Mov.Reg(r, asm.RFP), asm.Add.Imm(r, at)) }
	c.add(asm.LoadMapPtr(asm.R1, outer.FD()))
	key(asm.R2, zeroAt)
	c.add(asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, toUser), asm.Mov.Reg(asm.R9, asm.R0), asm.Mov.Reg(asm.R1, asm.R9))
	key(asm.R2, keyAt)
	c.add(asm.FnMapLookupElem.Call(), asm.JNE.Imm(asm.R0, 0, found), asm.Mov.Reg(asm.R1, asm.R9))
	key(asm.R2, keyAt)
	key(asm.R3, valAt)
	c.add(asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call(), asm.JEq.Imm(asm.R0, 0, counted))
	c.at(full)
	w.k.stats.count(c, statFull)
	c.add(asm.Ja.Label(toUser))
	c.at(found)
	w.merge()
	c.add(asm.Ja.Label(counted))
}

// merge adds the value on the stack to the one that R0 points to.
func (w counter) merge() {
	c, fresh := w.c, w.c.name("fresh")
	c.add(asm.LoadMem(asm.R3, asm.R0, valPackets, asm.DWord), asm.JEq.Imm(asm.R3, 0, fresh))
	for _, at := range []int16{valPackets, valOctets, valL2} {
		c.add(asm.LoadMem(asm.R1, asm.R0, at, asm.DWord), asm.LoadMem(asm.R2, asm.RFP, valAt+at, asm.DWord), asm.Add.Reg(asm.R1, asm.R2),
			asm.StoreMem(asm.R0, at, asm.R1, asm.DWord))
	}
	c.add(asm.LoadMem(asm.R1, asm.RFP, valAt+valLast, asm.DWord), asm.StoreMem(asm.R0, valLast, asm.R1, asm.DWord))
	c.add(asm.LoadMem(asm.R1, asm.R0, valFlags, asm.Half), asm.LoadMem(asm.R2, asm.RFP, valAt+valFlags, asm.Half), asm.Or.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.R0, valFlags, asm.R1, asm.Half))
	for _, x := range []struct {
		at   int16
		size asm.Size
		keep asm.JumpOp
	}{{valMinTTL, asm.Byte, asm.JLE}, {valMaxTTL, asm.Byte, asm.JGE}, {valMinLen, asm.Half, asm.JLE}, {valMaxLen, asm.Half, asm.JGE}} {
		stays := c.name("stays")
		c.add(asm.LoadMem(asm.R1, asm.R0, x.at, x.size), asm.LoadMem(asm.R2, asm.RFP, valAt+x.at, x.size), x.keep.Reg(asm.R1, asm.R2, stays),
			asm.StoreMem(asm.R0, x.at, asm.R2, x.size))
		c.at(stays)
	}
	c.add(asm.Ja.Label(counted))
	c.at(fresh) // another processor has made the flow
	for at := int16(0); at < valLen; at += 8 {
		c.add(asm.LoadMem(asm.R1, asm.RFP, valAt+at, asm.DWord), asm.StoreMem(asm.R0, at, asm.R1, asm.DWord))
	}
}
