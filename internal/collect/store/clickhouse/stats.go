package clickhouse

import (
	"context"
	"database/sql"
	"fmt"

	"crosstap/internal/collect/store"
)

// Stats implements store.Store. What only the server knows is some seconds old.
func (s *Store) Stats() store.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Book, st.PendingRows = s.book.Read(), s.pending
	if s.lastErr != nil {
		st.LastError = s.lastErr.Error()
	}
	return st
}

// readStats asks the server for what Stats tells.
func (s *Store) readStats(ctx context.Context) {
	parts := "system.parts"
	if s.cfg.Cluster != "" {
		parts = "cluster(" + s.cfg.Cluster + ", system.parts)"
	}
	ask := "SELECT toInt64(sum(rows)), toInt64(sum(bytes_on_disk)), toInt64(count()) FROM " + parts + " WHERE active AND database = {p1:String} AND table IN ({p2:String}, concat({p2:String}, '_local'))"
	var st store.Stats
	var rows, bytes, files int64
	if s.db.QueryRowContext(ctx, ask, s.cfg.Database, flowsTable).Scan(&rows, &bytes, &files) != nil {
		return
	}
	st.Bytes, st.Files = uint64(bytes), int(files)
	if s.db.QueryRowContext(ctx, "SELECT toInt64(count()) FROM "+s.ddl.table(flowsTable)).Scan(&rows) != nil { // parts count rows that were corrected, too
		return
	}
	st.Rows = uint64(rows)
	if s.db.QueryRowContext(ctx, ask, s.cfg.Database, rollupTable).Scan(&rows, &bytes, &files) != nil {
		return
	}
	st.RollupRows, st.RollupBytes = uint64(rows), uint64(bytes)
	st.OldestNS, st.NewestNS, _ = s.extent(ctx, flowsTable, "t_end")
	var free int64
	if s.db.QueryRowContext(ctx, "SELECT toInt64(min(unreserved_space)) FROM system.disks").Scan(&free) == nil {
		st.FreeBytes = uint64(free)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats = st
}

// extent gives the least and greatest time of a table.
func (s *Store) extent(ctx context.Context, table, column string) (oldest, newest int64, ok bool) {
	var a, b sql.NullInt64
	err := s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT minOrNull(toUnixTimestamp64Milli(%[1]s)), maxOrNull(toUnixTimestamp64Milli(%[1]s)) FROM %[2]s", column, s.ddl.table(table))).Scan(&a, &b)
	return a.Int64 * 1e6, b.Int64 * 1e6, err == nil && a.Valid
}
