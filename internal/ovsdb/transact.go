package ovsdb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Condition compares a column (RFC 7047, section 5.1): Function is ==, !=, <, <=, >, >=, includes or excludes.
type Condition struct {
	Column, Function string
	Value            any
}

// Equal is the condition that a column has a value.
func Equal(column string, v any) Condition { return Condition{column, "==", v} }

// MarshalJSON writes the condition as an array.
func (c Condition) MarshalJSON() ([]byte, error) { return triple(c.Column, c.Function, c.Value) }

// Mutation changes a column in place: Mutator is +=, -=, *=, /=, %=, insert or delete.
type Mutation struct {
	Column, Mutator string
	Value           any
}

// MarshalJSON writes the mutation as an array.
func (m Mutation) MarshalJSON() ([]byte, error) { return triple(m.Column, m.Mutator, m.Value) }

func triple(column, word string, v any) ([]byte, error) {
	w, err := wire(v)
	if err != nil {
		return nil, fmt.Errorf("%w (column %s)", err, column)
	}
	return json.Marshal([]any{column, word, w})
}

// Operation is one step of a transaction (RFC 7047, section 5.2). The functions below make them.
type Operation map[string]any

// Insert adds a row. Later operations of the transaction refer to it as NamedUUID(name), unless name is "".
func Insert(table, name string, row Row) Operation {
	o := Operation{"op": "insert", "table": table, "row": row}
	if name != "" {
		o["uuid-name"] = name
	}
	return o
}

// Select reads the rows that meet all conditions: the columns, or all of them.
func Select(table string, where []Condition, columns ...string) Operation {
	o := Operation{"op": "select", "table": table, "where": conditions(where)}
	if len(columns) > 0 {
		o["columns"] = columns
	}
	return o
}

// Update sets columns of the rows that meet all conditions.
func Update(table string, where []Condition, row Row) Operation {
	return Operation{"op": "update", "table": table, "where": conditions(where), "row": row}
}

// Mutate changes columns of the rows that meet all conditions.
func Mutate(table string, where []Condition, mutations ...Mutation) Operation {
	return Operation{"op": "mutate", "table": table, "where": conditions(where), "mutations": mutations}
}

// Delete removes the rows that meet all conditions.
func Delete(table string, where ...Condition) Operation {
	return Operation{"op": "delete", "table": table, "where": conditions(where)}
}

// Wait lets the transaction go on when the rows that meet all conditions have (until "==") or no longer have (until "!=") the
// values of rows in those columns, and fails it when that takes longer than the timeout.
func Wait(table string, where []Condition, columns []string, until string, rows []Row, timeout time.Duration) Operation {
	if rows == nil {
		rows = []Row{}
	}
	return Operation{
		"op": "wait", "table": table, "where": conditions(where), "columns": columns, "until": until, "rows": rows,
		"timeout": timeout.Milliseconds(),
	}
}

// Comment puts a text into the server's log of transactions.
func Comment(text string) Operation { return Operation{"op": "comment", "comment": text} }

// conditions returns an empty list for none: null is refused by servers.
func conditions(where []Condition) []Condition {
	if where == nil {
		return []Condition{}
	}
	return where
}

// Result is what one operation did.
type Result struct {
	Count int   // rows changed by update, mutate and delete
	UUID  UUID  // of the row inserted
	Rows  []Row // selected
}

// OperationError says which operation failed a transaction, of which nothing was done.
type OperationError struct {
	Index   int    // of the operation; the number of operations when committing them failed
	Op      string // its kind, "commit" for the last case
	Err     string // such as "constraint violation", RFC 7047, section 5.2
	Details string
}

func (e *OperationError) Error() string {
	text := fmt.Sprintf("ovsdb: operation %d (%s): %s", e.Index, e.Op, e.Err)
	if e.Details != "" {
		text += ": " + e.Details
	}
	return text
}

// Transact does the operations all together or not at all. An error of the database is an *OperationError.
func (c *Conn) Transact(ctx context.Context, db string, ops ...Operation) ([]Result, error) {
	params := make([]any, 0, len(ops)+1)
	params = append(params, db)
	for _, o := range ops {
		params = append(params, o)
	}
	var raw []json.RawMessage
	if err := c.Call(ctx, "transact", params, &raw); err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(ops))
	for i, r := range raw {
		res, err := parseResult(r)
		if err != nil {
			return nil, fmt.Errorf("ovsdb: result %d: %w", i, err)
		}
		if res.Err != "" {
			e := &OperationError{Index: i, Op: "commit", Err: res.Err, Details: res.Details}
			if i < len(ops) {
				e.Op, _ = ops[i]["op"].(string)
			}
			return nil, e
		}
		if i < len(ops) {
			results = append(results, res.Result)
		}
	}
	if len(results) < len(ops) {
		return nil, fmt.Errorf("ovsdb: %d results for %d operations", len(results), len(ops))
	}
	return results, nil
}

type wireResult struct {
	Result
	Err, Details string
}

func parseResult(raw json.RawMessage) (wireResult, error) {
	var r struct {
		Count   int
		UUID    json.RawMessage
		Rows    []Row
		Error   string
		Details string
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return wireResult{}, err
	}
	out := wireResult{Result: Result{Count: r.Count, Rows: r.Rows}, Err: r.Error, Details: r.Details}
	if len(r.UUID) > 0 {
		v, err := parseValue(r.UUID)
		if err != nil {
			return wireResult{}, err
		}
		out.UUID, _ = v.(UUID)
	}
	return out, nil
}
