package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"crosstap/internal/tap/export"
)

const destinationsTestLong = `test sends templates and one record to each collector and says what came back: a refusal, a connection, the name and the expiry of the
collector's certificate, the local address, the path MTU as far as the system knows it.

The record is of UDP from 192.0.2.1 to 198.51.100.1, addresses kept for documentation, with one packet. Over UDP silence is all that can be hoped for:
it says that nobody refused, not that somebody listens. Look for the record in the collector.

The exit code is 0 when nothing speaks against any of them, 1 when something does, 2 for a mistake in a URL.`

func newDestinations() *cobra.Command {
	cmd := &cobra.Command{
		Use: "destinations", GroupID: "fix", Short: "Look at the collectors that flows are sent to",
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDestinationsTest())
	return cmd
}

func newDestinationsTest() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "test URL...", Short: "Send templates and one record, and say what came back", Long: destinationsTestLong,
		Example: "  crosstap destinations test ipfix://collector.example netflow9://10.0.0.9:9995\n" +
			"  crosstap destinations test 'ipfix+tls://collector.example?ca=ca.pem&cert=tap.pem&key=tap.key' --json",
		Args: func(_ *cobra.Command, urls []string) error {
			if len(urls) == 0 {
				return usagef("destinations: no collector: give at least one URL, such as ipfix://collector.example; docs/guide/export.md lists them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, urls []string) error { return testDestinations(cmd, urls, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document")
	return cmd
}

func testDestinations(cmd *cobra.Command, urls []string, asJSON bool) error {
	var all []export.ProbeResult
	bad := 0
	for _, u := range urls {
		r, err := export.Probe(cmd.Context(), u)
		if err != nil {
			return exit(exitUsage, fmt.Errorf("destinations: %w", err))
		}
		if !r.OK {
			bad++
		}
		if all = append(all, r); !asJSON {
			printProbe(cmd.OutOrStdout(), &r)
		}
	}
	if asJSON {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		if err := e.Encode(all); err != nil {
			return err
		}
	}
	if bad > 0 {
		return exit(exitFinding, fmt.Errorf("destinations: %d of %d did not take it", bad, len(urls)))
	}
	return nil
}

// printProbe writes what is known, a line each.
func printProbe(w io.Writer, r *export.ProbeResult) {
	word := "ok"
	if !r.OK {
		word = "FAILED"
	}
	fmt.Fprintf(w, "%s: %s\n", r.URL, word)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-9s %s\n", name, value)
		}
	}
	line("address", r.Address)
	line("local", r.Local)
	if r.MTU > 0 {
		line("path MTU", fmt.Sprintf("%d bytes", r.MTU))
	}
	line("TLS", r.TLS)
	line("peer", r.Peer)
	if !r.Expires.IsZero() {
		line("expires", fmt.Sprintf("%s (in %d days)", r.Expires.UTC().Format(time.DateOnly), int(time.Until(r.Expires).Hours()/24)))
	}
	if r.Messages > 0 {
		line("sent", fmt.Sprintf("%d messages, %d bytes", r.Messages, r.Bytes))
	}
	line("answer", r.Answer)
	line("error", r.Error)
}
