package answer

import (
	"bytes"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"crosstap/internal/collect/store"
)

// Columns stand as they came, under different names; values are exact, and may be null.
func TestSQLParquet(t *testing.T) {
	var b bytes.Buffer
	p := NewSQLParquet(&b)
	column := func(name, kind string) store.SQLColumn { return store.SQLColumn{Name: name, Type: kind} }
	err := p.Columns([]store.SQLColumn{column("z", "UBIGINT"), column("n", "HUGEINT"), column("z", "VARCHAR"), column("at", "TIMESTAMP"), column("src", "UUID"), column("small", "INTEGER"), column("ok", "BOOLEAN"), column("avg(a, b)", "DOUBLE"), column("l", "VARCHAR[]")})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.UTC)
	row := []any{uint64(1<<64 - 1), new(big.Int).Lsh(big.NewInt(-1), 70), "a\x00b", at, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x07"), int64(-3), true, .5, []any{"x", 1}}
	const rows = parquetRows + 3
	for range rows - 3 {
		if err := p.Row(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Row(make([]any, len(row))); err != nil {
		t.Fatal(err)
	}
	row[1], row[6] = int64(12), int64(0) // as another engine tells them
	if err := p.Row(row); err != nil {
		t.Fatal(err)
	}
	for _, digits := range []int{38, 39} {
		n := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
		row[1] = n.Sub(n, big.NewInt(1))
		err := p.Row(row)
		if digits == 38 && err != nil {
			t.Error(err)
		}
		if want := `column "n" of type HUGEINT: ask for it as text, with "n"::VARCHAR`; digits == 39 && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d digits: %v, want %s", digits, err, want)
		}
	}
	if err := p.Row([]any{"no number", nil, nil, nil, nil, nil, nil, nil, nil}); err == nil {
		t.Error("a text is a number")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, c := range file.Root().Columns() {
		names += c.Name() + "; "
	}
	if want := "z; n; z_2; at; src; small; ok; avg(a, b); l; "; names != want || file.NumRows() != rows || len(file.RowGroups()) != 2 {
		t.Errorf("%d rows in %d groups of %s, want %d in 2 of %s", file.NumRows(), len(file.RowGroups()), names, rows, want)
	}
	f := func(group, at int, want string) {
		t.Helper()
		in := file.RowGroups()[group].Rows()
		defer in.Close()
		if err := in.SeekToRow(int64(at)); err != nil {
			t.Fatal(err)
		}
		var one [1]parquet.Row
		if n, err := in.ReadRows(one[:]); n != 1 {
			t.Fatal(err)
		}
		got := ""
		for i, v := range one[0] {
			switch {
			case v.IsNull():
				got += "null; "
			case i == 0:
				got += fmt.Sprint(v.Uint64(), "; ")
			case i == 1:
				got += fmt.Sprintf("%x; ", v.ByteArray())
			default:
				got += v.String() + "; "
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	f(0, 7, "18446744073709551615; ffffffffffffffc00000000000000000; a\x00b; 1767323045006789; 10.0.0.7; -3; true; 0.5; [\"x\",1]; ")
	f(1, 0, "null; null; null; null; null; null; null; null; null; ")
	f(1, 1, "18446744073709551615; 0000000000000000000000000000000c; a\x00b; 1767323045006789; 10.0.0.7; -3; false; 0.5; [\"x\",1]; ")
}
