package answer

import (
	"fmt"
	"strings"

	"crosstap/internal/collect/report"
)

// Footer says what an answer stands for and what may be missing from it: a line with the totals, a line for
// each gap and each note, and for an answer without rows the cause and the way out. one is the name of a row ("pair").
func Footer(m *report.Meta, one string, shown int, o Options) string {
	var b strings.Builder
	if m.Empty != nil {
		fmt.Fprintf(&b, "no %ss in %s: %s\n", one, Span(m.Until.Sub(m.Since)), m.Empty.Text)
		if m.Empty.Action != "" {
			fmt.Fprintf(&b, "  try: %s\n", m.Empty.Action)
		}
	} else {
		fmt.Fprintln(&b, strings.Join(totals(m, one, shown), " · "))
	}
	gaps(&b, m.Completeness.Gaps, &o)
	for _, n := range m.Notes {
		fmt.Fprintln(&b, "note: "+strings.Map(printable, n))
	}
	return b.String()
}

func totals(m *report.Meta, one string, shown int) []string {
	parts := []string{fmt.Sprintf("%s, %s in %s", Plural(m.Total.Rows, one), Bytes(m.Total.Octets), Span(m.Until.Sub(m.Since)))}
	switch {
	case uint64(shown) >= m.Total.Rows:
	case shown == 0: // such as a map around a name that nothing has: the notes say why
		parts = append(parts, "none shown")
	default:
		parts = append(parts, fmt.Sprintf("first %s shown (--limit)", Count(uint64(shown))))
	}
	c := m.Completeness
	switch {
	case c.Ratio == nil:
		parts = append(parts, "export loss unknown")
	default:
		parts = append(parts, "export loss "+Percent(1-*c.Ratio))
	}
	if c.DroppedRecords > 0 {
		parts = append(parts, Plural(c.DroppedRecords, "record")+" not stored")
	}
	if c.SampledRows > 0 {
		parts = append(parts, Plural(c.SampledRows, "row")+" sampled (~)")
	}
	if c.AmbiguousRows > 0 {
		parts = append(parts, Plural(c.AmbiguousRows, "row")+" ambiguous")
	}
	if c.UncertainOctets > 0 {
		parts = append(parts, Bytes(c.UncertainOctets)+" uncertain at the ends of gaps")
	}
	return parts
}

// gapsShown bounds the lines that a footer spends on gaps.
const gapsShown = 5

func gaps(b *strings.Builder, list []report.Gap, o *Options) {
	for i, g := range list {
		if i == gapsShown {
			fmt.Fprintf(b, "gap: %d more (-o json lists all)\n", len(list)-i)
			return
		}
		fmt.Fprintf(b, "gap: %s to %s, %s", o.clock(g.From), o.clock(g.To), strings.Map(printable, gapCause(g)))
		if g.LostRecords > 0 {
			fmt.Fprintf(b, " (%s lost)", Plural(g.LostRecords, "record"))
		}
		b.WriteByte('\n')
	}
}
