//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/serve/api"
	"crosstap/internal/testkit"
)

// durability is how much of what the collector accepted may be lost when it is killed.
const durability = 2 * time.Second

// ask gets a document from the console of a demo; it returns false when nobody answers.
func ask(t *testing.T, console, path string, into any) bool {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get(console + "/api/v1/" + path)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(into) == nil
}

// oldRows returns the stored rows of the last hour that ended before a time: flow, observer and counters, sorted.
func oldRows(t *testing.T, console string, before time.Time) []string {
	t.Helper()
	var flows report.Flows
	testkit.Eventually(t, "the flows report answers", func() bool {
		return ask(t, console, fmt.Sprintf("flows?from=now-1h&to=%s&limit=100000", before.UTC().Format("2006-01-02T15:04:05.000Z")), &flows)
	})
	var rows []string
	for _, f := range flows.Rows {
		rows = append(rows, fmt.Sprintf("%s %s %d %d %s", f.FlowID, f.Observer, f.Packets, f.Octets, f.End.UTC().Format(time.RFC3339Nano)))
	}
	slices.Sort(rows)
	return rows
}

// TestRestart kills the collector and then a tap, each with -9, and lets the demo start them again. What was stored
// stays, at most two seconds of what was accepted are lost, and both holes are shown.
func TestRestart(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	dir := filepath.Join(t.TempDir(), "kept")
	r := start(t, nil, "demo", "--http", "127.0.0.1:0", "--data", dir, "--keep")
	console := strings.TrimSuffix(r.waitFor(`(?m)^Console  (http://\S+)`), "/")

	var status api.Status
	testkit.Eventually(t, "100 rows are stored", func() bool { return ask(t, console, "status", &status) && status.Store.Rows >= 100 })
	// What the collector had accepted when the promise's time began must be stored when it comes back, and what was
	// shown stays.
	answered(t, ask(t, console, "status", &status))
	accepted := bookIn(t, &status, "append")
	time.Sleep(durability + 200*time.Millisecond)
	testkit.Eventually(t, "what had been accepted is durable", func() bool { return ask(t, console, "status", &status) && status.Store.Rows >= accepted })
	killed := time.Now()
	before := oldRows(t, console, killed)
	must(t, syscall.Kill(memberOf(t, r.cmd.Process.Pid, "crosstap serve"), syscall.SIGKILL))
	r.waitFor(`! serve ended \(signal: killed\) and runs again`)
	after := oldRows(t, console, killed)
	if len(before) < 100 || len(after) < len(before) || slices.ContainsFunc(before, func(row string) bool { _, ok := slices.BinarySearch(after, row); return !ok }) {
		t.Errorf("%d rows were shown before the kill, %d are after it", len(before), len(after))
	}
	answered(t, ask(t, console, "status", &status))
	if status.Store.Rows < accepted {
		t.Errorf("%d records were accepted %v before the kill, %d are stored", accepted, durability, status.Store.Rows)
	}
	gap := shownGap(t, console, "collector", "killed", killed)
	if gap.From.After(killed) || gap.To.Before(killed) {
		t.Errorf("the gap %v to %v does not contain the kill at %v", gap.From, gap.To, killed)
	}
	rows := uint64(0)
	testkit.Eventually(t, "rows come in again", func() bool {
		ok := ask(t, console, "status", &status)
		if ok && rows == 0 {
			rows = status.Store.Rows
		}
		return ok && rows > 0 && status.Store.Rows > rows+50
	})

	killed = time.Now()
	must(t, syscall.Kill(memberOf(t, r.cmd.Process.Pid, "h1 mirror"), syscall.SIGKILL))
	r.waitFor(`! tap-1 \(h1 mirror\) ended \(signal: killed\) and runs again`)
	testkit.Eventually(t, "the mirror's records come in again", func() bool {
		var flows report.Flows
		return ask(t, console, "flows?from=now-1m&limit=100000", &flows) && slices.ContainsFunc(flows.Rows, func(f report.Flow) bool {
			return f.Observer == "h1 mirror" && f.Start.After(killed)
		})
	})
	if gap := shownGap(t, console, "exporter", "restarted", killed.Add(-time.Minute)); gap.Who != "h1 mirror" || gap.To.Before(killed) {
		t.Errorf("the mirror was killed at %v, the gap is %+v", killed, gap)
	}

	must(t, r.cmd.Process.Signal(os.Interrupt))
	r.exit(0)
	out, err := exec.CommandContext(t.Context(), binary(t), "flows", "--data", filepath.Join(dir, "store"), "--since", "1h", "--limit", "100000", "-o", "jsonl").Output()
	must(t, err)
	if lines := strings.Count(string(out), "\n"); uint64(lines) < rows {
		t.Errorf("the store has %d rows after all, it had %d before", lines, rows)
	}
}

func answered(t *testing.T, ok bool) {
	t.Helper()
	if !ok {
		t.Fatal("the server does not answer")
	}
}

// bookIn returns what a stage has received.
func bookIn(t *testing.T, s *api.Status, stage string) uint64 {
	t.Helper()
	for _, b := range s.Stages {
		if b.Stage == stage {
			return b.In
		}
	}
	t.Fatalf("the status has no book of %q", stage)
	return 0
}

// shownGap returns the gap with that scope and a reason with those words that ends after a time, as the pairs report shows it.
func shownGap(t *testing.T, console, scope, reason string, after time.Time) (found report.Gap) {
	t.Helper()
	testkit.Eventually(t, "a gap of scope "+scope+" is shown", func() bool {
		var pairs report.Pairs
		if !ask(t, console, "pairs?from=now-1h&limit=1", &pairs) {
			return false
		}
		for _, g := range pairs.Meta.Completeness.Gaps {
			if g.Scope == scope && strings.Contains(g.Reason, reason) && g.To.After(after) {
				found = g
				return true
			}
		}
		return false
	})
	return found
}
