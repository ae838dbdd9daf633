package clickhouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/dialect"
)

// hourMS is the step of stored roll-ups.
const hourMS = int64(time.Hour / time.Millisecond)

// names of tables in questions.
const (
	askFlows  = "crosstap_flows"
	askSums   = "crosstap_pairs_1h"
	askRolled = "crosstap_rolled"
)

// hour is an hour of the range: how many rows it has, and which roll-up stands for them.
type hour struct {
	atMS       int64
	rows, sums uint64 // stored, and of them added up; rows that came again or were corrected may count again
	gen        uint64 // of the roll-up, 0 for none
}

// valid reports whether the roll-up adds up all rows.
func (h hour) valid() bool { return h.gen != 0 && h.rows == h.sums }

// view is a picture of the store. Statements see rows that are stored meanwhile; which roll-ups stand for which hours is settled.
type view struct {
	s              *Store
	hours          []hour
	gaps           []store.Gap
	oldest, newest int64
	any            bool
	pending        int
	fromMS         int64
	made           time.Time
	begun          []begun // corrections in force
}

// View implements store.Reader.
func (s *Store) View(ctx context.Context, fromNS, toNS int64) (store.View, error) {
	s.mu.Lock()
	v := &view{s: s, pending: s.pending, fromMS: floorMS(fromNS), made: time.Now()}
	closed := s.closed
	for _, g := range append(slices.Clone(s.notes), s.shed.Gaps()...) {
		if g.ToNS >= fromNS && g.FromNS < toNS {
			v.gaps = append(v.gaps, g)
		}
	}
	s.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	var err error
	if v.begun, err = s.corrections(ctx, v.fromMS, 1<<62); err != nil { // rows that begin in the range may end long after
		return nil, fmt.Errorf("clickhouse: corrections: %w", err)
	}
	if v.hours, err = s.readHours(ctx, fromNS, toNS); err != nil {
		return nil, fmt.Errorf("clickhouse: hours: %w", err)
	}
	stored, err := s.readGaps(ctx, fromNS, toNS)
	if err != nil {
		return nil, fmt.Errorf("clickhouse: gaps: %w", err)
	}
	v.gaps = append(stored, v.gaps...)
	slices.SortStableFunc(v.gaps, func(a, b store.Gap) int { return int(min(max(a.FromNS-b.FromNS, -1), 1)) })
	v.oldest, v.newest, v.any = s.extent(ctx, flowsTable, "t_end")
	return v, nil
}

// readHours gives the hours of a range that have rows or roll-ups, in order.
func (s *Store) readHours(ctx context.Context, fromNS, toNS int64) (out []hour, err error) {
	from, to := floorMS(fromNS), floorMS(toNS-1)+1
	query := fmt.Sprintf(`SELECT toUnixTimestamp64Milli(hour) AS at, sum(n), sum(r), max(g) FROM (
  SELECT hour, sum(rows) AS n, 0 AS r, 0 AS g FROM %s GROUP BY hour UNION ALL SELECT hour, 0, argMax(rows, gen), max(gen) FROM %s GROUP BY hour)
WHERE at >= {p1:Int64} AND at < {p2:Int64} GROUP BY at ORDER BY at`, s.ddl.table(hoursTable), s.ddl.table(rolledTable))
	var h hour
	err = s.eachRow(ctx, query, []any{floorHour(from), to}, []any{&h.atMS, &h.rows, &h.sums, &h.gen}, func() error {
		out = append(out, h)
		return nil
	})
	return out, err
}

func floorHour(ms int64) int64 {
	ms -= ms % hourMS
	if ms < 0 {
		ms -= hourMS // one early for whole hours before 1970, which does no harm
	}
	return ms
}

// readGaps gives the stored notes that touch a range.
func (s *Store) readGaps(ctx context.Context, fromNS, toNS int64) (out []store.Gap, err error) {
	query := "SELECT from_ns, to_ns, scope, who, reason, lost FROM " + s.ddl.table(gapsTable) + " WHERE to_ns >= {p1:Int64} AND from_ns < {p2:Int64} ORDER BY from_ns, to_ns LIMIT 10000"
	var g store.Gap
	err = s.eachRow(ctx, query, []any{fromNS, toNS}, []any{&g.FromNS, &g.ToNS, &g.Scope, &g.Who, &g.Reason, &g.LostRecords}, func() error {
		out = append(out, g)
		return nil
	})
	return out, err
}

// notesAtOnce bounds the notes of one statement.
const notesAtOnce = 500

// saveNotes stores the notes about missing records.
func (s *Store) saveNotes(ctx context.Context) error {
	s.mu.Lock()
	all := s.shed.Gaps()
	n := min(len(s.notes), notesAtOnce)
	all = append(all, s.notes[:n]...)
	shed := s.shed.Take()
	s.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	var b strings.Builder
	var args []any
	for i, g := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		k := len(args)
		fmt.Fprintf(&b, "({p%d:Int64}, {p%d:Int64}, {p%d:String}, {p%d:String}, {p%d:String}, {p%d:UInt64}, now64(3))", k+1, k+2, k+3, k+4, k+5, k+6)
		args = append(args, g.FromNS, g.ToNS, g.Scope, g.Who, g.Reason, g.LostRecords)
	}
	_, err := s.db.ExecContext(ctx, "INSERT INTO "+s.ddl.table(gapsTable)+" SELECT * FROM VALUES('from_ns Int64, to_ns Int64, scope String, who String, reason String, lost UInt64, noted DateTime64(3)', "+b.String()+")", args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.shed.PutBack(shed)
		return err
	}
	s.notes = slices.Delete(s.notes, 0, n)
	return nil
}

// Table implements store.View.
func (v *view) Table() string { return askFlows }

// Rollup implements store.View.
func (v *view) Rollup(step time.Duration, fromNS, toNS int64) string {
	from, to := -floorMS(-fromNS), -floorMS(-toNS)
	if step.Milliseconds() != hourMS {
		return store.RollupRows(askFlows, endsIn(from, to), step)
	}
	names := make([]string, len(store.RollupColumns))
	for i, c := range store.RollupColumns {
		names[i] = c.Name
	}
	columns := strings.Join(names, ", ")
	var whole []string
	at := from
	var parts []string
	for _, h := range v.hours {
		if !h.valid() || h.atMS < from || h.atMS+hourMS > to {
			continue
		}
		if h.atMS > at {
			parts = append(parts, "("+endsIn(at, h.atMS)+")")
		}
		at = h.atMS + hourMS
		whole = append(whole, fmt.Sprintf("(make_timestamp_ms(%d), %d)", h.atMS, h.gen))
	}
	if len(whole) == 0 {
		return store.RollupRows(askFlows, endsIn(from, to), step)
	}
	if at < to {
		parts = append(parts, "("+endsIn(at, to)+")")
	}
	sums := fmt.Sprintf("SELECT %s FROM %s WHERE bucket >= make_timestamp_ms(%d) AND bucket < make_timestamp_ms(%d) AND (bucket, gen) IN (%s)", columns, askSums, from, to, strings.Join(whole, ", "))
	if len(parts) == 0 {
		return "(" + sums + ")"
	}
	rows := fmt.Sprintf("(SELECT * FROM %s WHERE %s)", askFlows, strings.Join(parts, " OR "))
	return "(" + sums + "\nUNION ALL SELECT " + columns + " FROM " + store.RollupRows(rows, "true", step) + ")"
}

func endsIn(from, to int64) string {
	return fmt.Sprintf("t_end >= make_timestamp_ms(%d) AND t_end < make_timestamp_ms(%d)", from, to)
}

// tables are those that questions may name, with corrections that are in force.
func (s *Store) tables(corrections []begun) map[string]dialect.Table {
	sums := append([]store.Column{{Name: "gen", Type: "UBIGINT"}}, store.RollupColumns...)
	return map[string]dialect.Table{
		askFlows: {SQL: s.ddl.overlaid(corrections), Columns: asked(flowColumns)}, askSums: {SQL: s.ddl.table(rollupTable), Columns: asked(sums)},
	}
}

// asked are columns as questions may name them.
func asked(columns []store.Column) []dialect.Column {
	out := make([]dialect.Column, len(columns))
	for i, c := range columns {
		out[i] = dialect.Column(c)
	}
	return out
}

// Query implements store.View.
func (v *view) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	plan, err := dialect.Translate(query, v.s.tables(v.begun), types(args))
	if err != nil {
		return nil, fmt.Errorf("clickhouse: query: %w", err)
	}
	if err := v.fresh(ctx); err != nil {
		return nil, err
	}
	rows, err := v.s.db.QueryContext(ctx, plan.SQL, append([]any{plan.Steps}, args...)...)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("clickhouse: query: %w", err)
	}
	return rows, nil
}

// fresh gives store.ErrStale when rows of the range have come to be corrected since the view was made, or are so no longer.
func (v *view) fresh(ctx context.Context) error {
	if time.Since(v.made) < v.s.cfg.grace()/2 {
		return nil
	}
	now, err := v.s.corrections(ctx, v.fromMS, 1<<62)
	if err != nil {
		return fmt.Errorf("clickhouse: corrections: %w", err)
	}
	if !slices.EqualFunc(now, v.begun, func(a, b begun) bool { return a.gen == b.gen }) {
		return fmt.Errorf("clickhouse: %w: rows are being corrected", store.ErrStale)
	}
	v.made = time.Now()
	return nil
}

// Uncertain implements store.UncertainView.
func (v *view) Uncertain(ctx context.Context, fromNS, toNS int64) (u store.Uncertain, err error) {
	if v.s.schema < 3 { // read only, of tables that an older version has made
		return u, nil
	}
	query := fmt.Sprintf("SELECT sum(n), sum(p), sum(o) FROM (SELECT argMax(rows, gen) AS n, argMax(packets, gen) AS p, argMax(octets, gen) AS o FROM %s WHERE hour > {p1:Int64} AND hour < {p2:Int64} GROUP BY hour)",
		v.s.ddl.table(uncertainTable))
	if err = v.s.db.QueryRowContext(ctx, query, -floorMS(-fromNS)-hourMS, -floorMS(-toNS)).Scan(&u.Rows, &u.Packets, &u.Octets); err != nil {
		return u, fmt.Errorf("clickhouse: uncertain: %w", err)
	}
	return u, nil
}

func (v *view) Gaps() []store.Gap { return v.gaps }

func (v *view) Extent() (oldestNS, newestNS int64, ok bool) { return v.oldest, v.newest, v.any }

// RollupExtent implements store.View. Hours whose rows have expired count from their beginning.
func (v *view) RollupExtent() (oldestNS, newestNS int64, ok bool) {
	oldest, newest, any := v.s.extent(context.Background(), rollupTable, "last_seen")
	if !any || v.any && v.oldest <= oldest {
		return v.oldest, v.newest, v.any
	}
	if v.any {
		newest = max(newest, v.newest)
	}
	return oldest, newest, true
}

func (v *view) Pending() int { return v.pending }
func (v *view) Close() error { return nil }

// SQL implements store.Querier. A question is read and written again, so that it can name the views and the functions of the dialect, and
// nothing else of the server.
func (s *Store) SQL(ctx context.Context, q store.SQLQuery) (a store.SQLAnswer, err error) {
	begin := time.Now()
	if q.Rows <= 0 {
		q.Rows = sqlRows
	}
	limit := q.Rows
	q.Rows++
	err = s.askSQL(ctx, q, func(rows *sql.Rows, kind func(int, *sql.ColumnType) string) error {
		a, err = store.ReadAnswer(rows, limit, kind)
		return err
	})
	a.Took = time.Since(begin)
	return a, err
}

// EachSQL implements store.Querier.
func (s *Store) EachSQL(ctx context.Context, q store.SQLQuery, to store.SQLRows) error {
	return s.askSQL(ctx, q, func(rows *sql.Rows, kind func(int, *sql.ColumnType) string) error {
		return store.EachRow(rows, kind, to)
	})
}

// askSQL calls f with the first rows of an answer, or with all when q.Rows is 0.
func (s *Store) askSQL(ctx context.Context, q store.SQLQuery, f func(rows *sql.Rows, kind func(int, *sql.ColumnType) string) error) error {
	if q.Timeout <= 0 {
		q.Timeout = sqlTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	text := strings.TrimRight(strings.TrimSpace(q.Text), "; \t\n")
	if _, err := dialect.Translate(text, nil, nil); err != nil && !knownTables(err) {
		return sqlMistake(err)
	}
	one, err := s.View(ctx, q.FromNS, q.ToNS)
	if err != nil {
		return err
	}
	from, to := max(-floorMS(-q.FromNS), -maxMS), min(-floorMS(-q.ToNS), maxMS)
	views := fmt.Sprintf(`WITH flows AS NOT MATERIALIZED (SELECT * FROM %s WHERE %s), canonical AS NOT MATERIALIZED (SELECT * FROM flows WHERE (marks & 1) <> 0),
pairs_1h AS NOT MATERIALIZED (SELECT * FROM %s) SELECT * FROM (
`, askFlows, endsIn(from, to), one.Rollup(time.Hour, from*1e6, to*1e6))
	end := "\n) AS answer"
	if q.Rows > 0 {
		end += fmt.Sprintf(" LIMIT %d", q.Rows)
	}
	plan, err := dialect.Translate(views+text+end, s.tables(one.(*view).begun), nil) //nolint:forcetypeassert // ours
	if err != nil {
		var e *dialect.Error
		if errors.As(err, &e) {
			e.At = max(e.At-len(views), 0)
		}
		return sqlMistake(err)
	}
	rows, err := s.db.QueryContext(ctx, plan.SQL, plan.Steps)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return sqlMistake(err)
	}
	defer rows.Close()
	return f(rows, kinds(plan))
}

// Limits of questions in SQL.
const (
	sqlRows    = 10_000
	sqlTimeout = 30 * time.Second
	maxMS      = int64(1<<63-1) / 1e6
)

// knownTables reports whether reading a text failed only because the tables' columns are not given: its form is right.
func knownTables(err error) bool {
	var e *dialect.Error
	return errors.As(err, &e) && strings.HasPrefix(e.Message, "there is no table")
}

func sqlMistake(err error) error { return &store.SQLError{Message: err.Error()} }

// kinds names the types of an answer's columns in the views' SQL.
func kinds(plan dialect.Plan) func(int, *sql.ColumnType) string {
	return func(i int, t *sql.ColumnType) string {
		if i < len(plan.Columns) && plan.Columns[i].Type != "" {
			return plan.Columns[i].Type
		}
		return t.DatabaseTypeName()
	}
}
