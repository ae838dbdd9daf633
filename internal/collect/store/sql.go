package store

import (
	"context"
	"time"
)

// SQLQuery is a question of an administrator in SQL over the views flows, canonical and pairs_1h, which hold what ends in [FromNS, ToNS).
type SQLQuery struct {
	Text         string
	FromNS, ToNS int64
	Rows         int           // at most; 10,000
	Timeout      time.Duration // 30 s
}

// SQLRows gets an answer row by row: Columns once, before the first row. Values are those of package sql, and may only be used during the call. An error ends the question.
type SQLRows interface {
	Columns(columns []SQLColumn) error
	Row(values []any) error
}

// SQLAnswer holds what a question gives: values are nil, bool, int64, uint64, float64 or text; times are RFC 3339 and addresses as
// usual.
type SQLAnswer struct {
	Columns   []SQLColumn   `json:"columns"`
	Rows      [][]any       `json:"rows"`
	Truncated bool          `json:"truncated"` // there were more rows
	Took      time.Duration `json:"took_ns"`
}

// SQLColumn is a column of an answer.
type SQLColumn struct {
	Name string `json:"name"`
	Type string `json:"type"` // of the engine
}

// SQLError is a mistake in a question.
type SQLError struct{ Message string }

func (e *SQLError) Error() string { return "sql: " + e.Message }

// Querier answers questions in SQL. They cannot change anything, nor read anything but the views.
type Querier interface {
	SQL(ctx context.Context, q SQLQuery) (SQLAnswer, error)
	// EachSQL gives all rows, or the first q.Rows of them unless that is 0. However many there are, memory is bounded.
	EachSQL(ctx context.Context, q SQLQuery, to SQLRows) error
}
