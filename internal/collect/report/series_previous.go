package report

import (
	"context"
	"strings"
	"time"

	"crosstap/internal/collect/store"
)

// previous adds the period of equal length before, to the lines with the same key. A line of which the key did not occur is
// zero there; what no line shows is in "other".
func (r *Reports) previous(ctx context.Context, q Query, out *Series) error {
	shift := out.Meta.Until.Sub(out.Meta.Since)
	q.Since, q.Until, q.Step, q.Limit = out.Meta.Since.Add(-shift), out.Meta.Since, time.Duration(out.StepMS)*time.Millisecond, maxLines
	s, err := checkSeries(q)
	if err != nil {
		return err
	}
	var before Series
	err = r.with(ctx, s.ask, func() error {
		before, err = s.answer(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	out.PreviousSince, out.PreviousUntil = &before.Meta.Since, &before.Meta.Until
	c := before.Meta.Completeness
	out.Meta.Completeness.Gaps = append(out.Meta.Completeness.Gaps, c.Gaps...)
	out.Meta.Completeness.addUncertain(store.Uncertain{Rows: c.UncertainRows, Packets: c.UncertainPackets, Octets: c.UncertainOctets})
	out.join(before.Lines)
	return nil
}

// join gives each line what it was before.
func (s *Series) join(before []Line) {
	lines := map[string]*Line{}
	var other *Line
	for i := range s.Lines {
		l := &s.Lines[i]
		l.Previous, l.PreviousTotal = make([]float64, len(s.Times)), new(uint64)
		if l.rest {
			other = l
			continue
		}
		lines[strings.Join(l.Key, "\x00")] = l
	}
	for i := range before {
		l := lines[strings.Join(before[i].Key, "\x00")]
		if l == nil || before[i].rest {
			l = other
		}
		if l != nil {
			l.take(&before[i])
		}
	}
}

// take adds what was before. Both periods have as many buckets, but for one that the range cuts.
func (l *Line) take(was *Line) {
	*l.PreviousTotal += was.Total
	for i := range min(len(l.Previous), len(was.Values)) {
		l.Previous[i] += was.Values[i]
	}
}
