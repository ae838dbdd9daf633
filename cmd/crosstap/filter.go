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
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFilterExplain())
	return cmd
}

func newFilterExplain() *cobra.Command {
	var link, output string
	cmd := &cobra.Command{
		Use:   "explain EXPRESSION...",
		Short: "Show what each back end makes of an expression, and what is residual",
		Long: `explain compiles a packet filter and shows it in each of its back ends: the tests of the matcher, the classic BPF
program for sockets, and the eBPF program for tc. What a kernel program cannot look into (inner, payload, protochain)
is residual: the kernel lets more through, and the matcher looks again.

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
			f, err := filter.Compile(expr, lt, filter.Options{})
			if err != nil {
				return exit(exitUsage, pointed(expr, err))
			}
			x, err := f.Explain()
			if err != nil {
				return exit(exitUsage, err)
			}
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
	cmd.Flags().StringVarP(&output, "output", "o", "text", "format: text or json")
	return cmd
}

// pointed puts the expression with a marker under the mistake behind the error's text.
func pointed(expr string, err error) error {
	e, ok := err.(*filter.Error)
	if !ok || strings.ContainsAny(expr, "\n\t") {
		return err
	}
	return fmt.Errorf("%w\n  %s\n  %s%s", err, expr, strings.Repeat(" ", e.Pos), strings.Repeat("^", max(e.Len, 1)))
}

func printExplanation(w io.Writer, x filter.Explanation) error {
	kernel := "exact: the kernel decides alone"
	if x.Residual {
		kernel = "residual: " + x.Deep + "; the kernel lets more through and the matcher looks again"
	}
	_, err := fmt.Fprintf(w, "filter    %s\nlink      %s\nkernel    %s\n\nmatcher\n  %s\n\nclassic BPF, %d instructions\n%s\neBPF, %d instructions\n%s\n",
		x.Expr, x.Link, kernel, x.Tests, x.BPFLen, x.BPF, x.EBPFLen, x.EBPF)
	return err
}
