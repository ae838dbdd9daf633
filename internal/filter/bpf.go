package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// maxInstructions is what the kernel takes in one socket filter (BPF_MAXINSNS).
const maxInstructions = 4096

// BPF returns the filter as a classic BPF program that returns the snap length for a match and 0 otherwise. residual
// reports that the program lets through more than the filter matches, because a test needs the dissected frame: whoever
// receives the frames must ask Match too.
func (f *Filter) BPF() (prog []bpf.Instruction, residual bool, err error) {
	a := newAssembler(newGraph(approximate(f.kernelRoot(), true, &residual)))
	a.run(f.opt.SnapLen)
	if a.err != nil {
		return nil, residual, fmt.Errorf("filter: classic BPF: %w", a.err)
	}
	prog = a.link()
	if len(prog) > maxInstructions {
		return nil, residual, fmt.Errorf("filter: classic BPF: %d instructions, at most %d; shorten the expression", len(prog), maxInstructions)
	}
	return prog, residual, nil
}

// kernelRoot is the filter's test on a frame as the kernel has it.
func (f *Filter) kernelRoot() Node {
	if f.opt.KernelVLAN {
		return untagged(f.root)
	}
	return f.root
}

// approximate replaces what BPF cannot test by what lets more frames through: true where a match is
// wanted, false under a negation.
func approximate(n Node, want bool, residual *bool) Node {
	each := func(x []Node) (out []Node) {
		for _, c := range x {
			out = append(out, approximate(c, want, residual))
		}
		return out
	}
	switch n := n.(type) {
	case conj:
		return and(each(n.x)...)
	case disj:
		return or(each(n.x)...)
	case inv:
		return negate(approximate(n.x, !want, residual))
	case deep:
		*residual = true
		return yes(want)
	}
	return n
}
