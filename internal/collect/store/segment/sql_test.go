package segment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

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

// What a question takes beside the engine's limit ends the question, not the server: the kernel keeps the limit of its process.
func TestSQLMemory(t *testing.T) {
	s := open(t, Config{QueryMemory: 64 << 20})
	put(t, s, conversation(base+1e9, base+5e9, 40000))
	ask := func(text string) (store.SQLAnswer, error) {
		return s.SQL(t.Context(), store.SQLQuery{Text: text, ToNS: 1 << 62, Timeout: time.Minute})
	}
	f := func(text, want string) {
		t.Helper()
		_, err := ask(text)
		var mistake *store.SQLError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %.300v, want %q", text, err, want)
		}
	}
	const much = "more than the 192 MiB of memory"
	f("SELECT median(x), mode(x) FROM range(1000000000) t(x)", much)
	f("SELECT count(u) FROM (SELECT unnest(range(1000000000)) AS u)", much)
	f("SELECT length(repeat('x', 1000000000))", much)
	f("SELECT length(list(x)) FROM range(1000000000) t(x)", much)
	f("SELECT length(string_agg(x, ',')) FROM range(1000000000) t(x)", much)
	f("SELECT repeat('x', 10000000) FROM range(100)", much)
	for _, n := range []int{70, 75, 80, 85, 90} { // whatever the copies do not fit into, no row is left out silently
		f(fmt.Sprintf("SELECT repeat('x', 1000000) FROM range(%d)", n), "more than")
	}
	f("SELECT repeat('x', 1000000) FROM range(70)", "answer has more than 64 MiB")
	for _, n := range []int{30, 40, 50, 60} {
		text := fmt.Sprintf("SELECT repeat('x', 1000000) FROM range(%d)", n)
		if a, err := ask(text); err != nil || len(a.Rows) != n {
			t.Errorf("%s: %d rows, %v", text, len(a.Rows), err)
		}
	}
	f("SELECT repeat('x', 20000000)", "a row of the answer has more than 16 MiB")
	f("SELECT DISTINCT x % 50000000 FROM range(100000000) t(x)", "keeps more aside on the disk")
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &used); err != nil {
		t.Fatal(err)
	}
	if most := used.Maxrss >> 10; most > 2*192+256 { // and what the test itself is
		t.Errorf("a question took %d MiB", most)
	}
	if a, err := ask("SELECT median(octets) FROM canonical"); err != nil || len(a.Rows) != 1 {
		t.Errorf("the next question: %v, %v", a.Rows, err)
	}
}

// The process of a question ends with who asked, and what ends it is told.
func TestSQLProcess(t *testing.T) {
	s := open(t, Config{QueryMemory: 256 << 20})
	put(t, s, conversation(base+1e9, base+5e9, 40000))
	const endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
	gone, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	ask := func(ctx context.Context) {
		_, err := s.SQL(ctx, store.SQLQuery{Text: endless, Timeout: time.Minute})
		asked <- err
	}
	go ask(gone)
	waitProcesses(t, 1)
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	waitProcesses(t, 0)
	go ask(t.Context())
	if err := unix.Kill(waitProcesses(t, 1)[0], unix.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	var mistake *store.SQLError
	if err := <-asked; !errors.As(err, &mistake) || !strings.Contains(err.Error(), "broke its query engine") {
		t.Errorf("broken: %v", err)
	}
	if a, err := s.SQL(t.Context(), store.SQLQuery{Text: "SELECT count(*) FROM flows", ToNS: 1 << 62}); err != nil || fmt.Sprint(a.Rows) != "[[3]]" {
		t.Errorf("the next question: %v, %v", a.Rows, err)
	}
	// No more than two at a time, and who waits has a time limit too.
	two, end := context.WithCancel(t.Context())
	go ask(two)
	go ask(two)
	waitProcesses(t, 2)
	if _, err := s.SQL(t.Context(), store.SQLQuery{Text: "SELECT 1", Timeout: 100 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("a third question: %v", err)
	}
	end()
	<-asked
	<-asked
	waitProcesses(t, 0)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), spillPrefix+"*", "answer.parquet"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// waitProcesses waits until n processes answer questions of this one.
func waitProcesses(t *testing.T, n int) (pids []int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		pids = pids[:0]
		stats, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range stats {
			line, _ := os.ReadFile(path) // else it has ended
			status, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && strings.Trim(string(line), "\x00") == processName &&
				strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
				pids = append(pids, pid)
			}
		}
		if len(pids) == n {
			return pids
		}
	}
	t.Fatalf("%d processes of questions, want %d", len(pids), n)
	return nil
}
