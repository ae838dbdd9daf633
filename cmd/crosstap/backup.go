//go:build !agent

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"crosstap/internal/collect/store/segment"
	"crosstap/internal/serve"

	"github.com/spf13/cobra"
)

func newBackup() *cobra.Command {
	var link, records bool
	cmd := &cobra.Command{
		Use: "backup DIR TARGET", Short: "Copy a server's data directory, also while it runs", GroupID: "run", Args: cobra.ExactArgs(2),
		Long: `backup copies the data directory DIR of a server to TARGET, which must not exist or be empty: all records that were stored at one moment, their roll-ups
and the notes about gaps; policies with their history; exporters' templates; agents, their tokens (hashed) and the key by which they know the server. A server
that writes DIR goes on. Every copied file of records is read back and checked. Files of settings, inventory and certificates are your own.

With --records-only the copy has no policies, agents, tokens and keys: for others to ask.

With --link, files become hard links where TARGET is on the same file system: quick and without room, but no help against a broken disk.
TARGET is a store directory itself: the ask commands read it with --data.`,
		Example: `  crosstap backup /var/lib/crosstap /mnt/backup/crosstap-2026-01-02
  crosstap pairs --data /mnt/backup/crosstap-2026-01-02 --since 24h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := segment.Backup(args[0], args[1], link, copyProgress(cmd.ErrOrStderr(), "backup"), stateToo(cmd.Context(), records)...)
			var missing *fs.PathError // the store's manifest
			if errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) && filepath.Dir(missing.Path) == filepath.Clean(args[0]) && serve.HoldsState(args[0]) {
				return exit(exitFinding, fmt.Errorf("backup: %s has no records, its server keeps them in ClickHouse (--store) or sends them to writers: ClickHouse makes backups by itself (BACKUP DATABASE); "+
					"for policies, agents and tokens stop the server and copy the directory as it is", args[0]))
			}
			if err != nil {
				return exit(exitFinding, err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "backup: %s with %s, %d bytes; %d hard links\n", plural(c.Files, "file"), plural(int(c.Rows), "record"), c.Bytes, c.Linked)
			return err
		},
	}
	cmd.Flags().BoolVar(&link, "link", false, "hard links instead of copies where that is possible")
	cmd.Flags().BoolVar(&records, "records-only", false, "without policies, agents, tokens and keys")
	return cmd
}

// stateToo is what copies policies, agents and their tokens.
func stateToo(ctx context.Context, not bool) []func(from, to string) error {
	if not {
		return nil
	}
	return []func(from, to string) error{func(from, to string) error { return serve.CopyState(ctx, from, to) }}
}

func newRestore() *cobra.Command {
	var records bool
	cmd := &cobra.Command{
		Use: "restore BACKUP DIR", Short: "Make a data directory from a backup", GroupID: "run", Args: cobra.ExactArgs(2),
		Long: `restore copies a finished backup to DIR, which must not exist or be empty, and checks every file. Then start a server on DIR, as the user that
DIR belongs to.

The server takes up the policies of the backup: it makes the platforms as they were wanted then. To look at a backup beside the server that it is of, take
--records-only, or ask it with --data.`,
		Example: `  crosstap restore /mnt/backup/crosstap-2026-01-02 /var/lib/crosstap`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := segment.Restore(args[0], args[1], copyProgress(cmd.ErrOrStderr(), "restore"), stateToo(cmd.Context(), records)...)
			if err != nil {
				return exit(exitFinding, err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "restore: %s with %s, %d bytes, as of %s\n", plural(c.Files, "file"), plural(int(c.Rows), "record"), c.Bytes,
				c.Made.Format("2006-01-02 15:04:05Z07:00"))
			return err
		},
	}
	cmd.Flags().BoolVar(&records, "records-only", false, "without policies, agents, tokens and keys")
	return cmd
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
