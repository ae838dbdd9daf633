package segment

import (
	"context"
	"database/sql"
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
)

var _ store.Querier = (*Store)(nil)

// SQL implements store.Querier. Each question has an engine of its own that may read the files of its view and nothing else, with half of
// the memory that reports have; it ends with the question.
func (s *Store) SQL(ctx context.Context, q store.SQLQuery) (a store.SQLAnswer, err error) {
	if q.Rows <= 0 {
		q.Rows = sqlRows
	}
	start := time.Now()
	err = s.askSQL(ctx, q, func(ctx context.Context, db *sql.DB, text, _ string) error {
		// The engine keeps an answer in memory beside its limit, so that it must be no longer than what is read. The line feed ends a comment.
		rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT * FROM (%s\n) LIMIT %d", text, q.Rows+1))
		if err != nil {
			return sqlMistake(err)
		}
		defer rows.Close()
		a, err = store.ReadAnswer(rows, q.Rows, typeName)
		return err
	})
	a.Took = time.Since(start)
	return a, err
}

// askSQL opens an engine for a question and calls f with its text. The engine may write the file out.
func (s *Store) askSQL(ctx context.Context, q store.SQLQuery, f func(ctx context.Context, db *sql.DB, text, out string) error) error {
	if q.Timeout <= 0 {
		q.Timeout = sqlTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, q.Timeout, &store.SQLError{Message: fmt.Sprintf("no answer within %v; narrow the time range or add conditions", q.Timeout)})
	defer cancel()
	ctx, unbind := s.boundMemory(ctx)
	defer unbind()
	v, err := s.View(ctx, q.FromNS, q.ToNS)
	if err != nil {
		return err
	}
	defer v.Close()
	if err = s.withSQLEngine(ctx, v.(*view), q, f); err != nil && ctx.Err() != nil { //nolint:forcetypeassert // ours
		return context.Cause(ctx)
	}
	return err
}

func (s *Store) withSQLEngine(ctx context.Context, v *view, q store.SQLQuery, f func(ctx context.Context, db *sql.DB, text, out string) error) (err error) {
	spills, err := newSpillDir()
	if err != nil {
		return fmt.Errorf("segment: sql: %w", err)
	}
	defer func() { err = errors.Join(err, spills.remove()) }()
	cfg, out := s.cfg, filepath.Join(spills.path, "answer.parquet")
	cfg.QueryMemory /= 2
	files := []string{out}
	for _, f := range append(v.files[:len(v.files):len(v.files)], v.rolls...) {
		files = append(files, s.path(f.Name))
	}
	db, err := openEngineFor(cfg, spills.path, files, sqlViews(v, q))
	if err != nil {
		return fmt.Errorf("segment: sql: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	text, err := onlySelect(ctx, db, q.Text)
	if err != nil {
		return err
	}
	return f(ctx, db, text, out)
}

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

// onlySelect returns the one SELECT statement that a question must be.
func onlySelect(ctx context.Context, db *sql.DB, text string) (string, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "; \t\n")
	var failed bool
	var message sql.NullString
	var n int
	err := db.QueryRowContext(ctx, `SELECT (j->>'error')::BOOLEAN, concat(j->>'error_message', if(j->>'position' IS NULL, '', ' at byte ' || (j->>'position'))),
  coalesce(json_array_length(j->'statements'), 0) FROM (SELECT json_serialize_sql($1::VARCHAR) AS j)`, text).Scan(&failed, &message, &n)
	switch {
	case err != nil:
		return "", sqlMistake(err)
	case failed:
		why := message.String
		if strings.Contains(why, "SELECT statements can be serialized") { // the engine's words for it
			why = "this is no SELECT"
		}
		return "", &store.SQLError{Message: why + "; one SELECT over the views flows, canonical and pairs_1h is expected"}
	case n != 1:
		return "", &store.SQLError{Message: fmt.Sprintf("%d statements; one SELECT is expected", n)}
	}
	return text, nil
}

// sqlMistake tells the engine's complaint without its source of error.
func sqlMistake(err error) error { return &store.SQLError{Message: err.Error()} }

// typeName is the engine's name for the type of a column.
func typeName(_ int, t *sql.ColumnType) string { return t.DatabaseTypeName() }
