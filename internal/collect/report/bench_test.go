package report_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/collect/report"
)

// BenchmarkReports asks each report over a small hour, where planning counts, and over a large one.
func BenchmarkReports(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"1k", 400}, {"200k", 80_000}} {
		r := storedInParts(b, lab(9, size.n), 5)
		q := report.Query{Since: t0, Until: t0.Add(time.Hour), Limit: 100}
		run := func(name, filter string, ask func(report.Query) error) {
			b.Run(size.name+"/"+name, func(b *testing.B) {
				q.Filter = filter
				from, n := cpuTime(), 0
				for ; b.Loop(); n++ {
					if err := ask(q); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((cpuTime()-from).Microseconds())/float64(n)/1000, "cpu-ms/op")
			})
		}
		ctx := b.Context()
		run("pairs", "", func(q report.Query) error { _, err := r.Pairs(ctx, q); return err })
		run("pairs-vni", "vni = 5002", func(q report.Query) error { _, err := r.Pairs(ctx, q); return err })
		run("conversations", "", func(q report.Query) error { _, err := r.Conversations(ctx, q); return err })
		run("flows", "", func(q report.Query) error { _, err := r.Flows(ctx, q); return err })
		run("series", "", func(q report.Query) error { q.By = []string{"tenant"}; _, err := r.Series(ctx, q); return err })
		run("sankey", "", func(q report.Query) error { _, err := r.Sankey(ctx, q); return err })
		run("networks", "", func(q report.Query) error { _, err := r.Networks(ctx, q); return err })
		run("top", "", func(q report.Query) error { q.By = []string{"src.vm", "dst.port"}; _, err := r.Top(ctx, q); return err })
		run("vms", "", func(q report.Query) error { _, err := r.Things(ctx, "vms", q); return err })
		run("vm", "", func(q report.Query) error { q.Name = "db-0"; _, err := r.VM(ctx, q); return err })
		run("map", "", func(q report.Query) error { _, err := r.Map(ctx, q); return err })
		run("allow-list", "", func(q report.Query) error { _, err := r.AllowList(ctx, q); return err })
		run("overview", "", func(q report.Query) error { _, err := r.Overview(ctx, q); return err })
	}
}

// cpuTime is the processor time of the whole process.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
