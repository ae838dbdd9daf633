package kernel

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// A frame to be copied is cloned to a device of our own. The wrapper at the egress hook of that device has the clone to itself: it
// cuts it, puts the headers in front and redirects it to the interface of the route. A super-frame that must be cut, or numbered,
// passes the device: the kernel makes wire segments of it, which come to the egress hook of the device below, where the same wrapper waits.

// Flags of bpf_skb_adjust_room (linux/bpf.h).
const (
	roomMAC      = 1
	roomFixedGSO = 1 << 0
	roomIPv4     = 1 << 1
	roomIPv6     = 1 << 2
	roomGRE      = 1 << 3
	roomUDP      = 1 << 4
	roomEthernet = 1 << 6
	roomInnerAt  = 56 // shift of the inner link header's length
)

// Layout of the buffer on the stack: the outer headers, and behind them the inner link header with up to two tags.
const (
	outerAt      = -128
	nestedAt     = -320
	outerIP      = outerAt + wire.EthernetLen
	maxTags      = 2
	etherTypeAt  = 12
	ipv4Checksum = 10
	ipv4ID       = 4
	firstPort    = 49152 // of the dynamic ports, which RFC 7348, section 5, recommends as source ports
	portShift    = 2     // 2^14 of them
)

// wrapper assembles the program that wraps copies.
type wrapper struct {
	o       *Outer
	stats   *stats
	orders  *orders // nil without a budget
	pace    *pace   // nil without a rate
	way     *wayOut
	cut     bool // for segments, at the lower device
	point   uint32
	limit   int  // most bytes of a frame
	tooLong bool // drop what is longer; else it is cut
}

// newWrapper decides what happens to long frames.
func newWrapper(o *Outer, w *wayOut, point uint32) wrapper {
	x := wrapper{o: o, way: w, point: point}
	x.limit, x.tooLong = o.limit()
	return x
}

// limit returns the most bytes of a frame, and whether longer ones are dropped instead of cut.
func (o *Outer) limit() (most int, drop bool) {
	if o.Keep != 0 && o.Keep <= o.Fits {
		return o.Keep, false
	}
	return o.Fits, !o.Slice
}

// cuts reports whether all super-frames are cut: each of their segments is sliced, or has a number.
func (o *Outer) cuts() bool {
	_, drop := o.limit()
	return !drop || o.Seq >= 0
}

// Registers of the wrapper besides the context: the length of the tags beside the frame, and whether it was cut.
const (
	regTags = asm.R8
	regCut  = asm.R9
)

// assemble returns the program.
func (w *wrapper) assemble() asm.Instructions {
	c := &code{}
	c.add(asm.Mov.Reg(regCtx, asm.R1))
	w.clonesOnly(c)
	w.template(c)
	w.sourcePort(c)
	w.nested(c)
	w.shorten(c)
	if w.pace != nil {
		w.pace.take(c, w.o.length(), "over")
	}
	w.link(c)
	w.erspan(c)
	w.room(c)
	w.lengths(c)
	w.addresses(c)
	w.send(c)
	c.at("lost")
	w.stats.count(c, statLost)
	c.result(actShot)
	c.at("loop")
	w.stats.count(c, statLost)
	c.result(actShot)
	c.at("big")
	w.stats.count(c, statTooBig)
	c.result(actShot)
	if w.pace != nil {
		c.at("over")
		w.stats.count(c, statOver)
		c.result(actShot)
	}
	c.at("foreign")
	c.result(actShot)
	return c.ins
}

// clonesOnly drops what the kernel sends through the device by itself, and at the upper one lets pass what is to be cut.
func (w *wrapper) clonesOnly(c *code) {
	c.add(asm.LoadMem(asm.R1, regCtx, skbCB, asm.Word))
	if w.cut {
		c.add(asm.JNE.Imm(asm.R1, markCut, "foreign"))
		return
	}
	whole := c.name("whole")
	c.add(asm.JEq.Imm(asm.R1, markWhole, whole), asm.JNE.Imm(asm.R1, markCut, "foreign"))
	c.result(actPass)
	c.at(whole)
}

// template copies what is the same in all packets to the stack.
func (w *wrapper) template(c *code) {
	b := w.o.template()
	for i := 0; i < len(b); {
		if i%4 == 0 && len(b)-i >= 4 {
			c.add(asm.StoreImm(asm.RFP, int16(outerAt+i), int64(int32(binary.NativeEndian.Uint32(b[i:]))), asm.Word))
			i += 4
			continue
		}
		c.add(asm.StoreImm(asm.RFP, int16(outerAt+i), int64(int16(binary.NativeEndian.Uint16(b[i:]))), asm.Half))
		i += 2
	}
}

// sourcePort chooses the port by the conversation, so that the network spreads them.
func (w *wrapper) sourcePort(c *code) {
	if w.o.Protocol != wire.ProtoUDP {
		return
	}
	conversation(c, frame.LinkEthernet)
	c.add(
		asm.RSh.Imm32(asm.R8, 16+portShift),
		asm.Or.Imm32(asm.R8, firstPort),
		asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.StoreMem(asm.RFP, int16(outerAt+w.o.transport()), asm.R8, asm.Half),
	)
}

// shorten shortens the copy, or refuses it when it is too long.
func (w *wrapper) shorten(c *code) {
	fits := c.name("fits")
	c.add(
		asm.Mov.Imm(regCut, 0),
		asm.LoadMem(asm.R2, regCtx, skbLen, asm.Word),
	)
	if w.orders != nil {
		w.cutToOrder(c, fits)
	}
	c.add(asm.JLE.Imm(asm.R2, int32(w.limit), fits))
	if w.tooLong {
		c.add( // a super-frame leaves in segments, each as long as its sender's interface allows
			asm.LoadMem(asm.R1, regCtx, skbGSOSize, asm.Word),
			asm.JEq.Imm(asm.R1, 0, "big"),
		)
	} else {
		c.add(
			asm.Mov.Imm(regCut, 1),
			asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, int32(w.limit)), asm.Mov.Imm(asm.R3, 0),
			asm.FnSkbChangeTail.Call(),
			asm.JNE.Imm(asm.R0, 0, "lost"),
		)
	}
	c.at(fits)
}

// cutToOrder cuts the copy to what the budget leaves of it, when that is less than else. R2 holds its length.
func (w *wrapper) cutToOrder(c *code, fits string) {
	none := c.name("unbudgeted")
	w.orders.load(c, asm.R3, orderKeep)
	c.add(
		asm.JEq.Imm(asm.R3, 0, none),
		asm.JGE.Imm(asm.R3, int32(w.limit), none),
		asm.JLE.Reg(asm.R2, asm.R3, fits),
		asm.Mov.Imm(regCut, 1),
		asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Reg(asm.R2, asm.R3), asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeTail.Call(),
		asm.JNE.Imm(asm.R0, 0, "lost"),
		asm.Ja.Label(fits),
	)
	c.at(none)
}

// innerAt is the place of the inner link header.
func (w *wrapper) innerAt() int16 { return int16(outerAt + w.o.length()) }

// read loads bytes of the frame to the stack.
func (w *wrapper) read(c *code, from, n int32, to int16) {
	c.add(
		asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, from), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, n), asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "lost"),
	)
}

// link reads the link header of the frame to behind the template, and takes tags that lie beside the frame into it. Popping one tag takes
// the next one out of the frame.
func (w *wrapper) link(c *code) {
	inner := w.innerAt()
	done := c.name("tagged")
	w.read(c, 0, wire.EthernetLen, inner)
	c.add(asm.Mov.Imm(regTags, 0))
	for n := range int16(maxTags) {
		at := inner + etherTypeAt + wire.VLANLen*n
		c.add(
			asm.LoadMem(asm.R1, regCtx, skbVLANPresent, asm.Word),
			asm.JEq.Imm(asm.R1, 0, done),
			asm.LoadMem(asm.R1, regCtx, skbVLANProto, asm.Word),
			asm.StoreMem(asm.RFP, at, asm.R1, asm.Half),
			asm.LoadMem(asm.R1, regCtx, skbVLANTCI, asm.Word),
			asm.HostTo(asm.BE, asm.R1, asm.Half),
			asm.StoreMem(asm.RFP, at+2, asm.R1, asm.Half),
			asm.Mov.Reg(asm.R1, regCtx),
			asm.FnSkbVlanPop.Call(),
			asm.JNE.Imm(asm.R0, 0, "lost"),
		)
		w.read(c, etherTypeAt, 2, at+wire.VLANLen)
		c.add(asm.Mov.Imm(regTags, int32(wire.VLANLen*(n+1))))
	}
	c.add(asm.LoadMem(asm.R1, regCtx, skbVLANPresent, asm.Word), asm.JNE.Imm(asm.R1, 0, "lost"))
	c.at(done)
}

// getBE and putBE read and write 16 bits of the buffer in network order.
func getBE(c *code, r asm.Register, off int16) {
	c.add(asm.LoadMem(r, asm.RFP, off, asm.Half), asm.HostTo(asm.BE, r, asm.Half))
}

func putBE(c *code, off int16, r asm.Register) {
	c.add(asm.HostTo(asm.BE, r, asm.Half), asm.StoreMem(asm.RFP, off, r, asm.Half))
}

// room makes room for the headers. Of IP packets the kernel is told that they are inside a tunnel, so that checksums and segments that are
// still to be made are made behind the outer headers; other frames have neither.
func (w *wrapper) room(c *code) {
	flags := int32(roomFixedGSO | roomEthernet | roomIPv4)
	if w.o.Tool.Is6() {
		flags = roomFixedGSO | roomEthernet | roomIPv6
	}
	if w.o.Protocol == wire.ProtoUDP {
		flags |= roomUDP
	} else {
		flags |= roomGRE
	}
	ip, plain, ready := c.name("ip"), c.name("plain"), c.name("ready")
	arguments := func() {
		c.add(asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Reg(asm.R2, regTags), asm.Add.Imm(asm.R2, int32(w.o.length())))
	}
	c.add(
		asm.LoadMem(asm.R1, regCtx, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JEq.Imm(asm.R1, wire.TypeIPv4, ip),
		asm.JNE.Imm(asm.R1, wire.TypeIPv6, plain),
	)
	c.at(ip)
	arguments()
	c.add(
		asm.Mov.Imm(asm.R3, roomMAC),
		asm.Mov.Reg(asm.R4, regTags), asm.Add.Imm(asm.R4, wire.EthernetLen), asm.LSh.Imm(asm.R4, roomInnerAt), asm.Or.Imm(asm.R4, flags),
		asm.FnSkbAdjustRoom.Call(),
		asm.JEq.Imm(asm.R0, 0, ready),
		asm.LoadMem(asm.R1, regCtx, skbGSOSize, asm.Word), // it is in a tunnel already: only a whole packet can be wrapped again
		asm.JNE.Imm(asm.R1, 0, "lost"),
	)
	c.at(plain)
	arguments()
	c.add(asm.Mov.Imm(asm.R3, 0), asm.FnSkbChangeHead.Call(), asm.JNE.Imm(asm.R0, 0, "lost"))
	c.at(ready)
}

// lengths fills in the lengths of the outer IP and UDP headers and the checksum.
func (w *wrapper) lengths(c *code) {
	c.add(asm.LoadMem(asm.R7, regCtx, skbLen, asm.Word), asm.Sub.Imm(asm.R7, wire.EthernetLen))
	payload := asm.Instructions{asm.Mov.Reg(asm.R1, asm.R7), asm.Sub.Imm(asm.R1, int32(w.o.netLen()))}
	if w.o.Protocol == wire.ProtoUDP {
		c.add(payload...)
		putBE(c, int16(outerAt+w.o.transport()+4), asm.R1)
	}
	if w.o.Tool.Is6() {
		c.add(payload...)
		putBE(c, outerIP+4, asm.R1)
		return
	}
	sum := partialSum(w.o.template()[wire.EthernetLen:])
	c.add(asm.Mov.Reg(asm.R1, asm.R7))
	putBE(c, outerIP+2, asm.R1)
	c.add(asm.And.Imm32(asm.R7, 0xffff), asm.Add.Imm32(asm.R7, int32(sum)))
	if !w.o.DontFragment { // fragments find each other by it
		c.add(asm.FnGetPrandomU32.Call(), asm.And.Imm32(asm.R0, 0xffff), asm.Add.Reg32(asm.R7, asm.R0))
		putBE(c, outerIP+ipv4ID, asm.R0)
	}
	for range 2 {
		c.add(asm.Mov.Reg32(asm.R1, asm.R7), asm.RSh.Imm32(asm.R1, 16), asm.And.Imm32(asm.R7, 0xffff), asm.Add.Reg32(asm.R7, asm.R1))
	}
	c.add(asm.Xor.Imm32(asm.R7, 0xffff))
	putBE(c, outerIP+ipv4Checksum, asm.R7)
}

// addresses fills in the sequence number and the addresses of the link, and leaves the interface to send through in R7.
func (w *wrapper) addresses(c *code) {
	c.add(
		asm.LoadMapValue(asm.R1, w.way.m.FD(), 0),
		asm.LoadMem(asm.R7, asm.R1, wayIndex, asm.Word),
		asm.JEq.Imm(asm.R7, 0, "lost"),
	)
	for i := int16(0); i < 12; i += 4 {
		c.add(asm.LoadMem(asm.R2, asm.R1, wayMACs+i, asm.Word), asm.StoreMem(asm.RFP, outerAt+i, asm.R2, asm.Word))
	}
	if w.o.Seq < 0 {
		return
	}
	at := int16(outerAt + w.o.head() + w.o.Seq)
	c.add(
		asm.LoadMapValue(asm.R1, w.way.seq.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		fetchAdd(asm.R1, asm.R2),
		asm.Mov.Reg32(asm.R3, asm.R2), asm.RSh.Imm32(asm.R3, 16),
	)
	putBE(c, at, asm.R3)
	putBE(c, at+2, asm.R2)
}

// send writes the headers to the packet and redirects it.
func (w *wrapper) send(c *code) {
	c.add(
		asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, outerAt),
		asm.Mov.Reg(asm.R4, regTags), asm.Add.Imm(asm.R4, int32(w.o.length()+wire.EthernetLen)), asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "lost"),
	)
	w.stats.count(c, statOut)
	if w.orders != nil { // R1 is still the processor's line
		c.add(
			asm.LoadMem(asm.R2, asm.R1, statBytes*8, asm.DWord), asm.LoadMem(asm.R3, regCtx, skbLen, asm.Word),
			asm.Add.Reg(asm.R2, asm.R3), asm.StoreMem(asm.R1, statBytes*8, asm.R2, asm.DWord),
		)
	}
	c.add(asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
}
