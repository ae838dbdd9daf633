//go:build !agent

package main

import (
	"crosstap/internal/answer"
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newConversations() *cobra.Command {
	in := &inquiry{report: "conversations", one: "conversation", doc: func() any { return new(report.Conversations) }, columnNames: answer.Columns[report.Conversation](), look: look{files: []string{"parquet"}}}
	cmd := in.command("conversations [FILTER...]", "Show tenant conversations: pairs with protocol and ports",
		`conversations shows one row for each conversation: what "crosstap pairs" shows, by protocol and ports. Source is the
side that opened it, as far as known.

--observers shows under each conversation what every observer of it saw, in the order in which packets pass them, and where
packets were lost. --underlay shows the flows of the underlay that carried what the filter selects; --overlay what was carried
by the flows of the underlay that the filter selects.

The flow filter may follow as further words; quote what your shell would take for itself.`,
		`  crosstap conversations --since 15m port 443
  crosstap conversations vm = web-1 -o wide
  crosstap conversations --observers --limit 5 vm = web-1 and port 5432
  crosstap conversations --underlay src.vm = web-1 and dst.vm = db-1
  crosstap conversations --overlay host 10.200.0.1
  crosstap conversations --follow -o jsonl`, "1h")
	in.sortFlags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&in.follow, "follow", "f", false, "keep showing what is new, until interrupted")
	observers := f.Bool("observers", false, "what each observer saw, and where packets were lost")
	underlay := f.Bool("underlay", false, "the underlay's flows that carried it")
	overlay := f.Bool("overlay", false, "what the underlay's flows carried")
	cmd.MarkFlagsMutuallyExclusive("observers", "underlay", "overlay", "follow")
	cmd.PreRun = func(*cobra.Command, []string) {
		switch {
		case *observers:
			in.report, in.doc = "observers", func() any { return new(report.Observers) }
		case *underlay:
			in.report, in.one, in.doc = "underlay", "carrier", func() any { return new(report.Carriers) }
		case *overlay:
			in.report, in.one, in.doc = "overlay", "carrier", func() any { return new(report.Carriers) }
		}
	}
	return cmd
}
