// Command flowgen fills a store with the flows of a made-up data centre, tells what they cost, and asks the questions of the reports.
// The same seed gives the same rows.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sys/unix"
)

func main() {
	rows := flag.Int("rows", 1_000_000, "rows to make")
	days := flag.Float64("days", 7, "time that they span")
	observers := flag.Int("observers", 1, "observers of each flow, 1 or 2")
	seed := flag.Uint64("seed", 1, "seed")
	dir := flag.String("data", "", "store directory; filled when it is empty")
	memory := flag.Int64("memory", 384, "memory of the engine that answers, MiB")
	rounds := flag.Int("rounds", 3, "times that each question is asked")
	settle := flag.Bool("settle", false, "have a store that is there bring its files up to date first")
	only := flag.String("only", "", "ask only questions with that in their name")
	to := flag.String("export", "", "send the rows as IPFIX to this HOST:PORT instead, each segment as a VLAN")
	rate := flag.Int("rate", 100_000, "rows in a second when sending")
	one := flag.String("alone", "", "ask only the question of that name, twice, and print the most memory that it took, MB")
	other := flag.Bool("clickhouse", false, "ask ClickHouse beside the store directory, over the same rows")
	flag.Parse()
	if *to != "" {
		span := int64(*days * 24 * float64(time.Hour))
		if err := export(*to, newWorld(*seed, *observers, end-span, span/int64(*rows)), *rows, *rate); err != nil {
			fmt.Fprintln(os.Stderr, "flowgen:", err)
			os.Exit(1)
		}
		return
	}
	if *other {
		if err := beside(*dir, *rows, *days, *observers, *seed, *memory<<20, *rounds, *only); err != nil {
			fmt.Fprintln(os.Stderr, "flowgen:", err)
			os.Exit(1)
		}
		return
	}
	if *one != "" {
		if err := alone(*dir, int64(*days*24*float64(time.Hour)), *memory<<20, *one); err != nil {
			fmt.Fprintln(os.Stderr, "flowgen:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(*dir, *rows, *days, *observers, *seed, *memory<<20, *rounds, *settle, *only); err != nil {
		fmt.Fprintln(os.Stderr, "flowgen:", err)
		os.Exit(1)
	}
}

// end is when the last row ends: 2026-11-01 00:00 UTC.
const end = int64(1_793_491_200) * 1e9

func run(dir string, rows int, days float64, observers int, seed uint64, memory int64, rounds int, update bool, only string) error {
	if dir == "" || observers < 1 || observers > 2 {
		return fmt.Errorf("--data and 1 or 2 --observers are needed")
	}
	span := int64(days * 24 * float64(time.Hour))
	if there, err := os.ReadDir(dir); err != nil || len(there) == 0 {
		if err := fill(dir, newWorld(seed, observers, end-span, span/int64(rows)), rows); err != nil {
			return err
		}
	} else if update {
		s, err := openToWrite(dir)
		if err != nil {
			return err
		}
		if err := settle(dir, s, s.Stats()); err != nil {
			return err
		}
	}
	return ask(dir, days, memory, rounds, only)
}

func openToWrite(dir string) (*segment.Store, error) {
	return segment.Open(segment.Config{Dir: dir, SealGrace: 1e6 * time.Hour, AppendWait: time.Hour, MergeFiles: 1 << 30, SealRows: 500_000})
}

// fill makes the rows and stores them.
func fill(dir string, w *world, rows int) error {
	s, err := openToWrite(dir)
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
	fmt.Printf("%d observers of each flow: durable %.2f M rows/CPU-s\n", w.observers, float64(s.Stats().Rows)/(cpu()-before).Seconds()/1e6)
	return settle(dir, s, store.Stats{})
}

// settle sorts, rolls up and merges what is to be, tells what that cost, and closes the store.
func settle(dir string, s *segment.Store, was store.Stats) error {
	before := cpu()
	if err := s.Settle(context.Background()); err != nil {
		return err
	}
	used, st := cpu()-before, s.Stats()
	n := float64(st.Rows)
	fmt.Printf("%d rows: sorted, rolled up and merged %.2f M rows/CPU-s (%.1f s); roll-ups of single hours: %d, before %d\n", st.Rows, n/used.Seconds()/1e6, used.Seconds(), st.UnmergedRollups, was.UnmergedRollups)
	fmt.Printf("%.2f B/row, with roll-ups %.2f; %.1f rows to one of a roll-up\n", float64(st.Bytes)/n, float64(st.Bytes+st.RollupBytes)/n, n/float64(max(st.RollupRows, 1)))
	if err := s.Close(); err != nil { // replaced files go
		return err
	}
	for _, kind := range []string{"flows", "r1h", "links"} {
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

// question is one of the list, with the bar that its wall time must be below; 0 for none.
type question struct {
	name string
	bar  time.Duration
	cold bool // also asked with nothing in memory
	ask  func() error
}

const hour, day = time.Hour, 24 * time.Hour

// questions are those of the console and of the bars, over a store whose newest row ends at to.
func questions(s *segment.Store, to time.Time, span time.Duration) (all []question) {
	r, ctx := report.New(s), context.Background()
	add := func(name string, back, bar time.Duration, q report.Query, ask func(report.Query) error) {
		q.Since, q.Until = to.Add(-back), to
		all = append(all, question{fmt.Sprintf("%s, %s", name, spanText(back)), bar, back >= 7*day, func() error { return ask(q) }})
	}
	pairs := func(q report.Query) error { _, err := r.Pairs(ctx, q); return err }
	graph := func(q report.Query) error { _, err := r.Map(ctx, q); return err }
	top := func(q report.Query) error { _, err := r.Top(ctx, q); return err }
	page := func(q report.Query) error { _, err := r.VM(ctx, q); return err }
	cut := func(name string, back time.Duration, q report.Query, ask func(report.Query) error) { // neither from nor to the hour
		until := to.Add(-5*hour - 1234567*time.Millisecond)
		q.Since, q.Until = until.Add(-back), until
		all = append(all, question{fmt.Sprintf("%s, %s to 18:39", name, spanText(back)), 0, false, func() error { return ask(q) }})
	}
	vni := report.Query{Filter: "vni = 5017", Limit: 10}
	add("top pairs of a VNI", hour, 20*time.Millisecond, vni, pairs)
	add("top pairs of a VNI", day, 100*time.Millisecond, vni, pairs)
	add("top pairs of a VNI", 7*day, 500*time.Millisecond, vni, pairs)
	add("page of a VM", day, 300*time.Millisecond, report.Query{Name: "mq-0512"}, page)
	add("map", day, 500*time.Millisecond, report.Query{}, graph)
	add("map", 7*day, 400*time.Millisecond, report.Query{}, graph)
	cut("top pairs of a VNI", day, vni, pairs)
	cut("top pairs of a VNI", 6*day, vni, pairs)
	cut("page of a VM", day, report.Query{Name: "mq-0512"}, page)
	cut("map", day, report.Query{}, graph)
	cut("map", 6*day, report.Query{}, graph)
	add("top machines", hour, 0, report.Query{By: []string{"vm"}}, top)
	add("top machines", 7*day, 0, report.Query{By: []string{"vm"}}, top)
	add("pairs, all", hour, 0, report.Query{Limit: 100}, pairs)
	add("pairs, all", day, 0, report.Query{Limit: 100}, pairs)
	add("pairs, all", 7*day, 0, report.Query{Limit: 100}, pairs)
	add("conversations of a VM", hour, 0, report.Query{Filter: "vm = mq-0512", Limit: 100}, func(q report.Query) error { _, err := r.Conversations(ctx, q); return err })
	add("flows of a VM", hour, 0, report.Query{Filter: "vm = mq-0512", Limit: 100}, func(q report.Query) error { _, err := r.Flows(ctx, q); return err })
	add("series by tenant", hour, 0, report.Query{By: []string{"tenant"}}, func(q report.Query) error { _, err := r.Series(ctx, q); return err })
	add("networks", day, 0, report.Query{}, func(q report.Query) error { _, err := r.Networks(ctx, q); return err })
	add("networks", 7*day, 0, report.Query{}, func(q report.Query) error { _, err := r.Networks(ctx, q); return err })
	add("first page", hour, 0, report.Query{}, func(q report.Query) error { _, err := r.Overview(ctx, q); return err })
	add("first page", day, 0, report.Query{}, func(q report.Query) error { _, err := r.Overview(ctx, q); return err })
	add("completion of a name", hour, 100*time.Millisecond, report.Query{}, func(report.Query) error { _, err := r.Complete(ctx, "src.vm = web", 12, to); return err })
	return slices.DeleteFunc(all, func(q question) bool {
		return (strings.HasSuffix(q.name, spanText(7*day)) || strings.Contains(q.name, "6 d to")) && span < 7*day
	})
}

func spanText(d time.Duration) string {
	if d >= day {
		return fmt.Sprintf("%d d", d/day)
	}
	return fmt.Sprintf("%d h", d/hour)
}

// openToAsk opens a store for questions.
func openToAsk(dir string, memory int64) (*segment.Store, error) {
	return segment.Open(segment.Config{Dir: dir, ReadOnly: true, QueryMemory: memory, QueryThreads: 2})
}

// ask asks the questions, and prints the first time, the least of the others with its processor time, the time with nothing in memory, and the memory that the question takes
// alone.
func ask(dir string, days float64, memory int64, rounds int, only string) error {
	s, err := openToAsk(dir, memory)
	if err != nil {
		return err
	}
	defer func() { s.Close() }()
	to, span := time.Unix(0, end), time.Duration(days*24*float64(time.Hour))
	fmt.Println("question                               first    best wall     CPU       cold       bar   memory")
	all := questions(s, to, span)
	for i := range all {
		q := &all[i]
		if !strings.Contains(q.name, only) {
			continue
		}
		var first, best, used time.Duration
		for n := range rounds {
			at, before := time.Now(), cpu()
			if err := q.ask(); err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			took := time.Since(at)
			if n == 0 {
				first, best, used = took, took, cpu()-before
			} else if took < best {
				best, used = took, cpu()-before
			}
		}
		cold := ""
		if q.cold {
			if err := forget(dir); err != nil {
				return err
			}
			fresh, err := openToAsk(dir, memory)
			if err != nil {
				return err
			}
			at := time.Now()
			if err := questions(fresh, to, span)[i].ask(); err != nil {
				return err
			}
			cold = fmt.Sprintf("%.3f s", time.Since(at).Seconds())
			fresh.Close()
		}
		bar := ""
		if q.bar > 0 {
			bar = fmt.Sprintf("%.2f s", q.bar.Seconds())
		}
		mb, err := memoryOf(dir, days, memory, q.name)
		if err != nil {
			return err
		}
		fmt.Printf("%-36s %7.3f s  %7.3f s %7.3f s %9s %9s %5d MB\n", q.name, first.Seconds(), best.Seconds(), used.Seconds(), cold, bar, mb)
	}
	for _, q := range scanned {
		if !strings.Contains(q.name, only) {
			continue
		}
		at, before := time.Now(), cpu()
		if err := scan(context.Background(), dir, memory, span, q.text); err != nil {
			return err
		}
		wall, used := time.Since(at), cpu()-before
		mb, err := memoryOf(dir, days, memory, q.name)
		if err != nil {
			return err
		}
		fmt.Printf("%-36s %7.3f s, %5.1f M rows/CPU-s %34d MB\n", q.name, wall.Seconds(), float64(s.Stats().Rows)/used.Seconds()/1e6, mb)
	}
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // does not fail
	fmt.Printf("most memory of this process: %d MB\n", u.Maxrss/1024)
	return nil
}

// forget takes the store's files out of the page cache.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".parquet") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// scanned are questions in SQL over all rows.
var scanned = []struct{ name, text string }{
	{"SQL: rows by source", "SELECT src, sum(octets) FROM flows GROUP BY src"},
	{"SQL: canonical rows by segment", "SELECT segment, sum(octets), sum(packets), count(*) FROM canonical GROUP BY segment"},
	{"SQL: rows by segment and service", "SELECT segment, dst_port, sum(octets) FROM flows GROUP BY ALL"},
}

// scan asks a question in SQL as a server does: its engine has half of the memory that reports have.
func scan(ctx context.Context, dir string, memory int64, span time.Duration, text string) (err error) {
	s, err := openToAsk(dir, memory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	_, err = s.SQL(ctx, store.SQLQuery{Text: text, FromNS: end - int64(span), ToNS: end, Timeout: hour})
	return err
}

// cpu is the processor time of this process and of those of questions in SQL that have ended.
func cpu() (all time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		_ = syscall.Getrusage(who, &u) // does not fail
		all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return all
}
