package filter

import "golang.org/x/net/bpf"

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

// link resolves the labels. A conditional jump reaches 255 instructions; one that must go farther jumps over plain
// jumps, which reach anywhere.
func (a *assembler) link() []bpf.Instruction {
	far := make([]bool, len(a.code))
	for {
		pos := a.positions(far)
		again := false
		for i, l := range a.code {
			if !l.jump || l.always || far[i] {
				continue
			}
			if a.distance(pos, i, l.t) > 255 || a.distance(pos, i, l.f) > 255 {
				far[i], again = true, true
			}
		}
		if !again {
			return a.instructions(pos, far)
		}
	}
}

// positions returns the index of each line's first instruction; jumps to the next line take none.
func (a *assembler) positions(far []bool) []int {
	pos := make([]int, len(a.code)+1)
	n := 0
	for i, l := range a.code {
		pos[i] = n
		switch {
		case far[i]:
			n += 3
		case l.jump && l.always && a.labels[l.t] == i+1:
		default:
			n++
		}
	}
	pos[len(a.code)] = n
	return pos
}

func (a *assembler) distance(pos []int, i, label int) int { return pos[a.labels[label]] - pos[i] - 1 }

func (a *assembler) instructions(pos []int, far []bool) (out []bpf.Instruction) {
	for i, l := range a.code {
		switch {
		case !l.jump:
			out = append(out, l.ins)
		case l.always:
			if a.labels[l.t] != i+1 {
				out = append(out, bpf.Jump{Skip: uint32(a.distance(pos, i, l.t))})
			}
		case far[i]:
			out = append(out, l.branch(0, 1), bpf.Jump{Skip: uint32(a.distance(pos, i, l.t) - 1)}, bpf.Jump{Skip: uint32(a.distance(pos, i, l.f) - 2)})
		default:
			out = append(out, l.branch(uint8(a.distance(pos, i, l.t)), uint8(a.distance(pos, i, l.f))))
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
