package tap

import (
	"fmt"

	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/deliver/tunnel"
)

// Deliveries returns for each destination that has its own queue, filter or groom steps the account of its frames as one sum that adds up, with
// what happened to copies besides.
func (t *Tap) Deliveries() (all []string) {
	if c := t.path.copies.Load(); c != nil {
		return c.lines()
	}
	for _, f := range t.frames {
		if b, ok := f.(*branch); ok {
			all = append(all, b.account())
		}
	}
	return all
}

// account returns the sum of one branch.
func (b *branch) account() string {
	text := b.to + ": " + equation(b.statements(), "frames", "under way")
	var d Destination
	if d.blame(b); d.LastError != "" {
		text += "; last error: " + d.Error()
	}
	for _, n := range b.notes() {
		text += "; " + n
	}
	return text
}

// notes returns what happened to copies that is no loss.
func (b *branch) notes() (all []string) {
	switch s := b.frameSink.(type) {
	case *tunnel.Sink:
		for _, n := range s.Notes() {
			all = append(all, fmt.Sprintf("%d %s", n.N, n.What))
		}
	case *deliver.Rotating:
		if n := s.Removed(); n > 0 {
			all = append(all, fmt.Sprintf("%d old files removed", n))
		}
	}
	return all
}
