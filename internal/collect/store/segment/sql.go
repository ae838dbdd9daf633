package segment

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"crosstap/internal/collect/store"
)

// Limits of questions in SQL.
const (
	sqlRows    = 10_000
	sqlTimeout = 30 * time.Second
	sqlAtOnce  = 2        // processes of questions; others wait
	sqlAnswer  = 64 << 20 // bytes of an answer that is held in memory
)

var _ store.Querier = (*Store)(nil)

// SQL implements store.Querier. Each question has a process of its own with an engine that may read the files of its view and nothing else, with half of
// the memory that reports have; it ends with the question.
func (s *Store) SQL(ctx context.Context, q store.SQLQuery) (store.SQLAnswer, error) {
	if q.Rows <= 0 {
		q.Rows = sqlRows
	}
	start := time.Now()
	to := &answerRows{a: store.SQLAnswer{Rows: [][]any{}}}
	truncated, err := s.askSQL(ctx, q, false, to)
	to.a.Truncated, to.a.Took = truncated, time.Since(start)
	if err != nil {
		to.a.Columns, to.a.Rows = nil, nil
	}
	return to.a, err
}

// EachSQL implements store.Querier.
func (s *Store) EachSQL(ctx context.Context, q store.SQLQuery, to store.SQLRows) error {
	_, err := s.askSQL(ctx, q, true, to)
	return err
}

// answerRows keeps the rows of an answer.
type answerRows struct{ a store.SQLAnswer }

func (r *answerRows) Columns(columns []store.SQLColumn) error {
	r.a.Columns = columns
	return nil
}

func (r *answerRows) Row(values []any) error {
	r.a.Rows = append(r.a.Rows, append([]any(nil), values...))
	return nil
}

// askSQL has a question answered by a process. all says that every row is wanted, with its values as package sql gives them.
func (s *Store) askSQL(ctx context.Context, q store.SQLQuery, all bool, to store.SQLRows) (truncated bool, err error) {
	if q.Timeout <= 0 {
		q.Timeout = sqlTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, q.Timeout, &store.SQLError{Message: fmt.Sprintf("no answer within %v; narrow the time range or add conditions", q.Timeout)})
	defer cancel()
	select {
	case s.questions <- struct{}{}:
		defer func() { <-s.questions }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	v, err := s.View(ctx, q.FromNS, q.ToNS)
	if err != nil {
		return false, err
	}
	defer v.Close()
	spills, err := newSpillDir()
	if err != nil {
		return false, fmt.Errorf("segment: sql: %w", err)
	}
	defer func() { err = errors.Join(err, spills.remove()) }()
	truncated, err = s.askProcess(ctx, s.sqlTask(v.(*view), q, all, spills.path), to) //nolint:forcetypeassert // ours
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return truncated, err
}

// sqlTask is what the process of a question is told.
type sqlTask struct {
	Text    string   // the question
	Rows    int      // at most; 0 for all
	All     bool     // by way of a file, with exact values
	Spill   string   // folder for what does not fit in memory
	Files   []string // that may be read, or written: Out
	Views   []string // statements that make what questions may ask
	Out     string   // file for an answer of all rows
	Engine  int64    // bytes that the engine plans with
	Most    int64    // bytes that the process may take; the kernel keeps that limit
	Threads int
}

func (s *Store) sqlTask(v *view, q store.SQLQuery, all bool, spill string) sqlTask {
	t := sqlTask{Text: q.Text, Rows: q.Rows, All: all, Spill: spill, Out: filepath.Join(spill, "answer.parquet"), Views: sqlViews(v, q),
		Engine: s.cfg.QueryMemory / 2, Most: sqlMemory(s.cfg.QueryMemory), Threads: s.cfg.QueryThreads}
	t.Files = append(t.Files, t.Out)
	for _, f := range append(v.files[:len(v.files):len(v.files)], v.rolls...) {
		t.Files = append(t.Files, s.path(f.Name))
	}
	return t
}

// sqlMemory is what the process of a question may take, with that memory for reports: the engine keeps the state of some aggregates and values that functions make beside its
// own limit, and threads have stacks.
func sqlMemory(reports int64) int64 { return reports + max(reports/3, 128<<20) }

// sqlViews are the statements that make what questions may ask. The engine plans a view when it is made, and the one of roll-ups is large: who names the
// others only does without.
func sqlViews(v *view, q store.SQLQuery) []string {
	from, to := max(ceilMS(q.FromNS), -maxMS), min(ceilMS(q.ToNS), maxMS)
	views := []string{
		"CREATE VIEW flows AS " + v.rowsIn(from, to),
		"CREATE VIEW canonical AS SELECT * FROM flows WHERE (marks & 1) <> 0",
	}
	named := func(view string) bool { return strings.Contains(strings.ToLower(q.Text), view) }
	if named("pairs_1h") || !named("flows") && !named("canonical") {
		views = append(views, "CREATE VIEW pairs_1h AS SELECT * FROM "+v.Rollup(time.Hour, from*1e6, to*1e6))
	}
	return append(views,
		`CREATE MACRO addr(t) AS (CASE WHEN contains(t, ':') THEN error('addr: IPv4 only; write IPv6 as 32 hex digits and ::UUID')
  ELSE concat('00000000-0000-0000-0000-ffff', printf('%02x%02x%02x%02x', split_part(t, '.', 1)::INTEGER, split_part(t, '.', 2)::INTEGER, split_part(t, '.', 3)::INTEGER,
  split_part(t, '.', 4)::INTEGER)) END)::UUID`,
		"CREATE MACRO mac(n) AS printf('%012x', n::BIGINT)",
		"CREATE MACRO vni(segment) AS segment & 4294967295",
	)
}

// rowsIn selects the rows that end in a range. Of files that have no others the times need not be looked at.
func (v *view) rowsIn(from, to int64) string {
	var whole, cut []file
	for _, f := range v.files {
		if f.MinMS >= from && f.MaxMS < to {
			whole = append(whole, f)
		} else {
			cut = append(cut, f)
		}
	}
	if len(cut) == 0 {
		return "SELECT * FROM " + v.s.flowTable(whole)
	}
	part := "SELECT * FROM " + v.s.flowTable(cut) + " WHERE " + endsIn(from, to)
	if len(whole) > 0 {
		part = "SELECT * FROM " + v.s.flowTable(whole) + " UNION ALL " + part
	}
	return part
}

// maxMS is the greatest time in milliseconds that nanoseconds can count.
const maxMS = int64(1<<63-1) / 1e6
