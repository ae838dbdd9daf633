package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Resource is one resource in force.
type Resource struct {
	Kind, Name string
	Text       string // YAML, as it was given, with its comments
	Generation int    // how often it was changed
	Applied    time.Time
	By         string
	Change     int64
}

// Edit is what a change did to one resource: "" for no resource.
type Edit struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// TextOnly says that both texts mean the same: comments or layout differ. The resource goes on to have been applied when it was.
	TextOnly bool `json:"text_only,omitempty"`
}

// The states of a change.
const (
	Running     = "running"
	Done        = "done"
	Partly      = "partly"      // some platforms did it, others were rolled back
	Failed      = "failed"      // nothing of it is there
	Interrupted = "interrupted" // its process ended; what it wanted is in force, and the next run completes it
)

// Change is one entry of the history.
type Change struct {
	ID       int64     `json:"id"`
	At       time.Time `json:"at"`
	End      time.Time `json:"end,omitzero"`
	Who      string    `json:"who"`
	Why      string    `json:"why,omitempty"`
	Action   string    `json:"action"` // apply, delete, rollback, follow, repair, expire
	State    string    `json:"state"`
	Report   string    `json:"report,omitempty"` // JSON, of whoever made the change
	Edits    []Edit    `json:"edits,omitempty"`
	Resource []string  `json:"resources,omitempty"` // "Tap blue-db" of Edits, in lists
}

// Step is one entry of the journal.
type Step struct {
	Change   int64     `json:"change"`
	N        int       `json:"n"`
	Platform string    `json:"platform"`
	Policy   string    `json:"policy"`
	Step     string    `json:"step"`  // JSON of platform.Step
	State    string    `json:"state"` // doing, done, undone, failed
	Error    string    `json:"error,omitempty"`
	At       time.Time `json:"at"`
}

// ErrNone says that there is no such thing.
var ErrNone = errors.New("there is none")

// Resources returns the resources in force, by kind and name.
func (s *Store) Resources(ctx context.Context) (out []Resource, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT kind, name, text, generation, applied_ms, by, change FROM resources ORDER BY kind, name")
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r Resource
		var at int64
		if err := rows.Scan(&r.Kind, &r.Name, &r.Text, &r.Generation, &at, &r.By, &r.Change); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		r.Applied = fromMS(at)
		out = append(out, r)
	}
	return out, rows.Err()
}

// Begin notes a change with its edits, and puts these in force at once: whoever comes after a crash finds what was wanted. Other
// changes that are still running belong to processes that have ended, or to one that works beside this one: they are left.
func (s *Store) Begin(ctx context.Context, c Change) (id int64, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO changes (at_ms, who, why, action, state) VALUES (?, ?, ?, ?, ?)", ms(c.At), c.Who, c.Why, c.Action, Running)
		if err != nil {
			return err
		}
		if id, err = res.LastInsertId(); err != nil {
			return err
		}
		for _, e := range c.Edits {
			if err := edit(ctx, tx, id, e, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	return id, nil
}

func edit(ctx context.Context, tx *sql.Tx, id int64, e Edit, c Change) error {
	if _, err := tx.ExecContext(ctx, "INSERT INTO edits (change, kind, name, before, after) VALUES (?, ?, ?, ?, ?)", id, e.Kind, e.Name, orNull(e.Before), orNull(e.After)); err != nil {
		return err
	}
	return put(ctx, tx, id, e, c)
}

// put sets a resource to what an edit leaves of it, or removes it.
func put(ctx context.Context, tx *sql.Tx, id int64, e Edit, c Change) error {
	if e.After == "" {
		_, err := tx.ExecContext(ctx, "DELETE FROM resources WHERE kind = ? AND name = ?", e.Kind, e.Name)
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO resources (kind, name, text, generation, applied_ms, by, change) VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6)
		ON CONFLICT (kind, name) DO UPDATE SET text = excluded.text, generation = generation + 1, change = excluded.change,
			applied_ms = CASE WHEN ?7 THEN resources.applied_ms ELSE excluded.applied_ms END, by = CASE WHEN ?7 THEN resources.by ELSE excluded.by END`,
		e.Kind, e.Name, e.After, ms(c.At), c.Who, id, e.TextOnly)
	return err
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Finish notes how a change ended. When it failed its edits are taken back, as far as nobody has made others since.
func (s *Store) Finish(ctx context.Context, id int64, state, report string, at time.Time) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE changes SET state = ?, report = ?, end_ms = ? WHERE id = ?", state, report, ms(at), id); err != nil {
			return err
		}
		if state != Failed {
			return nil
		}
		edits, err := editsOf(ctx, tx, id)
		if err != nil {
			return err
		}
		for _, e := range edits {
			var by int64
			var kept bool // when it was applied: the edit was one of the text alone
			const now = "SELECT change, applied_ms < (SELECT at_ms FROM changes WHERE id = ?) FROM resources WHERE kind = ? AND name = ?"
			err := tx.QueryRowContext(ctx, now, id, e.Kind, e.Name).Scan(&by, &kept)
			if err == nil && by != id || errors.Is(err, sql.ErrNoRows) && e.After != "" {
				continue // somebody else's by now
			}
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			back := Edit{Kind: e.Kind, Name: e.Name, After: e.Before, TextOnly: kept}
			if err := put(ctx, tx, id, back, Change{At: at, Who: "rollback"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func editsOf(ctx context.Context, q querier, id int64) (out []Edit, err error) {
	rows, err := q.QueryContext(ctx, "SELECT kind, name, COALESCE(before, ''), COALESCE(after, '') FROM edits WHERE change = ? ORDER BY kind, name", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e Edit
		if err := rows.Scan(&e.Kind, &e.Name, &e.Before, &e.After); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// Interrupt marks the changes that are still running. Call it with the lock: their process is gone. It returns how many.
func (s *Store) Interrupt(ctx context.Context) (int64, error) {
	var n int64
	err := s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE changes SET state = ? WHERE state = ?", Interrupted, Running)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	return n, nil
}

// Ever returns the names of a kind that are in force or once were, as far as the history goes back.
func (s *Store) Ever(ctx context.Context, kind string) (map[string]bool, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT name FROM edits WHERE kind = ? UNION SELECT name FROM resources WHERE kind = ?", kind, kind)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		out[name] = true
	}
	return out, rows.Err()
}

// Latest returns the number of the newest change, 0 when there is none: whoever has seen it knows everything.
func (s *Store) Latest(ctx context.Context) (id int64, err error) {
	if err := s.db.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM changes").Scan(&id); err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	return id, nil
}

// Journal notes the states of steps of a change, all of them at once.
func (s *Store) Journal(ctx context.Context, steps ...Step) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, st := range steps {
			_, err := tx.ExecContext(ctx, `INSERT INTO steps (change, n, platform, policy, step, state, error, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (change, n) DO UPDATE SET state = excluded.state, error = excluded.error, at_ms = excluded.at_ms`,
				st.Change, st.N, st.Platform, st.Policy, st.Step, st.State, st.Error, ms(st.At))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

const changeColumns = "id, at_ms, end_ms, who, why, action, state, report"

func scanChange(row interface{ Scan(...any) error }) (c Change, err error) {
	var at, end int64
	err = row.Scan(&c.ID, &at, &end, &c.Who, &c.Why, &c.Action, &c.State, &c.Report)
	c.At, c.End = fromMS(at), fromMS(end)
	return c, err
}

// Changes returns the newest changes first, without their edits' texts; those before an id, 0 for the newest.
func (s *Store) Changes(ctx context.Context, before int64, limit int) (out []Change, err error) {
	out, err = s.changes(ctx, "id < ?", []any{beforeID(before)}, limit)
	for i := range out {
		edits, err := editsOf(ctx, s.db, out[i].ID)
		if err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		for _, e := range edits {
			out[i].Resource = append(out[i].Resource, e.Kind+" "+e.Name)
		}
	}
	return out, err
}

// ChangesOf is Changes of those that have changed one resource, each with its edit of it.
func (s *Store) ChangesOf(ctx context.Context, kind, name string, before int64, limit int) (out []Change, err error) {
	const its = "id < ? AND id IN (SELECT change FROM edits WHERE kind = ? AND name = ?)"
	out, err = s.changes(ctx, its, []any{beforeID(before), kind, name}, limit)
	for i := range out {
		edits, err := editsOf(ctx, s.db, out[i].ID)
		if err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		out[i].Edits = slices.DeleteFunc(edits, func(e Edit) bool { return e.Kind != kind || e.Name != name })
	}
	return out, err
}

func beforeID(id int64) int64 {
	if id <= 0 {
		return 1 << 62
	}
	return id
}

// changes returns changes without their edits.
func (s *Store) changes(ctx context.Context, where string, args []any, limit int) (out []Change, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT "+changeColumns+" FROM changes WHERE "+where+" ORDER BY id DESC LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		c, err := scanChange(rows)
		if err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return out, nil
}

// Change returns one change with its edits, and its journal.
func (s *Store) Change(ctx context.Context, id int64) (Change, []Step, error) {
	c, err := scanChange(s.db.QueryRowContext(ctx, "SELECT "+changeColumns+" FROM changes WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil, fmt.Errorf("state: change %d: %w", id, ErrNone)
	}
	if err == nil {
		c.Edits, err = editsOf(ctx, s.db, id)
	}
	if err != nil {
		return c, nil, fmt.Errorf("state: %w", err)
	}
	steps, err := s.steps(ctx, id)
	return c, steps, err
}

func (s *Store) steps(ctx context.Context, id int64) (out []Step, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT change, n, platform, policy, step, state, error, at_ms FROM steps WHERE change = ? ORDER BY n", id)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var st Step
		var at int64
		if err := rows.Scan(&st.Change, &st.N, &st.Platform, &st.Policy, &st.Step, &st.State, &st.Error, &at); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		st.At = fromMS(at)
		out = append(out, st)
	}
	return out, rows.Err()
}

// Forget removes finished changes from before a moment, with their journal; those of resources in force stay.
func (s *Store) Forget(ctx context.Context, before time.Time) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		const old = "(SELECT id FROM changes WHERE at_ms < ? AND state <> 'running' AND id NOT IN (SELECT change FROM resources))"
		for _, q := range []string{"DELETE FROM steps WHERE change IN " + old, "DELETE FROM edits WHERE change IN " + old, "DELETE FROM changes WHERE id IN " + old} {
			if _, err := tx.ExecContext(ctx, q, ms(before)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}
