package tap

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/ledger"
	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/groom"
	"crosstap/internal/tap/meter"
)

// Statements returns the books of all stages, in the order of the line.
func (t *Tap) Statements() []ledger.Statement {
	if c := t.path.copies.Load(); c != nil {
		return append(c.statements(), t.pair.statements()...)
	}
	return append(readAll(t.books), t.pair.statements()...)
}

// Stats returns the meter's figures; all are 0 when there is none.
func (t *Tap) Stats() meter.Stats {
	if t.meter == nil {
		return meter.Stats{}
	}
	s := t.meter.Stats()
	if f := t.path.flows; f != nil {
		packets, octets, evicted := f.Counted()
		s.Packets, s.Octets, s.Evicted = s.Packets+packets, s.Octets+octets, s.Evicted+evicted
	}
	return s
}

// Progress returns how far the source is: the frames so far and, for a capture file, its bytes read and its size, 0 when
// that is not known.
func (t *Tap) Progress() (frames uint64, read, size int64) {
	if t.file != nil {
		read, size = t.file.Progress()
	}
	return t.source.Book().Read().In, read, size
}

// Summary returns one line about what the tap did in a time: what came in, what went out, and every
// reason for a difference.
func (t *Tap) Summary(took time.Duration) string {
	if c := t.path.copies.Load(); c != nil {
		return fmt.Sprintf("%d frames in %s, copied in the kernel (%s)", c.statements()[0].In, took.Round(time.Millisecond), c.way)
	}
	st := t.Stats()
	var b strings.Builder
	fmt.Fprintf(&b, "%d frames", t.source.Book().Read().In)
	if t.meter != nil {
		fmt.Fprintf(&b, ", %d packets, %d octets", st.Packets, st.Octets)
	}
	fmt.Fprintf(&b, " in %s", took.Round(time.Millisecond))
	if t.meter != nil {
		n := t.meter.Books()[1].Read().Out
		if f := t.path.flows; f != nil {
			n += f.Records().Read().Out
		}
		fmt.Fprintf(&b, "; %d flow records", n)
	}
	for _, f := range t.frames {
		fmt.Fprintf(&b, "; %d frames to %s", f.Book().Read().Out, f.Where())
	}
	for _, s := range t.Statements() {
		if s.Stage == export.Stage && s.Held > 0 {
			fmt.Fprintf(&b, "; %d %s wait in the spool", s.Held, s.Unit)
		}
		for _, d := range s.Dropped {
			if d.N > 0 {
				fmt.Fprintf(&b, "; %s: %d %s %s", s.Stage, d.N, s.Unit, strings.ReplaceAll(d.Reason, "_", " "))
			}
		}
	}
	for _, x := range []struct {
		n    uint64
		what string
	}{{st.Evicted, "flows ended early (cache full)"}, {st.FragmentOrphans, "fragments without their first one"}, {st.ClockJumps, "jumps back in time"},
		{st.HintsShed, "first messages not looked into (too many at a time)"}, {st.NamesShed, "names not kept (too many)"}} {
		if x.n > 0 {
			fmt.Fprintf(&b, "; %d %s", x.n, x.what)
		}
	}
	for _, n := range t.notes() {
		fmt.Fprintf(&b, "; %s: %d %s", n.Step, n.N, n.What)
	}
	return b.String()
}

// Collectors returns the state of each collector of flow records.
func (t *Tap) Collectors() (all []export.Status) {
	for _, f := range t.flows {
		if e, ok := f.(*export.Exporter); ok {
			all = append(all, e.Status()...)
		}
	}
	return all
}

// CollectorLines says of each collector what went to it and, where something went wrong or waits, what.
func (t *Tap) CollectorLines() (lines []string) {
	for _, st := range t.Collectors() {
		lines = append(lines, st.Target+": "+collectorText(&st))
	}
	return lines
}

func collectorText(st *export.Status) string {
	text := fmt.Sprintf("%d messages, %d bytes", st.Messages, st.Bytes)
	if st.Connections > 0 {
		text += fmt.Sprintf(", %d connections", st.Connections)
	}
	for _, x := range []struct {
		n    uint64
		what string
	}{{uint64(st.Waiting), "messages not acknowledged"}, {st.SpoolRecords, "records wait in the spool"}, {st.Repeated, "records sent again after a connection broke"},
		{st.Refused, "times nobody listened"}, {st.TooBig, "times the path was narrower than thought"}, {st.Failed, "messages that the system did not take"},
		{st.Omitted, "records without their tunnel's endpoints (the format has no place for them)"}} {
		if x.n > 0 {
			text += fmt.Sprintf("; %d %s", x.n, x.what)
		}
	}
	if st.LastError != "" {
		text += "; last error: " + errorText(st.LastError, st.LastErrAt, st.Recovered)
	}
	return text
}

// Warnings says what in the spec had no effect that can have been wanted, and what copies of a capture lack.
func (t *Tap) Warnings() []string {
	all := t.leftOut()
	if t.groom == nil || t.warned {
		return all
	}
	return append(all, t.groom.Warnings()...)
}

// leftOut says what of the capture that was read is not in the copies.
func (t *Tap) leftOut() (all []string) {
	copied := slices.ContainsFunc(t.to.frames, func(d frameTo) bool { return d.file != nil && d.file.Format == deliver.Pcapng })
	if t.file == nil || !copied {
		return nil
	}
	if n := t.file.LeftOut(); n > 0 {
		all = append(all, fmt.Sprintf("%d blocks or descriptions of the capture were damaged or too large, and are not in the copy", n))
	}
	masked := func(g *groom.Spec) bool { return g != nil && g.Mask != nil }
	if len(t.file.Beside(0)) > 0 && (masked(t.spec.Groom) || slices.ContainsFunc(t.to.frames, func(d frameTo) bool { return masked(d.own.groom) })) {
		all = append(all, "names of hosts and secrets that stand in the capture are not in the masked copy, as they tell what a mask hides")
	}
	return all
}

func (t *Tap) notes() []groom.Note {
	if t.groom == nil {
		return nil
	}
	return t.groom.Notes()
}

// Filter says where the filter is at work; "" without one.
func (t *Tap) Filter() string {
	if t.spec.Filter == "" {
		return ""
	}
	if len(t.spec.Remotes) > 0 {
		return "at the remote end, and again in the tap"
	}
	if name := t.pathName(); name != PathRing && t.spec.local() {
		return "in the kernel (" + name + "), which decides alone"
	}
	return t.kernel.text()
}

// Ledger returns the account of frames from the source to the destinations as one sum that adds up; "" where the first
// line of the summary says all, because nothing stands between the two.
func (t *Tap) Ledger() string {
	if t.sieve == nil && t.groom == nil && t.limit == nil || t.path.copies.Load() != nil {
		return ""
	}
	return equation(t.common(), "frames read", "left when the line broke off")
}

// equation writes the accounts of stages that follow each other as one sum that adds up: what came in, what was made on the way, what each
// reason took, what is in none of the stages' hands yet (rest), and what came out of the last.
func equation(all []ledger.Statement, in, rest string) string {
	out, made := all[len(all)-1].Out, uint64(0)
	missing := int64(all[0].In - out)
	var parts []string
	for _, s := range all {
		made += s.Made
		for _, d := range s.Dropped {
			if d.N > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", d.N, reasonText(s.Stage, d.Reason)))
				missing -= int64(d.N)
			}
		}
	}
	if missing += int64(made); missing != 0 {
		parts = append(parts, fmt.Sprintf("%d %s", missing, rest))
	}
	sum := fmt.Sprintf("%d %s", all[0].In, in)
	if made > 0 {
		sum += fmt.Sprintf(" + %d made", made)
	}
	return sum + " = " + strings.Join(append(parts, fmt.Sprintf("%d delivered", out)), " + ")
}

// common returns the statements of the stages that every frame goes through, with the destination when it is the only one.
func (t *Tap) common() []ledger.Statement {
	n := 1
	if t.sieve != nil {
		n++
	}
	if t.limit != nil {
		n++
	}
	if t.groom != nil {
		n += len(t.groom.Books())
	}
	var last []ledger.Statement // read before those that come before it
	if len(t.frames) == 1 && t.meter == nil {
		if b, ok := t.frames[0].(*branch); ok {
			last = b.statements()
		} else {
			last = []ledger.Statement{t.frames[0].Book().Read()}
		}
	}
	return append(t.Statements()[:n:n], last...)
}

// reasonText names a loss as a term of the sum. Most reasons say by themselves which stage they are of.
func reasonText(stage, reason string) string {
	switch reason {
	case "duplicate":
		return "duplicates"
	case "kernel_dropped":
		return "dropped by the kernel"
	case "downstream_full":
		return "shed (the line was slow)"
	case "stopped":
		return "left at " + stage + " when it was stopped"
	}
	return strings.ReplaceAll(reason, "_", " ")
}
