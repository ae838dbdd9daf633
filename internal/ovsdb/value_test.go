package ovsdb

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	u1 = UUID("550e8400-e29b-41d4-a716-446655440000")
	u2 = UUID("550e8400-e29b-41d4-a716-446655440001")
)

func TestRow(t *testing.T) {
	f := func(text string, want Row) {
		t.Helper()
		var got Row
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		back, err := json.Marshal(got)
		if err != nil || string(back) != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%s, %v", back, err)
		}
	}
	f(`{"a": 1, "b": "x", "c": true}`, Row{"a": int64(1), "b": "x", "c": true})
	f(`{"a": 9223372036854775807, "b": 1.5}`, Row{"a": int64(math.MaxInt64), "b": 1.5})
	f(`{"a": ["uuid", "550e8400-e29b-41d4-a716-446655440000"]}`, Row{"a": u1})
	f(`{"a": ["set", []], "b": ["set", [1, 2]], "c": ["set", [["uuid", "550e8400-e29b-41d4-a716-446655440000"]]]}`,
		Row{"a": Set{}, "b": Set{int64(1), int64(2)}, "c": Set{u1}})
	f(`{"a": ["map", [["k", "v"], ["l", "w"]]], "b": ["map", []], "c": ["named-uuid", "m"]}`,
		Row{"a": Map{"k": "v", "l": "w"}, "b": Map{}, "c": NamedUUID("m")})
	var none Row
	if err := json.Unmarshal([]byte(`null`), &none); err != nil || none != nil {
		t.Errorf("%v, %v", none, err)
	}
}

func TestRowRefuses(t *testing.T) {
	f := func(text string) {
		t.Helper()
		var r Row
		if err := json.Unmarshal([]byte(text), &r); err == nil {
			t.Errorf("%s: %v", text, r)
		}
	}
	f(`{"a": null}`)
	f(`{"a": {}}`)
	f(`{"a": []}`)
	f(`{"a": ["set", [["set", []]]]}`)
	f(`{"a": ["map", [[1]]]}`)
	f(`{"a": ["map", [[null, 1]]]}`)
	f(`{"a": ["heap", []]}`)
	f(`{"a": ["uuid", 5]}`)
	f(`[]`)
	for _, v := range []any{nil, struct{}{}, math.NaN(), Set{nil}, Map{"a": []byte{}}} {
		if b, err := json.Marshal(Row{"a": v}); err == nil {
			t.Errorf("%v: %s", v, b)
		}
	}
}

func TestRowReads(t *testing.T) {
	r := Row{
		"one": "x", "two": Set{"x", "y"}, "none": Set{}, "n": int64(7), "real": 2.5, "b": true, "u": u1, "us": Set{u1, u2},
		"m": Map{"k": "v", "n": int64(1)}, "stats": Map{"rx": int64(5)},
	}
	n, ok := r.Int("n")
	real, _ := r.Real("n")
	_, none := r.Int("none")
	_, missing := r.Int("missing")
	got := []any{r.Text("one"), r.Text("none"), r.Texts("two"), r.Texts("one"), n, ok, none, missing, real, r.Bool("b"), r.UUID("u"), r.UUIDs("us"),
		r.UUIDs("u"), r.TextMap("m"), r.IntMap("stats"), r.TextMap("missing"), r.Ints("n"), r.Text("n")}
	want := []any{"x", "", []string{"x", "y"}, []string{"x"}, int64(7), true, false, false, 7.0, true, u1, []UUID{u1, u2},
		[]UUID{u1}, map[string]string{"k": "v"}, map[string]int64{"rx": 5}, map[string]string(nil), []int64{7}, ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMessage(t *testing.T) {
	f := func(text string, limit int, want []string, end string) {
		t.Helper()
		r := bufio.NewReader(strings.NewReader(text))
		var got []string
		for {
			b, err := message(r, nil, limit)
			if err != nil {
				if err.Error() != end {
					t.Errorf("%v", err)
				}
				break
			}
			got = append(got, string(b))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	f(`{"a":1}{"b":[2]}`+"\n [3]", 100, []string{`{"a":1}`, `{"b":[2]}`, `[3]`}, "EOF")
	f(`{"a":"}\"]{"}{`, 100, []string{`{"a":"}\"]{"}`}, "EOF")
	f(`{"a":"\\"}x`, 100, []string{`{"a":"\\"}`}, errNotJSON.Error())
	f(`{"a":"b"}`, 8, nil, "ovsdb: message of more than 8 bytes")
	f(`HTTP/1.1 400`, 100, nil, errNotJSON.Error())
	f(`]`, 100, nil, errNotJSON.Error())
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"id":null,"method":"update3","params":["x","y",{"T":{"u":{"modify":{"a":["set",[1]]}}}}]}{}`))
	f.Add([]byte(`{"a":["map",[["uuid","x"],[1,2]]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(strings.NewReader(string(b)))
		const limit = 1 << 12
		for {
			m, err := message(r, nil, limit)
			if len(m) > limit {
				t.Fatalf("%d bytes", len(m))
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, errNotJSON) && len(b) <= limit {
					t.Fatal(err)
				}
				break
			}
			var row Row
			if json.Unmarshal(m, &row) == nil && row != nil {
				if _, err := json.Marshal(row); err != nil {
					t.Fatal(err)
				}
			}
			var updates tableUpdates
			if json.Unmarshal(m, &updates) == nil {
				_, _ = tables{}.apply(&Schema{}, updates)
			}
		}
	})
}

// Updates of a server that may send anything: of columns of each kind, new and changed. The same difference twice is none.
func FuzzUpdates(f *testing.F) {
	f.Add([]byte(`{"T":{"u":{"initial":{"one":1,"many":["set",[1,2]],"pairs":["map",[["a","b"]]]}}}}`), []byte(`{"T":{"u":{"modify":{"one":2,"many":["set",[2,3]],"pairs":["map",[["a","c"]]]}}}}`))
	f.Add([]byte(`{"T":{"u":{"insert":{"many":["uuid","x"]}}}}`), []byte(`{"T":{"u":{"delete":null}}}`))
	f.Add([]byte(`{"T":{"u":{"new":{"many":["set",[["set",[1]],["map",[]]]]}}}}`), []byte(`{"T":{"u":{"modify":{"many":["set",[["set",[1]]]],"pairs":["map",[[["set",[]],1]]]}}}}`))
	schema := &Schema{Tables: map[string]TableSchema{"T": {Columns: map[string]ColumnSchema{
		"one": {Type: ColumnType{Key: "integer", Max: 1}}, "many": {Type: ColumnType{Key: "integer", Max: -1}}, "pairs": {Type: ColumnType{Key: "string", Value: "string", Max: -1}},
	}}}}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var a, b tableUpdates
		if json.Unmarshal(first, &a) != nil || json.Unmarshal(second, &b) != nil {
			return
		}
		rows := tables{}
		if _, err := rows.apply(schema, a); err != nil {
			return
		}
		before := maps.Clone(rows["T"])
		if _, err := rows.apply(schema, b); err != nil {
			return
		}
		_ = differences(tables{"T": before}, rows)
		for id, u := range b["T"] {
			if u.Modify == nil || u.Initial != nil || u.Insert != nil || before[id] == nil {
				continue
			}
			many := changed(schema.Tables["T"].Columns["pairs"].Type, before[id]["pairs"], u.Modify["pairs"])
			if back := changed(schema.Tables["T"].Columns["pairs"].Type, many, Map{}); !equal(back, many) {
				t.Errorf("no difference changes %v into %v", many, back)
			}
		}
	})
}

// The differences of ovsdb-server(7), Update2 Notification.
func TestChanged(t *testing.T) {
	one, many, pairs := ColumnType{Key: "string", Max: 1}, ColumnType{Key: "integer", Max: -1}, ColumnType{Key: "string", Value: "string", Max: -1}
	f := func(c ColumnType, old, d, want any) {
		t.Helper()
		if got := changed(c, old, d); !equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	f(one, "a", "b", "b")
	f(one, "a", Set{}, Set{})
	f(one, Set{}, "b", "b")
	f(many, Set{int64(1), int64(2)}, Set{int64(2), int64(3)}, Set{int64(1), int64(3)})
	f(many, int64(1), int64(2), Set{int64(1), int64(2)})
	f(many, int64(1), int64(1), Set{})
	f(many, nil, Set{int64(1), int64(2)}, Set{int64(2), int64(1)})
	f(pairs, Map{"a": "1", "b": "2"}, Map{"a": "1", "b": "3", "c": "4"}, Map{"b": "3", "c": "4"})
	f(pairs, nil, Map{"c": "4"}, Map{"c": "4"})
}

func TestColumnType(t *testing.T) {
	f := func(text string, want ColumnType) {
		t.Helper()
		var got ColumnType
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	f(`"string"`, ColumnType{Key: "string", Min: 1, Max: 1})
	f(`{"key": "integer", "min": 0}`, ColumnType{Key: "integer", Max: 1})
	f(`{"key": {"type": "uuid", "refTable": "Port"}, "min": 0, "max": "unlimited"}`, ColumnType{Key: "uuid", RefTable: "Port", Max: -1})
	f(`{"key": "string", "value": {"type": "integer"}, "min": 0, "max": 4096}`, ColumnType{Key: "string", Value: "integer", Max: 4096})
}
