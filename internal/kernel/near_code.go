package kernel

import "github.com/cilium/ebpf/asm"

// spreadKey makes the place of a flow of its key, word by word: 2^64 divided by the golden ratio.
const spreadKey = -0x61c8864680b583eb

// Registers behind the key: the flow's pair in the index, and the half that is in use of this processor.
const (
	regPair = asm.R8
	regHalf = asm.R9
)

// near adds the packet, of which key and value are on the stack, to its flow's line. Where the flow has none and finds none it goes on with far.
func (w counter) near(keyLen int) {
	c, n := w.c, w.f.tables.near
	claim, far := c.name("claim"), c.name("far")
	w.find(keyLen, far)
	for way := range int32(2) {
		other := c.name("other")
		c.add(asm.LoadMem(asm.R2, regPair, 0, asm.Word), asm.Mov.Imm(asm.R4, pairBits*way))
		if way == 0 {
			c.add(asm.And.Imm(asm.R2, 1<<pairBits-1))
		} else {
			c.add(asm.RSh.Imm(asm.R2, pairBits))
		}
		c.add(asm.JEq.Imm(asm.R2, 0, claim))
		w.line(asm.R2, far)
		for at := int16(0); at < int16(keyLen); at += 8 {
			c.add(asm.LoadMem(asm.R1, asm.R0, at, asm.DWord), asm.LoadMem(asm.R2, asm.RFP, keyAt+at, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, other))
		}
		w.merge(lineValue)
		w.k.stats.count(c, statOut)
		c.result(actNext)
		c.at(other)
	}
	c.at(far)
	w.far(keyLen)
	c.at(claim)
	c.add(asm.Mov.Reg(asm.R7, asm.R4))
	w.half()
	c.add(
		asm.LoadMem(asm.R2, asm.R1, stateUsed, asm.Word),
		asm.Add.Imm(asm.R2, 1),
		asm.JGE.Imm(asm.R2, int32(1)<<n.bits, far),
		asm.StoreMem(asm.R1, stateUsed, asm.R2, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R2), asm.LSh.Reg(asm.R1, asm.R7),
		asm.LoadMem(asm.R3, regPair, 0, asm.Word), asm.Or.Reg(asm.R3, asm.R1), asm.StoreMem(regPair, 0, asm.R3, asm.Word),
	)
	w.line(asm.R2, counted)
	for at := int16(0); at < int16(keyLen); at += 8 {
		c.add(asm.LoadMem(asm.R1, asm.RFP, keyAt+at, asm.DWord), asm.StoreMem(asm.R0, at, asm.R1, asm.DWord))
	}
	w.set(lineValue)
	c.add(asm.LoadMem(asm.R1, asm.RFP, lineAt, asm.Word), asm.StoreMem(asm.R0, linePair, asm.R1, asm.Word), asm.Ja.Label(counted))
}

// find leaves the flow's pair in the index in regPair and the half that is in use in regHalf. The number of the pair, and which of the two halves it
// is, stand on the stack.
func (w counter) find(keyLen int, far string) {
	c, n := w.c, w.f.tables.near
	c.add(asm.LoadImm(asm.R1, spreadKey, asm.DWord), asm.LoadMem(asm.R8, asm.RFP, keyAt, asm.DWord))
	words := []int16{keyMACs + 8} // of the MAC addresses a part
	for at := int16(keyAddresses); at < int16(keyLen); at += 8 {
		words = append(words, at)
	}
	for _, at := range words {
		c.add(asm.Mul.Reg(asm.R8, asm.R1), asm.LoadMem(asm.R2, asm.RFP, keyAt+at, asm.DWord), asm.Add.Reg(asm.R8, asm.R2))
	}
	c.add(
		asm.Mov.Reg(asm.R2, asm.R8), asm.RSh.Imm(asm.R2, 32), asm.Xor.Reg(asm.R8, asm.R2),
		asm.Mul.Reg(asm.R8, asm.R1),
		asm.RSh.Imm(asm.R8, int32(64-(n.bits-1))),
		asm.StoreMem(asm.RFP, lineAt, asm.R8, asm.Word),
		asm.FnGetSmpProcessorId.Call(),
		asm.Mov.Reg(regHalf, asm.R0),
		asm.And.Imm(regHalf, int32(n.cpus-1)),
		asm.LSh.Imm(regHalf, 1),
		asm.LoadMapValue(asm.R1, n.state.FD(), 0),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Word),
		asm.And.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, halfAt, asm.R1, asm.Word),
		asm.Add.Reg(regHalf, asm.R1), // and not Or, after which kernels before 6.10 know of no bound
		asm.Mov.Reg(asm.R1, regHalf),
		asm.LSh.Imm(asm.R1, int32(n.bits-1-rowPairs)),
		asm.Mov.Reg(asm.R2, asm.R8), asm.RSh.Imm(asm.R2, rowPairs),
		asm.Or.Reg(asm.R1, asm.R2),
	)
	w.lookUp(n.index.FD(), indexAt, asm.R1, far)
	c.add(asm.And.Imm(asm.R8, 1<<rowPairs-1), asm.LSh.Imm(asm.R8, 2), asm.Add.Reg(asm.R8, asm.R0))
}

// line leaves the address of a line of the half in R0. R1 to R5 are lost.
func (w counter) line(number asm.Register, none string) {
	w.c.add(asm.Mov.Reg(asm.R1, regHalf), asm.LSh.Imm(asm.R1, int32(w.f.tables.near.bits)), asm.Or.Reg(asm.R1, number))
	w.lookUp(w.f.tables.near.lines.FD(), indexAt, asm.R1, none)
}

// lookUp leaves the address of an array's element in R0, and goes on at none when there is none of the index. R1 to R5 are lost.
func (w counter) lookUp(array int, at int16, index asm.Register, none string) {
	w.c.add(
		asm.StoreMem(asm.RFP, at, index, asm.Word),
		asm.LoadMapPtr(asm.R1, array),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(at)),
		asm.FnMapLookupElem.Call(), // of an array: no call, but a few instructions
		asm.JEq.Imm(asm.R0, 0, none),
	)
}

// half leaves the address of the state of the half in R1. R2 is lost.
func (w counter) half() {
	w.c.add(
		asm.LoadMapValue(asm.R1, w.f.tables.near.state.FD(), stateLen),
		asm.Mov.Reg(asm.R2, regHalf), asm.LSh.Imm(asm.R2, 6), asm.Add.Reg(asm.R1, asm.R2),
	)
}

// far adds the packet to its flow in the table behind.
func (w counter) far(keyLen int) {
	c, found, full := w.c, w.c.name("found"), w.c.name("full")
	version, spilled := 0, int64(spilledV4)
	if keyLen == key6Len {
		version, spilled = 1, spilledV6
	}
	w.half()
	c.add(asm.LoadMem(asm.R2, asm.R1, stateSpilled, asm.Word), asm.Or.Imm(asm.R2, int32(spilled)), asm.StoreMem(asm.R1, stateSpilled, asm.R2, asm.Word))
	key := func(r asm.Register, at int32) { c.add(asm.Mov.Reg(r, asm.RFP), asm.Add.Imm(r, at)) }
	c.add(asm.LoadMapPtr(asm.R1, w.f.tables.far[version].outer.FD()))
	key(asm.R2, halfAt)
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
	fresh := c.name("fresh")
	c.add(asm.LoadMem(asm.R3, asm.R0, valPackets, asm.DWord), asm.JEq.Imm(asm.R3, 0, fresh))
	w.merge(0)
	c.add(asm.Ja.Label(counted))
	c.at(fresh) // another processor has made the flow
	w.set(0)
	c.add(asm.Ja.Label(counted))
}

// set writes the value on the stack to R0 + to.
func (w counter) set(to int16) {
	for at := int16(0); at < valLen; at += 8 {
		w.c.add(asm.LoadMem(asm.R1, asm.RFP, valAt+at, asm.DWord), asm.StoreMem(asm.R0, to+at, asm.R1, asm.DWord))
	}
}

// merge adds the value on the stack to the one at R0 + to.
func (w counter) merge(to int16) {
	c := w.c
	for _, at := range []int16{valPackets, valOctets, valL2} {
		c.add(asm.LoadMem(asm.R1, asm.R0, to+at, asm.DWord), asm.LoadMem(asm.R2, asm.RFP, valAt+at, asm.DWord), asm.Add.Reg(asm.R1, asm.R2),
			asm.StoreMem(asm.R0, to+at, asm.R1, asm.DWord))
	}
	c.add(asm.LoadMem(asm.R1, asm.RFP, valAt+valLast, asm.DWord), asm.StoreMem(asm.R0, to+valLast, asm.R1, asm.DWord))
	c.add(asm.LoadMem(asm.R1, asm.R0, to+valFlags, asm.Half), asm.LoadMem(asm.R2, asm.RFP, valAt+valFlags, asm.Half), asm.Or.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.R0, to+valFlags, asm.R1, asm.Half))
	for _, x := range []struct {
		at   int16
		size asm.Size
		keep asm.JumpOp
	}{{valMinTTL, asm.Byte, asm.JLE}, {valMaxTTL, asm.Byte, asm.JGE}, {valMinLen, asm.Half, asm.JLE}, {valMaxLen, asm.Half, asm.JGE}} {
		stays := c.name("stays")
		c.add(asm.LoadMem(asm.R1, asm.R0, to+x.at, x.size), asm.LoadMem(asm.R2, asm.RFP, valAt+x.at, x.size), x.keep.Reg(asm.R1, asm.R2, stays),
			asm.StoreMem(asm.R0, to+x.at, asm.R2, x.size))
		c.at(stays)
	}
}
