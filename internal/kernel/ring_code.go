package kernel

import (
	"encoding/binary"
	"runtime"

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
	entryNumber = 24 // u32, written last: the number of the place in its lane, from 1 on
	entryHead   = 32
)

// Places on the stack.
const (
	ringNumberAt = -8  // u64, of the entry
	ringIndexAt  = -12 // u32
)

// toRing hands the first keep bytes of the frame to user space and counts it under statUp, or under statLost when the ring is full. A
// tag that lies beside the frame is put back into it. The reader is woken when a lane is half full. It goes on behind; R0 to R5, R7 to R9 and 12 bytes of the stack are lost.
func toRing(c *code, k *hook, r *ring, keep int) {
	full, drop, done := c.name("full"), c.name("drop"), c.name("filled")
	takePlace(c, r, full)
	c.add(
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
	complete, out := c.name("complete"), c.name("out")
	c.at(drop)
	c.add(asm.StoreImm(asm.R7, entryLen, 0, asm.Word))
	k.stats.count(c, statLost)
	c.add(asm.Ja.Label(complete))
	c.at(full)
	k.stats.count(c, statLost)
	c.add(asm.Ja.Label(out))
	c.at(done)
	k.stats.count(c, statUp)
	c.at(complete)
	number(c, r, out)
	c.at(out)
}

// takePlace leaves the entry of the next place in R7, its number on the stack, and the positions of the lane in R9. It goes on at full when there is none.
func takePlace(c *code, r *ring, full string) {
	add := asm.FetchAdd.Mem(asm.R9, asm.R8, asm.DWord, placeNext)
	add.Constant = 1 // BPF_ADD | BPF_FETCH, as in fetchAdd
	c.add(
		asm.FnGetSmpProcessorId.Call(),
		asm.And.Imm(asm.R0, int32(len(r.lanes)-1)),
		asm.Mov.Reg(asm.R7, asm.R0), asm.LSh.Imm(asm.R7, int32(r.bits)),
		asm.LSh.Imm(asm.R0, placeBits),
		asm.LoadMapValue(asm.R9, r.places.FD(), 0), asm.Add.Reg(asm.R9, asm.R0),
		asm.LoadMem(asm.R1, asm.R9, placeNext, asm.DWord), asm.LoadMem(asm.R2, asm.R9, placeRead, asm.DWord),
		asm.Sub.Reg(asm.R1, asm.R2),
		asm.JGE.Imm(asm.R1, int32(r.mask+1-r.spare), full),
		asm.Mov.Imm(asm.R8, 1),
		add,
		asm.Mov.Reg(asm.R1, asm.R8), asm.And.Imm(asm.R1, int32(r.mask)), asm.Or.Reg(asm.R1, asm.R7),
		asm.StoreMem(asm.RFP, ringIndexAt, asm.R1, asm.Word),
		asm.Add.Imm(asm.R8, 1),
		asm.StoreMem(asm.RFP, ringNumberAt, asm.R8, asm.DWord),
		asm.LoadMapPtr(asm.R1, r.entries.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, ringIndexAt),
		asm.FnMapLookupElem.Call(),   // of an array: no call, but a few instructions
		asm.JEq.Imm(asm.R0, 0, full), // there is one of each index
		asm.Mov.Reg(asm.R7, asm.R0),
	)
}

// entryTimeOf returns the time of an entry.
func entryTimeOf(e []byte) uint64 { return binary.NativeEndian.Uint64(e[entryTime:]) }

// givenUp reports whether an entry is one that could not be filled.
func givenUp(e []byte) bool { return binary.NativeEndian.Uint32(e[entryLen:]) == 0 }

// forceWakeup wakes the reader (BPF_RB_FORCE_WAKEUP). That costs the sender of the frame more than all else.
const forceWakeup = 2

// number makes the entry in R7 complete, and wakes the reader when the lane is half full: one entry in a few looks. It goes on at out.
func number(c *code, r *ring, out string) {
	const oneOf = 32
	last := asm.StoreMem(asm.R7, entryNumber, asm.R2, asm.Word)
	if !storesInOrder {
		last = asm.Xchg.Mem(asm.R7, asm.R2, asm.Word, entryNumber)
		last.Constant = 0xe1 // BPF_XCHG, which cilium/ebpf 0.22 forgets to encode
	}
	c.add(
		asm.LoadMem(asm.R2, asm.RFP, ringNumberAt, asm.DWord),
		last,
		asm.LoadMem(asm.R2, asm.RFP, ringNumberAt, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.R2), asm.And.Imm(asm.R3, oneOf-1), asm.JNE.Imm(asm.R3, 0, out),
		asm.LoadMem(asm.R1, asm.R9, placeRead, asm.DWord),
		asm.Sub.Reg(asm.R2, asm.R1),
		asm.JLT.Imm(asm.R2, int32(r.mask+1)/2, out),
		asm.LoadMapPtr(asm.R1, r.bell.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, ringNumberAt),
		asm.Mov.Imm(asm.R3, 8), asm.Mov.Imm(asm.R4, forceWakeup),
		asm.FnRingbufOutput.Call(),
	)
}

// storesInOrder is whether others see the stores of a processor in the order in which it made them.
const storesInOrder = runtime.GOARCH == "amd64"

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

// shortEntry fills an entry with a frame of which less than keep bytes are there, and goes on at done; at otherwise when those are not all of it. R8 holds the length of the frame.
func shortEntry(c *code, keep int, done, otherwise string) {
	tail, end := c.name("tail"), c.name("end")
	c.add(
		asm.LoadMem(asm.R2, regCtx, skbData, asm.Word),
		asm.LoadMem(asm.R3, regCtx, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R7),
		asm.Mov.Imm(asm.R0, 0), // bytes that were copied
	)
	move := func(size asm.Size, beyond string) {
		n := int32(size.Sizeof())
		c.add(
			asm.Mov.Reg(asm.R1, asm.R2), asm.Add.Imm(asm.R1, n), asm.JGT.Reg(asm.R1, asm.R3, beyond),
			asm.LoadMem(asm.R5, asm.R2, 0, size), asm.StoreMem(asm.R4, entryHead, asm.R5, size),
			asm.Add.Imm(asm.R2, n), asm.Add.Imm(asm.R4, n), asm.Add.Imm(asm.R0, n),
		)
	}
	for range keep / 8 {
		move(asm.DWord, tail)
	}
	if keep%8 == 0 {
		c.add(asm.Ja.Label(end))
	}
	c.at(tail)
	for _, size := range []asm.Size{asm.Word, asm.Half, asm.Byte} {
		next := c.name("next")
		move(size, next)
		c.at(next)
	}
	c.at(end)
	c.add(
		asm.JNE.Reg(asm.R0, asm.R8, otherwise),
		asm.StoreMem(asm.R7, entryLen, asm.R8, asm.Word),
		asm.StoreImm(asm.R7, entryTagged, 0, asm.Byte),
		asm.StoreMem(asm.R7, entryKept, asm.R8, asm.Word),
		asm.Ja.Label(done),
	)
}

// plainEntry fills an entry with the bytes as they are. R8 holds the length of the frame.
func plainEntry(c *code, keep int, drop string) {
	fits, done := c.name("fits"), c.name("filled")
	if keep <= inPlace {
		short, otherwise := c.name("short"), c.name("otherwise")
		wholeEntry(c, keep, short)
		c.add(asm.Ja.Label(done))
		c.at(short)
		shortEntry(c, keep, done, otherwise)
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
		asm.JLT.Imm(asm.R8, 1, drop), // and not JEq of 0, after which kernels before 6.8 take 0 for possible
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
