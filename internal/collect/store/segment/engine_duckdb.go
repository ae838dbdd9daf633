//go:build cgo && !agent

package segment

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/duckdb/duckdb-go/v2"
	"golang.org/x/sys/unix"
)

// openEngine starts an in-memory DuckDB that can read the store's folder and what is worked out for it beside its spill files, and nothing else: no other
// path, no network, no extension, and no way to change that by SQL. What does not fit in memory goes to the spill folder.
func openEngine(cfg Config, spill string) (*sql.DB, error) {
	return startEngine(engineSettings(cfg, spill, 4*cfg.QueryMemory, "SET allowed_directories = ["+quote(cfg.Dir+"/")+", "+quote(spill+"/")+"]", []string{"SET parquet_metadata_cache = true"}), 4)
}

// openEngineFor starts one that can read the named files only, with views that setup makes. It is for one question, and keeps no footers: those of many files would take
// more memory, beside its limit, than the question.
func openEngineFor(cfg Config, spill string, files, setup []string) (*sql.DB, error) {
	quoted := make([]string, len(files))
	for i, f := range files {
		quoted[i] = quote(f)
	}
	return startEngine(engineSettings(cfg, spill, spillRoom(spill, 16*cfg.QueryMemory), "SET allowed_paths = ["+strings.Join(quoted, ", ")+"]", setup), 1)
}

// spillRoom is what may be kept aside in a folder: half of what is free there, and at most so many bytes.
func spillRoom(folder string, most int64) int64 {
	var fs unix.Statfs_t
	if unix.Statfs(folder, &fs) != nil {
		return most
	}
	return min(most, int64(fs.Bavail*uint64(fs.Bsize)/2))
}

func engineSettings(cfg Config, spill string, aside int64, allowed string, setup []string) []string {
	settings := []string{
		fmt.Sprintf("SET memory_limit = '%dMiB'", max(cfg.QueryMemory>>20, 64)),
		fmt.Sprintf("SET threads = %d", cfg.QueryThreads),
		"SET temp_directory = " + quote(spill),
		fmt.Sprintf("SET max_temp_directory_size = '%dMiB'", max(aside>>20, 64)),
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		"SET preserve_insertion_order = false",
		"SET TimeZone = 'UTC'",
		allowed,
	}
	settings = append(settings, setup...)
	return append(settings, "SET enable_external_access = false", "SET lock_configuration = true")
}

// startEngine opens an engine whose first connection makes the settings.
func startEngine(settings []string, conns int) (*sql.DB, error) {
	first := true
	c, err := duckdb.NewConnector("", func(conn driver.ExecerContext) error {
		if !first {
			return nil
		}
		first = false
		for _, s := range settings {
			if _, err := conn.ExecContext(context.Background(), s, nil); err != nil {
				return fmt.Errorf("%.200s: %w", s, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(conns)
	if err := db.Ping(); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// closeEngine ends the engine and removes what it may have left of its spill files.
func closeEngine(db *sql.DB, spill string) error {
	err := db.Close()
	return errors.Join(err, os.RemoveAll(spill))
}
