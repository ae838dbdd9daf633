package groom

import (
	"sync/atomic"

	"crosstap/internal/ledger"
)

// account gathers what a step does to the frames of a batch, and enters it in the step's book at the batch's end:
// an atomic operation for each frame would cost more than the step.
type account struct {
	book          *ledger.Book
	in, made, out int
	dropped       []int
	notes         []note
}

// note counts something that a step did or saw and that is no loss.
type note struct {
	name  string
	n     int
	total atomic.Uint64
}

func newAccount(step string, reasons []string, notes ...string) account {
	a := account{book: ledger.New(step, ledger.Frames, reasons...), dropped: make([]int, len(reasons)), notes: make([]note, len(notes))}
	for i, name := range notes {
		a.notes[i].name = name
	}
	return a
}

// drop enters a frame that goes no further.
func (a *account) drop(reason int) bool {
	a.dropped[reason]++
	return false
}

// note enters something that happened.
func (a *account) note(i int) { a.notes[i].n++ }

// settle brings the book up to date.
func (a *account) settle() {
	a.book.In(a.in)
	a.book.Made(a.made)
	a.book.Out(a.out)
	a.in, a.made, a.out = 0, 0, 0
	for i, n := range a.dropped {
		if n > 0 {
			a.book.Drop(i, n)
			a.dropped[i] = 0
		}
	}
	for i := range a.notes {
		if s := &a.notes[i]; s.n > 0 {
			s.total.Add(uint64(s.n))
			s.n = 0
		}
	}
}

// Note says how often a step did or saw something that is no loss, such as a super-frame that was cut.
type Note struct {
	Step string `json:"step"`
	What string `json:"what"`
	N    uint64 `json:"n"`
}
