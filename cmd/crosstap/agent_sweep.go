package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"crosstap/internal/kernel"
	"crosstap/internal/privilege"
)

const agentSweepLong = `sweep removes what agents and taps that were killed have left in the kernel of this host: filters of tc at clsact qdiscs, and the qdiscs, when they were
ours and are empty. Programs at TCX need no sweep: they end with their process. What living processes and others have there stays. The control group of an agent that
was started by root and has ended, which it may not remove itself, goes too.

It is rarely needed. A process beside each agent and tap with such filters removes them at once, each start does, an agent does from time to time, and the
unit of the package calls this command when an agent has ended.`

func newAgentSweep() *cobra.Command {
	var netns string
	cmd := &cobra.Command{
		Use: "sweep", Short: "Remove what agents and taps that were killed have left in the kernel", Long: agentSweepLong, Args: cobra.NoArgs,
		Example: "  crosstap agent sweep\n  crosstap agent sweep --netns /run/netns/web",
		RunE: func(cmd *cobra.Command, _ []string) error {
			what, err := sweepKernel(netns)
			groups, bad := privilege.Sweep(agentGroup)
			what, err = append(what, groups...), errors.Join(err, bad)
			for _, w := range what {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", w)
			}
			if err != nil {
				return exit(codeOf(err, exitFinding), err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&netns, "netns", "", "file of the network namespace to sweep (default this one)")
	return cmd
}

// sweepKernel removes what processes of ours that were killed have left in the kernel, and says what.
func sweepKernel(netns string) (what []string, err error) {
	gone, err := kernel.Sweep(netns)
	for _, g := range gone {
		if g.Ended {
			what = append(what, "the qdisc that a tap needs no more at "+g.Interface)
		} else {
			what = append(what, "a program at "+g.Interface)
		}
	}
	return what, err
}
