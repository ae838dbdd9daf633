//go:build !agent

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"crosstap/internal/answer"
	"crosstap/internal/ledger"
	"crosstap/internal/nearest"
	"crosstap/internal/serve/api"

	"github.com/spf13/cobra"
)

func newStatus() *cobra.Command {
	var src source
	var output string
	var check bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say how the server is", GroupID: "fix", Args: cobra.NoArgs,
		Long:    "status asks the server for its state: sockets, exporters, the books of each stage, the store, findings.\nWith --check it exits 1 when the server is not healthy.",
		Example: "  crosstap status\n  crosstap status --check -o json",
	}
	src.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "format: text, json, yaml")
	cmd.Flags().BoolVar(&check, "check", false, "exit 1 when the server is not healthy")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, done, err := src.open(cmd.Context())
		if err != nil {
			return err
		}
		defer func() { _ = done() }() // only read
		body, err := src.get(cmd.Context(), c, "api/v1/status", nil)
		if err != nil {
			return err
		}
		var s api.Status
		if err := json.Unmarshal(body, &s); err != nil {
			return fmt.Errorf("status: answer of %s: %w", c.Server(), err)
		}
		if err := printStatus(cmd.OutOrStdout(), output, body, &s); err != nil {
			return err
		}
		if check && !s.Healthy {
			return exit(exitFinding, nil)
		}
		return nil
	}
	return cmd
}

func printStatus(w io.Writer, format string, body []byte, s *api.Status) error {
	switch format {
	case "json":
		_, err := w.Write(body)
		return err
	case "yaml":
		return answer.YAML(w, body)
	case "text":
		_, err := io.WriteString(w, statusText(s))
		return err
	}
	return usagef("-o %q: expected text, json or yaml%s", format, nearest.Behind(format, []string{"text", "json", "yaml"}))
}

func statusText(s *api.Status) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	health := "healthy"
	if !s.Healthy {
		health = "NOT HEALTHY"
	}
	line("crosstap %s, %s, up %s, pid %d, %s resident", s.Version, health, answer.Span(s.Now.Sub(s.StartedAt)), s.Process.PID, answer.Bytes(s.Process.ResidentBytes))
	for _, f := range s.Findings {
		line("%s: %s: %s; %s", f.Level, f.What, f.Why, f.Action)
	}
	line("store      %s: %s rows, %s in %s files, data %s", s.Store.Dir, answer.Count(s.Store.Rows), answer.Bytes(s.Store.SizeBytes), answer.Count(s.Store.Segments), age(s))
	if f := s.Store.Flushes; f != nil && f.Latest > 0 {
		line("durable    %s after being full or due (p50), %s (p99), %s (longest); of the latest batches, %d", millis(f.P50Seconds), millis(f.P99Seconds), millis(f.MaxSeconds), f.Latest)
	}
	for _, l := range s.Listeners {
		if l.Network == "tcp" {
			line("%-10s %s %s", l.Name, l.Network, l.Address)
			continue
		}
		line("%-10s %s %s: %s datagrams, %s dropped by the kernel", l.Name, l.Network, l.Address, answer.Count(l.Datagrams), answer.Count(l.DroppedDatagrams))
	}
	for _, st := range s.Stages {
		line("%-10s %s in, %s out, %d held%s (%s)", st.Stage, answer.Count(st.In), answer.Count(st.Out), st.Held, drops(st.Dropped), st.Unit)
	}
	for _, o := range s.Outputs {
		line("output     %s to %s: %s %s in, %s sent, %d held%s%s%s", o.Name, o.To, answer.Count(o.In), o.Unit, answer.Count(o.Sent), o.Held, drops(o.Dropped), lag(o.LagSeconds), note(o.Note))
	}
	if i := s.Inventory; i != nil {
		line("inventory  %s: %d adapters, %d hosts, %d tenants, %d observers", i.Path, i.VNICs, i.Hosts, i.Tenants, i.Observers)
	}
	active, lost := 0, uint64(0)
	for _, e := range s.Exporters {
		lost += e.LostRecords
		if e.State == "active" {
			active++
		}
	}
	line("exporters  %d active, %d silent, %s lost (crosstap exporters)", active, len(s.Exporters)-active, answer.Plural(lost, "record"))
	return b.String()
}

// millis writes a short time.
func millis(seconds float64) string { return fmt.Sprintf("%.1f ms", seconds*1e3) }

// age says how old the newest stored flow is.
func age(s *api.Status) string {
	if s.Store.DataUntil == nil {
		return "none yet"
	}
	return "until " + answer.Span(s.Now.Sub(*s.Store.DataUntil).Round(time.Second)) + " ago"
}

// lag says how far an output is behind.
func lag(seconds float64) string {
	if seconds < 1 {
		return ""
	}
	return ", behind by " + answer.Span(time.Duration(seconds)*time.Second)
}

func note(text string) string {
	if text == "" {
		return ""
	}
	return ", " + text
}

func drops(list []ledger.Count) string {
	var parts []string
	for _, d := range list {
		if d.N > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", answer.Count(d.N), d.Reason))
		}
	}
	if parts == nil {
		return ""
	}
	return ", dropped: " + strings.Join(parts, ", ")
}
