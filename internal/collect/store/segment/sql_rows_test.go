package segment

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/store"
)

// collected keeps what it is given, as JSON would say it.
type collected struct {
	columns []store.SQLColumn
	rows    [][]any
	n       int
	most    int // to keep
	fail    error
}

func (c *collected) Columns(columns []store.SQLColumn) error {
	c.columns = columns
	return nil
}

func (c *collected) Row(values []any) error {
	if c.n++; c.n > c.most {
		return c.fail
	}
	row := make([]any, len(values))
	for i, v := range values {
		row[i] = store.Plain(v, c.columns[i].Type)
	}
	c.rows = append(c.rows, row)
	return nil
}

// sweeping starts another reader, which sweeps the folders of those that were killed, when an answer begins.
type sweeping struct {
	collected
	t   *testing.T
	dir string
}

func (s *sweeping) Columns(columns []store.SQLColumn) error {
	open(s.t, Config{Dir: s.dir, ReadOnly: true})
	return s.collected.Columns(columns)
}

// All rows of an answer come, with the values that the other form of the answer has.
func TestEachSQL(t *testing.T) {
	s := open(t, Config{QueryMemory: 256 << 20})
	put(t, s, conversation(base+1e9, base+5e9, 40000))
	ask := func(text string, limit int, to store.SQLRows) error {
		return s.EachSQL(t.Context(), store.SQLQuery{Text: text, ToNS: 1 << 62, Rows: limit, Timeout: time.Minute}, to)
	}
	f := func(text string) {
		t.Helper()
		want, err := s.SQL(t.Context(), store.SQLQuery{Text: text, ToNS: 1 << 62, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		got := collected{most: 100}
		if err := ask(text, 0, &got); err != nil || fmt.Sprint(got.rows) != fmt.Sprint(want.Rows) || fmt.Sprint(got.columns) != fmt.Sprint(want.Columns) {
			t.Errorf("%s: %v\n%v %v\nwant\n%v %v", text, err, got.columns, got.rows, want.Columns, want.Rows)
		}
	}
	f("SELECT * FROM flows ORDER BY octets, observer, src_port")
	f("SELECT sum(octets) AS n, -sum(octets)::HUGEINT AS m, avg(octets), NULL AS nothing FROM canonical")
	f("SELECT src, octets FROM canonical ORDER BY octets DESC -- the greatest first")
	f("SELECT 1 AS n, 2 AS n, TRUE, 'a''b', -5::TINYINT, 18446744073709551615::UBIGINT, 170141183460469231731687303715884105727::HUGEINT")
	f("SELECT * FROM flows WHERE octets = 7")
	all := collected{}
	if err := ask("SELECT range AS n, 'x' || range AS t FROM range(300000)", 0, &all); err != nil || all.n != 300_000 {
		t.Errorf("%d rows: %v", all.n, err)
	}
	beside := sweeping{t: t, dir: s.cfg.Dir}
	if err := ask("SELECT * FROM range(1000)", 0, &beside); err != nil || beside.n != 1000 {
		t.Errorf("with another reader: %d rows: %v", beside.n, err)
	}
	some := collected{}
	if err := ask("SELECT * FROM range(1000000000000)", 50_000, &some); err != nil || some.n != 50_000 {
		t.Errorf("%d rows: %v", some.n, err)
	}
	full := collected{fail: errors.New("nobody reads on")}
	if err := ask("SELECT * FROM range(1000)", 0, &full); !errors.Is(err, full.fail) || full.n != 1 {
		t.Errorf("%d rows: %v", full.n, err)
	}
	bad := func(text, want string) {
		t.Helper()
		var mistake *store.SQLError
		if err := ask(text, 0, &collected{}); !errors.As(err, &mistake) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	bad("SELEC 1", "syntax error")
	bad("SELECT 1; SELECT 2", "2 statements")
	bad("SELECT nothing FROM flows", "nothing")
	bad("COPY (SELECT 1) TO '/tmp/x'", "one SELECT")
	bad("SELECT * FROM read_text('/etc/passwd')", "disabled")
	bad("SELECT 1) TO '/tmp/x' (FORMAT csv) --", "")
}
