// Package ledger keeps the books of a stage: what came in, what went out, and for all the
// rest the reason why not. in + made = out + dropped{reason} + held holds at every stage and at every
// moment the stage is idle; only a stage that cuts one unit into several makes any.
package ledger

import (
	"fmt"
	"sync/atomic"
)

// Unit is what a stage counts.
type Unit string

// Units of the three lines.
const (
	Frames    Unit = "frames"
	Packets   Unit = "packets"
	Records   Unit = "records"
	Datagrams Unit = "datagrams"
	Samples   Unit = "samples" // of counters
)

// Book is the account of one stage. All methods are safe for concurrent use; adding never
// allocates. The reasons are fixed when the book is made, so a metric's labels are bounded.
type Book struct {
	stage   string
	unit    Unit
	reasons []string
	in, out atomic.Uint64
	made    atomic.Uint64
	dropped []atomic.Uint64
	held    atomic.Int64
}

// New returns an empty book for a stage. A Reason is an index into reasons.
func New(stage string, unit Unit, reasons ...string) *Book {
	return &Book{stage: stage, unit: unit, reasons: reasons, dropped: make([]atomic.Uint64, len(reasons))}
}

// In counts n units received by the stage.
func (b *Book) In(n int) { b.in.Add(uint64(n)) }

// Out counts n units passed on.
func (b *Book) Out(n int) { b.out.Add(uint64(n)) }

// Made counts n units that the stage has made beyond those it received: a super-frame that leaves as five
// wire segments is one in, four made and five out.
func (b *Book) Made(n int) { b.made.Add(uint64(n)) }

// Drop counts n units that were not passed on, under the reason with index r.
func (b *Book) Drop(r int, n int) { b.dropped[r].Add(uint64(n)) }

// Hold changes the number of units the stage keeps for later by n (negative to release).
func (b *Book) Hold(n int) { b.held.Add(int64(n)) }

// Count is one line of a statement.
type Count struct {
	Reason string `json:"reason"`
	N      uint64 `json:"n"`
}

// Statement is a book's state at one moment.
type Statement struct {
	Stage   string  `json:"stage"`
	Unit    Unit    `json:"unit"`
	In      uint64  `json:"in"`
	Made    uint64  `json:"made,omitempty"` // on the tap line only
	Out     uint64  `json:"out"`
	Held    int64   `json:"held"`
	Dropped []Count `json:"dropped"`
}

// Read returns the book's state. While the stage runs, the lines are read one after the other: what came in last, so that all that has left is among it. What is
// under work at that moment is in none of the other lines; Running has it.
func (b *Book) Read() Statement {
	s := Statement{Stage: b.stage, Unit: b.unit, Dropped: make([]Count, len(b.reasons))}
	for i, r := range b.reasons {
		s.Dropped[i] = Count{Reason: r, N: b.dropped[i].Load()}
	}
	s.Held, s.Out = b.held.Load(), b.out.Load()
	s.Made, s.In = b.made.Load(), b.in.Load()
	return s
}

// Running returns the statement of a stage that runs: what has come in and neither left nor was dropped is held, also that which is under work at the moment. For one that
// has ended use the statement itself, which does not add up when something was lost unseen.
func (s Statement) Running() Statement {
	rest := int64(s.In + s.Made - s.Out)
	for _, d := range s.Dropped {
		rest -= int64(d.N)
	}
	if rest >= 0 {
		s.Held = rest
	}
	return s
}

// Balance returns an error when the statement does not add up.
func (s Statement) Balance() error {
	total := s.Out
	for _, d := range s.Dropped {
		total += d.N
	}
	if s.Held >= 0 {
		total += uint64(s.Held)
	}
	if s.Held < 0 || total != s.In+s.Made {
		return fmt.Errorf("ledger: %s: %d %s in%s, but %d out + dropped + held (held %d)", s.Stage, s.In, s.Unit, s.made(), total, s.Held)
	}
	return nil
}

func (s Statement) made() string {
	if s.Made == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d made", s.Made)
}
