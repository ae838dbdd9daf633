package kernel

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMirrorERSPAN3 copies both directions, whole frames and segments of super-frames, as ERSPAN type III: tshark finds the time of the copy, the
// direction, the port and what the configuration says.
func TestMirrorERSPAN3(t *testing.T) {
	l := newLab(t)
	l.arp()
	path := filepath.Join(t.TempDir(), "tool.pcap")
	stopDump := l.dump(path, "-s", "2000", "proto 47")
	o := l.outer(47, 0, "100022eb 00000000 20000005 00000000 007b8155 17e80000 00000000", 4, 8, false)
	o.Stamp = StampPTP
	began := time.Now()
	stop := l.mirror(MirrorConfig{Config: Config{Filter: "udp dst port 7000 or tcp"}, Outer: o})
	l.exchange(7000, 3)
	l.a.Stream(l.b, "10.9.0.2", make([]byte, 100_000))
	s := stop()
	stopDump(int(s.Out))
	rows := tshark(t, path, "erspan.direction", "erspan.sgt", "erspan.hw", "erspan.platid", "erspan.pid5.switchid", "erspan.pid5.port_index", "erspan.pid5.timestamp", "erspan.timestamp", "ip.src", "gre.sequence_number")
	if len(rows) != int(s.Out) || len(rows) < 60 {
		t.Fatalf("%d rows; %+v", len(rows), s)
	}
	numbers := map[string]bool{} // copies of both directions may pass each other
	for i, r := range rows {
		col := strings.Split(r, ";")
		direction := "0" // what a sends comes in at p1
		if strings.HasSuffix(col[8], "10.9.0.2") {
			direction = "1"
		}
		seconds, _ := strconv.ParseInt(col[6], 10, 64)
		ns, _ := strconv.ParseInt(col[7], 10, 64)
		if at := time.Unix(seconds, ns); col[0] != direction || strings.Join(col[1:6], ";") != "123;21;5;1000;1" || numbers[col[9]] ||
			at.Before(began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("copy %d: %s, at %s", i, r, at)
		}
		numbers[col[9]] = true
	}
}
