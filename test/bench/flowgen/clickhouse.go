package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"
)

// beside asks a store directory and ClickHouse the same questions over the same rows, compares the documents, and tells what each took. CPU of ClickHouse is its
// process's and ours.
func beside(dir string, rows int, days float64, observers int, seed uint64, memory int64, rounds int, only string) (err error) {
	span := int64(days * 24 * float64(time.Hour))
	if there, err := os.ReadDir(dir); err != nil || len(there) == 0 {
		if err := fill(dir, newWorld(seed, observers, end-span, span/int64(rows)), rows); err != nil {
			return err
		}
	}
	folder, err := os.MkdirTemp("", "crosstap-flowgen-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	srv, err := chtest.Launch(folder, "")
	if err != nil {
		return err
	}
	defer srv.Kill()
	theirs := func() time.Duration { return cpu() + cpuOf(srv.PID()) }
	db, err := clickhouse.Open(context.Background(), clickhouse.Config{Addrs: []string{srv.Addr}, RollAfter: -1, AppendWait: time.Hour, QueryThreads: 2, QueryMemory: memory})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := fillClickHouse(db, newWorld(seed, observers, end-span, span/int64(rows)), rows, theirs); err != nil {
		return err
	}
	s, err := segment.Open(segment.Config{Dir: dir, ReadOnly: true, QueryMemory: memory, QueryThreads: 2})
	if err != nil {
		return err
	}
	defer func() { s.Close() }()
	ours, other := report.New(s), report.New(db)
	fmt.Println("\nquestion                               directory: best     CPU    ClickHouse: best     CPU")
	for _, q := range documents(time.Unix(0, end), time.Duration(span)) {
		if !strings.Contains(q.name, only) {
			continue
		}
		want, wall, used, err := timed(ours, q, rounds, cpu)
		if err != nil {
			return err
		}
		got, wall2, used2, err := timed(other, q, rounds, theirs)
		if err != nil {
			return err
		}
		alike := ""
		if !bytes.Equal(want, got) {
			alike = "  DIFFERENT: " + difference(want, got)
		}
		fmt.Printf("%-38s %12.3f s %7.3f s %15.3f s %7.3f s%s\n", q.name, wall.Seconds(), used.Seconds(), wall2.Seconds(), used2.Seconds(), alike)
	}
	return nil
}

func fillClickHouse(db *clickhouse.Store, w *world, rows int, used func() time.Duration) error {
	ctx, before := context.Background(), used()
	batch := make([]flow.Record, 512)
	for n := 0; n < rows; {
		got := w.fill(batch)
		if err := db.Append(ctx, batch[:got]); err != nil {
			return err
		}
		n += got
	}
	if err := db.Flush(ctx); err != nil {
		return err
	}
	stored := used() - before
	if err := db.Settle(ctx); err != nil {
		return err
	}
	st := db.Stats()
	fmt.Printf("ClickHouse: %d rows stored %.2f M rows/CPU-s, settled and rolled up too %.2f; %.2f B/row, with roll-ups %.2f\n", rows, float64(rows)/stored.Seconds()/1e6,
		float64(rows)/(used()-before).Seconds()/1e6, float64(st.Bytes)/float64(rows), float64(st.Bytes+st.RollupBytes)/float64(rows))
	return nil
}

// timed gives the document, and the least wall time with its processor time.
func timed(r *report.Reports, q asked, rounds int, used func() time.Duration) (text []byte, best, spent time.Duration, err error) {
	for n := range rounds {
		at, before := time.Now(), used()
		a, err := q.ask(r)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("%s: %w", q.name, err)
		}
		if took := time.Since(at); n == 0 || took < best {
			best, spent = took, used()-before
		}
		if text, err = json.MarshalIndent(a, "", " "); err != nil {
			return nil, 0, 0, err
		}
	}
	return text, best, spent, nil
}

// asked is a question whose answer is kept.
type asked struct {
	name string
	ask  func(*report.Reports) (any, error)
}

// documents are questions over rows that end at to.
func documents(to time.Time, span time.Duration) (all []asked) {
	ctx := context.Background()
	add := func(name string, back time.Duration, q report.Query, ask func(*report.Reports, report.Query) (any, error)) {
		if back > span {
			return
		}
		q.Since, q.Until = to.Add(-back), to
		all = append(all, asked{name + ", " + spanText(back), func(r *report.Reports) (any, error) { return ask(r, q) }})
	}
	for _, back := range []time.Duration{hour, day, 7 * day} {
		add("top pairs of a VNI", back, report.Query{Filter: "vni = 5017", Limit: 10}, func(r *report.Reports, q report.Query) (any, error) { return r.Pairs(ctx, q) })
	}
	for _, back := range []time.Duration{day, 7 * day} {
		add("page of a VM", back, report.Query{Name: "mq-0512"}, func(r *report.Reports, q report.Query) (any, error) { return r.VM(ctx, q) })
		add("map", back, report.Query{}, func(r *report.Reports, q report.Query) (any, error) { return r.Map(ctx, q) })
		add("networks", back, report.Query{}, func(r *report.Reports, q report.Query) (any, error) { return r.Networks(ctx, q) })
		add("top machines", back, report.Query{By: []string{"vm"}}, func(r *report.Reports, q report.Query) (any, error) { return r.Top(ctx, q) })
	}
	add("pairs, all", hour, report.Query{Limit: 100}, func(r *report.Reports, q report.Query) (any, error) { return r.Pairs(ctx, q) })
	add("pairs, all", day, report.Query{Limit: 100}, func(r *report.Reports, q report.Query) (any, error) { return r.Pairs(ctx, q) })
	add("conversations of a VM", hour, report.Query{Filter: "vm = mq-0512", Limit: 100}, func(r *report.Reports, q report.Query) (any, error) { return r.Conversations(ctx, q) })
	add("flows of a VM", hour, report.Query{Filter: "vm = mq-0512", Limit: 100}, func(r *report.Reports, q report.Query) (any, error) { return r.Flows(ctx, q) })
	add("series by tenant", hour, report.Query{By: []string{"tenant"}}, func(r *report.Reports, q report.Query) (any, error) { return r.Series(ctx, q) })
	add("first page", hour, report.Query{}, func(r *report.Reports, q report.Query) (any, error) { return r.Overview(ctx, q) })
	return all
}

// difference is the first line that two documents do not share.
func difference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d:%s |%s", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// cpuOf is the processor time of a process.
func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
