package clickhouse

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Hours are settled by one process at a time. There is no lock in ClickHouse, so processes take turns: each writes down that it wants
// one, waits until everybody can read that, and goes on when nobody else has one and nobody asked earlier.

// turnFor is how long a turn lasts at most; then its process was killed.
const turnFor = 40 * time.Minute

// turn is a turn that a process has.
type turn struct {
	s  *Store
	id string
}

// Steps of a turn.
const (
	turnAsked = 1 + iota
	turnTaken
	turnOver
)

func (t *turn) write(ctx context.Context, step int) error {
	query := "INSERT INTO " + t.s.ddl.table(turnsTable) + " SELECT {p1:String}, {p2:UInt8}, now64(3)"
	if _, err := t.s.db.ExecContext(ctx, query, t.id, step); err != nil {
		return fmt.Errorf("turn: %w", err)
	}
	return nil
}

// takeTurn gives a turn, nil when another process has one.
func (s *Store) takeTurn(ctx context.Context) (*turn, error) {
	t := &turn{s, uuid.NewString()}
	if err := t.write(ctx, turnAsked); err != nil {
		return nil, err
	}
	select {
	case <-time.After(s.cfg.visible()):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var first string
	err := s.db.QueryRowContext(ctx, fmt.Sprintf(`SELECT id FROM (SELECT id, max(step) AS last, min(at) AS asked FROM %s GROUP BY id)
WHERE last < %d AND asked > now64(3) - toIntervalSecond(%d) ORDER BY last DESC, asked, id LIMIT 1`, s.ddl.table(turnsTable), turnOver, int(turnFor/time.Second))).Scan(&first)
	if err != nil {
		return nil, fmt.Errorf("turn: %w", err)
	}
	if first != t.id {
		return nil, t.write(ctx, turnOver)
	}
	return t, t.write(ctx, turnTaken)
}

// end gives the turn back; when that fails it ends by itself after turnFor.
func (t *turn) end(ctx context.Context) error {
	return t.write(context.WithoutCancel(ctx), turnOver)
}

// visible is after what time everybody can read what a server has confirmed.
func (c Config) visible() time.Duration {
	switch {
	case c.SettleWait > 0:
		return c.SettleWait
	case c.Replicated:
		return 5 * time.Second
	}
	return time.Second
}
