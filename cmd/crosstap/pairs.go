//go:build !agent

package main

import (
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newPairs() *cobra.Command {
	return newInquiry[report.Pairs, report.Pair]("pairs", "pair", "Show pairs with tenants: who talks to whom, through which tunnel endpoints",
		`pairs shows one row for each pair of ends in a segment: source VM and inner address, destination VM and inner address, the
VTEPs between them, the VNI, and the bytes each way. Every packet is counted once, however many observers saw it.

The flow filter may follow as further words; quote what your shell would take for itself. The line under the table says
what the figures stand for: totals, export loss, sampling, gaps.`,
		`  crosstap pairs --since 15m
  crosstap pairs vni = 5001 and dst.vm like '"db-%"'
  crosstap pairs --sort -packets --limit 10 -o csv
  crosstap pairs --follow
  crosstap pairs --data /var/lib/crosstap -o json`)
}
