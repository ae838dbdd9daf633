// Package store says what a store of flow records does for the collect line and for the reports.
// The adapters are in the folders below: segment is the embedded one.
package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// Store keeps flow records. All methods are safe for concurrent use.
type Store interface {
	// Append copies the records and returns; they are stored (in an fsynced file) within the flush
	// interval. When the disk does not keep up it waits, with a bound, and then sheds the
	// records: they are counted and a Gap is noted, which is no error. An error means that the store
	// is closed or ctx ended; what was not taken by then is counted as dropped.
	Append(ctx context.Context, recs []flow.Record) error
	// NoteGap remembers a stretch of time in which records may be missing.
	NoteGap(g Gap) error
	CountKeeper
	// Flush returns when everything appended before the call is durable.
	Flush(ctx context.Context) error
	Stats() Stats
	// Close flushes and ends every goroutine of the store.
	Close() error
}

// Gap is a stretch of time in which records may be missing, and why. Times are nanoseconds since
// the Unix epoch, half open.
type Gap struct {
	FromNS      int64  `json:"from_ns"`
	ToNS        int64  `json:"to_ns"`
	Scope       string `json:"scope"` // "collector", "exporter" or "store"
	Who         string `json:"who"`   // name of the observer or exporter, "" for the collector
	Reason      string `json:"reason"`
	LostRecords uint64 `json:"lost_records"` // 0 when not countable
}

// Stats is the state of a store at one moment.
type Stats struct {
	Book        ledger.Statement `json:"book"`         // records: in = stored + dropped{reason} + held
	Rows        uint64           `json:"rows"`         // stored and not yet expired
	Bytes       uint64           `json:"bytes"`        // on disk
	Files       int              `json:"files"`        // of rows
	RollupRows  uint64           `json:"rollup_rows"`  // of stored roll-ups
	RollupBytes uint64           `json:"rollup_bytes"` // beside Bytes
	// UnmergedRollups are the roll-ups of single hours: those of hours that are over for long are merged in the background.
	UnmergedRollups int    `json:"unmerged_rollups"`
	SealedFiles     int    `json:"sealed_files"` // of Files: sorted, with the canonical rows settled
	PendingRows     int    `json:"pending_rows"` // appended, not yet durable
	SetAside        uint64 `json:"set_aside"`    // files found damaged since the store was opened
	OldestNS        int64  `json:"oldest_ns"`    // oldest stored t_end, 0 for an empty store
	NewestNS        int64  `json:"newest_ns"`    // newest stored t_end
	FreeBytes       uint64 `json:"free_bytes"`   // left on the file system
	LastError       string `json:"last_error"`   // of the last flush, "" when it went well
}

// ErrStale says that a file of a View is no longer there; a new View has the same rows in another one.
var ErrStale = errors.New("the store has changed under a reader")

// Reader is what reports need of a store.
type Reader interface {
	// View pins the stored rows that touch the time range (t_end >= fromNS and t_start < toNS); it may
	// hold more. Close it soon: files that were replaced meanwhile stay on disk until then.
	View(ctx context.Context, fromNS, toNS int64) (View, error)
	CountReader
}

// View is an unchanging picture of the store.
type View interface {
	// Table is a table expression for SQL with the store's columns, for use after FROM.
	Table() string
	// Rollup is a table expression, for use after FROM, with what the rows that end in [fromNS, toNS) add up to between
	// workloads, by time. The range must lie in the view's. Buckets of which roll-ups are stored come from these, and what the range cuts and what
	// is not rolled up yet from the rows, so that counters are exact for any range. Its columns:
	//
	//	bucket                  TIMESTAMP, start of the hour or minute of t_end
	//	fabric, segment, src, dst, tenant, src_tenant, src_vm, src_vm_id, src_host (and dst_…), app, proto
	//	                        as in Table, after what other observers of a flow told in the hour has filled what one lacks. A
	//	                        workload is its id, else its name, else its address in (fabric, segment)
	//	service_port            port of the server; the lesser port when the client is not known
	//	client                  which end opened: 0 not known, 1 src, 2 dst
	//	packets, octets, l2_octets, rows      of canonical rows
	//	flows                   different 5-tuples among them in the bucket; one that lives in two buckets counts in both
	//	first_seen, last_seen   least t_start and greatest t_end of them
	//	marks, tcp_flags        union over them
	//	port_votes              Σ sign(src_port - dst_port) over them
	//	variance                DOUBLE, of octets, from sampling: Σ octets² × (N - 1) ÷ packets
	//	sampled_rows, ambiguous_rows          of rows
	//	min_len, max_len, fragments, retransmits, zero_windows, rtt_n, rtt_sum, rtt_max
	//	outer_src, outer_dst    the VTEPs that any observer saw between these addresses on these hosts, the latest
	//	seen_by                 observers of canonical rows, ascending, with "\n" between them; one without a name is "\x1f", exporter, "/", domain
	//	other_rows, duplicates, seen_other    rows that are not canonical, their packets and observers. They are of the pair of
	//	                        workloads and stand in its first row of the bucket only; that has no canonical rows when the pair has none
	//
	// What is not a column (ports of clients, MAC addresses, interfaces, observation points) only the rows tell.
	Rollup(step time.Duration, fromNS, toNS int64) string
	// RollupExtent is like Extent for roll-ups and rows together: roll-ups are kept longer.
	RollupExtent() (oldestNS, newestNS int64, ok bool)
	// Query runs SQL; arguments are bound.
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	// Gaps returns the gaps that touch the time range, oldest first.
	Gaps() []Gap
	// Extent returns the oldest and newest stored t_end; ok is false for an empty store.
	Extent() (oldestNS, newestNS int64, ok bool)
	// Pending returns the number of records appended but not yet stored.
	Pending() int
	Close() error
}

// Part says which of a roll-up's rows a question is about, to read less. Rows that are not of the part may be given too.
type Part struct {
	FromNS, ToNS int64
	// Segments is a condition in SQL on the column segment alone that the rows fulfil; "" for all. It is false for segment 0. Numbers are those of the
	// segments, whatever their kind, when that is all that it says.
	Segments string
	Numbers  []uint64
	// Links: neither hours nor the addresses of workloads without a name matter. Instead of hours, rows may be of longer times, bucket being the start of
	// one. src and dst may be zero where the workload has neither id nor name; client then is what the row's own client, port_votes and ends told.
	// Rows without canonical rows may lack.
	Links bool
	// Count: only rows and other_rows matter, and they all.
	Count bool
	// Bare: only addresses, names and ids matter, each observer's as it told them, and segments as far as they are known. Of an hour or day that
	// the range cuts more may be given.
	Bare bool
	// Addrs: only rows with one of these addresses at an end matter; nil for all. They are UUIDs as text.
	Addrs []string
	// Within is a condition like Segments that is true for segment 0, and that rows fulfil before others complete them, too; with Addrs. "" for all.
	Within string
	// Single: who asks adds rows up by the hour, and asks for no different flows, VTEPs or observers, nor for rows that are not canonical. What is not rolled up
	// may be given row by row.
	Single bool
}

// KindsView is a View that may know of which kinds the segments of its rows are; "not known" is one of them.
type KindsView interface {
	SegmentKinds() (kinds []int, ok bool)
}

// PartView is a View that can read less than all for a roll-up by the hour.
type PartView interface {
	RollupPart(p Part) string
}
