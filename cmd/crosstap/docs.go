//go:build !agent

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"crosstap/internal/serve/api"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
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
	root.DisableAutoGenTag = true
	return doc.GenMarkdownTree(root, dir)
}

func writeMetricsPage(path string) error {
	var b strings.Builder
	b.WriteString("# Metrics\n\nServed at `/metrics` in the Prometheus text format. Labels come from small closed sets; what each\nexporter and each tap does is in the API.\n\n")
	b.WriteString("| metric | type | labels | what it says |\n|---|---|---|---|\n")
	for _, m := range api.Metrics() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
