package procnet

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"crosstap/internal/testkit"
)

func TestFindHolder(t *testing.T) {
	if runtime.GOOS != "linux" {
		testkit.Missing(t, "/proc/net is Linux's")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	f := func(network, addr string, want bool) {
		t.Helper()
		h, ok := FindHolder(network, netip.MustParseAddrPort(addr))
		if ok != want || ok && (h.PID != os.Getpid() || h.Name == "") {
			t.Errorf("%s %s: %+v %t", network, addr, h, ok)
		}
	}
	port := func(a net.Addr) string { _, p, _ := net.SplitHostPort(a.String()); return p }
	f("tcp", "127.0.0.1:"+port(tcp.Addr()), true)
	f("tcp", "0.0.0.0:"+port(tcp.Addr()), true)
	f("tcp", "127.0.0.2:"+port(tcp.Addr()), false)
	f("udp", "[::1]:"+port(udp.LocalAddr()), true)
	f("udp", "[::]:"+port(udp.LocalAddr()), true)
}

func TestSockets(t *testing.T) {
	f := func(line string, want ...socket) {
		t.Helper()
		got := sockets([]byte(line))
		if len(got) != len(want) {
			t.Fatalf("%q: %v", line, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: %v, want %v", line, got[i], want[i])
			}
		}
	}
	f("")
	f("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode")
	f("0: xyz:1283 00000000:0000 07 0:0 0:0 0 0 0 12")
	f("0: 0100007F:11 00000000")
	if nativeOne == [2]byte{1, 0} {
		f("  12: 0100007F:1283 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000 0",
			socket{netip.MustParseAddrPort("127.0.0.1:4739"), "07", "4711"})
		f("  12: 0000000000000000FFFF00000100007F:1283 0:0 0A 0:0 0:0 0 0 0 9 1", socket{netip.MustParseAddrPort("127.0.0.1:4739"), "0A", "9"})
	}
}
