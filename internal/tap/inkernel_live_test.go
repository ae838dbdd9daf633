//go:build linux

package tap_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/tap"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// TestFlowsInTheKernel is TestSuperFrames with packets counted in the kernel: what is in tunnels comes up to the meter, and both together
// are what tshark sees behind the place where super-frames are cut.
func TestFlowsInTheKernel(t *testing.T) {
	tcpdump, tshark := testkit.Tool(t, "tcpdump"), testkit.Tool(t, "tshark")
	for _, path := range []string{tap.PathTCX, tap.PathClsact} {
		t.Run(path, func(t *testing.T) {
			a, middle, b := hosts(t)
			truth := filepath.Join(t.TempDir(), "truth.pcap")
			stopDump := b.Dump(tcpdump, truth, "-s", "200", "-B", "32768", "tcp or udp")
			var lines bytes.Buffer
			spec := tap.DefaultSpec()
			spec.Interfaces, spec.NetNS, spec.To, spec.Stdout, spec.Path = []string{"p0"}, middle.Path(), []string{"flows:-"}, &lines, path
			line, stop := start(t, spec)
			a.Stream(b, "10.9.0.2", make([]byte, 3_000_000))
			a.Stream(b, "fd09::2", make([]byte, 2_000_000))
			a.Stream(b, "10.10.0.2", make([]byte, 2_500_000))
			a.Stream(b, "fd10::2", make([]byte, 1_500_000))
			a.Datagrams(b, "10.9.0.2", make([]byte, 40*1100-1100/3), 1100)
			a.Datagrams(b, "fd10::2", make([]byte, 30*900-900/3), 900)
			testns.WaitStill(truth)
			stop()
			stopDump()
			got, _ := measured(t, &lines)
			if diff := cmp.Diff(seen(t, tshark, truth), got); diff != "" {
				t.Errorf("(-tshark behind the cut, +counted before it)\n%s", diff)
			}
			for _, s := range line.Statements() {
				if err := s.Balance(); err != nil {
					t.Error(err)
				}
			}
			if where := line.Filter(); where != "" {
				t.Errorf("filter %q without one", where)
			}
		})
	}
}

// TestHeadersFromTheKernel writes what the kernel hands over to a capture file; tshark finds the same packets as in a full capture.
func TestHeadersFromTheKernel(t *testing.T) {
	tcpdump, tshark := testkit.Tool(t, "tcpdump"), testkit.Tool(t, "tshark")
	a, middle, b := hosts(t)
	dir := t.TempDir()
	truth, file := filepath.Join(dir, "truth.pcap"), filepath.Join(dir, "headers.pcapng")
	stopDump := b.Dump(tcpdump, truth, "-s", "200", "-B", "32768", "udp and dst port 7000")
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.To, spec.Path = []string{"p0"}, middle.Path(), []string{"pcapng:" + file}, tap.PathTCX
	spec.SnapLen, spec.Filter = 96, "udp dst port 7000"
	line, stop := start(t, spec)
	a.Sh("bash -c 'for i in $(seq 50); do echo $i > /dev/udp/10.9.0.2/7000; done'")
	testns.WaitStill(truth)
	stop()
	stopDump()
	if diff := cmp.Diff(seen(t, tshark, truth), seen(t, tshark, file)); diff != "" || line.Statements()[0].Out != 50 {
		t.Errorf("%+v (-tcpdump, +headers)\n%s", line.Statements(), diff)
	}
}

func groomed(t *testing.T, steps string) *groom.Spec {
	t.Helper()
	g, err := groom.Parse(steps)
	must(t, err)
	return &g
}

// rows returns fields of each frame of a capture.
func rows(t *testing.T, tshark, path string, fields ...string) (all []string) {
	t.Helper()
	args := []string{"-r", path, "-T", "fields", "-E", "occurrence=a", "-E", "separator=;"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(tshark, args...).Output()
	must(t, err)
	for l := range strings.Lines(string(out)) {
		all = append(all, strings.TrimRight(l, "\n"))
	}
	return all
}

// The path, and why it was chosen.
func TestPathIsChosen(t *testing.T) {
	f := func(path, filter, groom string, to string, want string, change ...func(*tap.Spec)) {
		t.Helper()
		var log bytes.Buffer
		s := tap.DefaultSpec()
		s.Interfaces, s.Path, s.Filter, s.To, s.Stdout = []string{"eth0"}, path, filter, strings.Fields(to), &log
		s.Log = slog.New(slog.NewTextHandler(&log, nil))
		if groom != "" {
			s.Groom = groomed(t, groom)
		}
		for _, c := range change {
			c(&s)
		}
		got := ""
		if x, err := tap.New(s); err != nil {
			got = "error: " + err.Error()
		} else {
			got = x.Path()
		}
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s, filter %q, groom %q to %s: %q, want %q", path, filter, groom, to, got, want)
		}
	}
	f("auto", "tcp port 80", "", "vxlan://10.0.0.9?vni=1", "^tcx: copies that are filtered")
	f("auto", "", "sample=16", "vxlan://10.0.0.9?vni=1", "^tcx: copies")
	f("auto", "", "slice=128", "vxlan://10.0.0.9?vni=1", "^ring: everything is wanted|^tcx") // on one processor nobody else could do it
	f("auto", "", "", "vxlan://10.0.0.9?vni=1&filter=icmp erspan2://10.0.0.9?session=4&filter=tcp", "^tcx: copies")
	f("auto", "tcp", "", "vxlan://10.0.0.9?vni=1 flows:-", "^ring: flow records tell applications")
	f("auto", "tcp", "", "null:frames", "^ring: whole frames")
	f("auto", "inner tcp", "", "vxlan://10.0.0.9?vni=1", "^ring: the filter has tests")
	f("auto", "", "", "vxlan://10.0.0.9?vni=1&filter=inner%20tcp", "^ring: vxlan.*no kernel program")
	f("auto", "tcp", "", "vxlan://10.0.0.9?vni=1&rate=5M", "^tcx: copies")
	f("auto", "tcp", "", "erspan3://10.0.0.9?session=1&granularity=ptp", "^tcx: copies")
	f("auto", "tcp", "", "vxlan://10.0.0.9?vni=1&absent=pause", "^ring: vxlan.*absent=pause")
	f("auto", "tcp", "", "iface:eth1", "^ring: iface")
	f("auto", "tcp", "dedup", "vxlan://10.0.0.9?vni=1", "^ring: .*sample and slice")
	f("auto", "tcp", "slice=l4+64", "vxlan://10.0.0.9?vni=1", "^ring: .*fixed length")
	f("auto", "tcp", "slice=20", "vxlan://10.0.0.9?vni=1", "^ring: .*at least 64")
	f("auto", "tcp", "", "vxlan://10.0.0.9?vni=1", "^ring: frames are counted", func(s *tap.Spec) { s.Limit.Frames = 5 })
	f("ring", "tcp", "", "vxlan://10.0.0.9?vni=1", "^ring: as asked for")
	f("tcx", "", "", "vxlan://10.0.0.9?vni=1", "^tcx: copies that go only")
	f("tcx", "", "", "flows:-", "^tcx: packets are counted")
	f("clsact", "", "", "flows:-", "^clsact: packets are counted")
	f("tcx", "", "dedup", "flows:-", "^error: tap: path tcx: groom steps but a sample need frames")
	f("tcx", "", "sample=16/random", "flows:-", "^tcx: packets are counted")
	f("tcx", "", "sample=16/keep=syn", "flows:-", "^error: tap: path tcx: groom steps but")
	f("tcx", "", "", "flows:-", "^error: tap: path tcx: .*two directions", func(s *tap.Spec) { s.Biflow = true })
	f("tcx", "", "", "flows:-", "^tcx: headers", func(s *tap.Spec) { s.SnapLen = 160 })
	f("tcx", "", "", "null:frames", "^error: tap: path tcx: whole frames")
	f("tcx", "", "", "null:frames", "^tcx: headers", func(s *tap.Spec) { s.SnapLen = 96 })
	f("tcx", "", "", "null:frames", "^error: tap: path tcx: programs in the kernel are for interfaces", func(s *tap.Spec) { s.Interfaces, s.File = nil, "x.pcap" })
	f("fast", "", "", "null:frames", "^error: tap: path \"fast\": want auto, tcx, clsact, ring")
}

// A sample of packets that are counted in the kernel: records tell the rate, and the frames that come up to the meter are of the sample, too.
func TestSampledFlowsInTheKernel(t *testing.T) {
	a, middle, _ := hosts(t)
	var lines bytes.Buffer
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.To, spec.Stdout, spec.Path = []string{"p0"}, middle.Path(), []string{"flows:-"}, &lines, tap.PathTCX
	spec.Groom, spec.Filter, spec.IngressOnly = groomed(t, "sample=8"), "udp dst port 7000 or udp dst port 4789", true
	line, stop := start(t, spec)
	a.Sh("bash -c 'for i in $(seq 400); do echo $i > /dev/udp/10.9.0.2/7000; echo $i > /dev/udp/10.10.0.2/7000; done'")
	stop()
	text := lines.String()
	got, packets := measured(t, &lines)
	if least := uint64(2 * 400 / 8); packets < least || packets > least+uint64(runtime.NumCPU())+8 { // and a few of ARP in the tunnel
		t.Errorf("%d packets are in the records: %v; %+v", packets, got, line.Statements())
	}
	if !strings.Contains(text, `"sampling":8`) || strings.Contains(text, `"sampling":1,`) {
		t.Errorf("records: %.900s", text)
	}
}

// reachable adds a tool at 10.7.0.9 and 10.7.0.10 behind the interface up0 of a host, and returns the options of a destination there.
func reachable(t *testing.T, host *testns.Space) (tool *testns.Space, options string) {
	t.Helper()
	tool = testns.New(t)
	host.Sh("ip link add up0 mtu 9000 type veth peer name eth0 mtu 9000 netns NS; ip link set up0 addrgenmode none; ip link set up0 up; ip addr add 10.7.0.1/24 dev up0", tool)
	tool.Sh("ip link set eth0 addrgenmode none; ip link set eth0 up; ip addr add 10.7.0.9/24 dev eth0; ip addr add 10.7.0.10/24 dev eth0")
	host.Up("up0")
	return tool, "&probe=no&netns=" + strings.ReplaceAll(host.Path(), "/", "%2F")
}

// Mirrors in the kernel: two destinations with filters of their own, in two formats, on two interfaces.
func TestCopiesInTheKernel(t *testing.T) {
	tcpdump, tshark := testkit.Tool(t, "tcpdump"), testkit.Tool(t, "tshark")
	a, middle, _ := hosts(t)
	tool, options := reachable(t, middle)
	truth := filepath.Join(t.TempDir(), "tool.pcap")
	stopDump := tool.Dump(tcpdump, truth, "-B", "32768", "udp port 4789 or proto 47")
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.IngressOnly = []string{"p0", "p1"}, middle.Path(), true
	spec.To = []string{"vxlan://10.7.0.9?vni=77&filter=udp dst port 7000" + options, "erspan2://10.7.0.9?session=5&filter=udp dst port 7001" + options}
	line, stop := start(t, spec)
	if line.Path() != "tcx: copies that are filtered or sampled, and go only to other hosts, are made in the kernel" {
		t.Errorf("path %q", line.Path())
	}
	for port, n := range map[int]int{7000: 30, 7001: 20, 7002: 10} {
		a.Sh(fmt.Sprintf("bash -c 'for i in $(seq %d); do echo $i > /dev/udp/10.9.0.2/%d; done'", n, port))
	}
	testns.WaitStill(truth)
	stop()
	stopDump()
	out := map[string]int{}
	for _, r := range rows(t, tshark, truth, "vxlan.vni", "erspan.spanid", "udp.dstport") {
		out[r]++
	}
	if diff := cmp.Diff(map[string]int{"77;;4789,7000": 30, ";5;7001": 20}, out); diff != "" {
		t.Error(diff)
	}
	text := strings.Join(line.Deliveries(), "\n")
	if !regexp.MustCompile(`(?s)vni=77.* \+ 30 delivered.*session=5.* \+ 20 delivered`).MatchString(text) {
		t.Error(text)
	}
	to := line.Destinations() // what agents report and metrics show
	for i, want := range []uint64{30, 20} {
		if d := to[i]; d.URL != spec.To[i] || d.Sent != want || d.In != d.Sent+d.Filtered || d.Filtered == 0 {
			t.Errorf("%+v, want %d sent", d, want)
		}
	}
}

// A tap of the very port that its copies leave through, with the copies made in the kernel: they are not copied again. Nor are those of another
// destination of the same tap.
func TestCopiesInTheKernelAreNotCopied(t *testing.T) {
	a, middle, _ := hosts(t)
	_, options := reachable(t, middle)
	spec := tap.DefaultSpec()
	spec.Interfaces, spec.NetNS, spec.Path = []string{"up0", "p0"}, middle.Path(), tap.PathTCX
	options += "&mtu=slice"
	spec.To = []string{"vxlan://10.7.0.9?vni=77&filter=udp" + options, "erspan2://10.7.0.10?session=5" + options}
	line, stop := start(t, spec)
	a.Sh("bash -c 'for i in $(seq 100); do echo $i > /dev/udp/10.9.0.2/7000; done'")
	stop()
	for _, s := range line.Statements() {
		if s.Out < 100 || s.Out > 200 { // the datagrams, and a few of ARP and ICMP
			t.Errorf("%+v", s)
		}
	}
}
