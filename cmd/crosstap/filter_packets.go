//go:build !agent

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"crosstap/internal/collect/report"

	"github.com/spf13/cobra"
)

// newFilterCommands are those of both kinds of filter.
func newFilterCommands() *cobra.Command {
	cmd := newFilter()
	cmd.Short = "Explain packet filters, and say flow filters as packet filters"
	cmd.AddCommand(newFilterPackets())
	return cmd
}

func newFilterPackets() *cobra.Command {
	var output string
	var inner bool
	cmd := &cobra.Command{
		Use:   "packets EXPRESSION...",
		Short: "Say a flow filter as a packet filter",
		Long: `packets says a flow filter, as reports take it, in the language of packet filters, for crosstap tap, crosstap capture and tcpdump. The packet filter
lets every packet of the selection pass, both ways. What packets do not tell (names, sums over a flow, who saw it) is listed on stderr: then others pass too.

Without --inner the packets are plain, as at a machine's port; with it they are inside tunnels, as on an uplink, where VNIs and tunnel endpoints can be asked.`,
		Example: `  crosstap filter packets ip in 10.1.0.0/16 and dst.port = 443
  crosstap filter packets --inner 'vni = 5001 and not port 53'
  crosstap tap -i eth0 -f "$(crosstap filter packets --inner vni = 5001)" --to pcapng:vni.pcapng`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			expr := strings.Join(args, " ")
			p, fault := report.ToPacketFilter(expr, inner)
			if fault != nil {
				return exit(exitUsage, pointedAt(expr, fault, fault.Pos, fault.Len))
			}
			switch output {
			case "json":
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(p)
			case "text":
				return printPackets(cmd, p)
			}
			return usagef("filter: -o %q: want text or json", output)
		},
	}
	cmd.Flags().BoolVar(&inner, "inner", false, "the packets are inside tunnels")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "format: text or json")
	return cmd
}

// printPackets prints the expression, and on stderr what it does not say.
func printPackets(cmd *cobra.Command, p report.PacketFilter) error {
	var all []error
	_, err := fmt.Fprintln(cmd.OutOrStdout(), p.Expr)
	all = append(all, err)
	for _, u := range p.Unsaid {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "not said: %s: %s\n", u.Text, u.Why)
		all = append(all, err)
	}
	return errors.Join(all...)
}
