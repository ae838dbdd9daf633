//go:build !agent

package main

import (
	"fmt"
	"io"

	"crosstap/internal/collect/store/segment"

	"github.com/spf13/cobra"
)

func newBackup() *cobra.Command {
	var link bool
	cmd := &cobra.Command{
		Use: "backup DIR TARGET", Short: "Copy a store directory, also while a server writes it", GroupID: "run", Args: cobra.ExactArgs(2),
		Long: `backup copies the store in DIR to TARGET, which must not exist or be empty: all records that were stored at one moment, their roll-ups and the
notes about gaps. A server that writes DIR goes on. Every copied file is read back and checked.

With --link, files become hard links where TARGET is on the same file system: quick and without room, but no help against a broken disk.
TARGET is a store directory itself: the ask commands read it with --data.`,
		Example: `  crosstap backup /var/lib/crosstap /mnt/backup/crosstap-2026-01-02
  crosstap pairs --data /mnt/backup/crosstap-2026-01-02 --since 24h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := segment.Backup(args[0], args[1], link, copyProgress(cmd.ErrOrStderr(), "backup"))
			if err != nil {
				return exit(exitFinding, err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "backup: %s with %s, %d bytes; %d hard links\n", plural(c.Files, "file"), plural(int(c.Rows), "record"), c.Bytes, c.Linked)
			return err
		},
	}
	cmd.Flags().BoolVar(&link, "link", false, "hard links instead of copies where that is possible")
	return cmd
}

func newRestore() *cobra.Command {
	return &cobra.Command{
		Use: "restore BACKUP DIR", Short: "Make a store directory from a backup", GroupID: "run", Args: cobra.ExactArgs(2),
		Long:    `restore copies a finished backup to DIR, which must not exist or be empty, and checks every file. Then start a server on DIR.`,
		Example: `  crosstap restore /mnt/backup/crosstap-2026-01-02 /var/lib/crosstap`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := segment.Restore(args[0], args[1], copyProgress(cmd.ErrOrStderr(), "restore"))
			if err != nil {
				return exit(exitFinding, err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "restore: %s with %s, %d bytes, as of %s\n", plural(c.Files, "file"), plural(int(c.Rows), "record"), c.Bytes,
				c.Made.Format("2006-01-02 15:04:05Z07:00"))
			return err
		},
	}
}

// copyProgress shows files done on a terminal.
func copyProgress(w io.Writer, what string) func(done, all int) {
	if !isTerminal(w) {
		return nil
	}
	return func(done, all int) {
		end := ""
		if done == all {
			end = "\r\x1b[K"
		}
		fmt.Fprintf(w, "\r\x1b[K%s: %d of %d files%s", what, done, all, end)
	}
}
