//go:build linux

package e2e

import (
	be "encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/serve/api"
	"crosstap/internal/testkit"
)

// ipfixTemplate is a message with template 256: addresses, ports, protocol, octets, packets, begin and end (RFC 7011, section 3.4.1).
func ipfixTemplate() []byte {
	fields := [][2]uint16{{8, 4}, {12, 4}, {7, 2}, {11, 2}, {4, 1}, {1, 8}, {2, 8}, {152, 8}, {153, 8}}
	set := be.BigEndian.AppendUint16(nil, 256)
	set = be.BigEndian.AppendUint16(set, uint16(len(fields)))
	for _, f := range fields {
		set = be.BigEndian.AppendUint16(be.BigEndian.AppendUint16(set, f[0]), f[1])
	}
	return ipfixMessage(2, 0, set)
}

// ipfixMessage is a message of one set, of observation domain 7.
func ipfixMessage(id uint16, sequence uint32, set []byte) []byte {
	b := be.BigEndian.AppendUint16(nil, 10)
	b = be.BigEndian.AppendUint16(b, uint16(16+4+len(set)))
	b = be.BigEndian.AppendUint32(b, uint32(time.Now().Unix()))
	b = be.BigEndian.AppendUint32(b, sequence)
	b = be.BigEndian.AppendUint32(b, 7)
	b = be.BigEndian.AppendUint16(b, id)
	b = be.BigEndian.AppendUint16(b, uint16(4+len(set)))
	return append(b, set...)
}

// ipfixRecords is a message of n records; the octets of a record are its number, from first on.
func ipfixRecords(first, n int, endMS int64) []byte {
	var set []byte
	for i := first; i < first+n; i++ {
		set = append(set, 10, 0, byte(i>>8), byte(i), 10, 1, 0, 1)
		set = be.BigEndian.AppendUint16(set, uint16(1024+i%50000))
		set = be.BigEndian.AppendUint16(set, 443)
		set = append(set, 6)
		set = be.BigEndian.AppendUint64(set, uint64(i))
		set = be.BigEndian.AppendUint64(set, 1)
		set = be.BigEndian.AppendUint64(set, uint64(endMS-1000))
		set = be.BigEndian.AppendUint64(set, uint64(endMS))
	}
	return ipfixMessage(256, uint32(first), set)
}

// scaleOut is a collector with its bus, and writers beside it.
type scaleOut struct {
	t         *testing.T
	dir       string
	collector *run
	console   string
	flows     string
	bus       string
	writers   []*run
	asked     string // the API of the first writer
}

func newScaleOut(t *testing.T, store func(writer int) []string, writers int) *scaleOut {
	t.Helper()
	s := &scaleOut{t: t, dir: t.TempDir()}
	s.collector = startFor(t, 5*patience, nil, "serve", "--role", "collector", "--bus-listen", "127.0.0.1:0", "--data", filepath.Join(s.dir, "c"), "--flows", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
	s.bus = s.collector.waitFor(`nats=(nats://\S+)`)
	s.flows = s.collector.waitFor(`flows="?\[(\S+?)\]"? `)
	s.console = s.collector.waitFor(`console=(http://[^ /]+)`)
	for i := range writers {
		s.writers = append(s.writers, nil)
		s.start(i, store(i))
	}
	return s
}

// start starts a writer, and waits until it works.
func (s *scaleOut) start(i int, store []string) {
	s.t.Helper()
	args := append([]string{"serve", "--role", "writer", "--bus", s.bus, "--http", "127.0.0.1:0"}, store...)
	s.writers[i] = startFor(s.t, 5*patience, nil, args...)
	console := s.writers[i].waitFor(`console=(http://[^ /]+)`)
	if i == 0 {
		s.asked = console
	}
}

// send sends n records over TCP, and calls between from time to time.
func (s *scaleOut) send(n int, between func(sent int)) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.flows)
	must(s.t, err)
	defer c.Close()
	_, err = c.Write(ipfixTemplate())
	must(s.t, err)
	end := time.Now().UnixMilli()
	const per = 250
	for i := 0; i < n; i += per {
		_, err := c.Write(ipfixRecords(i, per, end))
		must(s.t, err)
		if i%(n/5) == 0 && i > 0 {
			between(i)
		}
	}
}

// rows asks a store for the number of rows and their octets, without a server.
func rows(t *testing.T, from string) (n, octets int64) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary(t), "query", "SELECT count(*) AS n, coalesce(sum(octets), 0)::BIGINT AS octets FROM flows", "--data", from, "--since", "1h", "-o", "json").Output()
	if err != nil {
		return 0, 0
	}
	var a struct{ Rows [][]json.Number }
	if json.Unmarshal(out, &a) != nil || len(a.Rows) != 1 {
		t.Fatalf("query: %s", out)
	}
	n, _ = a.Rows[0][0].Int64()
	octets, _ = a.Rows[0][1].Int64()
	return n, octets
}

const scaleRecords = 60_000

// check waits until all records are stored, and looks that none is stored twice.
func (s *scaleOut) check(from string) {
	s.t.Helper()
	var n, octets int64
	testkit.Eventually(s.t, "all records are stored", func() bool {
		n, octets = rows(s.t, from)
		return n >= scaleRecords
	})
	if want := int64(scaleRecords) * (scaleRecords - 1) / 2; n != scaleRecords || octets != want {
		s.t.Errorf("%d records with %d octets, want %d with %d", n, octets, scaleRecords, want)
	}
	var st api.Status
	answered(s.t, ask(s.t, s.console, "status", &st))
	for _, b := range st.Stages {
		if b.Stage == "bus" && (b.In != scaleRecords || b.Out != scaleRecords) {
			s.t.Errorf("the collector's book: %+v", b)
		}
	}
}

// TestWriterKilled kills a writer with -9 again and again while records come: nothing is lost, and nothing is stored twice.
func TestWriterKilled(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "w")
	store := func(int) []string { return []string{"--data", data, "--flush", "200ms"} }
	s := newScaleOut(t, store, 1)
	s.send(scaleRecords, func(int) {
		must(t, s.writers[0].cmd.Process.Kill())
		<-s.writers[0].done
		s.start(0, store(0))
	})
	s.check(data)
	// a question to the collector is answered by where to ask
	out, _ := exec.CommandContext(t.Context(), binary(t), "pairs", "--server", s.console).CombinedOutput()
	if !strings.Contains(string(out), "ask the server of a writer") {
		t.Errorf("%s", out)
	}
}

// TestWritersKilled does the same with two writers that share a ClickHouse.
func TestWritersKilled(t *testing.T) {
	t.Parallel() // it mostly waits until what a killed writer had goes to the other one
	srv := chtest.Start(t)
	url := "clickhouse://" + srv.Addr + "/scaleout"
	dir := t.TempDir()
	store := func(i int) []string { return []string{"--store", url, "--data", filepath.Join(dir, fmt.Sprint(i))} }
	s := newScaleOut(t, store, 2)
	n := 0
	s.send(scaleRecords, func(int) {
		i := n % 2
		n++
		must(t, s.writers[i].cmd.Process.Kill())
		<-s.writers[i].done
		s.start(i, store(i))
	})
	s.check(url)
	var pairs struct{ Rows []any }
	testkit.Eventually(t, "the pairs report answers", func() bool { return ask(t, s.asked, "pairs?from=now-1h&limit=5", &pairs) })
	if len(pairs.Rows) != 5 {
		t.Errorf("%d pairs", len(pairs.Rows))
	}
}
