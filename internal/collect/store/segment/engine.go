package segment

import (
	"database/sql"
	"fmt"
	"strings"
)

func (s *Store) engine() *sql.DB {
	s.engines.Lock()
	defer s.engines.Unlock()
	return s.db
}

// engineIsLost reports whether an error is of an engine that answers no more: after a fatal or an internal error DuckDB refuses everything.
func engineIsLost(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "database has been invalidated") || strings.HasPrefix(text, "FATAL Error") || strings.HasPrefix(text, "INTERNAL Error") ||
		strings.Contains(text, "sql: database is closed")
}

// reopenEngine replaces a lost engine by a new one, once however many questions have found it lost. It holds no data, so that
// nothing is lost with it. What others of its questions still read ends with an error.
func (s *Store) reopenEngine(lost *sql.DB, why error) error {
	s.engines.Lock()
	defer s.engines.Unlock()
	if s.db != lost {
		return nil
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	db, err := openEngine(s.cfg, s.spill)
	if err != nil {
		return fmt.Errorf("segment: query engine: %w", err)
	}
	s.cfg.Log.Error("the query engine failed and was started again", "dir", s.cfg.Dir, "error", why)
	s.db = db
	go lost.Close() // waits for its questions
	return nil
}

// quote writes a string literal; only paths of our own files come here, arguments are bound.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
