//go:build !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"crosstap/internal/ask"
	"crosstap/internal/doctor"
	"crosstap/internal/serve/settings"

	"github.com/spf13/cobra"
)

func newDoctor() *cobra.Command {
	var src source
	var output string
	var probe, quiet bool
	cmd := &cobra.Command{
		Use: "doctor [serve] [tap] [demo]", Short: "Say what this machine can do, and the way out of what it cannot", GroupID: "fix",
		Long: `doctor tries what crosstap may need of this machine: privileges, the capture ring, VXLAN, bridges, mirrors, receive buffers,
ports, the store directory, the server, the clock, and programs beside it. It changes nothing.

Name purposes (serve, tap, demo) to learn whether they will work: what such a purpose cannot do without then fails, and
doctor exits 1. Without a name it is asked for serve and tap.`,
		Example:   "  crosstap doctor\n  crosstap doctor demo\n  crosstap doctor serve --data /var/lib/crosstap -o json",
		ValidArgs: doctor.Purposes,
		Args:      cobra.MatchAll(cobra.OnlyValidArgs, cobra.MaximumNArgs(len(doctor.Purposes))),
	}
	f := cmd.Flags()
	f.StringVar(&src.server, "server", "", "URL of the server (default "+ask.DefaultServer+", or $CROSSTAP_SERVER)")
	f.StringVarP(&output, "output", "o", "table", "format: table, json, yaml")
	f.BoolVarP(&quiet, "quiet", "q", false, "only what warns or fails")
	f.BoolVar(&probe, "probe", false, "try the kernel in this network namespace and print the result")
	_ = f.MarkHidden("probe")
	load := settingFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if probe {
			return doctor.Probe(cmd.OutOrStdout())
		}
		if !slices.Contains([]string{"table", "json", "yaml"}, output) {
			return usagef("-o %q: expected table, json or yaml", output)
		}
		set, _, _, err := load()
		if err != nil {
			return exit(exitUsage, err)
		}
		opt := doctor.Options{For: args, Data: set.AbsData(), Inventory: set.Inventory, HTTP: netip.MustParseAddrPort(set.HTTP)}
		if len(args) == 0 {
			opt.For = []string{"serve", "tap"}
		}
		for _, text := range set.Flows {
			a, err := settings.ParseFlows(text)
			if err != nil {
				return exit(exitUsage, err)
			}
			network := "udp"
			if a.Transport.Stream() {
				network = "tcp"
			}
			opt.Flows = append(opt.Flows, doctor.Address{Network: network, AddrPort: netip.MustParseAddrPort(a.Addr)})
		}
		if err := askServer(cmd.Context(), &src, &opt); err != nil {
			return err
		}
		if self, err := os.Executable(); err == nil {
			opt.Probe = []string{self, "doctor", "--probe"}
		}
		list := doctor.Examine(cmd.Context(), opt)
		return printFindings(cmd.OutOrStdout(), output, quiet, list)
	}
	return cmd
}

// askServer lets the doctor ask the server whether it is healthy.
func askServer(ctx context.Context, src *source, opt *doctor.Options) error {
	c, _, err := src.open(ctx)
	if err != nil {
		return err
	}
	opt.ServerURL = c.Server()
	opt.Server = func(ctx context.Context) error {
		_, err := c.Get(ctx, "healthz", nil)
		var away *ask.Unreachable
		if errors.As(err, &away) {
			return away.Err // the finding has the way out
		}
		return err
	}
	return nil
}

// findings is the document of "doctor".
type findings struct {
	Healthy bool            `json:"healthy"`
	Rows    []doctor.Result `json:"rows"`
}

func printFindings(w io.Writer, format string, quiet bool, list []doctor.Result) error {
	doc := findings{Healthy: !doctor.Failed(list), Rows: list}
	if quiet {
		doc.Rows = slices.DeleteFunc(slices.Clone(list), func(r doctor.Result) bool { return r.Level == doctor.OK })
	}
	var err error
	if format == "table" {
		_, err = io.WriteString(w, findingsText(doc.Rows)+tally(list))
	} else {
		err = printDocument(w, format, doc)
	}
	if err == nil && !doc.Healthy {
		return exit(exitFinding, nil)
	}
	return err
}

// findingsText gives a line for each finding, and a second one with the way out.
func findingsText(rows []doctor.Result) string {
	var b strings.Builder
	area := ""
	for _, r := range rows {
		if r.Area != area {
			fmt.Fprintln(&b, r.Area)
			area = r.Area
		}
		fmt.Fprintf(&b, "  %-4s  %s: %s\n", r.Level, r.Check, r.Found)
		if r.Level != doctor.OK {
			fmt.Fprintf(&b, "        for %s", r.For)
			if r.Action != "" {
				fmt.Fprintf(&b, ": %s", r.Action)
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

// tally counts all findings, shown or not.
func tally(list []doctor.Result) string {
	counts := map[doctor.Level]int{}
	for _, r := range list {
		counts[r.Level]++
	}
	return fmt.Sprintf("%d ok, %d warn, %d fail\n", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail])
}
