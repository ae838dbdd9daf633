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
// tag that lies beside the frame is put back into it. It goes on behind; R0 to R5, R7 to R9 are lost.
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
	c.add(asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, noWakeup), asm.FnRingbufSubmit.Call())
	k.stats.count(c, statUp)
	c.at(out)
}

// noWakeup leaves the reader asleep; it looks by itself. Waking it would cost the sender of the frame more than all else (BPF_RB_NO_WAKEUP).
const noWakeup = 1

// copyBytes copies n bytes, which R4 holds, from the frame to the entry.
func copyBytes(c *code, from, to int32, drop string) {
	c.add(
		asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, from), asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Imm(asm.R3, entryHead+to),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, drop),
	)
}

// plainEntry fills an entry with the bytes as they are. R8 holds the length of the frame.
func plainEntry(c *code, keep int, drop string) {
	fits := c.name("fits")
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
