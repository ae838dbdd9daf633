package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"crosstap/internal/filter"

	"github.com/spf13/cobra"
)

func newFilter() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "filter",
		Short:   "Explain a packet filter",
		GroupID: "fix",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("filter: %q is no command of it; to see what becomes of an expression: crosstap filter explain '%s'", args[0], strings.Join(args, " "))
			}
			return knownCommand(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFilterExplain())
	return cmd
}

func newFilterExplain() *cobra.Command {
	var link, output string
	var live bool
	cmd := &cobra.Command{
		Use:   "explain EXPRESSION...",
		Short: "Show what each back end makes of an expression, and what is residual",
		Long: `explain compiles a packet filter and shows it in each of its back ends: the tests of the matcher, the classic BPF
program for sockets, the eBPF program for tc, and the entries of an Open vSwitch table. What a kernel program cannot look into
(inner, payload, protochain) is residual: the kernel lets more through, and the matcher looks again. A switch sees
less than the kernel: no lengths, no payload, nothing inside of a tunnel.

With --live the programs are those for packet sockets and tc hooks, where the outermost VLAN tag stands beside the frame.

The language is that of pcap-filter(7), with these words more: vxlan [VNI], geneve [VNI], gre [KEY], erspan [SESSION],
nsh, vntag [src VIF] [dst VIF], etag [E-CID], inner EXPR, outer EXPR, payload "TEXT" [at N], payload hex DIGITS [at N]
and payload regex /…/.`,
		Example: `  crosstap filter explain tcp dst port 443
  crosstap filter explain 'vxlan 5001 and host 10.0.0.5'
  crosstap filter explain --link linux-sll2 'udp port 53' -o json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			lt, ok := filter.LinkNamed(link)
			if !ok {
				return usagef("filter: link type %q: want one of %s", link, strings.Join(filter.LinkNames(), ", "))
			}
			expr := strings.Join(args, " ")
			f, err := filter.Compile(expr, lt, filter.Options{KernelVLAN: live, Resolver: newResolver()})
			if err != nil {
				return exit(exitUsage, pointed(expr, err))
			}
			x, _ := f.Explain() // it says itself what is missing
			switch output {
			case "json":
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(x)
			case "text":
				return printExplanation(cmd.OutOrStdout(), x)
			}
			return usagef("filter: -o %q: want text or json", output)
		},
	}
	cmd.Flags().StringVar(&link, "link", "ethernet", "link type, such as ethernet, linux-sll2, raw or wlan")
	completeWords(cmd, "link", filter.LinkNames()...)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "format: text or json")
	cmd.Flags().BoolVar(&live, "live", false, "programs for frames whose VLAN tag the kernel has taken out")
	return cmd
}

// pointed puts the expression with a marker under the mistake behind the error's text.
func pointed(expr string, err error) error {
	e, ok := err.(*filter.Error)
	if !ok {
		return err
	}
	return pointedAt(expr, err, e.Pos, e.Len)
}

func pointedAt(expr string, err error, pos, length int) error {
	if strings.ContainsAny(expr, "\n\t") {
		return err
	}
	return fmt.Errorf("%w\n  %s\n  %s%s", err, expr, strings.Repeat(" ", pos), strings.Repeat("^", max(length, 1)))
}

func printExplanation(w io.Writer, x filter.Explanation) error {
	kernel := "exact: the kernel decides alone"
	switch {
	case x.KernelNote != "":
		kernel = "no program: " + x.KernelNote + "; the matcher decides alone"
	case x.Residual:
		kernel = "residual: " + x.Deep + "; the kernel lets more through and the matcher looks again"
	}
	_, err := fmt.Fprintf(w, "filter    %s\nlink      %s\nkernel    %s\n\nmatcher\n  %s\n\nclassic BPF, %d instructions\n%s\neBPF, %d instructions\n%s\n%s",
		x.Expr, x.Link, kernel, x.Tests, x.BPFLen, x.BPF, x.EBPFLen, x.EBPF, flowText(x))
	return err
}

// flowText writes the entries for Open vSwitch.
func flowText(x filter.Explanation) string {
	if x.FlowNote != "" {
		return x.FlowNote + "\n"
	}
	what := "exact"
	if x.FlowRest {
		what = "residual: they pass more than matches"
	}
	lines := append([]string{fmt.Sprintf("OpenFlow, %d entries, %s", len(x.OpenFlow), what)}, x.OpenFlow...)
	return strings.Join(lines, "\n") + "\n"
}
