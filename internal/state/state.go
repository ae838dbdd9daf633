// Package state keeps what a control line must not forget in one SQLite file: the resources in force, who changed them when and why, and
// the journal of the steps that changes made. Any number of processes may open the file; one writes at a time.
package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", in pure Go
)

// Store is an open file. It is safe for concurrent use.
type Store struct {
	db   *sql.DB
	path string
}

// schemaVersion is that of migrations; a file of a newer crosstap is refused.
const schemaVersion = 1

// migrations bring a file from each version to the next.
var migrations = []string{`
CREATE TABLE resources (
	kind TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, generation INTEGER NOT NULL,
	applied_ms INTEGER NOT NULL, by TEXT NOT NULL, change INTEGER NOT NULL,
	PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE changes (
	id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL DEFAULT 0,
	who TEXT NOT NULL, why TEXT NOT NULL, action TEXT NOT NULL, state TEXT NOT NULL, report TEXT NOT NULL DEFAULT ''
);
CREATE INDEX changes_state ON changes (state);
CREATE TABLE edits (
	change INTEGER NOT NULL REFERENCES changes (id), kind TEXT NOT NULL, name TEXT NOT NULL,
	before TEXT, after TEXT,
	PRIMARY KEY (change, kind, name)
) WITHOUT ROWID;
CREATE TABLE steps (
	change INTEGER NOT NULL REFERENCES changes (id), n INTEGER NOT NULL, platform TEXT NOT NULL, policy TEXT NOT NULL,
	step TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL DEFAULT '', at_ms INTEGER NOT NULL,
	PRIMARY KEY (change, n)
) WITHOUT ROWID;
`}

// Open opens a file, and makes it when there is none. Its folder must exist, or be one that can be made.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	db, err := sql.Open("sqlite", address(path, "busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"))
	if err != nil {
		return nil, fmt.Errorf("state: %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	s := &Store{db: db, path: path}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("state: %s: %w", path, err), db.Close())
	}
	return s, nil
}

// Copy writes what a file holds at one moment to a new one that its owner alone may read, also while others change it.
func Copy(ctx context.Context, from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("state: copy: %w", err)
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // SQLite would make it for everybody
	if err != nil {
		return fmt.Errorf("state: copy: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("state: copy: %w", err)
	}
	db, err := sql.Open("sqlite", address(from, "busy_timeout(10000)"))
	if err != nil {
		return fmt.Errorf("state: %s: %w", from, err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return fmt.Errorf("state: copy %s to %s: %w", from, to, err)
	}
	return nil
}

// address is that of a file, for SQLite.
func address(path string, pragmas ...string) string {
	q := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Path returns the file's path.
func (s *Store) Path() string { return s.path }

func (s *Store) migrate(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version > schemaVersion {
			return fmt.Errorf("the file is of version %d, this crosstap knows %d: use a newer one", version, schemaVersion)
		}
		for ; version < schemaVersion; version++ {
			if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion))
		return err
	})
}

// write runs f in a transaction of its own.
func (s *Store) write(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func ms(t time.Time) int64 { return t.UnixMilli() }

// fromMS is the time of ms, zero for zero.
func fromMS(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v).UTC()
}
