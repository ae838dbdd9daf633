//go:build cgo && !agent

package segment

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"crosstap/internal/collect/store"
)

// init is the program of a question's process: whatever program has a store can be one, a test too. Nothing else does.
func init() { //nolint:gochecknoinits // before the rest of the program is made
	if len(os.Args) == 1 && os.Args[0] == processName {
		answerOne()
		os.Exit(0)
	}
}

// answerOne reads a question and tells its answer.
func answerOne() {
	in := json.NewDecoder(os.Stdin)
	var t sqlTask
	if err := in.Decode(&t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // who asked has gone
	}()
	out := &pieceWriter{to: bufio.NewWriterSize(os.Stdout, rowsAtOnce)}
	truncated, err := false, boundSelf(t)
	if err == nil {
		truncated, err = answerTo(t, out)
	}
	switch {
	case err != nil && strings.Contains(err.Error(), "Out of Memory Error") && strings.Contains(err.Error(), "temp_directory"):
		err = &store.SQLError{Message: fmt.Sprintf("the question keeps more aside on the disk than one may, or than is free in %s; narrow the time range or add conditions", filepath.Dir(t.Spill))}
	case err != nil && lacksMemory(err.Error()):
		err = tooMuch(t.Most)
	case err != nil && strings.Contains(err.Error(), "File too large"):
		err = &store.SQLError{Message: fmt.Sprintf("the answer would take more than half of what is free in %s; narrow the time range, or set TMPDIR to a folder with more room", filepath.Dir(t.Spill))}
	}
	if err := out.end(truncated, err); err != nil {
		os.Exit(2) // nobody reads
	}
}

// boundSelf makes the process one that the machine can bear: the kernel gives it no more memory than it may take, lets others run first, and ends it first when
// memory is short.
func boundSelf(t sqlTask) error {
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil { // the kernel tells 20 - nice
		_ = unix.Setpriority(unix.PRIO_PGRP, 0, min(20-nice+5, 19)) // of all its threads; some systems forbid it
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // the same
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Ignore(unix.SIGXFSZ) // writing fails instead
	half := uint64(spillRoom(t.Spill, math.MaxInt64))
	_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: half, Max: half})
	debug.SetMemoryLimit(t.Most / 2) // of Go, which holds rows on their way only
	now, err := dataBytes()
	if err != nil {
		return fmt.Errorf("memory of the process: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: now + uint64(t.Most), Max: now + 2*uint64(t.Most) + rowMost}); err != nil {
		return fmt.Errorf("limit of the process's memory: %w", err)
	}
	return nil
}

// roomToRead lets the process copy what the engine holds of an answer, which is within the limit until then. The engine gives a copy of some thousand rows at a time, and when there
// is no memory for it, it says that there are no more rows: that must not happen.
func roomToRead() error {
	var now unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_DATA, &now)
	if err == nil {
		now.Cur = now.Max
		err = unix.Setrlimit(unix.RLIMIT_DATA, &now)
	}
	if err != nil {
		return fmt.Errorf("limit of the process's memory: %w", err)
	}
	return nil
}

// dataBytes is what the kernel counts against RLIMIT_DATA: memory of its own that a process can write.
func dataBytes() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmData:")
	text, _, _ := strings.Cut(rest, "kB")
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	return n << 10, err
}

// answerTo asks the engine.
func answerTo(t sqlTask, out *pieceWriter) (truncated bool, err error) {
	db, err := openEngineFor(Config{QueryMemory: t.Engine, QueryThreads: t.Threads}, t.Spill, t.Files, t.Views)
	if err != nil {
		return false, err
	}
	ctx := context.Background() // who asked ends the process
	text, err := onlySelect(ctx, db, t.Text)
	if err != nil {
		return false, err
	}
	if t.All {
		return false, answerAll(ctx, db, t, text, &exactRows{out})
	}
	// The engine keeps an answer in memory beside its limit, so that it must be no longer than what is read. The line feed ends a comment.
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT * FROM (%s\n) LIMIT %d", text, t.Rows+1))
	if err != nil {
		return false, sqlMistake(err)
	}
	defer rows.Close()
	if err := roomToRead(); err != nil {
		return false, err
	}
	to := &plainRows{out: out, most: t.Rows}
	err = store.EachRow(rows, typeName, to)
	if errors.Is(err, errMore) {
		return true, nil
	}
	return false, err
}

var errMore = errors.New("there are more rows")

// plainRows tells some rows as JSON says them.
type plainRows struct {
	out      *pieceWriter
	columns  []store.SQLColumn
	values   []any
	n, bytes int
	most     int // rows
}

func (r *plainRows) Columns(columns []store.SQLColumn) error {
	r.columns, r.values = columns, make([]any, len(columns))
	return r.out.columns(columns)
}

func (r *plainRows) Row(values []any) error {
	if r.n++; r.n > r.most {
		return errMore
	}
	for i, v := range values {
		r.values[i] = store.Plain(v, r.columns[i].Type)
	}
	n, err := r.out.row(r.values)
	if r.bytes += n; r.bytes > sqlAnswer && err == nil {
		err = &store.SQLError{Message: fmt.Sprintf("the answer has more than %d MiB; ask for fewer rows or columns, or as Parquet", sqlAnswer>>20)}
	}
	return err
}

// exactRows tells all rows.
type exactRows struct{ *pieceWriter }

func (r *exactRows) Columns(columns []store.SQLColumn) error { return r.columns(columns) }

func (r *exactRows) Row(values []any) error {
	_, err := r.row(values)
	return err
}

// onlySelect returns the one SELECT statement that a question must be.
func onlySelect(ctx context.Context, db *sql.DB, text string) (string, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "; \t\n")
	var failed bool
	var message sql.NullString
	var n int
	err := db.QueryRowContext(ctx, `SELECT (j->>'error')::BOOLEAN, concat(j->>'error_message', if(j->>'position' IS NULL, '', ' at byte ' || (j->>'position'))),
  coalesce(json_array_length(j->'statements'), 0) FROM (SELECT json_serialize_sql($1::VARCHAR) AS j)`, text).Scan(&failed, &message, &n)
	switch {
	case err != nil:
		return "", sqlMistake(err)
	case failed:
		why := message.String
		if strings.Contains(why, "SELECT statements can be serialized") { // the engine's words for it
			why = "this is no SELECT"
		}
		return "", &store.SQLError{Message: why + "; one SELECT over the views flows, canonical and pairs_1h is expected"}
	case n != 1:
		return "", &store.SQLError{Message: fmt.Sprintf("%d statements; one SELECT is expected", n)}
	}
	return text, nil
}

// sqlMistake tells the engine's complaint without its source of error.
func sqlMistake(err error) error { return &store.SQLError{Message: err.Error()} }

// typeName is the engine's name for the type of a column.
func typeName(_ int, t *sql.ColumnType) string { return t.DatabaseTypeName() }
