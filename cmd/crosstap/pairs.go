//go:build !agent

package main

import (
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newPairs() *cobra.Command {
	in := &inquiry{}
	cmd := inquiryCommand[report.Pairs, report.Pair](in, "pairs", "pair", "Show pairs with tenants: who talks to whom, through which tunnel endpoints",
		`pairs shows one row for each pair of ends in a segment: source VM and inner address, destination VM and inner address, the
VTEPs between them, the VNI, and the bytes each way. Every packet is counted once, however many observers saw it.

Ranges of three hours and more are answered from roll-ups by the hour, unless --resolution says otherwise: bytes and packets are exact, flows that
live in two hours count in both.

The flow filter may follow as further words; quote what your shell would take for itself. The line under the table says
what the figures stand for: totals, export loss, sampling, gaps.`,
		`  crosstap pairs --since 15m
  crosstap pairs vni = 5001 and dst.vm like '"db-%"'
  crosstap pairs --sort -packets --limit 10 -o csv
  crosstap pairs --follow
  crosstap pairs --data /var/lib/crosstap -o json`)
	in.extra = resolutionFlag(cmd)
	return cmd
}
