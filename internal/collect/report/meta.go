package report

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/collect/store"
)

// maxGapsShown bounds the gaps that go with an answer.
const maxGapsShown = 100

// meta completes an answer.
func (a *ask) meta(ctx context.Context, r *Reports, name string, total sums, sampled, ambiguous uint64) (Meta, error) {
	m := Meta{Schema: SchemaVersion, Report: name, Since: msTime(a.sinceMS), Until: msTime(a.untilMS), Filter: a.Filter, Sort: a.Sort,
		Limit: a.Limit, Total: total.told(), Resolution: a.resolution(), Notes: append([]string{}, a.notes...)}
	extent := a.view.Extent
	if a.step != 0 {
		extent = a.view.RollupExtent
	}
	if oldest, newest, ok := extent(); ok {
		from, to := time.Unix(0, oldest).UTC(), time.Unix(0, newest).UTC()
		m.DataFrom, m.DataUntil = &from, &to
	}
	stored, err := total.Rows, error(nil)
	if total.Rows == 0 || len(a.gaps()) > 0 { // without a gap the ratio is 1, whatever the number
		if stored, err = a.storedRows(ctx); err != nil {
			return Meta{}, err
		}
	}
	m.Completeness = a.completeness(stored)
	m.Completeness.SampledRows, m.Completeness.AmbiguousRows = sampled, ambiguous
	if v, ok := a.view.(store.UncertainView); ok {
		u, err := v.Uncertain(ctx, clampNS(a.sinceMS), clampNS(a.untilMS))
		if err != nil {
			return Meta{}, err
		}
		m.Completeness.addUncertain(u)
	}
	if total.Rows == 0 {
		if m.Empty, err = a.whyEmpty(ctx, &m, stored); err != nil {
			return Meta{}, err
		}
	}
	return m, nil
}

// storedRows counts all rows of the time range, whatever the filter says.
func (a *ask) storedRows(ctx context.Context) (n uint64, err error) {
	a.args = nil
	query := fmt.Sprintf("SELECT count(*) FROM %s WHERE t_end >= %s AND t_end < %s", a.view.Table(), ts(a.sinceMS), ts(a.untilMS))
	if a.step != 0 { // the rows may be gone
		query = fmt.Sprintf("SELECT coalesce(sum(rows) + sum(other_rows), 0)::UBIGINT FROM %s", a.rollupPart(store.Part{Count: true}, a.sinceMS, a.untilMS))
	}
	err = a.each(ctx, query, func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}

// completeness says what may be missing. A gap counts whole when it touches the time range.
func (a *ask) completeness(stored uint64) Completeness {
	c := Completeness{Gaps: []Gap{}}
	for _, g := range a.gaps() {
		if g.Scope == "store" {
			c.DroppedRecords += g.LostRecords
		} else {
			c.LostRecords += g.LostRecords
		}
		if n := len(c.Gaps); n > 0 && joins(c.Gaps[n-1], g.Scope, g.Who, g.Reason, g.FromNS) {
			last := &c.Gaps[n-1]
			last.LostRecords += g.LostRecords
			if to := time.Unix(0, g.ToNS).UTC(); to.After(last.To) {
				last.To = to
			}
		} else if n < maxGapsShown {
			c.Gaps = append(c.Gaps, Gap{From: time.Unix(0, g.FromNS).UTC(), To: time.Unix(0, g.ToNS).UTC(), Scope: g.Scope, Who: g.Who,
				Reason: g.Reason, LostRecords: g.LostRecords})
		}
	}
	if all := stored + c.LostRecords + c.DroppedRecords; all > 0 {
		ratio := float64(stored+c.DroppedRecords) / float64(all)
		c.Ratio = &ratio
	}
	return c
}

func (c *Completeness) addUncertain(u store.Uncertain) {
	c.UncertainRows, c.UncertainPackets, c.UncertainOctets = c.UncertainRows+u.Rows, c.UncertainPackets+u.Packets, c.UncertainOctets+u.Octets
}

// gaps returns the gaps that touch the time range; the view may reach back further.
func (a *ask) gaps() []store.Gap {
	return slices.DeleteFunc(slices.Clone(a.view.Gaps()), func(g store.Gap) bool { return g.ToNS < clampNS(a.sinceMS) })
}

// notStored is how many records of the range the store itself has lost, and why the newest of them: a full disk, a damaged file.
func (a *ask) notStored() (n uint64, why string) {
	for _, g := range a.gaps() {
		if g.Scope == "store" && g.LostRecords > 0 {
			n, why = n+g.LostRecords, g.Reason
		}
	}
	return n, why
}

// joins reports whether a gap goes on where the one before it ended.
func joins(g Gap, scope, who, reason string, fromNS int64) bool {
	return g.Scope == scope && g.Who == who && g.Reason == reason && fromNS <= g.To.UnixNano()
}

// whyEmpty finds the cause of an answer without rows, the most certain first.
func (a *ask) whyEmpty(ctx context.Context, m *Meta, stored uint64) (*Empty, error) {
	template := a.gapReason("template")
	lost, why := a.notStored()
	switch {
	case stored > 0 && !a.cond.expr.Empty():
		parts, err := a.blame(ctx)
		return &Empty{"filter_excludes", fmt.Sprintf("%d stored rows lie in the time range; the filter excludes all that count.", stored),
			"Remove or change a part of the filter; alone, " + parts + "."}, err
	case stored > 0:
		return &Empty{"not_counted", fmt.Sprintf("%d stored rows lie in the time range, but they repeat what other observers report outside of it.", stored),
			"Choose a longer time range, or look at the flows."}, nil
	case lost > 0:
		return &Empty{"not_stored", fmt.Sprintf("%d records of the time range are not in the store: %s.", lost, why),
			"Look at the gaps below, and at the state of the store (crosstap status)."}, nil
	case a.view.Pending() > 0:
		return &Empty{"not_yet_stored", fmt.Sprintf("%d records have arrived and are being stored.", a.view.Pending()), "Ask again in a few seconds."}, nil
	case template != "":
		return &Empty{"template_missing", "Records arrive but cannot be decoded: " + template + ".",
			"Wait for the exporter's template refresh, or make it send its templates now."}, nil
	case m.DataFrom == nil:
		return &Empty{"no_exporter", "No exporter has ever sent a flow to this store.", "Point an exporter or a tap at this collector."}, nil
	case !m.Until.After(*m.DataFrom):
		return &Empty{"before_first_data", "The time range ends before the first stored flow (" + m.DataFrom.Format(time.RFC3339) + ").",
			"Choose a later time range."}, nil
	}
	return &Empty{"exporter_silent", "No flow was received in the time range; the newest stored one ended at " + m.DataUntil.Format(time.RFC3339) + ".",
		"Check that the exporters run and can reach this collector, or choose another time range."}, nil
}
