package clickhouse

import (
	"context"
	"errors"
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

// takeTurn gives a turn, nil when another process has one. Two who take one at a time both read after they have written: at least one of them sees the other, and
// who sees another gives up.
func (s *Store) takeTurn(ctx context.Context) (*turn, error) {
	t := &turn{s, uuid.NewString()}
	if err := t.write(ctx, turnAsked); err != nil {
		return nil, err
	}
	if err := wait(ctx, s.cfg.visible()); err != nil {
		return nil, err
	}
	first, err := t.others(ctx, "ORDER BY last DESC, asked, id LIMIT 1")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || first[0] != t.id {
		return nil, t.write(ctx, turnOver)
	}
	if err := t.write(ctx, turnTaken); err != nil {
		return nil, err
	}
	if s.cfg.Replicated {
		if err := wait(ctx, s.cfg.visible()); err != nil {
			return nil, errors.Join(err, t.end(ctx))
		}
	}
	taken, err := t.others(ctx, fmt.Sprintf("AND last = %d", turnTaken))
	if err != nil || len(taken) != 1 || taken[0] != t.id {
		return nil, errors.Join(err, t.end(ctx))
	}
	return t, nil
}

// others gives who has a turn or asked for one, and did not give it back.
func (t *turn) others(ctx context.Context, which string) (ids []string, err error) {
	query := fmt.Sprintf(`SELECT id FROM (SELECT id, max(step) AS last, min(at) AS asked FROM %s GROUP BY id) WHERE last < %d AND asked > now64(3) - toIntervalSecond(%d) %s`,
		t.s.ddl.table(turnsTable), turnOver, int(turnFor/time.Second), which)
	var id string
	err = t.s.eachRow(ctx, query, nil, []any{&id}, func() error {
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("turn: %w", err)
	}
	return ids, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
