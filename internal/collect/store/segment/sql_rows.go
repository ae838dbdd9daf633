//go:build cgo && !agent

package segment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"crosstap/internal/collect/store"
)

// answerAll gives all rows. The engine keeps the whole of an answer that it gives, so it writes it into a file beside its spill files, and that is read.
func answerAll(ctx context.Context, db *sql.DB, t sqlTask, text string, to store.SQLRows) error {
	columns, err := describe(ctx, db, text)
	if err != nil {
		return err
	}
	limit := ""
	if t.Rows > 0 {
		limit = fmt.Sprintf(" LIMIT %d", t.Rows)
	}
	names, casts := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], casts[i] = fmt.Sprintf("c%d", i), fmt.Sprintf("c%d%s", i, castFor(c.Type))
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("COPY (SELECT %s FROM (%s\n) AS answer(%s)%s) TO %s (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 20480, USE_TMP_FILE false)",
		strings.Join(casts, ", "), text, strings.Join(names, ", "), limit, quote(t.Out)))
	if err != nil {
		return sqlMistake(err)
	}
	return eachRowOf(ctx, t.Out, columns, to)
}

// describe gives the columns of a question.
func describe(ctx context.Context, db *sql.DB, text string) (out []store.SQLColumn, err error) {
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT * FROM (%s\n) LIMIT 0", text))
	if err != nil {
		return nil, sqlMistake(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, sqlMistake(err)
	}
	for i, t := range types {
		out = append(out, store.SQLColumn{Name: t.Name(), Type: typeName(i, t)})
	}
	return out, rows.Err()
}

// castFor makes of a column what the file can have without loss, and of lists and the like text.
func castFor(kind string) string {
	switch kind {
	case "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "UUID", "VARCHAR":
		return ""
	case "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE":
		return "::TIMESTAMP"
	}
	if strings.HasPrefix(kind, "DECIMAL") {
		return "::DOUBLE"
	}
	return "::VARCHAR" // HUGEINT, which Parquet would have as a rounded number, too
}

// eachRowOf reads a file that the engine has written for these columns.
func eachRowOf(ctx context.Context, path string, columns []store.SQLColumn, to store.SQLRows) (err error) {
	if err := to.Columns(columns); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("segment: sql: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("segment: sql: %w", err)
	}
	file, err := parquet.OpenFile(f, st.Size())
	if err != nil {
		return fmt.Errorf("segment: sql: %w", err)
	}
	values := make([]any, len(columns))
	for _, group := range file.RowGroups() {
		if err := eachRowIn(ctx, group, columns, values, to); err != nil {
			return err
		}
	}
	return nil
}

func eachRowIn(ctx context.Context, group parquet.RowGroup, columns []store.SQLColumn, values []any, to store.SQLRows) error {
	in := group.Rows()
	defer in.Close()
	var some [256]parquet.Row
	for {
		n, err := in.ReadRows(some[:])
		for _, row := range some[:n] {
			for i, v := range row {
				values[i] = valueOf(v, columns[i].Type)
			}
			if err := to.Row(values); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("segment: sql: %w", err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// valueOf is a value of the file as package sql would give it.
func valueOf(v parquet.Value, kind string) any {
	if v.IsNull() {
		return nil
	}
	switch kind {
	case "BOOLEAN":
		return v.Boolean()
	case "TINYINT", "SMALLINT", "INTEGER":
		return int64(v.Int32())
	case "BIGINT":
		return v.Int64()
	case "UTINYINT", "USMALLINT", "UINTEGER":
		return uint64(v.Uint32())
	case "UBIGINT":
		return v.Uint64()
	case "FLOAT":
		return float64(v.Float())
	case "DOUBLE":
		return v.Double()
	case "UUID":
		return v.ByteArray()
	}
	switch castFor(kind) {
	case "::TIMESTAMP":
		return time.UnixMicro(v.Int64()).UTC()
	case "::DOUBLE":
		return v.Double()
	}
	text := string(v.ByteArray())
	if kind == "HUGEINT" || kind == "UHUGEINT" {
		if n, ok := new(big.Int).SetString(text, 10); ok {
			return n
		}
	}
	return text
}
