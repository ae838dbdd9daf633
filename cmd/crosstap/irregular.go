//go:build !agent

package main

import (
	"net/url"
	"slices"
	"strings"

	"crosstap/internal/answer"
	"crosstap/internal/collect/report"
	"crosstap/internal/nearest"

	"github.com/spf13/cobra"
)

func newIrregular() *cobra.Command {
	in := &inquiry{report: "irregular", one: "finding", doc: func() any { return new(report.Irregular) }, columnNames: answer.Columns[report.Irregularity](), look: look{files: []string{"parquet"}}}
	cmd := in.command("irregular [FILTER...]", "Show what is irregular: scans, beacons, new pairs, volumes, silence",
		`irregular looks through the flows of the time range for what machines at work do not do, and for what the time before (--base, by default the
seven days before the range) did not have:

  host_scan        a client tried many addresses at one service that gave nothing
  port_scan        a client tried many ports of one machine that gave nothing
  beacon           conversations begin again and again after the same time
  new_pair         a client speaks to a service for the first time
  volume           a machine sent and received three times as much as usual, or a third, beyond what its volume varies by
  silent           a machine that was heard all the time before is not
  observer_silent  an observer tells nothing any more

The highest score comes first; 1 is just noticed. What no observer tells of is in "crosstap coverage".`,
		`  crosstap irregular
  crosstap irregular --kind host_scan,port_scan --since 1h vni = 5001
  crosstap irregular --base 30d -o csv not app in (ntp, dns)`, "24h")
	f := cmd.Flags()
	kinds := f.StringSlice("kind", nil, "kinds to look for: "+strings.Join(report.IrregularKinds, ", "))
	base := f.String("base", "", "compare with the time before the range: a length such as 7d, or \"FROM/TO\" (default seven days)")
	resolution := resolutionFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(report.IrregularKinds, cobra.ShellCompDirectiveNoFileComp))
	in.extra = func(q url.Values) error {
		for _, kind := range *kinds {
			if !slices.Contains(report.IrregularKinds, kind) {
				return usagef("--kind %q: kinds are %s%s", kind, strings.Join(report.IrregularKinds, ", "), nearest.Behind(kind, report.IrregularKinds))
			}
		}
		q["kind"] = *kinds
		if err := in.base(q, *base); err != nil {
			return err
		}
		return resolution(q)
	}
	return cmd
}
