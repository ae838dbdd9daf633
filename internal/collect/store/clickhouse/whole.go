package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// An insert is a part for each day and shard, each of which is there as a whole or not at all, and the server notes a token with each. Without
// replicas it notes that a moment before the part is there, and the view that counts hours may store before the rows do. A server that was killed in
// between takes an insert that comes again for one that it has. So what may have come before is looked for (ADR 49):
//
//  1. The rows are put into a table of the session.
//  2. Those of which there is none with the same key are stored, under a token of their own: who does the same at the same time stores nothing. That
//     may be cut off where the first insert was; then another token is next, until no row is missing.
//  3. Their hours are counted again. What the table of hours counts is only compared with what it was when an hour was rolled up: too much makes the
//     hour be rolled up again.
//
// Replicas note token and part in one step: of them only hours are counted again.

// mostAgain bounds the tokens under which one insert is tried; a server that was killed as often while it stored one message has other troubles.
const mostAgain = 10

// completeWait bounds one attempt: in an hour with very many rows it takes a while to find some.
const completeWait = 10 * time.Minute

// errLacking says that rows do not stay where they are stored: somebody deletes or hides them.
var errLacking = errors.New("rows that were stored are not found")

// expiring is how long before their end rows are no longer looked for: the clocks of servers differ.
const expiring = time.Hour

// knownBlocks is what the server calls the number of blocks that it took for stored.
const knownBlocks = "DuplicatedInsertedBlocks"

// store sends a block; it is stored when there is no error. The server takes a token once. again says that an earlier attempt may have stored parts of
// the block.
func (s *Store) store(ctx context.Context, b *block, token string, again bool) error {
	known, err := s.put(ctx, b, token)
	if err == nil && (known || again) {
		err = s.complete(ctx, b, token)
	}
	return err
}

// put is one attempt. known says that a server took parts of the block for stored; what shards do for another server it does not tell.
func (s *Store) put(ctx context.Context, b *block, token string) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, insertWait)
	defer cancel()
	c, err := s.dialer.dial(ctx, s.cfg.Database)
	if err != nil {
		return false, err
	}
	defer c.Close()
	err = c.Do(ctx, ch.Query{Body: s.insert, Input: b.in, Settings: insertSettings(token), OnProfileEvents: func(_ context.Context, events []ch.ProfileEvent) error {
		for i := range events {
			known = known || events[i].Name == knownBlocks && events[i].Value > 0
		}
		return nil
	}})
	return known, plainError(err)
}

// complete stores the rows of a block that are missing.
func (s *Store) complete(ctx context.Context, b *block, token string) error {
	ctx, cancel := context.WithTimeout(ctx, completeWait)
	defer cancel()
	c, err := s.dialer.dial(ctx, s.cfg.Database)
	if err != nil {
		return err
	}
	defer c.Close()
	run := func(q ch.Query, settings ...ch.Setting) error {
		q.Settings = append(questionSettings(Config{}), settings...) // the bounds of questions do not bound what is stored
		return plainError(c.Do(ctx, q))
	}
	names := strings.Join(fieldNames(), ", ")
	typed := make([]string, len(fields))
	for i, f := range fields {
		typed[i] = f.name + " " + f.kind()
	}
	if err := run(ch.Query{Body: "CREATE TEMPORARY TABLE again (" + strings.Join(typed, ", ") + ") ENGINE = Memory"}); err != nil {
		return err
	}
	if err := run(ch.Query{Body: "INSERT INTO again (" + names + ") VALUES", Input: b.in}); err != nil {
		return err
	}
	stays := "true"
	if s.cfg.KeepFor > 0 {
		stays = fmt.Sprintf("t_end > fromUnixTimestamp64Milli(toInt64(%d), 'UTC')", s.cfg.Now().Add(expiring-s.cfg.KeepFor).UnixMilli())
	}
	if !s.cfg.Replicated {
		// rows that are being corrected are among the corrected ones from before they are deleted until long after they are back
		same := "t_end >= (SELECT min(t_end) FROM again) AND t_end <= (SELECT max(t_end) FROM again) AND toStartOfHour(t_end) IN (SELECT toStartOfHour(t_end) FROM again)" +
			" AND flow_id IN (SELECT flow_id FROM again) AND (flow_id, %[2]s) IN (SELECT flow_id, %[1]s FROM again)"
		here := func(table, key string) string {
			return "SELECT flow_id, " + key + " FROM " + s.ddl.table(table) + " WHERE " + fmt.Sprintf(same, rowKey, key)
		}
		lacking := " FROM again WHERE " + stays + " AND (flow_id, " + rowKey + ") NOT IN (" + here(flowsTable, rowKey) + " UNION ALL " + here(correctedTable, "row_key") + ")"
		for n := 0; ; n++ {
			var column proto.ColUInt64
			rows := uint64(0)
			err := run(ch.Query{Body: "SELECT count() AS n" + lacking, Result: proto.Results{{Name: "n", Data: &column}}, OnResult: func(context.Context, proto.Block) error {
				for _, v := range column {
					rows += v
				}
				return nil
			}})
			if err != nil {
				return err
			}
			if rows == 0 {
				break
			}
			if n == mostAgain {
				return errLacking
			}
			// one thread, so that whoever does the same gives the server the same blocks
			settings := append(insertSettings(fmt.Sprintf("%s/again-%d", token, n+1)), ch.Setting{Key: "max_threads", Value: "1"}, ch.Setting{Key: "max_insert_threads", Value: "1"})
			if err := run(ch.Query{Body: "INSERT INTO " + s.ddl.table(flowsTable) + " (" + names + ") SELECT " + names + lacking}, settings...); err != nil {
				return err
			}
			s.cfg.Log.Warn("the server took an insert for stored and did not have all of its rows; they are stored now", "store", s.cfg.String(), "rows", rows)
		}
	}
	return run(ch.Query{Body: "INSERT INTO " + s.ddl.table(hoursTable) + " (hour, rows) SELECT " + hourOf + " AS hour, count() FROM again WHERE " + stays + " GROUP BY hour"},
		ch.Setting{Key: "insert_deduplicate", Value: "0"})
}
