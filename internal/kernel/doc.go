// Package kernel runs parts of a tap inside the Linux kernel: programs at the TCX or tc hooks of interfaces that filter frames and
// then copy them to a tool (Mirror), count them in a flow table (Flows), or hand their headers to user space (Headers).
//
// Programs are assembled here, with the filter's own eBPF in front; nothing is compiled by a C compiler. With TCX the kernel takes
// everything away when the process ends, however it ends. With tc (clsact) a lease does that: the program lets everything
// pass once nobody has renewed it, and Sweep, which every start calls, removes what is left.
//
// No program changes an application's frame, and none decides about it: other programs at the same hook run as if ours
// were not there.
package kernel

import (
	"errors"
	"fmt"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Way is how programs are attached.
type Way uint8

// The ways.
const (
	TCX    Way = iota // Linux 6.6: links that end with the process
	Clsact            // filters of tc at a clsact qdisc, with a lease
)

// String returns the word that --path has for it.
func (w Way) String() string { return [...]string{"tcx", "clsact"}[w] }

// Reasons under which frames end in the kernel.
const (
	DropFiltered = iota // the filter did not match
	DropSampled         // left out of a sample
	DropLost            // could not be copied: no memory, no room in the ring, or the way out is gone
	DropTooBig          // longer than the path takes
	DropStopped         // handed over, and not taken by the next stage
	DropShed            // left out for the budget
	DropRate            // copies above the rate
)

// Stage is the name of this stage in the ledger.
const Stage = "kernel"

func newBook() *ledger.Book {
	return ledger.New(Stage, ledger.Frames, "filtered", "sampled_out", "lost", "too_big", "stopped", "shed_for_budget", "over_rate")
}

// ErrResidual says that a filter has tests that no program in the kernel can do.
var ErrResidual = errors.New("the filter has tests that no kernel program can do")

// SampleMode says how a sample is drawn.
type SampleMode uint8

// The ways to sample.
const (
	Every   SampleMode = iota // every N-th frame of each processor
	Random                    // each frame with probability 1/N
	ByFlows                   // all frames of one in N conversations, both directions; the same ones on every host
)

// Sample says which frames are copied. A Rate of 0 or 1 means all.
type Sample struct {
	Rate int
	Mode SampleMode
}

// MaxRate bounds Sample.Rate.
const MaxRate = 1 << 20

func (s Sample) validate() error {
	if s.Rate < 0 || s.Rate > MaxRate {
		return fmt.Errorf("kernel: sample 1 in %d: want 1 to %d", s.Rate, MaxRate)
	}
	return nil
}

// directions in which programs are attached.
var directions = []frame.Direction{frame.Ingress, frame.Egress}
