//go:build linux

package tap_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// hosts are two hosts with a bridge between them. What the first one sends crosses the bridge's port p0 in
// super-frames and is cut before it reaches the second.
func hosts(t *testing.T) (a, middle, b *testns.Space) {
	testkit.Tool(t, "ethtool")
	a, middle, b = testns.New(t), testns.New(t), testns.New(t)
	middle.Sh(`ip link add br0 type bridge mcast_snooping 0
		ip link add p0 type veth peer name eth0 netns NS
		ip link set p0 master br0 up; ip link set br0 up`, a)
	middle.Sh(`ip link add p1 type veth peer name eth0 netns NS
		ip link set p1 master br0 up; ethtool -K p1 tso off gso off tx-udp-segmentation off`, b)
	for i, h := range []*testns.Space{a, b} {
		h.Sh(fmt.Sprintf(`ip link set eth0 up
			ip addr add 10.9.0.%[1]d/24 dev eth0; ip addr add fd09::%[1]d/64 dev eth0 nodad
			ip link add vx0 address 02:00:00:00:00:0%[1]d type vxlan id 5001 remote 10.9.0.%[2]d dstport 4789 dev eth0
			ip link set vx0 up; ip addr add 10.10.0.%[1]d/24 dev vx0; ip addr add fd10::%[1]d/64 dev vx0 nodad`, i+1, 2-i))
	}
	b.Sh(`ethtool -K eth0 gro off tso off gso off`)
	a.Reach("10.9.0.2", "fd09::2", "10.10.0.2", "fd10::2")
	return a, middle, b
}

// TestSuperFrames transfers streams with segmentation offload on, taps them where they travel in super-frames, and
// compares with what tcpdump and tshark see behind the place where they are cut.
func TestSuperFrames(t *testing.T) {
	tcpdump, tshark := testkit.Tool(t, "tcpdump"), testkit.Tool(t, "tshark")
	a, middle, b := hosts(t)
	truth := filepath.Join(t.TempDir(), "truth.pcap")
	stopDump := b.Dump(tcpdump, truth, "-s", "200", "-B", "32768", "tcp or udp")

	var lines bytes.Buffer
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.To, spec.Stdout = []string{"p0"}, middle.Path(), []string{"flows:-"}, &lines
	line, stop := start(t, spec)

	a.Stream(b, "10.9.0.2", make([]byte, 3_000_000))
	a.Stream(b, "fd09::2", make([]byte, 2_000_000))
	a.Stream(b, "10.10.0.2", make([]byte, 2_500_000))
	a.Stream(b, "fd10::2", make([]byte, 1_500_000))
	a.Datagrams(b, "10.9.0.2", make([]byte, 40*1100-1100/3), 1100)
	a.Datagrams(b, "fd10::2", make([]byte, 30*900-900/3), 900)
	testns.WaitStill(truth) // also for the last acknowledgements
	stop()
	stopDump()

	got, super := measured(t, &lines)
	want := seen(t, tshark, truth)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-tshark behind the cut, +metered before it)\n%s", diff)
	}
	frames := line.Statements()[0].Out
	if super < 2*frames {
		t.Errorf("%d frames for %d packets: there were hardly any super-frames; the test shows nothing", frames, super)
	}
	for _, s := range line.Statements() {
		if err := s.Balance(); err != nil {
			t.Error(err)
		}
	}
}

// start runs a tap and returns when it captures. The function stops it and waits for its end.
func start(t *testing.T, spec tap.Spec) (*tap.Tap, func()) {
	t.Helper()
	ready := make(chan struct{})
	spec.Ready = func() { close(ready) }
	line, err := tap.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- line.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	return line, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// measured sums the records of TCP and UDP by 5-tuple. It also returns the number of packets.
func measured(t *testing.T, lines io.Reader) (map[string]counts, uint64) {
	all, packets := map[string]counts{}, uint64(0)
	for d := json.NewDecoder(lines); ; {
		var r struct {
			Proto    string `json:"proto"`
			Src      string `json:"src_addr"`
			Dst      string `json:"dst_addr"`
			SrcPort  int    `json:"src_port"`
			DstPort  int    `json:"dst_port"`
			VNI      int    `json:"vni"`
			Packets  uint64 `json:"packets"`
			Octets   uint64 `json:"octets"`
			L2Octets uint64 `json:"l2_octets"`
		}
		if err := d.Decode(&r); err == io.EOF {
			return all, packets
		} else if err != nil {
			t.Fatal(err)
		}
		if r.Proto != "tcp" && r.Proto != "udp" {
			continue
		}
		if inner := strings.HasPrefix(r.Src, "10.10.") || strings.HasPrefix(r.Src, "fd10:"); inner != (r.VNI == 5001) {
			t.Errorf("%s to %s: VNI %d", r.Src, r.Dst, r.VNI)
		}
		k := fmt.Sprint(r.Proto, " ", r.Src, " ", r.SrcPort, " > ", r.Dst, " ", r.DstPort)
		c := all[k]
		all[k] = counts{c.Packets + r.Packets, c.Octets + r.Octets, c.L2Octets + r.L2Octets}
		packets += r.Packets
	}
}

// seen sums a capture of plain and VXLAN frames by the innermost 5-tuple.
func seen(t *testing.T, tshark, path string) map[string]counts {
	args := []string{"-r", path, "-T", "fields", "-E", "occurrence=a", "-E", "separator=;"}
	for _, f := range []string{"frame.len", "vxlan.vni", "ip.src", "ip.dst", "ip.len", "ipv6.src", "ipv6.dst", "ipv6.plen",
		"tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport"} {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(tshark, args...).Output()
	must(t, err)
	all := map[string]counts{}
	for l := range strings.Lines(string(out)) {
		col := strings.Split(strings.TrimSpace(l), ";")
		inner := func(i int) string { s := strings.Split(col[i], ","); return s[len(s)-1] }
		num := func(i int) uint64 { n, _ := strconv.ParseUint(inner(i), 10, 64); return n }
		frameLen, src, dst, octets := num(0), inner(2), inner(3), num(4)
		if tunnel := col[1] != ""; tunnel {
			if col[8] == "" && !strings.Contains(col[10], ",") {
				continue // neighbour discovery and the like
			}
			frameLen -= 14 + 20 + 8 + 8
			if !strings.Contains(col[2], ",") {
				src = "" // IPv6 inside IPv4
			}
		}
		if src == "" || col[2] == "" {
			src, dst, octets = inner(5), inner(6), num(7)+40
		}
		proto, ports := "tcp", inner(8)+" > "+dst+" "+inner(9)
		if col[8] == "" {
			proto, ports = "udp", inner(10)+" > "+dst+" "+inner(11)
		}
		k := proto + " " + src + " " + ports
		c := all[k]
		all[k] = counts{c.Packets + 1, c.Octets + octets, c.L2Octets + frameLen}
	}
	return all
}
