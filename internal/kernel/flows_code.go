package kernel

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"

	"crosstap/internal/wire"
)

// Keys of the flow table, ports and addresses in network order: ports (of ICMP type and code in place of the second), protocol, where (the
// direction, and a bit for IPv6), VLAN, MAC addresses (destination first), point, addresses.
const (
	keyPorts, keyProto, keyWhere, keyVLAN       = 0, 4, 5, 6
	keyMACs, keyPoint, keyAddresses             = 8, 20, 24
	key4Len, key6Len                            = 32, 56
	whereV6                               uint8 = 1 << 1
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
	keyAt   = -key6Len - 8
	valAt   = keyAt - valLen
	indexAt = valAt - 4 // u32, of a line
	halfAt  = valAt - 8 // u32
	lineAt  = valAt - 12
)

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
	counted = "counted"
)

// Registers: the frame's bytes and their end. R9 holds what lasts from step to step.
const (
	regData = asm.R7
	regEnd  = asm.R8
)

func (w counter) assemble() {
	c := w.c
	c.add(asm.Mov.Imm(asm.R1, 0))
	for _, at := range []int16{valAt + valFlags, valAt + valFlags + 8} { // all else of the value is filled in
		c.add(asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord))
	}
	w.linear(wire.EthernetLen + wire.IPv4Len + wire.TCPLen)
	w.has(wire.EthernetLen + wire.IPv4Len)
	v6 := c.name("ipv6")
	c.add(
		asm.LoadMem(asm.R1, regData, 12, asm.Half),
		asm.JEq.Imm(asm.R1, netOrder(wire.TypeIPv6), v6),
		asm.JNE.Imm(asm.R1, netOrder(wire.TypeIPv4), toUser),
	)
	w.ipv4()
	c.at(v6)
	w.linear(wire.EthernetLen + wire.IPv6Len + wire.TCPLen)
	w.ipv6()
	c.at(toUser)
	toRing(c, w.k, w.f.ring, w.f.keep)
	c.result(actNext)
	c.at(counted)
	w.k.stats.count(c, statOut)
	c.result(actNext)
}

// linear leaves the frame's bytes and their end in registers, and has the kernel make the first n of them linear where they are not.
func (w counter) linear(n int32) {
	c, all, there := w.c, w.c.name("all"), w.c.name("linear")
	load := asm.Instructions{asm.LoadMem(regData, regCtx, skbData, asm.Word), asm.LoadMem(regEnd, regCtx, skbDataEnd, asm.Word)}
	c.add(load...)
	c.add(
		asm.Mov.Reg(asm.R1, regData), asm.Add.Imm(asm.R1, n), asm.JLE.Reg(asm.R1, regEnd, there),
		asm.Mov.Reg(asm.R1, regCtx),
		asm.LoadMem(asm.R2, regCtx, skbLen, asm.Word),
		asm.JLE.Imm(asm.R2, n, all),
		asm.Mov.Imm(asm.R2, n),
	)
	c.at(all)
	c.add(asm.FnSkbPullData.Call(), asm.JNE.Imm(asm.R0, 0, toUser))
	c.add(load...)
	c.at(there)
}

// netOrder returns what a load of 16 bits that hold v in network order gives.
func netOrder(v uint16) int32 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return int32(binary.NativeEndian.Uint16(b[:]))
}

// lane shifts what is to lie in a word of 64 bits at a byte, n bytes wide, to its place.
func (w counter) lane(r asm.Register, at, n int32) {
	shift := 8 * at
	if netOrder(1) == 1 { // big endian
		shift = 64 - 8*(at+n)
	}
	if shift > 0 {
		w.c.add(asm.LSh.Imm(r, shift))
	}
}

// laneOf returns a number as it lies in a word of 64 bits at a byte, n bytes wide.
func laneOf(v uint64, at, n int) int64 {
	shift := 8 * at
	if netOrder(1) == 1 {
		shift = 64 - 8*(at+n)
	}
	return int64(v << shift)
}

// with adds bits to a register. R1 is lost.
func (w counter) with(r asm.Register, bits int64) {
	if bits != 0 {
		w.c.add(asm.LoadImm(asm.R1, bits, asm.DWord), asm.Or.Reg(r, asm.R1))
	}
}

// key stores a word of the key.
func (w counter) key(at int16, r asm.Register) {
	w.c.add(asm.StoreMem(asm.RFP, keyAt+at, r, asm.DWord))
}

// has goes on to user space when the linear part ends before the frame's first n bytes do.
func (w counter) has(n int32) {
	w.c.add(asm.Mov.Reg(asm.R1, regData), asm.Add.Imm(asm.R1, n), asm.JGT.Reg(asm.R1, regEnd, toUser))
}

// header is has for the n bytes of a transport header, which have to be of the packet, too.
func (w counter) header(transport int16, n int32) {
	w.c.add(asm.JLT.Imm(asm.R9, int32(transport)-wire.EthernetLen+n, toUser))
	w.has(int32(transport) + n)
}

// packetBE reads 16 bits of the frame.
func (w counter) packetBE(r asm.Register, off int16) {
	w.c.add(asm.LoadMem(r, regData, off, asm.Half), asm.HostTo(asm.BE, r, asm.Half))
}

// whole goes on to user space when the packet, of R9 bytes, is longer than the frame.
func (w counter) whole() {
	w.c.add(asm.LoadMem(asm.R2, regCtx, skbLen, asm.Word), asm.Sub.Imm(asm.R2, wire.EthernetLen), asm.JGT.Reg(asm.R9, asm.R2, toUser))
}

// addresses moves the addresses to the key.
func (w counter) addresses(from, n int16) {
	for i := int16(0); i < n; i += 8 {
		w.c.add(asm.LoadMem(asm.R1, regData, from+i, asm.DWord))
		w.key(keyAddresses+i, asm.R1)
	}
}

// ipv4 reads an IPv4 header; R9 holds the packet's length from here on.
func (w counter) ipv4() {
	const ip, tos, length, frag, ttl, proto, addresses = 14, 15, 16, 20, 22, 23, 26
	c := w.c
	c.add(
		asm.LoadMem(asm.R1, regData, ip, asm.Byte), asm.JNE.Imm(asm.R1, plainIPv4, toUser),
		asm.LoadMem(asm.R1, regData, frag, asm.Half), asm.JSet.Imm(asm.R1, netOrder(fragBits), toUser),
	)
	w.packetBE(asm.R9, length)
	w.whole()
	c.add(asm.LoadMem(asm.R1, regData, tos, asm.Byte), asm.StoreMem(asm.RFP, valAt+valToS, asm.R1, asm.Byte))
	w.ttl(ttl)
	w.addresses(addresses, 8)
	w.rest(key4Len, proto, wire.ProtoICMP)
}

// ipv6 is ipv4 for IPv6.
func (w counter) ipv6() {
	const ip, length, proto, hops, addresses = 14, 18, 20, 21, 22
	c := w.c
	w.has(wire.EthernetLen + wire.IPv6Len)
	w.packetBE(asm.R1, ip)
	c.add(asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, 12), asm.JNE.Imm(asm.R2, 6, toUser),
		asm.RSh.Imm(asm.R1, 4), asm.StoreMem(asm.RFP, valAt+valToS, asm.R1, asm.Byte))
	w.packetBE(asm.R9, length)
	c.add(asm.JEq.Imm(asm.R9, 0, toUser), asm.Add.Imm(asm.R9, wire.IPv6Len))
	w.whole()
	w.ttl(hops)
	w.addresses(addresses, 32)
	w.rest(key6Len, proto, wire.ProtoICMPv6)
}

func (w counter) ttl(from int16) {
	w.c.add(
		asm.LoadMem(asm.R1, regData, from, asm.Byte),
		asm.StoreMem(asm.RFP, valAt+valMinTTL, asm.R1, asm.Byte), asm.StoreMem(asm.RFP, valAt+valMaxTTL, asm.R1, asm.Byte),
	)
}

// rest does what is left for a packet of one IP version: its transport header, the rest of the key, sizes, and the table.
func (w counter) rest(keyLen int, proto int16, icmp int32) {
	c, transport := w.c, int16(wire.EthernetLen+wire.IPv4Len)
	if keyLen == key6Len {
		transport = wire.EthernetLen + wire.IPv6Len
	}
	udp, ping, known := c.name("udp"), c.name("ping"), c.name("known")
	c.add(asm.LoadMem(asm.R5, regData, proto, asm.Byte),
		asm.JEq.Imm(asm.R5, wire.ProtoUDP, udp), asm.JEq.Imm(asm.R5, icmp, ping), asm.JNE.Imm(asm.R5, wire.ProtoTCP, toUser))
	w.tcp(transport)
	c.add(asm.Ja.Label(known))
	c.at(udp)
	w.udp(transport)
	c.add(asm.Ja.Label(known))
	c.at(ping)
	w.header(transport, 4)
	c.add(asm.LoadMem(asm.R4, regData, transport, asm.Half), asm.Mov.Imm(asm.R3, wire.UDPLen))
	w.lane(asm.R4, keyPorts+2, 2)
	c.at(known)
	w.place(keyLen)
	w.sizes(int32(transport) - wire.EthernetLen)
	w.near(keyLen)
}

// tcp reads ports and flags: R4 holds the ports as they lie in the key, and R3 the length of the header.
func (w counter) tcp(transport int16) {
	w.header(transport, wire.TCPLen)
	w.packetBE(asm.R1, transport+12)
	w.c.add(
		asm.Mov.Reg(asm.R3, asm.R1), asm.RSh.Imm(asm.R3, 12), asm.LSh.Imm(asm.R3, 2),
		asm.JLT.Imm(asm.R3, wire.TCPLen, toUser),
		asm.And.Imm(asm.R1, 0x1ff),
		asm.StoreMem(asm.RFP, valAt+valFlags, asm.R1, asm.Half), asm.StoreMem(asm.RFP, valAt+valFirstFlags, asm.R1, asm.Byte),
		asm.LoadMem(asm.R4, regData, transport, asm.Word),
	)
	w.lane(asm.R4, keyPorts, 4)
}

// udp is tcp for UDP. A packet to a tunnel's port has another one inside.
func (w counter) udp(transport int16) {
	w.header(transport, wire.UDPLen)
	if len(w.f.tunnels) > 0 {
		w.c.add(asm.LoadMem(asm.R1, regData, transport+2, asm.Half))
		for _, port := range w.f.tunnels {
			w.c.add(asm.JEq.Imm(asm.R1, netOrder(port), toUser))
		}
	}
	w.c.add(asm.LoadMem(asm.R4, regData, transport, asm.Word), asm.Mov.Imm(asm.R3, wire.UDPLen))
	w.lane(asm.R4, keyPorts, 4)
}

// place fills in the key, of which R4 holds the ports and R5 the protocol, and leaves the length of the frame in R4 and that of its link header
// in R5.
func (w counter) place(keyLen int) {
	const dmac, vlanID = 0, 0x0fff
	c, untagged := w.c, w.c.name("untagged")
	where := uint8(w.k.dir)
	if keyLen == key6Len {
		where |= whereV6
	}
	w.lane(asm.R5, keyProto, 1)
	c.add(asm.Or.Reg(asm.R4, asm.R5))
	w.with(asm.R4, laneOf(uint64(where), keyWhere, 1))
	c.add(
		asm.LoadMem(asm.R2, regCtx, skbLen, asm.Word),
		asm.Mov.Imm(asm.R5, wire.EthernetLen),
		asm.LoadMem(asm.R1, regCtx, skbVLANPresent, asm.Word),
		asm.JEq.Imm(asm.R1, 0, untagged),
		asm.LoadMem(asm.R1, regCtx, skbVLANTCI, asm.Word),
		asm.And.Imm(asm.R1, vlanID),
	)
	w.lane(asm.R1, keyVLAN, 2)
	c.add(asm.Or.Reg(asm.R4, asm.R1), asm.Add.Imm(asm.R2, wire.VLANLen), asm.Add.Imm(asm.R5, wire.VLANLen))
	c.at(untagged)
	w.key(0, asm.R4)
	c.add(asm.LoadMem(asm.R1, regData, dmac, asm.DWord))
	w.key(keyMACs, asm.R1)
	c.add(asm.LoadMem(asm.R4, regData, dmac+8, asm.Word))
	w.lane(asm.R4, 0, 4)
	w.with(asm.R4, laneOf(uint64(w.k.point), 4, 4))
	w.key(keyMACs+8, asm.R4)
	c.add(asm.Mov.Reg(asm.R4, asm.R2))
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
