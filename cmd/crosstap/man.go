package main

import (
	"os"

	"github.com/spf13/cobra"
)

// newMan writes manual pages.
func newMan() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "man",
		Short:   "Write the manual pages",
		Example: "  crosstap man --dir /usr/local/share/man/man1",
		GroupID: "setup",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return usagef("man: %w", err)
			}
			if err := writeManPages(cmd.Root(), dir); err != nil {
				return usagef("man: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder to write to")
	return cmd
}
