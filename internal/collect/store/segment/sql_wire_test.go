package segment

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
)

// asIs keeps rows with the values that came.
type asIs struct {
	columns []store.SQLColumn
	rows    [][]any
}

func (r *asIs) Columns(columns []store.SQLColumn) error { r.columns = columns; return nil }

func (r *asIs) Row(values []any) error {
	row := append([]any(nil), values...)
	for i, v := range row {
		if b, is := v.([]byte); is {
			row[i] = bytes.Clone(b)
		}
	}
	r.rows = append(r.rows, row)
	return nil
}

// told is an answer as the process of a question writes it.
func told(t testing.TB, columns []store.SQLColumn, rows [][]any, truncated bool, err error) []byte {
	t.Helper()
	var b bytes.Buffer
	w := &pieceWriter{to: bufio.NewWriter(&b)}
	if err := w.columns(columns); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if _, err := w.row(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(truncated, err); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func exampleAnswer() ([]store.SQLColumn, [][]any) {
	great := new(big.Int).Lsh(big.NewInt(1), 127)
	at := time.Date(1900, 1, 2, 3, 4, 5, 678, time.UTC)
	return []store.SQLColumn{{Name: "a", Type: "BIGINT"}, {Name: "b c", Type: "HUGEINT"}}, [][]any{
		{nil, true}, {false, int64(math.MinInt64)}, {uint64(math.MaxUint64), -0.5}, {"", "x\x00ü"}, {[]byte{}, []byte{0, 255}},
		{at, time.Unix(0, 1e9-1).UTC()}, {great, new(big.Int).Neg(great)}, {new(big.Int), int64(-1)},
	}
}

// What the process of a question writes is what its reader gives on, also in many pieces; what breaks off is no answer.
func TestPieces(t *testing.T) {
	columns, rows := exampleAnswer()
	for len(rows) < 20_000 {
		rows = append(rows, rows...)
	}
	b := told(t, columns, rows, true, nil)
	var got asIs
	truncated, err := readAnswer(bufio.NewReader(bytes.NewReader(b)), &got)
	if err != nil || !truncated {
		t.Fatal(truncated, err)
	}
	exact := cmp.Comparer(func(x, y *big.Int) bool { return x.Cmp(y) == 0 })
	if diff := cmp.Diff(columns, got.columns) + cmp.Diff(rows, got.rows, exact); diff != "" {
		t.Error(diff[:min(len(diff), 2000)])
	}
	var cut *cutError
	for _, n := range []int{0, 4, 5, 60, 70_000, len(b) - 1} {
		if _, err := readAnswer(bufio.NewReader(bytes.NewReader(b[:n])), &asIs{}); !errors.As(err, &cut) {
			t.Errorf("%d bytes of it: %v", n, err)
		}
	}
	var mistake *store.SQLError
	b = told(t, columns, rows[:1], false, fmt.Errorf("x: %w", &store.SQLError{Message: "no such column"}))
	if _, err := readAnswer(bufio.NewReader(bytes.NewReader(b)), &asIs{}); !errors.As(err, &mistake) || mistake.Message != "no such column" {
		t.Error(err)
	}
	b = told(t, columns, nil, false, errors.New("no disk"))
	if _, err := readAnswer(bufio.NewReader(bytes.NewReader(b)), &asIs{}); err == nil || err.Error() != "segment: sql: no disk" {
		t.Error(err)
	}
}

func FuzzReadAnswer(f *testing.F) {
	columns, rows := exampleAnswer()
	f.Add(told(f, columns, rows, false, nil))
	f.Add(told(f, columns, nil, false, errors.New("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got asIs
		truncated, err := readAnswer(bufio.NewReader(bytes.NewReader(b)), &got)
		if err != nil {
			return
		}
		again := told(t, got.columns, got.rows, truncated, nil)
		var same asIs
		if _, err := readAnswer(bufio.NewReader(bytes.NewReader(again)), &same); err != nil || len(same.rows) != len(got.rows) {
			t.Errorf("%v, %d rows of %d", err, len(same.rows), len(got.rows))
		}
	})
}
