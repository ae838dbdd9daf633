package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/dialect"
)

// rollEvery is how often hours are looked at.
const rollEvery = time.Minute

// rollLoop settles hours that are over. Several processes may do it: one at a time.
func (s *Store) rollLoop(ctx context.Context) {
	defer s.ended.Done()
	if s.cfg.RollAfter < 0 {
		return
	}
	tick := time.NewTicker(rollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := s.settleOver(ctx, s.cfg.Now().Add(-s.cfg.RollAfter).UnixNano()); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("an hour is not settled yet", "store", s.cfg.String(), "error", err)
		}
	}
}

// rollWait bounds what is done in one turn; a turn is longer.
const rollWait = 30 * time.Minute

// roll makes the roll-up of an hour. Rows that are stored meanwhile make it void, and the next one adds them up too.
func (s *Store) roll(ctx context.Context, h hour) error {
	ctx, cancel := context.WithTimeout(ctx, rollWait)
	defer cancel()
	gen := s.nextGen(h.gen)
	names := make([]string, len(store.RollupColumns))
	for i, c := range store.RollupColumns {
		names[i] = c.Name
	}
	columns := strings.Join(names, ", ")
	plan, err := dialect.Translate("SELECT "+columns+fmt.Sprintf(", %d::UBIGINT AS gen FROM ", gen)+store.RollupRows(askFlows, endsIn(h.atMS, h.atMS+hourMS), time.Hour), s.tables(nil), nil)
	if err != nil {
		return fmt.Errorf("roll-up: %w", err)
	}
	c, err := s.dialer.dial(ctx, s.cfg.Database)
	if err != nil {
		return err
	}
	defer c.Close()
	run := func(body string) error {
		err := c.Do(ctx, ch.Query{Body: body, Settings: append(questionSettings(s.cfg), ch.Setting{Key: "distributed_foreground_insert", Value: "1"})})
		return plainError(err)
	}
	for _, step := range plan.Steps {
		if err := run("CREATE TEMPORARY TABLE `" + step.Name + "` ENGINE = Memory AS\n" + step.SQL); err != nil {
			return fmt.Errorf("roll-up: %w", err)
		}
	}
	if err := run("INSERT INTO " + s.ddl.table(rollupTable) + " (" + columns + ", gen)\n" + plan.SQL); err != nil {
		return fmt.Errorf("roll-up: %w", err)
	}
	err = run(fmt.Sprintf("INSERT INTO %s (hour, gen, rows) SELECT fromUnixTimestamp64Milli(toInt64(%d), 'UTC'), %d, %d", s.ddl.table(rolledTable), h.atMS, gen, h.rows))
	if err != nil || h.gen == 0 {
		return err
	}
	return s.dialer.everywhere(ctx, fmt.Sprintf("ALTER TABLE %s%s DELETE WHERE bucket = fromUnixTimestamp64Milli(toInt64(%d), 'UTC') AND gen < %d", s.ddl.local(rollupTable), s.ddl.on(), h.atMS, gen))
}
