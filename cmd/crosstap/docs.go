//go:build !agent

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"crosstap/internal/serve/api"

	"github.com/spf13/cobra"
)

// newDocs generates the reference pages from the program itself.
func newDocs() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "docs",
		Short:  "Write the reference pages of the commands and the metrics",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := writeCLIPages(cmd.Root(), filepath.Join(dir, "cli")); err != nil {
				return fmt.Errorf("docs: %w", err)
			}
			return writeMetricsPage(filepath.Join(dir, "metrics.md"))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "docs", "folder to write to")
	return cmd
}

func writeCLIPages(root *cobra.Command, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return writePages(root, dir)
}

func writeMetricsPage(path string) error {
	var b strings.Builder
	b.WriteString("# Metrics\n\nLabels come from small closed sets; what each exporter and each tap does is in the API.\n\n")
	b.WriteString("## Of a server\n\nServed by `crosstap serve` at `/metrics` in the Prometheus text format.\n\n")
	metricsTable(&b, api.Metrics())
	b.WriteString("\n## Of taps\n\nServed by `crosstap tap --metrics ADDRESS` and `crosstap agent --metrics ADDRESS` at `/metrics`.\n\n")
	metricsTable(&b, tapMetricPages())
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func metricsTable(b *strings.Builder, list []api.Metric) {
	b.WriteString("| metric | type | labels | what it says |\n|---|---|---|---|\n")
	for _, m := range list {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
}

// tapMetricPages lists the metrics of taps.
func tapMetricPages() (all []api.Metric) {
	for _, m := range tapCatalog {
		kind := "gauge"
		if m.kind == counter {
			kind = "counter"
		}
		all = append(all, api.Metric{Name: m.name, Type: kind, Help: m.help, Labels: m.labels})
	}
	slices.SortFunc(all, func(a, b api.Metric) int { return strings.Compare(a.Name, b.Name) })
	return all
}
