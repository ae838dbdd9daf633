package segment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
)

func TestSQL(t *testing.T) {
	s := open(t, Config{QueryMemory: 256 << 20})
	put(t, s, conversation(base+1e9, base+5e9, 40000))
	ask := func(text string) (store.SQLAnswer, error) {
		return s.SQL(t.Context(), store.SQLQuery{Text: text, ToNS: 1 << 62, Rows: 2, Timeout: 20 * time.Second})
	}
	f := func(text, want string) {
		t.Helper()
		a, err := ask(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		if diff := cmp.Diff(want, fmt.Sprint(a.Rows, a.Truncated)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	f("SELECT count(*) FROM flows;", "[[3]] false")
	f("SELECT sum(octets) FROM canonical", "[[6000]] false")
	f("WITH x AS (SELECT src, octets FROM canonical) SELECT * FROM x ORDER BY octets", "[[10.0.0.1 1000] [10.0.0.2 5000]] false")
	f("SELECT packets, src_vm, service_port, vni(segment) FROM pairs_1h ORDER BY client", "[[10 web 443 5001] [10 db 443 5001]] false")
	f("SELECT t_end FROM flows WHERE src = addr('10.0.0.1') LIMIT 1", "[[2025-11-21T10:00:05Z]] false")
	f("SELECT * FROM range(10)", "[[0] [1]] true")
	f("SELECT * FROM range(1000000000000)", "[[0] [1]] true") // never in memory
	f("SELECT dst_port FROM flows ORDER BY octets DESC LIMIT 1 -- the greatest", "[[40000]] false")
	f("(SELECT 1) UNION ALL SELECT 2 ORDER BY 1 DESC", "[[2] [1]] false")
	f("SELECT 1 AS n, 2 AS n", "[[1 2]] false")
	f("DESCRIBE SELECT 1 AS n", "[[n INTEGER YES <nil> <nil> <nil>]] false")
	f("VALUES (1)", "[[1]] false")
	f("SELECT t_end - t_start, t_end::DATE, t_end::TIME FROM flows WHERE src = addr('10.0.0.1') LIMIT 1", "[[00:00:04 2025-11-21 10:00:05]] false")
	f("SELECT INTERVAL 14 MONTH + INTERVAL 3 DAY - INTERVAL '1.5' SECOND, INTERVAL 0 DAY", "[[1 year 2 months 3 days -00:00:01.5 00:00:00]] false")
	f("SELECT TIMESTAMP '2026-01-02 03:04:05.123456', TIME '01:02:03.5'", "[[2026-01-02T03:04:05.123456Z 01:02:03.5]] false")
	f("SELECT [1, NULL], {'at': t_end, 'from': src, 'n': [1.5]}, MAP {'k': 1} FROM flows WHERE src = addr('10.0.0.1') LIMIT 1",
		`[[[1,null] {"at":"2025-11-21T10:00:05Z","from":"10.0.0.1","n":["1.5"]} {"k":1}]] false`)
	f("SELECT list(DISTINCT src ORDER BY src) FROM flows", `[[["10.0.0.1","10.0.0.2"]]] false`)
	f("FROM flows SELECT dst_port ORDER BY 1 LIMIT 1", "[[443]] false")
	if a, err := ask("SELECT 1 AS n, 2 AS n, 3 AS \"a b\""); err != nil || fmt.Sprint(a.Columns) != "[{n INTEGER} {n_1 INTEGER} {a b INTEGER}]" {
		t.Errorf("columns: %v, %v", a.Columns, err)
	}
	victim := s.path(sortedFiles(s.man.live)[0].Name)
	bad := func(text, want string) {
		t.Helper()
		_, err := ask(text)
		var mistake *store.SQLError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
	bad("SELEC 1", "syntax error")
	bad("SELECT nothing FROM flows", "nothing")
	bad("", "one SELECT")
	bad("SELECT 1; SELECT 2", "2 statements")
	bad("COPY (SELECT 1) TO '"+victim+"'", "one SELECT")
	bad("SELECT 1; COPY (SELECT 1) TO '"+victim+"'", "one SELECT")
	bad("INSTALL httpfs", "this is no SELECT; one SELECT")
	bad("SET threads = 8", "one SELECT")
	bad("CREATE TABLE x (n INTEGER)", "one SELECT")
	bad("ATTACH '/tmp/x.db'", "one SELECT")
	bad("SELECT * FROM read_text('/etc/passwd')", "disabled")
	bad("SELECT * FROM read_text('"+filepath.Join(s.cfg.Dir, manifestName)+"')", "disabled")
	bad("SELECT * FROM glob('/etc/*')", "disabled")
	bad("SELECT * FROM query('COPY (SELECT 1) TO ''"+victim+"''')", "")
	if st, err := os.Stat(victim); err != nil || st.Size() != sortedFiles(s.man.live)[0].Bytes {
		t.Error("a segment file was touched", err)
	}
	_, err := s.SQL(t.Context(), store.SQLQuery{Text: "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", Timeout: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("a question without end: %v", err)
	}
}

// Some aggregates keep all values beside the engine's limit: such a question ends before the machine's memory does.
func TestSQLMemory(t *testing.T) {
	if _, ok := residentBytes(); !ok {
		t.Skip("the system does not tell the memory of a process")
	}
	s := open(t, Config{QueryMemory: 64 << 20})
	put(t, s, conversation(base+1e9, base+5e9, 40000))
	before, _ := residentBytes()
	most := before
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				now, _ := residentBytes()
				most = max(most, now)
			}
		}
	}()
	_, err := s.SQL(t.Context(), store.SQLQuery{Text: "SELECT median(x), mode(x) FROM range(1000000000) t(x)", ToNS: 1 << 62, Timeout: time.Minute})
	close(stop)
	<-ended
	var mistake *store.SQLError
	if !errors.As(err, &mistake) || !strings.Contains(err.Error(), "took more than 320 MiB") {
		t.Errorf("error %v", err)
	}
	if grown := (most - before) >> 20; grown > 1500 {
		t.Errorf("the process grew by %d MiB", grown)
	}
	if a, err := s.SQL(t.Context(), store.SQLQuery{Text: "SELECT median(octets) FROM canonical", ToNS: 1 << 62, Timeout: time.Minute}); err != nil || len(a.Rows) != 1 {
		t.Errorf("the next question: %v, %v", a.Rows, err)
	}
}
