package kernel

import (
	"github.com/cilium/ebpf/asm"

	"crosstap/internal/wire"
)

// Bits of the second half of an ERSPAN header's first word.
const (
	erspanTagKept = 3 << 11
	erspanCut     = 1 << 10
)

// erspan fills in what a type II or III header says of the frame (draft-foschiano-erspan-03, sections 4.2 and 4.3): its VLAN and class of
// service; that the copy was cut. Type II says that the tag is still in the frame, and the port; type III time and direction.
func (w *wrapper) erspan(c *code) {
	if w.o.ERSPAN < 0 {
		return
	}
	at := int16(outerAt + w.o.head() + w.o.ERSPAN)
	tagged, untagged, full := c.name("tagged"), c.name("untagged"), c.name("full")
	version, kept := int32(wire.ERSPANVersion2), int32(erspanTagKept)
	if w.o.Stamp != NoStamp {
		version, kept = wire.ERSPANVersion3, 0
	}
	c.add(asm.JNE.Imm(regTags, 0, tagged))
	getBE(c, asm.R2, w.innerAt()+etherTypeAt)
	c.add(asm.JNE.Imm(asm.R2, wire.TypeVLAN, untagged)) // the tag is in the frame: the kernel puts it there when it cuts
	w.read(c, wire.EthernetLen, 2, w.innerAt()+etherTypeAt+2)
	c.at(tagged)
	getBE(c, asm.R2, w.innerAt()+etherTypeAt+2) // tag control information: priority, DEI, VLAN
	c.add(asm.Mov.Reg(asm.R3, asm.R2), asm.And.Imm(asm.R3, 0x0fff), asm.Or.Imm(asm.R3, version<<12))
	putBE(c, at, asm.R3)
	getBE(c, asm.R1, at+2)
	c.add(asm.And.Imm(asm.R2, 0xe000), asm.Or.Reg(asm.R1, asm.R2), asm.Or.Imm(asm.R1, kept))
	putBE(c, at+2, asm.R1)
	c.at(untagged)
	if !w.tooLong || w.orders != nil {
		c.add(asm.JEq.Imm(regCut, 0, full))
		getBE(c, asm.R1, at+2)
		c.add(asm.Or.Imm(asm.R1, erspanCut))
		putBE(c, at+2, asm.R1)
		c.at(full)
	}
	if w.o.Stamp != NoStamp {
		w.stamp(c, at)
		return
	}
	index := w.o.Index
	if index == 0 {
		index = w.point + 1
	}
	c.add(asm.Mov.Imm(asm.R1, int32(index>>16)))
	putBE(c, at+4, asm.R1)
	c.add(asm.Mov.Imm(asm.R1, int32(index&0xffff)))
	putBE(c, at+6, asm.R1)
}

// Bits of the last word of a type III header.
const erspanEgress = 3 // shift

// stamp fills in what only type III has: the time, the direction, and behind it the port where there is a sub-header.
func (w *wrapper) stamp(c *code, at int16) {
	c.add(asm.FnKtimeGetNs.Call(), asm.LoadMapValue(asm.R1, w.way.wall.FD(), 0), asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord), asm.Add.Reg(asm.R0, asm.R1))
	switch w.o.Stamp {
	case Stamp100Micros:
		c.add(asm.Div.Imm(asm.R0, 100_000))
	case Stamp100Nanos:
		c.add(asm.Div.Imm(asm.R0, 100))
	default:
		c.add(asm.Mov.Reg(asm.R2, asm.R0), asm.Div.Imm(asm.R2, 1_000_000_000))
		putLong(c, at+wire.ERSPAN3Len+4, asm.R2)
		c.add(asm.Mod.Imm(asm.R0, 1_000_000_000), asm.Mov.Imm(asm.R2, int32((w.point+1)&0xffff)))
		putBE(c, at+wire.ERSPAN3Len+2, asm.R2)
	}
	putLong(c, at+4, asm.R0)
	c.add(asm.LoadMem(asm.R2, regCtx, cloneDir, asm.Word))
	getBE(c, asm.R1, at+10)
	c.add(asm.And.Imm(asm.R2, 1), asm.LSh.Imm(asm.R2, erspanEgress), asm.Or.Reg(asm.R1, asm.R2))
	putBE(c, at+10, asm.R1)
}

// putLong writes the low 32 bits of r in network order. R3 and r are lost.
func putLong(c *code, off int16, r asm.Register) {
	c.add(asm.Mov.Reg(asm.R3, r), asm.RSh.Imm(asm.R3, 16))
	putBE(c, off, asm.R3)
	putBE(c, off+2, r)
}
