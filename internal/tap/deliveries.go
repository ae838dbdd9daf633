package tap

import (
	"fmt"
	"strings"

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
	all := b.statements()
	in, made, out := all[0].In, uint64(0), all[len(all)-1].Out
	var parts []string
	rest := int64(in)
	for _, s := range all {
		made += s.Made
		rest += int64(s.Made)
		for _, d := range s.Dropped {
			if d.N > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", d.N, reasonText(s.Stage, d.Reason)))
				rest -= int64(d.N)
			}
		}
	}
	if rest -= int64(out); rest != 0 {
		parts = append(parts, fmt.Sprintf("%d under way", rest))
	}
	text := fmt.Sprintf("%s: %d frames", b.to, in)
	if made > 0 {
		text += fmt.Sprintf(" + %d made", made)
	}
	text += " = " + strings.Join(append(parts, fmt.Sprintf("%d delivered", out)), " + ")
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
