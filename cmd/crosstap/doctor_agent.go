//go:build agent

package main

import (
	"encoding/json"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"crosstap/internal/doctor"
)

func newDoctor() *cobra.Command {
	var output string
	var probe, quiet bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine can do, and the way out of what it cannot", GroupID: "fix",
		Long: `doctor tries what taps may need of this machine: privileges, the capture ring, programs at interfaces, mirrors, receive buffers, the clock. It
changes nothing. It says which path taps take here and why, and exits 1 when there can be no tap at all.`,
		Example: "  crosstap-agent doctor\n  crosstap-agent doctor -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if probe {
				return doctor.Probe(cmd.OutOrStdout())
			}
			if !slices.Contains([]string{"table", "json"}, output) {
				return usagef("-o %q: expected table or json", output)
			}
			opt := doctor.Options{For: []string{"tap"}}
			if self, err := os.Executable(); err == nil {
				opt.Probe = []string{self, "doctor", "--probe"}
			}
			return printFindings(cmd.OutOrStdout(), output, quiet, doctor.Examine(cmd.Context(), opt), func(w io.Writer, _ string, doc any) error {
				e := json.NewEncoder(w)
				e.SetIndent("", "  ")
				return e.Encode(doc)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "table", "format: table, json")
	f.BoolVarP(&quiet, "quiet", "q", false, "only what warns or fails")
	f.BoolVar(&probe, "probe", false, "try the kernel in this network namespace and print the result")
	_ = f.MarkHidden("probe")
	return cmd
}
