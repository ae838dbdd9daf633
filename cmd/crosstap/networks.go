//go:build !agent

package main

import (
	"net/url"
	"strconv"

	"crosstap/internal/answer"
	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

func newNetworks() *cobra.Command {
	in := &inquiry{report: "networks", one: "network", doc: func() any { return new(report.Networks) }, columnNames: answer.Columns[report.Network](), look: look{files: []string{"parquet"}}}
	cmd := in.command("networks [FILTER...]", "Show networks: VNIs with their tunnel endpoints, machines and MTU risk",
		`networks shows one row for each segment: its tenant, tunnel endpoints, hosts and machines, its traffic, and whether its longest
packet fits the underlay once it is in its tunnel (--mtu, by default 1500 bytes). A segment without a tenant is one that the
inventory does not know.`,
		`  crosstap networks --since 24h
  crosstap networks --mtu 9000 tenant = blue
  crosstap networks --sort -max_packet -o csv`, "1h")
	in.sortFlags(cmd)
	mtu := cmd.Flags().Int("mtu", 0, "bytes that the underlay carries (default 1500)")
	resolution := resolutionFlag(cmd)
	in.extra = func(q url.Values) error {
		if *mtu != 0 {
			q.Set("mtu", strconv.Itoa(*mtu))
		}
		return resolution(q)
	}
	return cmd
}

// resolutionFlag adds --resolution and returns what sets the parameter.
func resolutionFlag(cmd *cobra.Command) func(url.Values) error {
	words := []string{"auto", "raw", "1h"}
	r := cmd.Flags().String("resolution", "auto", "what answers: auto, raw rows, or 1h roll-ups")
	_ = cmd.RegisterFlagCompletionFunc("resolution", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	return func(q url.Values) error {
		if *r != "auto" {
			q.Set("resolution", *r)
		}
		return nil
	}
}
