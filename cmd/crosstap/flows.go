//go:build !agent

package main

import (
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newFlows() *cobra.Command {
	return newInquiry[report.Flows, report.Flow]("flows", "flow", "Show stored flow records, newest first",
		`flows shows stored rows: what one observer said of one flow over one interval. Several observers may have
seen the same flow; the rows that sums count say so in the column COUNTED.

The flow filter may follow as further words; quote what your shell would take for itself.`,
		`  crosstap flows --since 5m host 10.0.0.1 and port 443
  crosstap flows --follow vni = 5001
  crosstap flows -o csv --columns end,observer,src_addr,dst_addr,octets`)
}
