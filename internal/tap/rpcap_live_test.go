//go:build linux

package tap_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/tap"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// TestRPCAPBothWays has one tap give the frames of an interface to another, which filters at the remote end and looks again for what no
// program can decide.
func TestRPCAPBothWays(t *testing.T) {
	a, b := testns.New(t), testns.New(t)
	a.Sh("ip link add eth0 type veth peer name eth0 netns NS; ip link set eth0 up", b)
	b.Sh("ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0")
	a.Up("eth0")
	b.Up("eth0")
	url := fmt.Sprintf("rpcap://127.0.0.1:%d", testkit.Port(t))
	path := filepath.Join(t.TempDir(), "x.pcapng")

	near := tap.DefaultSpec()
	near.Interfaces, near.NetNS, near.IngressOnly, near.To = []string{"eth0"}, b.Path(), true, []string{url}
	server, stopNear := start(t, near)
	far := tap.DefaultSpec()
	far.Interfaces, far.Filter, far.To = []string{url + "/eth0"}, `udp dst port 9001 and payload "other"`, []string{"pcapng:" + path}
	client, stopFar := start(t, far)

	send := sender(t, a)
	send(0, 9000, "one", 5)
	send(0, 9001, "one", 6)
	send(0, 9001, "other", 7)
	for range 6000 {
		if client.Statements()[0].In >= 13 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stopFar()
	stopNear()
	got, names := frames(t, path)
	if len(got) != 7 || len(names) == 0 || names[0] != url+"/eth0" {
		t.Errorf("%d frames from %q", len(got), names)
	}
	if st := client.Statements()[0]; st.In != 13 || st.Out != 13 {
		t.Errorf("the remote end does not filter: %+v", st)
	}
	for _, line := range []*tap.Tap{server, client} {
		for _, st := range line.Statements() {
			if err := st.Balance(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestListenTap receives copies from the tap's own VXLAN destination: what went in on one side comes out on the other, filtered inside.
func TestListenTap(t *testing.T) {
	a, b := testns.New(t), testns.New(t)
	a.Sh("ip link add eth0 type veth peer name eth0 netns NS; ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0", b)
	b.Sh("ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0")
	a.Sh("ip link add vx type vxlan id 77 remote 10.9.0.2 dstport 4789; ip link set vx up; ip addr add 10.10.0.1/24 dev vx; ip neigh add 10.10.0.2 lladdr 02:00:00:00:00:02 dev vx")
	a.Up("eth0")
	b.Up("eth0")
	path := filepath.Join(t.TempDir(), "x.pcapng")
	s := tap.DefaultSpec()
	s.Listen, s.NetNS, s.Filter, s.To = []string{"vxlan://?vni=77", "erspan://"}, b.Path(), "udp port 9000", []string{"pcapng:" + path, "null:"}
	line, stop := start(t, s)
	var c net.Conn
	must(t, a.Do(func() (err error) { c, err = net.Dial("udp", "10.10.0.2:9000"); return err }))
	defer c.Close()
	for range 9 {
		_, err := c.Write([]byte("hello"))
		must(t, err)
	}
	for range 6000 {
		if st := line.Statements(); st[1].Out >= 9 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	got, names := frames(t, path)
	if len(got) != 9 || len(names) == 0 || names[0] != "vxlan 10.9.0.1 vni 77" || line.Stats().Packets != 9 || !strings.Contains(line.Ledger(), "9 delivered") && line.Ledger() == "" {
		t.Errorf("%d frames from %q, %d metered; %s", len(got), names, line.Stats().Packets, line.Ledger())
	}
}

func TestSourceMistakes(t *testing.T) {
	f := func(want string, change func(*tap.Spec)) {
		t.Helper()
		s := tap.DefaultSpec()
		s.To = []string{"null:"}
		change(&s)
		if _, err := tap.New(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f("no source", func(*tap.Spec) {})
	f("interfaces and endpoints to listen on at once", func(s *tap.Spec) { s.Interfaces, s.Listen = []string{"lo"}, []string{"vxlan://"} })
	f("interfaces of other hosts at once", func(s *tap.Spec) { s.Interfaces = []string{"lo", "rpcap://host/eth0"} })
	f("the same place", func(s *tap.Spec) { s.Listen = []string{"vxlan://", "vxlan://:4789"} })
	f("name one of that host's", func(s *tap.Spec) { s.Interfaces = []string{"rpcap://host"} })
	f("before a client has come", func(s *tap.Spec) { s.File, s.To = "x.pcap", []string{"rpcap://"} })
	f("without a password", func(s *tap.Spec) { s.Interfaces, s.To = []string{"lo"}, []string{"rpcap://10.0.0.1"} })
}
