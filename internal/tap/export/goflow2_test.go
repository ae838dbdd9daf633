package export

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/testkit"
)

// goflow2 returns a function that has goflow2, which is built from a module of its own, add up datagrams.
func goflow2(t *testing.T) func(datagrams [][]byte) map[string]uint64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "goflow2")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = filepath.Join(testkit.ModuleDir(t), "test", "goflow2")
	if out, err := build.CombinedOutput(); err != nil {
		testkit.Missing(t, "goflow2 cannot be built: "+err.Error()+": "+string(out))
	}
	return func(datagrams [][]byte) (sum map[string]uint64) {
		t.Helper()
		var in []byte
		for _, d := range datagrams {
			in = append(binary.BigEndian.AppendUint16(in, uint16(len(d))), d...)
		}
		cmd := exec.Command(path)
		cmd.Stdin = bytes.NewReader(in)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &sum)
		}
		if err != nil {
			t.Fatalf("goflow2: %v: %s%s", err, out, stderr.String())
		}
		return sum
	}
}

// goflow2 adds up every format to the same totals, and finds the same times.
func TestGoflow2Totals(t *testing.T) {
	add := goflow2(t)
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	for name, format := range map[string]Format{"netflow5": NetFlow5, "netflow9": NetFlow9, "ipfix": IPFIX} {
		recs, sum := mixed(500, format != NetFlow5)
		want := map[string]uint64{"Flows": sum.Flows, "Packets": sum.Packets, "Octets": sum.Octets, "StartMS": 0, "EndMS": 0}
		for _, r := range recs {
			want["StartMS"] += uint64(r.StartNS/1e6 - epoch)
			want["EndMS"] += uint64(r.EndNS/1e6 - epoch)
		}
		c := listen(t, "udp4", "127.0.0.1:0")
		target := c.target(t)
		target.Format = format
		sendAll(t, target, recs)
		if diff := cmp.Diff(want, add(gather(c.conn))); diff != "" {
			t.Errorf("%s (-sent +goflow2):\n%s", name, diff)
		}
	}

	c := listen(t, "udp4", "127.0.0.1:0")
	frames := ethernet(100, 100)
	want := map[string]uint64{"Flows": 100, "Packets": 100, "Octets": 0}
	for _, f := range frames {
		want["Octets"] += uint64(f.OrigLen + 4) // sFlow counts the frame check sequence
	}
	sampleAll(t, SFlowConfig{
		Target:  SFlowTarget{Host: "127.0.0.1", Port: uint16(c.conn.LocalAddr().(*net.UDPAddr).Port), Sample: 1, Header: 128, Counters: time.Second, Agent: netip.MustParseAddr("192.0.2.7")},
		Capture: true, IfIndex: func(uint32) uint32 { return 9 },
	}, frames)
	got := add(gather(c.conn))
	delete(got, "StartMS") // of the moment when it came
	delete(got, "EndMS")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sflow (-sent +goflow2):\n%s", diff)
	}
}
