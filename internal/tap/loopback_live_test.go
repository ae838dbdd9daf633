//go:build linux

package tap_test

import (
	"bytes"
	"testing"

	"crosstap/internal/tap"
	"crosstap/internal/testns"
)

// TestLoopback taps the loopback interface, where each packet leaves and comes in: it is seen once, as tcpdump sees it.
func TestLoopback(t *testing.T) {
	for _, path := range []string{tap.PathRing, tap.PathTCX} {
		here := testns.New(t)
		var lines bytes.Buffer
		spec := tap.DefaultSpec()
		spec.Interfaces, spec.NetNS, spec.To, spec.Stdout, spec.Path, spec.Filter = []string{"lo"}, here.Path(), []string{"flows:-"}, &lines, path, "udp dst port 7000"
		line, stop := start(t, spec)
		here.Sh("bash -c 'for i in $(seq 50); do echo $i > /dev/udp/127.0.0.1/7000; done'")
		stop()
		if got, packets := measured(t, &lines); packets != 50 {
			t.Errorf("%s: %d packets are in the records, 50 were sent: %v; %+v", path, packets, got, line.Statements())
		}
	}
}
