package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"crosstap/internal/serve/agent"
	"crosstap/internal/state"
)

// CopyState copies what a data directory holds beside records to another one, also while its server runs: policies with their history, and what lets
// agents in. What is not there is passed over.
func CopyState(ctx context.Context, from, to string) error {
	err := state.Copy(ctx, filepath.Join(from, controlFile), filepath.Join(to, controlFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, path := range []func(data string) string{agent.AuthorityPath, agent.TokenPath, agent.HubPath} {
		if err := copySecret(path(from), path(to)); err != nil {
			return fmt.Errorf("agents: %w", err)
		}
	}
	return nil
}

// HoldsState reports whether a directory is a server's, whether or not it has records.
func HoldsState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, controlFile))
	return err == nil
}

// copySecret copies a small file for its owner alone.
func copySecret(from, to string) error {
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
