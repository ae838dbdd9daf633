package dialect

import (
	"strings"
	"testing"
)

var tables = map[string]Table{"t": {SQL: "db.t", Columns: []Column{
	{Name: "a", Type: "UBIGINT"}, {Name: "b", Type: "BIGINT"}, {Name: "addr", Type: "UUID"}, {Name: "name", Type: "VARCHAR"}, {Name: "at", Type: "TIMESTAMP"}, {Name: "marks", Type: "USMALLINT"}, {Name: "x", Type: "DOUBLE"},
}}}

func TestTranslate(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		p, err := Translate(text, tables, []string{"UInt64", "String"})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		got := ""
		for _, s := range p.Steps {
			got += s.Name + ": " + s.SQL + "; "
		}
		if got = strings.ReplaceAll(got+p.SQL, "`", ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
	f("SELECT a FROM t WHERE a >= $1 AND name LIKE $2", `SELECT t.a AS a FROM db.t AS t WHERE ((t.a >= {p1:UInt64}) AND (t.name LIKE replaceAll({p2:String}, '\\', '\\\\')))`)
	f("SELECT (marks & 1) <> 0 AS can, a // 2, -b % 3, a | 4 FROM t", "SELECT (bitAnd(t.marks, 1) <> 0) AS can, intDiv(t.a, 2) AS c_1, ((-t.b) % 3) AS c_2, bitOr(t.a, 4) AS c_3 FROM db.t AS t")
	f("SELECT sum(a)::UBIGINT AS s, sum(a) FILTER (WHERE b > 0) AS p FROM t GROUP BY name", "SELECT toUInt64(sum(t.a)) AS s, sumOrNullIf(t.a, (t.b > 0)) AS p FROM db.t AS t GROUP BY t.name")
	f("SELECT sum(a), count(*), count(DISTINCT (a, b)) FILTER (b > 0) FROM t", "SELECT sumOrNull(t.a) AS c_1, toInt64(count()) AS c_2, toInt64(uniqExactIf(tuple(t.a, t.b), (t.b > 0))) AS c_3 FROM db.t AS t")
	f("SELECT addr::VARCHAR, a::VARCHAR, (a = 1)::VARCHAR, name::VARCHAR FROM t",
		"SELECT UUIDNumToString(reinterpret(t.addr, 'FixedString(16)')) AS c_1, toString(t.a) AS c_2, if((t.a = 1), 'true', 'false') AS c_3, t.name AS c_4 FROM db.t AS t")
	f("SELECT 1 FROM t WHERE addr = '00000000-0000-0000-0000-ffff0a000001'::UUID", "SELECT 1 AS c_1 FROM db.t AS t WHERE (t.addr = toIPv6('0000:0000:0000:0000:0000:ffff:0a00:0001'))")
	f("SELECT x::BIGINT, 4294967296, 4294967295 & a, 72057594037927936::UBIGINT FROM t", "SELECT toInt64(round(t.x)) AS c_1, toInt64(4294967296) AS c_2, bitAnd(4294967295, t.a) AS c_3, toUInt64(72057594037927936) AS c_4 FROM db.t AS t")
	f("SELECT [] AS l, coalesce(list(a), []) FROM t", "SELECT CAST([], 'Array(String)') AS l, coalesce(groupArray(t.a), []) AS c_1 FROM db.t AS t")
	f("SELECT 'a\\x41''s' AS q", `SELECT 'a\\x41\'s' AS q`)
	f("SELECT * EXCLUDE (addr, at, marks, x, name) REPLACE (a + 1 AS a) FROM t", "SELECT (t.a + 1) AS a, t.b AS b FROM db.t AS t")
	// names of the answer come first in ORDER BY, columns of tables elsewhere
	f("SELECT max(a) AS a FROM t GROUP BY name ORDER BY a DESC NULLS LAST LIMIT 3", "SELECT max(t.a) AS a FROM db.t AS t GROUP BY t.name ORDER BY (max(t.a)) DESC NULLS LAST LIMIT 3")
	// a step that is used once stands in its place, one that is used twice becomes a table
	f("WITH s AS MATERIALIZED (SELECT a FROM t), o AS NOT MATERIALIZED (SELECT a FROM s) SELECT a FROM o", "WITH s_1 AS (SELECT t.a AS a FROM db.t AS t),\no_2 AS (SELECT s.a AS a FROM s_1 AS s)\nSELECT o.a AS a FROM o_2 AS o")
	f("WITH s AS MATERIALIZED (SELECT a FROM t) SELECT a, (SELECT count(*) FROM s) FROM s", "s_1: SELECT t.a AS a FROM db.t AS t; SELECT s.a AS a, (SELECT toInt64(count()) AS c_2 FROM s_1 AS s) AS c_3 FROM s_1 AS s")
	// signed and unsigned numbers have no type in common
	f("SELECT a FROM t UNION ALL SELECT b FROM t", "SELECT toInt128(b_1.a) AS a FROM (SELECT t.a AS a FROM db.t AS t) AS b_1\nUNION ALL SELECT toInt128(b_2.b) AS a FROM (SELECT t.b AS b FROM db.t AS t) AS b_2")
	f("SELECT a FROM t JOIN (SELECT a, b AS c FROM t) u USING (a)", "SELECT t.a AS a FROM db.t AS t INNER JOIN (SELECT t.a AS a, t.b AS c FROM db.t AS t) AS u ON t.a = u.a")
	f("SELECT a IN (1, 2), $1 IN (a, 2), a NOT IN (SELECT a FROM t) FROM t",
		"SELECT (t.a IN (1, 2)) AS c_1, (({p1:UInt64} = t.a OR {p1:UInt64} = 2)) AS c_2, (t.a NOT IN (SELECT t.a AS a FROM db.t AS t)) AS c_3 FROM db.t AS t")
	f("SELECT list_sort(list(DISTINCT addr) FILTER (a > 0))[1:3] AS l, to_json(list(DISTINCT addr)) FROM t",
		"SELECT arraySlice(arraySort(groupUniqArrayIf(t.addr, (t.a > 0))), 1, greatest(3 - 1 + 1, 0)) AS l, toJSONString(arrayMap(x_ -> UUIDNumToString(reinterpret(x_, 'FixedString(16)')), groupUniqArray(t.addr))) AS c_1 FROM db.t AS t")
}

// A question names its tables and functions, and nothing else of the server.
func TestTranslateRefuses(t *testing.T) {
	f := func(text, why string) {
		t.Helper()
		_, err := Translate(text, tables, nil)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
	}
	f("SELECT * FROM system.users", "unexpected \".\"")
	f("SELECT * FROM url('http://x')", "unexpected \"(\"")
	f("SELECT * FROM users", "there is no table \"users\" at byte 14")
	f("SELECT file('/etc/passwd')", "there is no function \"file\"")
	f("SELECT a FROM t; DROP TABLE t", "unexpected \";\"")
	f("DROP TABLE t", "expected SELECT")
	f("SELECT nothing FROM t", "there is no column \"nothing\" at byte 7")
	f("SELECT a FROM t SETTINGS max_threads = 1", "unexpected")
	f("SELECT $1", "values for $1")
	f("SELECT 'x", "not closed")
	f("SELECT "+strings.Repeat("(", 300)+"1"+strings.Repeat(")", 300), "levels")
	f("SELECT a FROM t UNION ALL SELECT a, b FROM t", "UNION of 1 and 2 columns")
	f("SELECT a::FROB FROM t", "there is no type")
	f("SELECT x FROM t, t", "two tables are called")
	f("SELECT sum(*) FROM t", "sum(*)")
	f("SELECT lower() FROM t", "lower takes")
}

func FuzzTranslate(f *testing.F) {
	f.Add("WITH s AS MATERIALIZED (SELECT a FROM t) SELECT a, (SELECT count(*) FROM s) FROM s WHERE a IN (1,2) ORDER BY 1 DESC LIMIT 3")
	f.Add("SELECT CASE a WHEN 1 THEN 'x' ELSE name END, list(a ORDER BY b)[1:2], row_number() OVER (PARTITION BY b ORDER BY a) FROM t GROUP BY ALL")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Translate(text, tables, []string{"UInt64"})
		if (err == nil) != (p.SQL != "") {
			t.Errorf("%q, %v", p.SQL, err)
		}
	})
}
