package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"crosstap/internal/flow"
)

// Stored rows are corrected so that every answer sees all of a correction or nothing of it:
//
//  1. The rows as they shall be are written to the table corrected.
//  2. One row of the table corrections puts them in force: views read them in place of the rows that they correct.
//  3. The rows that they correct are deleted, and they are copied to where the others are.
//  4. Another row of the table corrections says that it is done: views read the rows only.
//
// What was broken off before step 2 has changed nothing; what was broken off later is gone on with by whoever settles next.

// Steps of a correction.
const (
	inForce = 1 + iota
	corrected
)

// rowKey tells the rows of a flow apart. It is made of what corrections leave as it is.
const rowKey = "cityHash64(observer_id, direction, role, sampling, t_start, t_end, t_recv, exporter, domain, point, src, dst, src_mac, dst_mac, in_if, out_if, src_port, dst_port, proto, octets, packets)"

// correction is one under way.
type correction struct {
	s      *Store
	c      *ch.Client
	gen    uint64
	set    []string // columns that it changes
	fixes  *fixes
	hours  []int64 // ms
	staged int     // rows
}

// fixes are rows by their keys, with what they shall be.
type fixes struct {
	flow, key proto.ColUInt64
	fill      []filler
	in        proto.Input
}

// fixRows is how many rows are looked up at a time, stageRows how many one correction changes or more.
const (
	fixRows   = 200_000
	stageRows = 5_000_000
)

func newFixes(set []string) (f *fixes, columns string) {
	f = &fixes{}
	f.in = proto.Input{{Name: "flow_id", Data: &f.flow}, {Name: "row_key", Data: &f.key}}
	all := []string{"flow_id UInt64", "row_key UInt64"}
	for _, x := range fields {
		if !slices.Contains(set, x.name) {
			continue
		}
		fill := x.make()
		f.fill, f.in, all = append(f.fill, fill), append(f.in, proto.InputColumn{Name: "new_" + x.name, Data: fill.input()}), append(all, "new_"+x.name+" "+x.kind())
	}
	return f, strings.Join(all, ", ")
}

// correct runs work on each hour, and applies what it finds. changed are the hours with corrected rows.
func (s *Store) correct(ctx context.Context, hours []hour, set []string, work func(context.Context, hour, *correction) error) (changed []int64, err error) {
	for len(hours) > 0 {
		n, done, err := s.correctSome(ctx, hours, set, work)
		changed = append(changed, done...)
		if err != nil {
			return changed, fmt.Errorf("correct rows: %w", err)
		}
		hours = hours[n:]
	}
	return changed, nil
}

func (s *Store) correctSome(ctx context.Context, hours []hour, set []string, work func(context.Context, hour, *correction) error) (n int, changed []int64, err error) {
	k := &correction{s: s, gen: s.nextGen(0), set: set}
	if k.c, err = s.dialer.dial(ctx, s.cfg.Database); err != nil {
		return 0, nil, err
	}
	defer k.c.Close()
	for n < len(hours) && k.staged < stageRows {
		was := k.staged
		var columns string
		k.fixes, columns = newFixes(set)
		if err := k.run(ctx, "CREATE TEMPORARY TABLE fixes ("+columns+") ENGINE = Memory"); err != nil {
			return n, nil, err
		}
		if err := work(ctx, hours[n], k); err != nil {
			return n, nil, err
		}
		if err := k.stage(ctx, hours[n].atMS); err != nil {
			return n, nil, err
		}
		if err := k.run(ctx, "DROP TEMPORARY TABLE fixes"); err != nil {
			return n, nil, err
		}
		if k.staged > was {
			k.hours = append(k.hours, hours[n].atMS)
		}
		n++
	}
	if len(k.hours) == 0 {
		return n, nil, nil
	}
	if err := s.noteCorrection(ctx, k.gen, k.hours, inForce); err != nil {
		return n, nil, err
	}
	if err := wait(ctx, s.cfg.grace()); err != nil { // views that do not know of it may still ask; one that is older looks again (view.fresh)
		return n, nil, err
	}
	s.cfg.Log.Info("rows are corrected", "store", s.cfg.String(), "rows", k.staged, "hours", len(k.hours))
	return n, k.hours, s.apply(ctx, k.gen, k.hours)
}

// nextGen numbers corrections and roll-ups by the time, also when the clock stands still or is set back.
func (s *Store) nextGen(after uint64) uint64 {
	s.lastGen = max(uint64(s.cfg.Now().UnixNano()), s.lastGen+1, after+1)
	return s.lastGen
}

// grace is how long a view may ask without looking whether corrections have come into force.
func (c Config) grace() time.Duration {
	if c.SettleWait > 0 {
		return c.SettleWait
	}
	return 5 * time.Second
}

func (k *correction) run(ctx context.Context, body string) error {
	settings := append(questionSettings(k.s.cfg), ch.Setting{Key: "distributed_foreground_insert", Value: "1"}, ch.Setting{Key: "insert_deduplicate", Value: "0"}, ch.Setting{Key: "join_use_nulls", Value: "0"})
	return plainError(k.c.Do(ctx, ch.Query{Body: body, Settings: settings}))
}

// add says what a row shall be.
func (k *correction) add(ctx context.Context, hourMS int64, flowID, key uint64, r *flow.Record) error {
	k.fixes.flow.Append(flowID)
	k.fixes.key.Append(key)
	for _, f := range k.fixes.fill {
		f.add(r)
	}
	k.staged++
	if k.fixes.flow.Rows() < fixRows {
		return nil
	}
	return k.stage(ctx, hourMS)
}

// stage writes the rows as they shall be.
func (k *correction) stage(ctx context.Context, hourMS int64) error {
	if k.fixes.flow.Rows() == 0 {
		return nil
	}
	names := make([]string, len(k.fixes.in))
	for i, c := range k.fixes.in {
		names[i] = c.Name
	}
	if err := k.c.Do(ctx, ch.Query{Body: "INSERT INTO fixes (" + strings.Join(names, ", ") + ") VALUES", Input: k.fixes.in}); err != nil {
		return plainError(err)
	}
	k.fixes.flow.Reset()
	k.fixes.key.Reset()
	for _, f := range k.fixes.fill {
		f.reset()
	}
	columns := strings.Join(fieldNames(), ", ")
	var as []string
	for _, name := range fieldNames() {
		if slices.Contains(k.set, name) {
			as = append(as, "x.new_"+name)
			continue
		}
		as = append(as, "f."+name)
	}
	err := k.run(ctx, fmt.Sprintf(`INSERT INTO %s (%s, row_key, gen) SELECT %s, f.row_key, toUInt64(%d) FROM
(SELECT %s, %s AS row_key FROM %s WHERE %s AND flow_id IN (SELECT flow_id FROM fixes)) AS f LEFT SEMI JOIN fixes AS x ON f.flow_id = x.flow_id AND f.row_key = x.row_key`,
		k.s.ddl.table(correctedTable), columns, strings.Join(as, ", "), k.gen, columns, rowKey, k.s.ddl.table(flowsTable), serverHour(hourMS)))
	if err != nil {
		return err
	}
	return k.run(ctx, "TRUNCATE TABLE fixes")
}

// serverHour is true for rows of an hour.
func serverHour(atMS int64) string {
	return fmt.Sprintf("t_end >= fromUnixTimestamp64Milli(toInt64(%d), 'UTC') AND t_end < fromUnixTimestamp64Milli(toInt64(%d), 'UTC')", atMS, atMS+hourMS)
}

func (s *Store) noteCorrection(ctx context.Context, gen uint64, hours []int64, step int) error {
	all := make([]string, len(hours))
	for i, h := range hours {
		all[i] = fmt.Sprint(h)
	}
	_, err := s.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s SELECT toUInt64(%d), arrayMap(x -> toInt64(x), [%s]), toUInt8(%d), now64(3)", s.ddl.table(correctionsTable), gen, strings.Join(all, ", "), step))
	return err
}

// apply is steps 3 and 4.
func (s *Store) apply(ctx context.Context, gen uint64, hours []int64) error {
	if s.cfg.Replicated {
		sync := "SYSTEM SYNC REPLICA" + s.ddl.on() + " " + s.ddl.local(correctedTable)
		if err := s.dialer.everywhere(ctx, sync); err != nil {
			return err
		}
	}
	var when []string
	for _, h := range hours {
		when = append(when, "("+serverHour(h)+")")
	}
	gone := fmt.Sprintf("DELETE FROM %s%s WHERE (%s) AND (flow_id, %s) IN (SELECT flow_id, row_key FROM %s WHERE gen = %d)", s.ddl.local(flowsTable), s.ddl.on(), strings.Join(when, " OR "), rowKey,
		s.ddl.local(correctedTable), gen)
	if err := s.dialer.everywhere(ctx, gone, ch.Setting{Key: "lightweight_deletes_sync", Value: "2"}, ch.Setting{Key: "mutations_sync", Value: "2"},
		ch.Setting{Key: "allow_nondeterministic_mutations", Value: "1"}); err != nil {
		return err
	}
	columns := strings.Join(fieldNames(), ", ")
	c, err := s.dialer.dial(ctx, s.cfg.Database)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Do(ctx, ch.Query{
		Body:     fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE gen = %d", s.ddl.table(flowsTable), columns, columns, s.ddl.table(correctedTable), gen),
		Settings: append(questionSettings(s.cfg), insertSettings(uuid.NewString())...),
	})
	if err != nil {
		return plainError(err)
	}
	return s.noteCorrection(ctx, gen, hours, corrected)
}

// goOn finishes what another process had begun, and clears away what is done.
func (s *Store) goOn(ctx context.Context) error {
	begun, err := s.corrections(ctx, -1<<62, 1<<62)
	if err != nil {
		return err
	}
	for _, b := range begun {
		if err := s.apply(ctx, b.gen, b.hours); err != nil {
			return fmt.Errorf("correct rows: go on: %w", err)
		}
	}
	var old []uint64
	var gen uint64
	err = s.eachRow(ctx, fmt.Sprintf("SELECT DISTINCT gen FROM %s WHERE gen < {p1:UInt64}", s.ddl.table(correctedTable)), []any{uint64(s.cfg.Now().Add(-turnFor).UnixNano())}, []any{&gen}, func() error {
		old = append(old, gen)
		return nil
	})
	if err != nil {
		return err
	}
	for _, gen := range old {
		if err := s.dialer.everywhere(ctx, fmt.Sprintf("ALTER TABLE %s%s DROP PARTITION %d", s.ddl.local(correctedTable), s.ddl.on(), gen)); err != nil {
			return err
		}
	}
	return nil
}

// begun is a correction in force that is not done.
type begun struct {
	gen   uint64
	hours []int64
}

// corrections gives those in force that touch hours of a range, oldest first.
func (s *Store) corrections(ctx context.Context, fromMS, toMS int64) (out []begun, err error) {
	query := fmt.Sprintf(`SELECT gen, hour FROM (SELECT gen, arrayJoin(any(hours)) AS hour, max(step) AS last FROM %s GROUP BY gen) WHERE last = %d AND hour >= {p1:Int64} AND hour < {p2:Int64} ORDER BY gen, hour`,
		s.ddl.table(correctionsTable), inForce)
	var gen uint64
	var at int64
	err = s.eachRow(ctx, query, []any{floorHour(max(fromMS, -1<<52)), min(toMS, 1<<52)}, []any{&gen, &at}, func() error {
		if n := len(out); n == 0 || out[n-1].gen != gen {
			out = append(out, begun{gen: gen})
		}
		out[len(out)-1].hours = append(out[len(out)-1].hours, at)
		return nil
	})
	return out, err
}

// overlaid is the table of rows while corrections are in force.
func (d ddl) overlaid(all []begun) string {
	if len(all) == 0 {
		return d.table(flowsTable)
	}
	columns := strings.Join(fieldNames(), ", ")
	var gens, when []string
	for _, b := range all {
		gens = append(gens, fmt.Sprint(b.gen))
		for _, h := range b.hours {
			when = append(when, "("+serverHour(h)+")")
		}
	}
	in := strings.Join(gens, ", ")
	return fmt.Sprintf("(SELECT %[1]s FROM %[2]s WHERE NOT ((%[3]s) AND (flow_id, %[4]s) IN (SELECT flow_id, row_key FROM %[5]s WHERE gen IN (%[6]s))) UNION ALL SELECT %[1]s FROM %[5]s WHERE gen IN (%[6]s))",
		columns, d.table(flowsTable), strings.Join(when, " OR "), rowKey, d.table(correctedTable), in)
}
