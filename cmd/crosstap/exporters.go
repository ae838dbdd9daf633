//go:build !agent

package main

import (
	"encoding/json"
	"fmt"

	"crosstap/internal/serve/api"

	"github.com/spf13/cobra"
)

// exporterColumns are those of the narrow table.
var exporterColumns = []string{"address", "domain", "name", "protocol", "state", "last_seen", "datagrams", "records", "records_per_second", "loss_ratio", "templates", "templates_missing", "sampling", "sampling_source", "errors"}

func newExporters() *cobra.Command {
	var src source
	var l look
	cmd := &cobra.Command{
		Use: "exporters", Short: "List the flow exporters, silent ones too", GroupID: "fix", Args: cobra.NoArgs,
		Long:    "exporters shows each observation domain of each exporting process: when it was heard, what it sent, what is missing by its\nsequence numbers, which templates are known, and how its sampling is known: announced, from the platform, from the exporters file\n(config, assumed), multiplied by itself (self-scaled), or unknown. -o wide adds templates that conflict, its clock\nagainst ours (theirs minus ours), what it dropped itself, elements without a name (name them with serve --elements), and which reports\nits fields can feed. Silent exporters stay listed; domain 0 of a process that only describes itself there is left out.",
		Example: "  crosstap exporters\n  crosstap exporters -o wide\n  crosstap exporters -o csv --columns address,domain,lost_records",
	}
	src.flags(cmd)
	l.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := l.check(); err != nil {
			return err
		}
		c, done, err := src.open(cmd.Context())
		if err != nil {
			return err
		}
		defer func() { _ = done() }() // only read
		body, err := src.get(cmd.Context(), c, "api/v1/exporters", nil)
		if err != nil {
			return err
		}
		doc := new(api.Exporters)
		if err := json.Unmarshal(body, doc); err != nil {
			return fmt.Errorf("exporters: answer of %s: %w", c.Server(), err)
		}
		if l.output == "table" && len(l.columns) == 0 {
			l.columns = exporterColumns
		}
		if err := l.print(cmd.OutOrStdout(), body, doc); err != nil {
			return err
		}
		if len(doc.Rows) == 0 && l.output != "json" && l.output != "yaml" {
			hint := "no exporter has sent anything yet; try: crosstap tap -i IFACE --to ipfix://127.0.0.1:4739"
			if src.data != "" {
				hint = "what arrives from whom is known to a server only; whose records are stored says: crosstap top --by exporter,domain,observer --since 24h --data " + src.data
			}
			fmt.Fprintln(cmd.ErrOrStderr(), hint)
		}
		return nil
	}
	return cmd
}
