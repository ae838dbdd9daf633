//go:build linux

package tap_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/tap"
	"crosstap/internal/testns"
)

// sender returns a function that sends UDP datagrams to a port n times, in a VLAN unless it is 0.
func sender(t *testing.T, from *testns.Space) func(vlan, port uint16, text string, n int) {
	t.Helper()
	var fd, index int
	must(t, from.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			index = i.Index
		}
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return func(vlan, port uint16, text string, n int) {
		t.Helper()
		b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
		if vlan != 0 {
			b = append(b, 0x81, 0, byte(vlan>>8), byte(vlan))
		}
		size := len(text)
		b = append(b, 8, 0, 0x45, 0, 0, byte(28+size), 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2)
		b = append(b, 0x9c, 0x40, byte(port>>8), byte(port), 0, byte(8+size), 0, 0)
		b = append(b, text...)
		b = append(b, make([]byte, max(60-len(b), 0))...)
		for range n {
			must(t, unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: index}))
		}
	}
}

// TestFilterInTheKernel captures with filters that the kernel decides alone, also about the VLAN tags that it takes off, and with
// one that the tap has to look at again. Nothing else is copied; what the kernel left out is counted.
func TestFilterInTheKernel(t *testing.T) {
	a, b := testns.New(t), testns.New(t)
	a.Sh("ip link add eth0 type veth peer name eth0 netns NS; ip link set eth0 up", b)
	b.Sh("ip link set eth0 up")
	a.Up("eth0")
	b.Up("eth0")
	send := sender(t, a)
	f := func(expr string, read, written int, where string) {
		t.Helper()
		const sent = 28
		path := filepath.Join(t.TempDir(), "x.pcapng")
		s := tap.DefaultSpec()
		s.Interfaces, s.NetNS, s.Filter, s.IngressOnly = []string{"eth0"}, b.Path(), expr, true
		s.To = []string{"pcapng:" + path, "null:"}
		line, stop := start(t, s)
		for _, vlan := range []uint16{0, 5} {
			for _, port := range []uint16{9000, 9001} {
				send(vlan, port, "one", 5)
				send(vlan, port, "other", 2)
			}
		}
		for end := time.Now().Add(time.Minute); line.Statements()[0].In < sent && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		stop()
		got, names := frames(t, path)
		if n := line.Statements()[0].Out; len(got) != written || n != uint64(read) || line.Statements()[0].In < sent || line.Stats().Packets != uint64(written) || len(names) > 0 && names[0] != "eth0" {
			t.Errorf("%s: %d read, %d written, %d metered, want %d and %d; %s", expr, n, len(got), line.Stats().Packets, read, written, line.Filter())
		}
		if !strings.Contains(line.Filter(), where) {
			t.Errorf("%s: %s", expr, line.Filter())
		}
	}
	const alone = "in the kernel ("
	f("dst port 9000", 7, 7, alone)
	f("vlan 5 and udp dst port 9001", 7, 7, "decides alone")
	f("vlan and udp", 14, 14, "decides alone")
	f("vlan 6", 0, 0, "decides alone")
	f(`dst port 9001 and payload "other"`, 7, 2, "residual in the tap: ")
}
