package report

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"crosstap/internal/collect/store"
)

// Reports answers from a store. It implements Reporter and is safe for concurrent use.
//
// All sums read canonical rows: each packet counts once, however many observers reported it. What an
// observer did not say of a flow (segment, tenant, names, VTEPs) is filled from those that did, by
// flow id. A filter on where a flow was seen (seen_by, observer, exporter, domain, role, direction,
// interfaces) selects the flows for which one observer's rows fit; the figures stay those of the
// canonical rows. A filter on one end (src., dst.) means the conversation's ends, source for the client, so
// that both directions pass and all reports add up to the same; only Flows goes by the row.
type Reports struct {
	st       store.Reader
	now      func() time.Time
	counters atomic.Pointer[countersBox]
}

var _ Reporter = (*Reports)(nil)

// New returns the reports over a store.
func New(st store.Reader) *Reports { return &Reports{st: st, now: time.Now} }

// QueryError says what is wrong with a question other than its filter.
type QueryError struct {
	Field      string `json:"field"` // of Query, in lower case: "sort", "limit", "by", "step", "metric", "since"
	Message    string `json:"message"`
	Suggestion string `json:"suggestion"`
}

// Error gives "query: field: message; suggestion".
func (e *QueryError) Error() string {
	s := "query: " + e.Field + ": " + e.Message
	if e.Suggestion != "" {
		s += "; " + e.Suggestion
	}
	return s
}

const (
	defaultLimit = 1000
	maxLimit     = 100_000
)

// ask is one question being answered: its checked form, the pinned store and the bound arguments.
type ask struct {
	Query
	sinceMS, untilMS int64
	lookbackMS       int64 // the view reaches back to that; sinceMS when zero
	view             store.View
	args             []any
	cond             condition
	vteps            bool          // rows need VTEPs filled in one by one
	twice            bool          // the rows are read twice: what fills them in is kept
	ends             bool          // rows need to know which end opened their conversation
	rowwise          bool          // and each row tells it by itself
	rows             []string      // columns of rows that are read beside the filter's; nil for all
	need             []string      // columns to fill in; nil for all
	only             string        // a condition that rows which matter fulfil, to read less
	segments         string        // roll-ups: a condition on the segment that rows which matter fulfil, not for segment 0
	addrs            []string      // roll-ups: rows that matter have one of these at an end; nil for all
	within           string        // roll-ups: with addrs, a condition on the segment that these rows fulfil, segment 0 too
	single           bool          // roll-ups: rows will do where there are none, see store.Part
	table            string        // roll-ups: the table expression of the part that the question is about; "" for the whole range
	kept             bool          // the facts are few and read several times
	linked           bool          // roll-ups: neither hours nor the addresses of workloads without a name matter
	step             time.Duration // of the roll-up that answers; 0 for the rows themselves
	notes            []string
}

// check completes a question and finds its mistakes.
func check(q Query, limit int) (*ask, error) {
	switch {
	case q.Limit < 0 || q.Limit > maxLimit:
		return nil, &QueryError{"limit", fmt.Sprintf("%d rows asked for", q.Limit), fmt.Sprintf("0 to %d", maxLimit)}
	case q.Limit == 0:
		q.Limit = limit
	}
	a := &ask{Query: q, sinceMS: ceilMS(q.Since), untilMS: ceilMS(q.Until)}
	if a.untilMS <= a.sinceMS {
		return nil, &QueryError{"since", "the time range is empty", "since must be before until"}
	}
	if a.sinceMS < -maxMS || a.untilMS > maxMS {
		return nil, &QueryError{"since", "the time is out of range", "years 1 to 9999"}
	}
	cond, err := parseCondition(q.Filter)
	if err != nil {
		return nil, err
	}
	a.cond = cond
	for _, within := range cond.expr.New() {
		a.lookbackMS = min(a.backTo(), a.seenFrom(within))
		a.notes = append(a.notes, fmt.Sprintf("new within %s: pairs not seen from %s on", spanText(within), msTime(a.seenFrom(within)).Format(time.RFC3339)))
	}
	return a, a.resolve()
}

// backTo is how far back the view must reach.
func (a *ask) backTo() int64 {
	if a.lookbackMS != 0 {
		return a.lookbackMS
	}
	return a.sinceMS
}

const maxMS = int64(250_000_000_000_000)

// ceilMS gives the first whole millisecond at or after t: stored times are whole milliseconds.
func ceilMS(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%1e6 != 0 {
		ms++
	}
	return ms
}

// clampNS gives nanoseconds, as far as they can count.
func clampNS(ms int64) int64 {
	const most = int64(1<<63-1) / 1e6
	return min(max(ms, -most), most) * 1e6
}

func msTime(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// with answers a question on a pinned view, again when the store changed under a reader.
func (r *Reports) with(ctx context.Context, a *ask, answer func() error) error {
	const tries = 4
	var err error
	for range tries {
		err = r.once(ctx, a, answer)
		if !errors.Is(err, store.ErrStale) {
			break
		}
	}
	return err
}

func (r *Reports) once(ctx context.Context, a *ask, answer func() error) (err error) {
	a.args = nil
	if a.view, err = r.st.View(ctx, clampNS(a.backTo()), clampNS(a.untilMS)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() {
		if e := a.view.Close(); err == nil {
			err = e
		}
	}()
	return answer()
}

// arg binds a value and returns its placeholder.
func (a *ask) arg(v any) string {
	a.args = append(a.args, v)
	return fmt.Sprintf("$%d", len(a.args))
}

// each runs SQL and calls scan for every row.
func (a *ask) each(ctx context.Context, query string, scan func(*sql.Rows) error) error {
	rows, err := a.view.Query(ctx, query, a.args...)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
