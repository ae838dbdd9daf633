package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"crosstap/internal/kernel"
	"crosstap/internal/obs"
)

const inlineLong = `inline lists the pairs of interfaces that crosstap tap --inline, or an agent, has joined on this host, also those that nobody watches any more.

The kernel passes the frames of a pair on. A pair that fails open goes on when its tap ends or is killed, and the next tap of the same two interfaces takes it
over without losing a frame; "inline remove" parts it. One that fails closed passes nothing once its lease has ended: its links are set down, and up again by
the next tap.`

func newInline() *cobra.Command {
	var netns string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "inline", GroupID: "taps", Short: "List and part inline pairs of interfaces", Long: inlineLong, Args: cobra.NoArgs,
		Example: "  crosstap tap --inline eth1,eth2 --to pcapng:between.pcapng\n  crosstap inline\n  crosstap inline remove eth1,eth2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := kernel.Pairs(netns)
			if err != nil {
				return exit(exitFinding, err)
			}
			return printPairs(cmd.OutOrStdout(), all, asJSON)
		},
	}
	cmd.PersistentFlags().StringVar(&netns, "netns", "", "file of the network namespace that the interfaces are in")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document")
	cmd.AddCommand(newInlineRemove(&netns), newInlineKeep())
	return cmd
}

func newInlineRemove(netns *string) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "remove A,B", Short: "Part the two interfaces of a pair: nothing passes between them any more", Args: cobra.ExactArgs(1),
		Example: "  crosstap inline remove eth1,eth2",
		RunE: func(_ *cobra.Command, args []string) error {
			a, b, ok := strings.Cut(args[0], ",")
			if !ok {
				return usagef("inline: %q: want the names of the two interfaces, such as eth1,eth2", args[0])
			}
			if err := kernel.RemovePair(*netns, a, b, force); err != nil {
				return exit(codeOf(err, exitRefused), err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also a pair that a tap watches")
	return cmd
}

// newInlineKeep is the command that a tap with a pair, or with filters of tc, starts for itself.
func newInlineKeep() *cobra.Command {
	return &cobra.Command{
		Use: "keep", Hidden: true, Short: "Set the links of a pair right when its tap is killed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return exit(exitFinding, kernel.Keep(cmd.Context(), cmd.InOrStdin(), obs.Logger(cmd.ErrOrStderr(), false)))
		},
	}
}

// keeper is the command line of newInlineKeep.
func keeper() []string { return []string{"/proc/self/exe", "inline", "keep"} }

// printPairs writes a line for each pair.
func printPairs(w io.Writer, all []kernel.Pair, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []kernel.Pair{}
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	if len(all) == 0 {
		fmt.Fprintln(w, "no inline pairs")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "A\tB\tFAIL\tWATCHED\tLINKS\tA→B\tB→A\tNOT WATCHED\tSTOPPED")
	for _, p := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s/%s\t%d\t%d\t%d\t%d\n", p.A, p.B, p.Fail, yesNo(p.Watched), upDown(p.Up[0]), upDown(p.Up[1]), p.Out[1], p.Out[0], p.Alone, p.Stopped)
	}
	return t.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func upDown(b bool) string {
	if b {
		return "up"
	}
	return "down"
}
