package kernel

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// Offsets in struct __sk_buff (linux/bpf.h).
const (
	skbLen         = 0
	skbProtocol    = 16
	skbVLANPresent = 20
	skbVLANTCI     = 24
	skbVLANProto   = 28
	skbPriority    = 32
	skbIfindex     = 40
	skbCB          = 48
	skbData        = 76
	skbDataEnd     = 80
	skbGSOSize     = 176
)

// What a program returns: the next program of the hook runs, or the frame goes on (TCX_NEXT and TC_ACT_UNSPEC, TC_ACT_OK,
// TC_ACT_SHOT).
const (
	actNext = -1
	actPass = 0
	actShot = 2
)

// regCtx holds the context in all programs, as the filter's code has it.
const regCtx = asm.R6

// code is a program under construction.
type code struct {
	ins    asm.Instructions
	label  string // of the next instruction
	unique int
	late   []func() // what stands behind everything else
}

func (c *code) add(list ...asm.Instruction) {
	for _, i := range list {
		if c.label != "" {
			if i.Symbol() != "" { // two names for one place: the first one jumps to the second
				c.ins = append(c.ins, asm.Ja.Label(i.Symbol()).WithSymbol(c.label))
			} else {
				i = i.WithSymbol(c.label)
			}
			c.label = ""
		}
		c.ins = append(c.ins, i)
	}
}

// at names the place of the next instruction.
func (c *code) at(name string) {
	if c.label != "" {
		c.add(asm.Ja.Label(name))
	}
	c.label = name
}

// name returns a label that no other has.
func (c *code) name(what string) string {
	c.unique++
	return fmt.Sprintf("%s_%d", what, c.unique)
}

// result ends the program.
func (c *code) result(action int32) { c.add(asm.Mov.Imm(asm.R0, action), asm.Return()) }

// Stack of the filter: 16 words of classic BPF's scratch memory, and behind them the place where bytes are loaded to.
const (
	scratchWords = 64
	loadedAt     = -scratchWords - 8
)

// filter adds a filter's program. It goes on at matched or refused. R6 holds the context before and after; the other registers and the
// upper 72 bytes of the stack are lost. Where the linear part of the frame has all bytes that the program may load, which is looked at once,
// they are loaded without more ado; for other frames the program stands a second time behind everything else.
func (c *code) filter(prog asm.Instructions, matched, refused string) {
	need := loaded(prog)
	if need == 0 {
		c.body(prog, matched, refused, false)
		return
	}
	slow := c.name("careful")
	c.add(
		asm.LoadMem(regFrame, regCtx, skbData, asm.Word),
		asm.LoadMem(asm.R3, regCtx, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, regFrame),
		asm.Add.Imm(asm.R2, need),
		asm.JGT.Reg(asm.R2, asm.R3, slow),
	)
	c.body(prog, matched, refused, true)
	c.late = append(c.late, func() {
		c.at(slow)
		c.add(asm.Mov.Reg(asm.R1, regCtx))
		c.body(renamed(prog, slow), matched, refused, false)
	})
}

// regFrame holds the place of the frame's bytes in filters that load them without more ado.
const regFrame = asm.R9

// nearOffset bounds what a frame must have in its linear part to be filtered without more ado: the headers of a packet in a tunnel.
const nearOffset = 128

// loaded returns how many bytes from the beginning on a program loads at fixed places, 0 when it loads few, or such that are far.
func loaded(prog asm.Instructions) (need int32) {
	n := 0
	for _, i := range prog {
		if i.OpCode.Class() == asm.LdClass && i.OpCode.Mode() == asm.AbsMode {
			n++
			need = max(need, int32(i.Constant)+int32(i.OpCode.Size().Sizeof()))
		}
	}
	if n < 2 || need > nearOffset {
		return 0
	}
	return need
}

// renamed returns a program with other labels.
func renamed(prog asm.Instructions, prefix string) asm.Instructions {
	own := map[string]bool{}
	for _, i := range prog {
		if s := i.Symbol(); s != "" {
			own[s] = true
		}
	}
	out := make(asm.Instructions, len(prog))
	for n, i := range prog {
		if s := i.Symbol(); s != "" {
			i = i.WithSymbol(prefix + s)
		}
		if r := i.Reference(); own[r] {
			i = i.WithReference(prefix + r)
		}
		out[n] = i
	}
	return out
}

// finish adds what stands behind everything else.
func (c *code) finish() {
	late := c.late
	c.late = nil
	for _, f := range late {
		f()
	}
}

// body adds a filter's program. Loads at fixed places are near when the frame is known to have the bytes.
func (c *code) body(prog asm.Instructions, matched, refused string, near bool) {
	known, value := false, int64(0) // of R0, when it was set just before
	for _, i := range prog {
		if i.Symbol() != "" {
			known = false
		}
		switch {
		case i.OpCode.Class() == asm.LdClass && (i.OpCode.Mode() == asm.AbsMode || i.OpCode.Mode() == asm.IndMode):
			if near && i.OpCode.Mode() == asm.AbsMode {
				c.loadNear(i)
			} else {
				c.load(i, refused)
			}
			known = false
			continue
		case i.OpCode.JumpOp() == asm.Exit && i.OpCode.Class().IsJump():
			c.verdict(i, known, value != 0, matched, refused)
			known = false
			continue
		}
		known = i.OpCode.Class().IsALU() && i.OpCode.ALUOp() == asm.Mov && i.OpCode.Source() == asm.ImmSource && i.Dst == asm.R0
		value = i.Constant
		c.add(i)
	}
}

// loadNear replaces a load of packet bytes that are there.
func (c *code) loadNear(i asm.Instruction) {
	size := i.OpCode.Size()
	load := asm.LoadMem(asm.R0, regFrame, int16(i.Constant), size)
	if s := i.Symbol(); s != "" {
		load = load.WithSymbol(s)
	}
	c.add(load)
	if size != asm.Byte {
		c.add(asm.HostTo(asm.BE, asm.R0, size))
	}
}

// verdict replaces the filter's return.
func (c *code) verdict(exit asm.Instruction, known, match bool, matched, refused string) {
	to := refused
	if known && match {
		to = matched
	}
	jump := asm.Ja.Label(to)
	if !known {
		jump = asm.JNE.Imm(asm.R0, 0, matched)
	}
	if s := exit.Symbol(); s != "" {
		jump = jump.WithSymbol(s)
	}
	c.add(jump)
	if !known {
		c.add(asm.Ja.Label(refused))
	}
}

// farOffset is beyond what the header of any frame reaches; loads from there take the slow way.
const farOffset = 0x3fff

// load replaces a load of packet bytes into R0, which ends a program when the bytes are not there, by one that goes on at refused
// then. The bytes are read in place when they are in the linear part of the frame.
func (c *code) load(i asm.Instruction, refused string) {
	size := i.OpCode.Size()
	n := int32(size.Sizeof())
	slow, done := c.name("slow"), c.name("done")
	first := asm.Mov.Imm32(asm.R3, int32(i.Constant))
	if s := i.Symbol(); s != "" {
		first = first.WithSymbol(s)
	}
	c.add(first)
	if i.OpCode.Mode() == asm.IndMode {
		c.add(asm.Add.Reg32(asm.R3, i.Src))
	}
	c.add(
		asm.JGT.Imm(asm.R3, farOffset, slow),
		asm.LoadMem(asm.R1, regCtx, skbData, asm.Word),
		asm.LoadMem(asm.R2, regCtx, skbDataEnd, asm.Word),
		asm.Add.Reg(asm.R1, asm.R3),
		asm.Mov.Reg(asm.R4, asm.R1),
		asm.Add.Imm(asm.R4, n),
		asm.JGT.Reg(asm.R4, asm.R2, slow),
		asm.LoadMem(asm.R0, asm.R1, 0, size),
		asm.Ja.Label(done),
	)
	c.at(slow)
	c.add(
		asm.Mov.Reg(asm.R1, regCtx),
		asm.Mov.Reg(asm.R2, asm.R3),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, loadedAt),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, refused),
		asm.LoadMem(asm.R0, asm.RFP, loadedAt, size),
	)
	c.at(done)
	if size == asm.Byte {
		c.add(asm.Mov.Reg32(asm.R0, asm.R0))
		return
	}
	c.add(asm.HostTo(asm.BE, asm.R0, size))
}

// prune removes what no path leads to; the verifier refuses dead code.
func prune(ins asm.Instructions) asm.Instructions {
	at := map[string]int{}
	for i, x := range ins {
		if s := x.Symbol(); s != "" {
			at[s] = i
		}
	}
	live := make([]bool, len(ins))
	todo := []int{0}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for i < len(ins) && !live[i] {
			live[i] = true
			x := ins[i]
			if !x.OpCode.Class().IsJump() || x.OpCode.JumpOp() == asm.Call {
				i++
				continue
			}
			if x.OpCode.JumpOp() == asm.Exit {
				break
			}
			to := at[x.Reference()]
			if x.OpCode.JumpOp() == asm.Ja {
				i = to
				continue
			}
			todo = append(todo, to)
			i++
		}
	}
	var out asm.Instructions
	for i, x := range ins {
		if live[i] {
			out = append(out, x)
		}
	}
	return out
}
