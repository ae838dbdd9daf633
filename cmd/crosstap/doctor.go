//go:build !agent

package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"

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
		return printFindings(cmd.OutOrStdout(), output, quiet, list, printDocument)
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
