// Command flowgen fills a store with the flows of a made-up data centre, tells what they cost, and asks the questions of the reports.
// The same seed gives the same rows.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"

	"github.com/parquet-go/parquet-go"
)

func main() {
	rows := flag.Int("rows", 1_000_000, "rows to make")
	days := flag.Float64("days", 7, "time that they span")
	observers := flag.Int("observers", 1, "observers of each flow, 1 or 2")
	seed := flag.Uint64("seed", 1, "seed")
	dir := flag.String("data", "", "store directory; filled when it is empty")
	memory := flag.Int64("memory", 512, "memory of the query engine, MiB")
	rounds := flag.Int("rounds", 3, "times that each question is asked")
	flag.Parse()
	if err := run(*dir, *rows, *days, *observers, *seed, *memory<<20, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "flowgen:", err)
		os.Exit(1)
	}
}

// end is when the last row ends: 2026-11-01 00:00 UTC.
const end = int64(1_793_491_200) * 1e9

func run(dir string, rows int, days float64, observers int, seed uint64, memory int64, rounds int) error {
	if dir == "" || observers < 1 || observers > 2 {
		return fmt.Errorf("--data and 1 or 2 --observers are needed")
	}
	span := int64(days * 24 * float64(time.Hour))
	if there, err := os.ReadDir(dir); err != nil || len(there) == 0 {
		if err := fill(dir, newWorld(seed, observers, end-span, span/int64(rows)), rows); err != nil {
			return err
		}
	}
	return ask(dir, span, memory, rounds)
}

// fill makes the rows and stores them.
func fill(dir string, w *world, rows int) error {
	s, err := segment.Open(segment.Config{Dir: dir, SealGrace: 1e6 * time.Hour, AppendWait: time.Hour, MergeFiles: 1 << 30, SealRows: 500_000})
	if err != nil {
		return err
	}
	before := cpu()
	batch := make([]flow.Record, 512)
	for n := 0; n < rows; {
		got := w.fill(batch)
		if err := s.Append(context.Background(), batch[:got]); err != nil {
			return err
		}
		n += got
	}
	if err := s.Flush(context.Background()); err != nil {
		return err
	}
	stored := cpu()
	if err := s.Settle(context.Background()); err != nil {
		return err
	}
	sealed, st := cpu(), s.Stats()
	n := float64(st.Rows)
	fmt.Printf("%d rows, %d observers of each flow: durable %.2f M rows/CPU-s, sorted and rolled up %.2f M, both %.2f M\n", st.Rows, w.observers,
		n/(stored-before).Seconds()/1e6, n/(sealed-stored).Seconds()/1e6, n/(sealed-before).Seconds()/1e6)
	fmt.Printf("%.2f B/row, with roll-ups %.2f; %.1f rows to one of a roll-up\n", float64(st.Bytes)/n, float64(st.Bytes+st.RollupBytes)/n, n/float64(max(st.RollupRows, 1)))
	if err := s.Close(); err != nil { // replaced files go
		return err
	}
	for _, kind := range []string{"flows", "r1h"} {
		if err := columns(filepath.Join(dir, kind), kind, n); err != nil {
			return err
		}
	}
	return nil
}

// columns prints the bytes of each column for each row.
func columns(dir, kind string, rows float64) error {
	bytes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".parquet") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := d.Info()
		if err != nil {
			return err
		}
		pf, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
		if err != nil {
			return err
		}
		for _, g := range pf.Metadata().RowGroups {
			for _, c := range g.Columns {
				bytes[c.MetaData.PathInSchema[0]] += c.MetaData.TotalCompressedSize
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	names := make([]string, 0, len(bytes))
	for name := range bytes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(bytes[b], bytes[a]) })
	fmt.Printf("%s, bytes a row:", kind)
	for _, name := range names {
		if per := float64(bytes[name]) / rows; per >= 0.05 {
			fmt.Printf(" %s %.2f", name, per)
		}
	}
	fmt.Println()
	return nil
}

// ask asks the questions, and prints the first time and the least of the others.
func ask(dir string, span, memory int64, rounds int) error {
	s, err := segment.Open(segment.Config{Dir: dir, ReadOnly: true, QueryMemory: memory, QueryThreads: 2})
	if err != nil {
		return err
	}
	defer s.Close()
	r, ctx, to := report.New(s), context.Background(), time.Unix(0, end)
	fmt.Println("question                               first    best wall     CPU")
	one := func(name string, f func() error) {
		var first, best, used time.Duration
		for i := range rounds {
			at, before := time.Now(), cpu()
			if err = f(); err != nil {
				fmt.Printf("%-36s %v\n", name, err)
				return
			}
			took := time.Since(at)
			if i == 0 {
				first, best, used = took, took, cpu()-before
			} else if took < best {
				best, used = took, cpu()-before
			}
		}
		fmt.Printf("%-36s %7.3f s  %7.3f s %7.3f s\n", name, first.Seconds(), best.Seconds(), used.Seconds())
	}
	for _, back := range []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		q := report.Query{Since: to.Add(-back), Until: to, Limit: 10, Filter: "vni = 5017"}
		one(fmt.Sprintf("top pairs of a VNI, %v", back), func() error { _, err := r.Pairs(ctx, q); return err })
	}
	sum := func(name, expr string, back time.Duration, rolled bool) {
		one(name, func() error {
			v, err := s.View(ctx, to.Add(-back).UnixNano(), end)
			if err != nil {
				return err
			}
			defer v.Close()
			table := v.Table()
			if rolled {
				table = v.Rollup(time.Hour, to.Add(-back).UnixNano(), end)
			}
			rows, err := v.Query(ctx, strings.ReplaceAll(expr, "$T", table))
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		})
	}
	all := time.Duration(span)
	sum("SQL: rows grouped by src, all", "SELECT src, sum(octets) FROM $T GROUP BY src", all, false)
	sum("SQL: rows grouped by segment, all", "SELECT segment, sum(octets), sum(packets), count(*) FROM $T WHERE (marks & 1) <> 0 GROUP BY segment", all, false)
	edges := "SELECT tenant, src_vm, dst_vm, service_port, sum(octets) FROM $T GROUP BY ALL"
	sum("SQL: edges 24 h from roll-ups", edges, 24*time.Hour, true)
	sum("SQL: edges, all, from roll-ups", edges, all, true)
	vm := "SELECT date_trunc('hour', bucket), sum(octets) FROM (SELECT * FROM $T WHERE src_vm = 'web-0512' UNION ALL SELECT * FROM $T WHERE dst_vm = 'web-0512') GROUP BY 1"
	sum("SQL: a VM's hours, all, from roll-ups", vm, all, true)
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // does not fail
	fmt.Printf("most memory of this process: %d MB\n", u.Maxrss/1024)
	return err
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // does not fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
