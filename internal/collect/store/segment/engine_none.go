//go:build !cgo || agent

package segment

import "database/sql"

// openEngine: this build stores but cannot answer.
func openEngine(Config, string) (*sql.DB, error) { return nil, nil }

func openEngineFor(Config, string, []string, []string) (*sql.DB, error) { return nil, errNoEngine }

func closeEngine(*sql.DB, string) error { return nil }
