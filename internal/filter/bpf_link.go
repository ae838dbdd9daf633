package filter

import (
	"math/bits"

	"golang.org/x/net/bpf"
)

// line is an instruction, or a conditional or plain jump to labels.
type line struct {
	ins    bpf.Instruction
	jump   bool
	always bool
	x      bool // compare with X
	cond   bpf.JumpTest
	val    uint32
	t, f   int
}

// far says which of a jump's ways are longer than a conditional jump reaches.
type far uint8

const (
	farTrue far = 1 << iota
	farFalse
)

// reach is how many instructions a conditional jump can skip.
const reach = 255

// link resolves the labels. A way that is too long goes over a plain jump behind the conditional one.
func (a *assembler) link() []bpf.Instruction {
	ways := make([]far, len(a.code))
	for {
		pos := a.positions(ways)
		again := false
		for i, l := range a.code {
			if !l.jump || l.always {
				continue
			}
			w := ways[i]
			if a.distance(pos, i, l.t) > reach {
				w |= farTrue
			}
			if a.distance(pos, i, l.f) > reach {
				w |= farFalse
			}
			again, ways[i] = again || w != ways[i], w
		}
		if !again {
			return a.instructions(pos, ways)
		}
	}
}

// positions returns the index of each line's first instruction; jumps to the next line take none.
func (a *assembler) positions(ways []far) []int {
	pos := make([]int, len(a.code)+1)
	n := 0
	for i, l := range a.code {
		pos[i] = n
		if !l.jump || !l.always || a.labels[l.t] != i+1 {
			n += 1 + bits.OnesCount8(uint8(ways[i]))
		}
	}
	pos[len(a.code)] = n
	return pos
}

func (a *assembler) distance(pos []int, i, label int) int { return pos[a.labels[label]] - pos[i] - 1 }

func (a *assembler) instructions(pos []int, ways []far) (out []bpf.Instruction) {
	for i, l := range a.code {
		t, f := 0, 0
		if l.jump {
			t, f = a.distance(pos, i, l.t), a.distance(pos, i, l.f)
		}
		switch {
		case !l.jump:
			out = append(out, l.ins)
		case l.always && a.labels[l.t] == i+1:
		case l.always:
			out = append(out, bpf.Jump{Skip: uint32(t)})
		case ways[i] == farTrue:
			out = append(out, l.branch(0, uint8(f)), bpf.Jump{Skip: uint32(t - 1)})
		case ways[i] == farFalse:
			out = append(out, l.branch(uint8(t), 0), bpf.Jump{Skip: uint32(f - 1)})
		case ways[i] != 0:
			out = append(out, l.branch(0, 1), bpf.Jump{Skip: uint32(t - 1)}, bpf.Jump{Skip: uint32(f - 2)})
		default:
			out = append(out, l.branch(uint8(t), uint8(f)))
		}
	}
	return out
}

func (l line) branch(t, f uint8) bpf.Instruction {
	if l.x {
		return bpf.JumpIfX{Cond: l.cond, SkipTrue: t, SkipFalse: f}
	}
	return bpf.JumpIf{Cond: l.cond, Val: l.val, SkipTrue: t, SkipFalse: f}
}
