//go:build !agent

package main

import (
	"net/url"

	"crosstap/internal/answer"
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newTop() *cobra.Command {
	in := &inquiry{report: "top", one: "row", doc: func() any { return new(report.Top) }, columnNames: answer.Columns[report.TopRow](), look: look{files: []string{"parquet"}}}
	cmd := in.command("top [FILTER...]", "Show the top N by any fields, also for each period and each value of a field",
		`top sums up by the fields of --by and shows the greatest by --metric. Fields are those of the flow filter: src. and dst. are client
and server; vm, ip, host and such count a flow at both of its ends, with what was sent and received.

--per gives each value of a field its own list: --per observer --by src.vm,dst.vm are the top flows of each virtual switch,
--per vm --by dst.port the top services of each machine. --period gives each period its own list, for accounting. A field that
tells where a flow was seen (observer, exporter, in_if, …) makes the rows of all observers count, each for itself. --having
keeps what the sums fulfil.`,
		`  crosstap top --by src.vm,dst.port --limit 20
  crosstap top --by vm --metric packets tenant = blue
  crosstap top --by tenant,app --metric retransmits --since 24h
  crosstap top --per observer --by src.vm,dst.vm --period 1d --since 7d -o csv
  crosstap top --by src.ip --having 'bytes > 1 GB and packets > 100'`, "1h")
	f := cmd.Flags()
	by := f.StringSlice("by", []string{"src.vm", "dst.vm", "dst.port"}, "fields to group by, up to eight with those of --per")
	per := f.StringSlice("per", nil, "fields of which each value has its own list")
	metric := f.String("metric", "octets", "what to order by: octets (or bytes), packets, flows, l2_octets, retransmits, zero_windows, fragments, rtt, rows")
	period := f.String("period", "", "a list for each period of that length, such as 1d")
	having := f.String("having", "", "condition on the sums, such as 'bytes > 1 MB'")
	resolution := resolutionFlag(cmd)
	for _, flag := range []string{"by", "per"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(report.TopColumns(), cobra.ShellCompDirectiveNoFileComp))
	}
	_ = cmd.RegisterFlagCompletionFunc("metric", cobra.FixedCompletions(report.Metrics, cobra.ShellCompDirectiveNoFileComp))
	in.extra = func(q url.Values) error {
		q["by"] = *by
		q["per"] = *per
		set(q, "metric", metricName(*metric))
		set(q, "period", *period)
		set(q, "having", *having)
		return resolution(q)
	}
	return cmd
}

// set sets a parameter unless it is empty.
func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// metricName takes bytes for octets.
func metricName(s string) string {
	switch s {
	case "bytes":
		return "octets"
	case "l2_bytes":
		return "l2_octets"
	}
	return s
}

func newSeries() *cobra.Command {
	in := &inquiry{report: "series", one: "line", doc: func() any { return new(report.Series) }, look: look{files: []string{"parquet"}}}
	cmd := in.command("series [FILTER...]", "Show a time series, split by up to four fields",
		`series shows a rate over time: one line for each combination of the fields of --by, the greatest first, the rest as "other". A
table has a line's least, greatest, mean, 95th percentile and last value; csv and jsonl have every point. A row of a flow is
spread evenly over its time.

--previous adds the period of equal length before.`,
		`  crosstap series --by tenant --since 24h
  crosstap series --by src.vm,dst.vm --metric packets --step 1m -o csv
  crosstap series --by app --since 7d --previous vni = 5001`, "1h")
	f := cmd.Flags()
	by := f.StringSlice("by", nil, "fields to split by, up to four")
	metric := f.String("metric", "octets", "what to count: octets (or bytes), packets, flows, l2_octets, retransmits, zero_windows, fragments")
	step := f.String("step", "", "width of a bucket, such as 1m (default one that fits)")
	previous := f.Bool("previous", false, "also the period of equal length before")
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(report.TopColumns(), cobra.ShellCompDirectiveNoFileComp))
	completeWords(cmd, "metric", "octets", "packets", "flows", "l2_octets", "retransmits", "zero_windows", "fragments")
	in.extra = func(q url.Values) error {
		q["by"] = *by
		set(q, "metric", metricName(*metric))
		set(q, "step", *step)
		if *previous {
			q.Set("previous", "true")
		}
		return nil
	}
	return cmd
}
