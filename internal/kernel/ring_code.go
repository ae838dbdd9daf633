package kernel

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Layout of an entry of the ring: what stands before the bytes of the frame.
const (
	entryTime   = 0  // u64, nanoseconds of the monotonic clock
	entryLen    = 8  // u32, of the frame with the tag that lay beside it
	entryKept   = 12 // u32, bytes that follow
	entryPoint  = 16 // u32
	entryGSO    = 20 // u16, payload of each segment of a super-frame, 0 for a packet
	entryDir    = 22 // u8
	entryTagged = 23 // u8, 1 when a tag was put back
	entryHead   = 24
)

// toRing hands the first keep bytes of the frame to user space and counts it under statUp, or under statLost when the ring is full. A
// tag that lies beside the frame is put back into it. The reader is woken when the ring is half full. It goes on behind; R0 to R5, R7 to R9 are lost.
func toRing(c *code, k *hook, ring *ebpf.Map, keep int) {
	full, drop, done := c.name("full"), c.name("drop"), c.name("rung")
	c.add(
		asm.LoadMapPtr(asm.R1, ring.FD()), asm.Mov.Imm(asm.R2, int32(entryHead+keep)), asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, full),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.R7, entryTime, asm.R0, asm.DWord),
		asm.StoreImm(asm.R7, entryPoint, int64(k.point), asm.Word),
		asm.StoreImm(asm.R7, entryDir, int64(k.dir), asm.Byte),
		asm.LoadMem(asm.R1, regCtx, skbGSOSize, asm.Word),
		asm.StoreMem(asm.R7, entryGSO, asm.R1, asm.Half),
		asm.LoadMem(asm.R8, regCtx, skbLen, asm.Word),
	)
	if k.link == frame.LinkEthernet {
		tagged := c.name("tagged")
		c.add(asm.LoadMem(asm.R1, regCtx, skbVLANPresent, asm.Word), asm.JNE.Imm(asm.R1, 0, tagged))
		plainEntry(c, keep, drop)
		c.add(asm.Ja.Label(done))
		c.at(tagged)
		taggedEntry(c, keep, drop)
		c.add(asm.Ja.Label(done))
	} else {
		plainEntry(c, keep, drop)
		c.add(asm.Ja.Label(done))
	}
	out := c.name("out")
	c.at(drop)
	c.add(asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, noWakeup), asm.FnRingbufDiscard.Call())
	c.at(full)
	k.stats.count(c, statLost)
	c.add(asm.Ja.Label(out))
	c.at(done)
	k.stats.count(c, statUp)
	wakeHalfFull(c, ring)
	c.add(asm.Mov.Reg(asm.R1, asm.R7), asm.FnRingbufSubmit.Call())
	c.at(out)
}

// noWakeup leaves the reader asleep; it looks by itself. Waking it would cost the sender of the frame more than all else (BPF_RB_NO_WAKEUP).
const (
	noWakeup    = 1
	forceWakeup = 2 // BPF_RB_FORCE_WAKEUP
	available   = 0 // BPF_RB_AVAIL_DATA
)

// wakeHalfFull leaves forceWakeup in R2 when the ring is half full, else noWakeup. It looks at few entries, by their number in R2: each look is a call.
func wakeHalfFull(c *code, ring *ebpf.Map) {
	const oneOf = 32
	quiet := c.name("quiet")
	c.add(
		asm.And.Imm(asm.R2, oneOf-1),
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.Mov.Imm(asm.R2, noWakeup),
		asm.JNE.Imm(asm.R3, 0, quiet),
		asm.LoadMapPtr(asm.R1, ring.FD()), asm.Mov.Imm(asm.R2, available), asm.FnRingbufQuery.Call(),
		asm.Mov.Imm(asm.R2, noWakeup),
		asm.JLT.Imm(asm.R0, int32(ring.MaxEntries()/2), quiet),
		asm.Mov.Imm(asm.R2, forceWakeup),
	)
	c.at(quiet)
}

// copyBytes copies n bytes, which R4 holds, from the frame to the entry.
func copyBytes(c *code, from, to int32, drop string) {
	c.add(
		asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, from), asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Imm(asm.R3, entryHead+to),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, drop),
	)
}

// inPlace bounds the bytes of an entry that are copied by the program itself.
const inPlace = 256

// wholeEntry fills an entry of frames whose linear part has all of the bytes, and goes on at otherwise for the others. R8 holds the length of the frame.
func wholeEntry(c *code, keep int, otherwise string) {
	c.add(
		asm.LoadMem(asm.R2, regCtx, skbData, asm.Word),
		asm.LoadMem(asm.R3, regCtx, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R2), asm.Add.Imm(asm.R1, int32(keep)), asm.JGT.Reg(asm.R1, asm.R3, otherwise),
		asm.StoreMem(asm.R7, entryLen, asm.R8, asm.Word),
		asm.StoreImm(asm.R7, entryTagged, 0, asm.Byte),
		asm.StoreImm(asm.R7, entryKept, int64(keep), asm.Word),
	)
	at := int16(0)
	for _, size := range []asm.Size{asm.DWord, asm.Word, asm.Half, asm.Byte} {
		for n := int16(size.Sizeof()); at+n <= int16(keep); at += n {
			c.add(asm.LoadMem(asm.R1, asm.R2, at, size), asm.StoreMem(asm.R7, entryHead+at, asm.R1, size))
		}
	}
}

// plainEntry fills an entry with the bytes as they are. R8 holds the length of the frame.
func plainEntry(c *code, keep int, drop string) {
	fits, done := c.name("fits"), c.name("filled")
	if keep <= inPlace {
		otherwise := c.name("otherwise")
		wholeEntry(c, keep, otherwise)
		c.add(asm.Ja.Label(done))
		c.at(otherwise)
	}
	defer c.at(done)
	c.add(
		asm.StoreMem(asm.R7, entryLen, asm.R8, asm.Word),
		asm.StoreImm(asm.R7, entryTagged, 0, asm.Byte),
		asm.JLE.Imm(asm.R8, int32(keep), fits),
		asm.Mov.Imm(asm.R8, int32(keep)),
	)
	c.at(fits)
	c.add(
		asm.JEq.Imm(asm.R8, 0, drop),
		asm.StoreMem(asm.R7, entryKept, asm.R8, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R8),
	)
	copyBytes(c, 0, 0, drop)
}

// taggedEntry fills an entry and puts the tag back behind the addresses.
func taggedEntry(c *code, keep int, drop string) {
	const addresses = 12
	fits := c.name("fits")
	c.add(
		asm.Mov.Reg(asm.R1, asm.R8), asm.Add.Imm(asm.R1, wire.VLANLen), asm.StoreMem(asm.R7, entryLen, asm.R1, asm.Word),
		asm.StoreImm(asm.R7, entryTagged, 1, asm.Byte),
		asm.LoadMem(asm.R1, regCtx, skbVLANProto, asm.Word), asm.StoreMem(asm.R7, entryHead+addresses, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, regCtx, skbVLANTCI, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Half), asm.StoreMem(asm.R7, entryHead+addresses+2, asm.R1, asm.Half),
		asm.Mov.Imm(asm.R4, addresses),
	)
	copyBytes(c, 0, 0, drop)
	c.add(
		asm.JLE.Imm(asm.R8, addresses, drop),
		asm.Sub.Imm(asm.R8, addresses),
		asm.JLE.Imm(asm.R8, int32(keep-addresses-wire.VLANLen), fits),
		asm.Mov.Imm(asm.R8, int32(keep-addresses-wire.VLANLen)),
	)
	c.at(fits)
	c.add(
		asm.Mov.Reg(asm.R1, asm.R8), asm.Add.Imm(asm.R1, addresses+wire.VLANLen), asm.StoreMem(asm.R7, entryKept, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R8),
	)
	copyBytes(c, addresses, addresses+wire.VLANLen, drop)
}
