package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"

	"crosstap/internal/collect/store"
)

// schemaVersion is the number of the last migration.
const schemaVersion = 4

// ErrNewerSchema says that a newer version of crosstap has changed the tables.
var ErrNewerSchema = errors.New("the tables were changed by a newer version")

// names of the tables.
const (
	flowsTable  = "flows"
	hoursTable  = "hours"
	rollupTable = "pairs_1h"
	rolledTable = "rolled"
	gapsTable   = "gaps"
	localSuffix = "_local"

	correctedTable   = "corrected"
	correctionsTable = "corrections"
	lookedTable      = "looked"
	turnsTable       = "turns"
	uncertainTable   = "uncertain"
	countsTable      = "counts"
)

// serverTypes are the types of the views' SQL on the server.
var serverTypes = map[string]string{
	"UTINYINT": "UInt8", "USMALLINT": "UInt16", "UINTEGER": "UInt32", "UBIGINT": "UInt64", "BIGINT": "Int64", "DOUBLE": "Float64", "UUID": "IPv6",
	"VARCHAR": "LowCardinality(String)", "TIMESTAMP": "DateTime64(3, 'UTC')",
}

// ddl writes the statements that make the tables.
type ddl struct{ cfg Config }

// on is behind the name of what is made on every server.
func (d ddl) on() string {
	if d.cfg.Cluster == "" || d.cfg.EachServer {
		return ""
	}
	return " ON CLUSTER " + d.cfg.Cluster
}

// table is a name with its database.
func (d ddl) table(name string) string { return "`" + d.cfg.Database + "`." + name }

// local is the table that holds what a server has of another.
func (d ddl) local(name string) string {
	if d.cfg.Cluster == "" {
		return d.table(name)
	}
	return d.table(name + localSuffix)
}

// engine is one of the MergeTree family, replicated or not.
func (d ddl) engine(kind, name, args string) string {
	if !d.cfg.Replicated {
		return kind + "(" + args + ")"
	}
	if args != "" {
		args = ", " + args
	}
	return fmt.Sprintf("Replicated%s('/clickhouse/tables/{shard}/%s/%s', '{replica}'%s)", kind, d.cfg.Database, name, args)
}

// window makes the server recognise inserts that come again.
func (d ddl) window() string {
	if d.cfg.Replicated {
		return "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"
	}
	return "non_replicated_deduplication_window = 10000"
}

// made gives the statements for one table: itself, and on a cluster the one that spreads over it.
func (d ddl) made(name, columns, kind, args, rest, shard string) []string {
	out := []string{fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s%s (%s) ENGINE = %s %s", d.local(name), d.on(), columns, d.engine(kind, name, args), rest)}
	if d.cfg.Cluster != "" {
		out = append(out, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s%s AS %s ENGINE = Distributed(%s, %s, %s%s, %s)", d.table(name), d.on(), d.local(name), d.cfg.Cluster, d.cfg.Database,
			name, localSuffix, shard))
	}
	return out
}

// forever is from where on rows stay: the server's times end in 2106.
const forever = 50 * 365 * 24 * time.Hour

func ttl(column string, keep time.Duration) string {
	if keep <= 0 || keep > forever {
		return ""
	}
	return fmt.Sprintf("TTL toDateTime(%s) + toIntervalSecond(%d) ", column, int64(keep/time.Second))
}

// hourOf is the hour of a row.
const hourOf = "toDateTime64(intDiv(toUnixTimestamp64Milli(t_end), 3600000) * 3600, 3, 'UTC')"

// first are the statements of version 1.
func (d ddl) first() []string {
	var rows, sums []string
	for _, f := range fields {
		rows = append(rows, f.name+" "+f.stored)
	}
	rows = append(rows, "INDEX dst_addr dst TYPE bloom_filter(0.01) GRANULARITY 2", "INDEX src_addr src TYPE bloom_filter(0.01) GRANULARITY 2", "INDEX flow flow_id TYPE bloom_filter(0.01) GRANULARITY 2")
	for _, c := range store.RollupColumns {
		kind := serverTypes[c.Type]
		if c.Name == "seen_by" || c.Name == "seen_other" {
			kind = "String"
		}
		sums = append(sums, c.Name+" "+kind+" CODEC(ZSTD(1))")
	}
	sums = append(sums, "gen UInt64 CODEC(ZSTD(1))")
	out := d.made(flowsTable, strings.Join(rows, ", "), "MergeTree", "",
		"PARTITION BY toYYYYMMDD(t_end) ORDER BY (toStartOfHour(t_end), segment, src, dst, t_end) "+ttl("t_end", d.cfg.KeepFor)+"SETTINGS ttl_only_drop_parts = 1, "+d.window(),
		"cityHash64(bitAnd(flow_id, 4294967295), src, dst)")
	out = append(out, d.made(hoursTable, "hour DateTime64(3, 'UTC'), rows UInt64", "SummingMergeTree", "rows", "ORDER BY hour SETTINGS "+d.window(), "rand()")...)
	out = append(out, fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s%s TO %s AS SELECT %s AS hour, count() AS rows FROM %s GROUP BY hour",
		d.table("count_hours"), d.on(), d.local(hoursTable), hourOf, d.local(flowsTable)))
	out = append(out, d.made(rollupTable, strings.Join(sums, ", "), "MergeTree", "", "PARTITION BY toYYYYMM(bucket) ORDER BY (bucket, segment, src, dst) "+ttl("bucket", d.cfg.KeepRollups)+"SETTINGS "+d.window(),
		"cityHash64(segment, src, dst)")...)
	out = append(out, d.made(rolledTable, "hour DateTime64(3, 'UTC'), gen UInt64, rows UInt64", "ReplacingMergeTree", "gen", "ORDER BY hour", "toUnixTimestamp64Milli(hour)")...)
	return append(out, d.made(gapsTable, "from_ns Int64, to_ns Int64, scope LowCardinality(String), who String, reason String, lost UInt64, noted DateTime64(3, 'UTC')",
		"MergeTree", "", "PARTITION BY toYYYYMM(noted) ORDER BY (noted, from_ns) TTL toDateTime(noted) + toIntervalDay(400)", "rand()")...)
}

// second are the statements of version 2: tables for correcting rows, and rows that survive the loss of power.
func (d ddl) second() []string {
	rows := make([]string, 0, len(fields)+2)
	for _, f := range fields {
		rows = append(rows, f.name+" "+f.stored)
	}
	rows = append(rows, "row_key UInt64 CODEC(ZSTD(1))", "gen UInt64")
	out := d.made(correctedTable, strings.Join(rows, ", "), "MergeTree", "", "PARTITION BY gen ORDER BY (flow_id, row_key)", "cityHash64(bitAnd(flow_id, 4294967295), src, dst)")
	out = append(out, d.made(correctionsTable, "gen UInt64, hours Array(Int64), step UInt8, at DateTime64(3, 'UTC')", "MergeTree", "", "ORDER BY (gen, step) TTL toDateTime(at) + toIntervalDay(400)", "gen")...)
	out = append(out, d.made(lookedTable, "hour Int64, version UInt64, rows UInt64, at DateTime('UTC')", "MergeTree", "", "ORDER BY (version, hour) TTL at + toIntervalDay(3)", "version")...)
	// what is confirmed is on the disk
	out = append(out, fmt.Sprintf("ALTER TABLE %s%s MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1", d.local(flowsTable), d.on()))
	return append(out, d.made(turnsTable, "id String, step UInt8, at DateTime64(3, 'UTC')", "MergeTree", "", "ORDER BY (at, id) TTL toDateTime(at) + toIntervalDay(1)", "1")...)
}

// third are the statements of version 3: what elections have left open.
func (d ddl) third() []string {
	return d.made(uncertainTable, "hour Int64, gen UInt64, rows UInt64, packets UInt64, octets UInt64", "ReplacingMergeTree", "gen", "ORDER BY hour", "hour")
}

// migrations are the statements of each version, the first for 1.
func (d ddl) migrations() [][]string { return [][]string{d.first(), d.second(), d.third(), d.fourth()} }

// migrate brings the tables to our version. Every statement can be repeated, so that what was cut off is gone on with.
func (s *Store) migrate(ctx context.Context) error {
	d := ddl{s.cfg}
	run := func(body string) error { return s.dialer.everywhere(ctx, body) }
	if err := run("CREATE DATABASE IF NOT EXISTS `" + s.cfg.Database + "`" + d.on()); err != nil {
		return err
	}
	for _, sql := range d.made("migrations", "version UInt32, at DateTime64(3, 'UTC')", "MergeTree", "", "ORDER BY version", "version") {
		if err := run(sql); err != nil {
			return err
		}
	}
	have, err := s.version(ctx)
	if err != nil {
		return err
	}
	for v := have; v < schemaVersion; v++ {
		for _, sql := range d.migrations()[v] {
			if err := run(sql); err != nil {
				return err
			}
		}
		if _, err := s.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s SELECT %d, now64(3)", d.table("migrations"), v+1)); err != nil {
			return err
		}
	}
	return s.keep(ctx, run)
}

var ddlSettings = []ch.Setting{{Key: "distributed_ddl_task_timeout", Value: "120"}, {Key: "distributed_foreground_insert", Value: "1"}}

// version is that of the tables.
func (s *Store) version(ctx context.Context) (v int, err error) {
	if err := s.db.QueryRowContext(ctx, "SELECT toInt64(max(version)) FROM "+ddl{s.cfg}.table("migrations")).Scan(&v); err != nil {
		return 0, err
	}
	if v > schemaVersion {
		return v, fmt.Errorf("%w (version %d, this one knows %d)", ErrNewerSchema, v, schemaVersion)
	}
	return v, nil
}

// keep sets how long rows stay, where the tables say otherwise.
func (s *Store) keep(ctx context.Context, run func(string) error) error {
	d := ddl{s.cfg}
	for _, t := range []struct {
		name, column string
		keep         time.Duration
	}{{flowsTable, "t_end", s.cfg.KeepFor}, {rollupTable, "bucket", s.cfg.KeepRollups}} {
		name := strings.TrimPrefix(d.local(t.name), "`"+s.cfg.Database+"`.")
		var made string
		if err := s.db.QueryRowContext(ctx, "SELECT create_table_query FROM system.tables WHERE database = {p1:String} AND name = {p2:String}", s.cfg.Database, name).Scan(&made); err != nil {
			return err
		}
		want := strings.TrimSpace(ttl(t.column, t.keep))
		switch {
		case want == "" && strings.Contains(made, " TTL toDateTime("):
			if err := run(fmt.Sprintf("ALTER TABLE %s%s REMOVE TTL", d.local(t.name), d.on())); err != nil {
				return err
			}
		case want != "" && !strings.Contains(made, want):
			if err := run(fmt.Sprintf("ALTER TABLE %s%s MODIFY %s", d.local(t.name), d.on(), want)); err != nil {
				return err
			}
		}
	}
	return nil
}
