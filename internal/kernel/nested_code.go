package kernel

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"

	"crosstap/internal/wire"
)

// wrappings are the lengths of the headers that others put around our copies: GRE without and with a key, VXLAN, Geneve and ERSPAN over IPv4, and the
// first two over IPv6, Ethernet included.
var wrappings = []int{38, 42, 50, 70}

// tripAt is the number of copies of our own copies, within tripTime, after which none is made any more.
const tripAt = 50

// nested counts frames that have one of our own copies inside another tunnel, and ends the mirror when there are many: it is a loop. Those
// that are not inside another tunnel the filter leaves out.
func (w *wrapper) nested(c *code) {
	from, to := ipAddresses(w.o)
	first := int32(wrappings[0] + wire.EthernetLen + from.at)
	n := int32(wrappings[len(wrappings)-1]+wire.EthernetLen+to.at) + 4 - first
	done, hit := c.name("clean"), c.name("nested")
	c.add(
		asm.Mov.Reg(asm.R1, regCtx), asm.Mov.Imm(asm.R2, first), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, nestedAt),
		asm.Mov.Imm(asm.R4, n), asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, done),
	)
	for _, x := range wrappings {
		at, next := int16(nestedAt+x-wrappings[0]), c.name("next")
		c.add(
			asm.LoadMem(asm.R1, asm.RFP, at, asm.Word), asm.JNE.Imm32(asm.R1, from.value, next),
			asm.LoadMem(asm.R1, asm.RFP, at+int16(to.at-from.at), asm.Word), asm.JEq.Imm32(asm.R1, to.value, hit),
		)
		c.at(next)
	}
	c.add(asm.Ja.Label(done))
	c.at(hit)
	fetch := fetchAdd(asm.R1, asm.R2)
	c.add(asm.LoadMapValue(asm.R1, w.way.loop.FD(), 0), asm.Mov.Imm(asm.R2, 1), fetch, asm.JGE.Imm(asm.R2, tripAt, "loop"))
	c.at(done)
	c.add(asm.LoadMapValue(asm.R1, w.way.loop.FD(), 0), asm.LoadMem(asm.R1, asm.R1, 0, asm.Word), asm.JGE.Imm(asm.R1, tripAt, "loop"))
}

// fetchAdd adds src to the word that dst points to and leaves the old value in src.
func fetchAdd(dst, src asm.Register) asm.Instruction {
	i := asm.FetchAdd.Mem(dst, src, asm.Word, 0)
	i.Constant = 1 // BPF_ADD | BPF_FETCH, which cilium/ebpf 0.22 forgets to encode
	return i
}

// addressWord is a word of an address in an IP header, as a little-endian or big-endian processor reads it.
type addressWord struct {
	at    int
	value int32
}

// ipAddresses returns the last words of source and destination of our outer IP header.
func ipAddresses(o *Outer) (from, to addressWord) {
	word := func(a []byte) int32 { return int32(binary.NativeEndian.Uint32(a[len(a)-4:])) }
	from, to = addressWord{12, word(o.Source.AsSlice())}, addressWord{16, word(o.Tool.AsSlice())}
	if o.Tool.Is6() {
		from.at, to.at = 20, 36
	}
	return from, to
}
