//go:build linux

package tap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/rpcap"
	"crosstap/internal/tap"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// closing is a pipe whose reader goes away after some bytes.
type closing struct{ left int }

func (c *closing) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(b), nil
}

// deaf is a TLS receiver that never reads after the handshake. It returns its URL's options.
func deaf(t *testing.T, port int) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	l, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			_ = conn.(*tls.Conn).Handshake() //nolint:forcetypeassert // of tls.Listen
		}
	}()
	return "ca=" + ca
}

// TestDestinationsAreIndependent runs one tap with many destinations, of which each but the first fails in its way: a disk becomes full, interfaces are deleted
// and come back, a TLS peer and an RPCAP client read nothing, a pipe is closed, nobody takes the flows. The first has every frame, and all books are exact at every moment.
func TestDestinationsAreIndependent(t *testing.T) {
	vm, host, tool := testns.New(t), testns.New(t), testns.New(t)
	vm.Sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip link add eth0 type veth peer name vnet0 netns NS; ip link set eth0 up", host)
	links := `ip link add up0 type veth peer name eth0 netns NS; ip link set up0 up; ip addr add 10.7.0.1/24 dev up0; ip neigh replace 10.7.0.9 lladdr 02:00:00:00:00:99 dev up0
		ip link add out0 type veth peer name eth1 netns NS; ip link set out0 up`
	host.Sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set vnet0 up; "+links, tool)
	tool.Sh("ip link set eth0 up; ip link set eth1 up; ip addr add 10.7.0.9/24 dev eth0")
	vm.Up("eth0")
	host.Up("vnet0", "up0", "out0")
	disk := testkit.SmallDisk(t, "4m")
	filler, truth, full := filepath.Join(disk, "filler"), filepath.Join(t.TempDir(), "truth.pcapng"), filepath.Join(disk, "full.pcapng")
	must(t, os.WriteFile(filler, make([]byte, 3<<20), 0o600))
	streamPort, rpcapPort, ns := testkit.Port(t), testkit.Port(t), "&netns="+host.Path()

	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.IngressOnly, spec.Stdout = []string{"vnet0"}, host.Path(), true, &closing{1000}
	spec.To = []string{
		"pcapng:" + truth, "pcapng:" + full, "frames:-",
		"vxlan://10.7.0.9?vni=7&probe=no" + ns, "udp://10.7.0.9:9999?probe=no&dev=up0&filter=udp dst port 9001" + ns, "gre://10.7.0.9?key=7&groom=slice=40" + ns,
		"erspan2://10.7.0.9?session=7" + ns, "erspan3://10.7.0.9?session=8" + ns, "geneve://10.7.0.9?vni=7&probe=no" + ns, "iface:out0?" + ns[1:],
		fmt.Sprintf("tls://127.0.0.1:%d?queue=1MiB&%s", streamPort, deaf(t, streamPort)), fmt.Sprintf("rpcap://127.0.0.1:%d", rpcapPort),
		fmt.Sprintf("ipfix://127.0.0.1:%d", testkit.Port(t)),
	}
	line, stop := start(t, spec)
	client, err := rpcap.Dial(t.Context(), rpcap.ClientConfig{Host: "127.0.0.1", Port: uint16(rpcapPort)})
	must(t, err)
	defer client.Close()
	_, err = client.Start(t.Context(), rpcap.CaptureConfig{Device: "vnet0"})
	must(t, err)

	books, quit := make(chan struct{}), atomic.Bool{}
	go func() { // as an agent or a scrape does, all the time
		defer close(books)
		for ; !quit.Load(); time.Sleep(time.Millisecond) {
			for _, s := range line.Statements() {
				if err := s.Running().Balance(); err != nil {
					t.Error(err)
				}
			}
			for _, d := range line.Destinations() {
				if d.In != d.Sent+d.Filtered+d.Shed+d.Errors+uint64(d.Queued) {
					t.Errorf("%+v", d)
				}
			}
		}
	}()
	send, sent, text := sender(t, vm), uint64(0), strings.Repeat("x", 200)
	// until sends, in both ports, until a destination is as it shall be.
	until := func(url string, is func(*tap.Destination) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			for _, d := range line.Destinations() {
				if strings.HasPrefix(d.URL, url) && is(&d) {
					return
				}
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", url, line.Destinations())
			}
			send(0, 9000, text, 20)
			send(0, 9001, text, 20)
			sent += 40
			time.Sleep(time.Millisecond)
		}
	}
	failing := func(d *tap.Destination) bool { return d.Failing() }
	well := func(d *tap.Destination) bool { return !d.Failing() && d.LastError != "" }
	until("pcapng:"+full, failing)
	until("frames:-", failing)
	host.Sh("ip link del up0; ip link del out0")
	gone := []string{"vxlan:", "udp:", "gre:", "erspan2:", "erspan3:", "geneve:", "iface:"}
	for _, url := range gone {
		until(url, failing)
	}
	host.Sh(links, tool)
	tool.Sh("ip link set eth0 up; ip link set eth1 up; ip addr add 10.7.0.9/24 dev eth0")
	must(t, os.Remove(filler))
	for _, url := range append(gone, "pcapng:"+full) {
		until(url, well)
		n := uint64(0)
		until(url, func(d *tap.Destination) bool { n = max(n, 1); return d.Sent > n })
	}
	until("tls:", func(d *tap.Destination) bool { return d.Shed > 0 })
	until("rpcap:", func(d *tap.Destination) bool { return d.Shed+d.Errors > 0 || sent > 20000 })
	stop()
	quit.Store(true)
	<-books

	got, _ := frames(t, truth)
	if uint64(len(got)) != sent || line.Statements()[0].In != sent {
		t.Errorf("%d frames in the file that never failed, %d were sent, the source has %+v", len(got), sent, line.Statements()[0])
	}
	for _, d := range line.Destinations() {
		if d.Queued != 0 || d.Unit == "frames" && d.In != sent || strings.HasPrefix(d.URL, "pcapng:"+truth) && d.Sent != sent {
			t.Errorf("%d sent, %+v", sent, d)
		}
	}
	if kept, _ := frames(t, full); len(kept) == 0 || line.Incomplete() == nil {
		t.Errorf("%d frames on the disk that was full: %v", len(kept), line.Incomplete())
	}
	for _, s := range line.Statements() {
		if err := s.Balance(); err != nil {
			t.Error(err)
		}
	}
}
