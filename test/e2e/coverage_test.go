//go:build linux

package e2e

import (
	be "encoding/binary"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/serve/api"
	"crosstap/internal/testkit"
)

// portSample is an sFlow datagram of agent 10.0.0.9 with a counter sample of the port vnet7, ifIndex 3.
func portSample(uptimeMS, sequence uint32, in, out uint64) []byte {
	words := func(v ...uint32) (b []byte) {
		for _, n := range v {
			b = be.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	opaque := func(format uint32, body []byte) []byte { return append(words(format, uint32(len(body))), body...) }
	counters := be.BigEndian.AppendUint64(words(3, 6), 10_000_000_000)
	counters = be.BigEndian.AppendUint64(append(counters, words(1, 3)...), in)
	counters = be.BigEndian.AppendUint64(append(counters, words(1, 0, 0, 0, 0, 0)...), out)
	counters = append(counters, words(1, 0, 0, 0, 0, 0)...)
	sample := append(words(sequence, 3, 2), opaque(1, counters)...)
	sample = append(sample, opaque(1005, append(words(5), "vnet7\x00\x00\x00"...))...)
	return append(words(5, 1, 0x0a000009, 0, sequence, uptimeMS, 1), opaque(2, sample)...)
}

const coverageInventory = `apiVersion: crosstap/v1
kind: Inventory
hosts:
  - {name: h1, vteps: [10.0.0.9]}
vms:
  - name: db-1
    id: id-1
    nics:
      - {mac: "02:00:00:00:00:01", addrs: [10.1.0.1], host: h1, port: vnet7}
`

// TestCoverageOfRoles: coverage says the same of the same traffic when one process does all, when a writer behind a bus has a directory, and when it has
// ClickHouse; asked of the server, and of the store without one.
func TestCoverageOfRoles(t *testing.T) {
	t.Parallel()
	srv := chtest.Start(t)
	dir := t.TempDir()
	inventory := filepath.Join(dir, "inventory.yaml")
	must(t, os.WriteFile(inventory, []byte(coverageInventory), 0o600))
	collecting := []string{"--flows", "127.0.0.1:0", "--inventory", inventory}
	serve := func(args ...string) *run {
		return startFor(t, 5*patience, nil, append([]string{"serve", "--http", "127.0.0.1:0"}, args...)...)
	}
	console := func(r *run) string { return r.waitFor(`console=(http://[^ /]+)`) }
	url, data := "clickhouse://"+srv.Addr+"/coverage", func(name string) string { return filepath.Join(dir, name) }
	type layout struct {
		collector, asked string
		stored           string
		flows            net.Conn
	}
	var layouts []*layout
	add := func(collector, asked *run, stored string) {
		t.Helper()
		c, err := net.Dial("udp", collector.waitFor(`flows="?\[(\S+?)\]"? `))
		must(t, err)
		t.Cleanup(func() { c.Close() })
		layouts = append(layouts, &layout{console(collector), console(asked), stored, c})
	}
	one := serve(append(collecting, "--data", data("one"))...)
	add(one, one, data("one"))
	for _, writer := range [][]string{{"--data", data("writer")}, {"--data", data("beside"), "--store", url}} {
		c := serve(append(collecting, "--role", "collector", "--bus-listen", "127.0.0.1:0", "--data", data("collector of "+filepath.Base(writer[1])))...)
		stored := data("writer")
		if len(writer) > 2 {
			stored = url
		}
		add(c, serve(append(writer, "--role", "writer", "--bus", c.waitFor(`nats=(nats://\S+)`))...), stored)
	}

	send := func(b []byte) {
		t.Helper()
		for _, l := range layouts {
			_, err := l.flows.Write(b)
			must(t, err)
		}
	}
	// Counters are compared with flows of the time between the samples. A sample that comes again is not counted again.
	begin := time.Now()
	first := portSample(100_000, 1, 0, 0)
	send(first)
	for _, l := range layouts {
		testkit.Eventually(t, "the collector has the first sample", func() bool {
			var st api.Status
			return ask(t, l.collector, "status", &st) && len(st.Exporters) > 0 && st.Exporters[0].Counters > 0
		})
	}
	for time.Since(begin) < 3*time.Second { // the clock of an IPFIX message counts seconds
		time.Sleep(50 * time.Millisecond)
	}
	send(ipfixTemplate())
	const n = 250
	sent := time.Now()
	send(ipfixRecords(0, n, sent.UnixMilli()))
	for _, l := range layouts {
		testkit.Eventually(t, "the collector has the records", func() bool {
			var st api.Status
			got := uint64(0)
			ok := ask(t, l.collector, "status", &st)
			for _, x := range st.Exporters {
				got += x.Records
			}
			return ok && got >= n
		})
	}
	for sent = time.Now(); time.Since(sent) < 3*time.Second; {
		time.Sleep(50 * time.Millisecond)
	}
	send(portSample(100_000+uint32(time.Since(begin).Milliseconds()), 2, 1_000_000, 500_000))

	counted, octets := uint64(1_500_000), uint64(n*(n-1)/2)
	observed := octets + 14*n
	missing, ratio := counted-observed, float64(observed)/float64(counted)
	want := []report.CoverageRow{{Fabric: "default", Host: "h1", VM: "db-1", VMID: "id-1", Port: "vnet7", Counted: &counted, Observed: observed, Ratio: &ratio, Missing: &missing,
		Reasons: []string{report.ReasonInventory, "layer-2 octets estimated from IP octets"}}}
	same := func(c report.Coverage) bool { return cmp.Equal(want, c.Rows) }
	for _, l := range layouts {
		var got report.Coverage
		for deadline := time.Now().Add(patience); !same(got); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s", l.stored, cmp.Diff(want, got.Rows))
			}
			got = report.Coverage{}
			ask(t, l.asked, "coverage?from=now-1h", &got)
		}
		if got.Source != "sflow" || got.Reason != "" || got.Counted == nil || *got.Counted != counted || got.Observed != observed {
			t.Errorf("%s: %+v", l.stored, got)
		}
		out, err := exec.CommandContext(t.Context(), binary(t), "coverage", "--data", l.stored, "--since", "1h", "-o", "json").Output()
		must(t, err)
		got = report.Coverage{}
		must(t, json.NewDecoder(strings.NewReader(string(out))).Decode(&got))
		if !same(got) {
			t.Errorf("--data %s: %s", l.stored, cmp.Diff(want, got.Rows))
		}
	}
	res, err := http.Get(layouts[1].collector + "/api/v1/coverage?from=now-1h")
	must(t, err)
	res.Body.Close()
	if res.StatusCode == http.StatusOK {
		t.Error("a collector that keeps nothing knows coverage")
	}
}
