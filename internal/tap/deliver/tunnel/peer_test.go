package tunnel

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/frame"
	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testkit"
)

// TestKernelDevices sends to the VXLAN device of the kernel, over both families.
func TestKernelDevices(t *testing.T) {
	for _, tool := range []string{"10.7.0.9", "fd07::9"} {
		p := newPair(t, 1600)
		p.tool.Sh("ip link add vx0 type vxlan id 16777215 dstport 4790 local " + tool + " dev eth0; ip link set vx0 up")
		s := p.sink("vxlan://" + bracket(tool) + ":4790?vni=16777215")
		frames := mixed(0, 160, 1518)
		got := temp(t, "got.pcap")
		stop := dump(t, p.tool, "vx0", got)
		st := run(t, s, frames)
		stop(len(frames))
		if diff := cmp.Diff(hexes(frames), pcapFrames(t, got)); diff != "" || st.Out != uint64(len(frames)) {
			t.Errorf("%s: %d sent, %s (-sent, +received)\n%.1500s", tool, st.Out, dropped(st), diff)
		}
		if s.Report().Refused {
			t.Errorf("%s: the kernel's device refused the probe", tool)
		}
	}
}

func bracket(a string) string {
	if strings.Contains(a, ":") {
		return "[" + a + "]"
	}
	return a
}

// TestOpenVSwitch sends to tunnel ports of Open vSwitch, which decapsulates and passes the frames on to a plain port.
func TestOpenVSwitch(t *testing.T) {
	p := newPair(t, 1600)
	p.tool.Sh(`ip addr flush dev eth0; ip link set eth0 up; ip link add out0 type veth peer name seen0
		sysctl -qw net.ipv6.conf.out0.disable_ipv6=1 net.ipv6.conf.seen0.disable_ipv6=1; ip link set out0 mtu 2000 up; ip link set seen0 mtu 2000 up`)
	db := ovstest.New(t, p.tool.Do)
	db.Switch()
	db.Vsctl("add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy eth0 -- add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int out0")
	p.tool.Sh("ip link set br-phy mtu 1600 up; ip addr add 10.7.0.9/24 dev br-phy; ip addr add fd07::9/64 dev br-phy nodad")
	p.host.Reach("10.7.0.9", "fd07::9")
	path, n := temp(t, "got.pcap"), 0
	stop := dump(t, p.tool, "seen0", path)
	const each = 40     // fit into the socket of the switch at once
	var sent [][]string // sorted
	var urls []string
	f := func(url, port string) {
		t.Helper()
		remote := "10.7.0.1"
		if strings.Contains(url, "[") {
			remote = "fd07::1"
		}
		// One at a time: ports of GRE and ERSPAN take packets from each other there.
		db.Vsctl("--if-exists del-port br-int t0 -- add-port br-int t0 -- set interface t0 options:remote_ip=" + remote + " " + port)
		frames := mixed(n*each, each, 1518)
		if st := run(t, p.sink(url), frames); st.Out != each {
			t.Errorf("%s: %d sent, %s", url, st.Out, dropped(st))
		}
		n++
		sent, urls = append(sent, hexes(frames)), append(urls, url)
		waitFrames(t, path, n*each)
	}
	f("vxlan://10.7.0.9?vni=5001", "type=vxlan options:key=5001")
	f("geneve://10.7.0.9?vni=5002", "type=geneve options:key=5002")
	f("gre://10.7.0.9?key=77", "type=gre options:key=77")
	f("gre://10.7.0.9?key=78&seq=yes", "type=gre options:key=78")
	f("gre://10.7.0.9", "type=gre")
	f("erspan2://10.7.0.9?session=321&index=7", "type=erspan options:key=321 options:erspan_ver=1 options:erspan_idx=7")
	f("erspan3://10.7.0.9?session=1023", "type=erspan options:key=1023 options:erspan_ver=2 options:erspan_dir=0 options:erspan_hwid=0")
	f("vxlan://[fd07::9]?vni=16777215", "type=vxlan options:key=16777215")
	f("geneve://[fd07::9]?vni=5001", "type=geneve options:key=5001")
	f("gre://[fd07::9]?key=77", "type=ip6gre options:key=77")
	f("erspan2://[fd07::9]?session=3&index=8", "type=ip6erspan options:key=3 options:erspan_ver=1 options:erspan_idx=8")
	f("erspan3://[fd07::9]?session=4", "type=ip6erspan options:key=4 options:erspan_ver=2 options:erspan_dir=0 options:erspan_hwid=0")
	stop(n * each)
	came := map[string]int{}
	for _, f := range pcapFrames(t, path) {
		came[f]++
	}
	for i, url := range urls {
		once := 0
		for _, f := range sent[i] {
			if came[f] == 1 {
				once++
			}
			delete(came, f)
		}
		if once != each {
			t.Errorf("%s: %d of %d frames came once", url, once, each)
		}
	}
	if len(came) > 0 {
		t.Errorf("%d frames that nobody sent", len(came))
	}
}

// seen is what one sink sent and what tshark has to read in it.
type seen struct {
	url      string
	overhead int // bytes in front of the frame
	fields   []string
	want     []string
	frames   []frame.Frame
}

// TestTshark compares the headers with what tshark reads in them; the lines are written by hand. Checksums are checked, and reserved bits have to
// be 0.
func TestTshark(t *testing.T) {
	testkit.Tool(t, "tshark")
	p := newPair(t, 1600)
	for _, port := range []int{4789, 6081, 37009, 0} {
		p.listen(port)
	}
	path := temp(t, "got.pcap")
	stop := dump(t, p.tool, "eth0", path, "udp or ip proto 47 or ip6 proto 47")
	var all []seen
	f := func(url string, overhead int, fields []string, want ...string) {
		t.Helper()
		frames := mixed(0, 3, 100)
		frames[1].Dir, frames[1].Point, frames[1].OrigLen = frame.Egress, 4, 500
		frames[2].TimeNS += 1_000_000_000
		s := p.sink(url, func(c *Config) { c.Target.Ports, c.Target.Probe = 1, false })
		run(t, s, frames)
		if n := s.Report().Overhead; n != overhead {
			t.Errorf("%s: overhead of %d bytes, want %d", url, n, overhead)
		}
		all = append(all, seen{url, overhead, fields, want, frames})
	}
	f("vxlan://10.7.0.9?vni=5001&ttl=9&dscp=46", 36, []string{"ip.ttl", "ip.dsfield.dscp", "ip.flags.df", "udp.dstport", "udp.checksum", "vxlan.flags", "vxlan.gbp", "vxlan.vni", "vxlan.reserved8"},
		"9,64 46,0 0,1 4789,9 0x0000,0x0000 0x0800 0 5001 0", "9,64 46,0 0,1 4789,9 0x0000,0x0000 0x0800 0 5001 0", "9,64 46,0 0,1 4789,9 0x0000,0x0000 0x0800 0 5001 0")
	f("geneve://[fd07::9]?vni=16777215", 56, []string{"ipv6.hlim", "udp.dstport", "geneve.version", "geneve.flags", "geneve.flags.oam", "geneve.flags.critical", "geneve.flags.reserved", "geneve.proto_type", "geneve.vni", "geneve.reserved"},
		repeat("64 6081,9 0 0x00 0 0 0 0x6558 0xffffff 0x00", 3)...)
	f("gre://10.7.0.9?key=4294967295&seq=yes", 32, []string{"gre.flags_and_version", "gre.proto", "gre.key", "gre.sequence_number"},
		"0x3000 0x6558 0xffffffff 0", "0x3000 0x6558 0xffffffff 1", "0x3000 0x6558 0xffffffff 2")
	f("gre://[fd07::9]", 44, []string{"ipv6.hlim", "gre.flags_and_version", "gre.proto"}, repeat("64 0x0000 0x6558", 3)...)
	f("erspan2://10.7.0.9?session=1023", 36, []string{"gre.flags_and_version", "gre.proto", "gre.sequence_number", "erspan.version", "erspan.vlan", "erspan.cos", "erspan.encap", "erspan.truncated", "erspan.spanid", "erspan.reserved", "erspan.index"},
		"0x1000 0x88be 0 1 1 3 3 0 1023 0 1", "0x1000 0x88be 1 1 0 0 0 1 1023 0 5", "0x1000 0x88be 2 1 0 0 0 0 1023 0 1")
	erspan3 := []string{"gre.proto", "gre.sequence_number", "erspan.version", "erspan.vlan", "erspan.cos", "erspan.bso", "erspan.truncated", "erspan.spanid", "erspan.timestamp", "erspan.sgt", "erspan.p", "erspan.ft", "erspan.hw", "erspan.direction", "erspan.gra", "erspan.o"}
	f("erspan3://10.7.0.9?session=5&sgt=65535&hwid=63", 40, erspan3,
		"0x22eb 0 2 1 3 0 0 5 2628937938 65535 1 0 63 0 0 0",
		"0x22eb 1 2 0 0 0 1 5 2628937938 65535 1 0 63 1 0 0",
		"0x22eb 2 2 0 0 0 0 5 2628947938 65535 1 0 63 0 0 0")
	f("erspan3://10.7.0.9?session=5&granularity=100ns", 40, erspan3,
		"0x22eb 0 2 1 3 0 0 5 417953415 0 1 0 0 0 1 0",
		"0x22eb 1 2 0 0 0 1 5 417953425 0 1 0 0 1 1 0",
		"0x22eb 2 2 0 0 0 0 5 427953435 0 1 0 0 0 1 0")
	f("erspan3://10.7.0.9?session=5&granularity=ptp&switch=1000", 48, append(erspan3, "erspan.platid", "erspan.pid5.switchid", "erspan.pid5.port_index", "erspan.pid5.timestamp"),
		"0x22eb 0 2 1 3 0 0 5 123456789 0 1 0 0 0 2 1 5 1000 1 1772366400",
		"0x22eb 1 2 0 0 0 1 5 123457789 0 1 0 0 1 2 1 5 1000 5 1772366400",
		"0x22eb 2 2 0 0 0 0 5 123458789 0 1 0 0 0 2 1 5 1000 1 1772366401")
	f("udp://10.7.0.9:37009", 28, []string{"udp.length"}, "54", "88", "67")
	stop(3 * len(all))
	compare(t, path, all)
}

// compare reads the capture of all sinks once.
func compare(t *testing.T, path string, all []seen) {
	t.Helper()
	fields := []string{"_ws.malformed", "ip.checksum.status", "udp.checksum.status"}
	for _, s := range all {
		for _, f := range s.fields {
			if !slices.Contains(fields, f) {
				fields = append(fields, f)
			}
		}
	}
	rows, raw := tshark(t, path, fields...), pcapOrder(t, path)
	if len(rows) != 3*len(all) {
		t.Fatalf("tshark reads %d packets of %d", len(rows), 3*len(all))
	}
	for i, s := range all {
		var got []string
		for _, r := range rows[3*i : 3*i+3] {
			var values []string
			for _, f := range s.fields {
				values = append(values, r[f])
			}
			got = append(got, strings.Join(values, " "))
			if r["_ws.malformed"] != "" || strings.Contains(r["ip.checksum.status"]+r["udp.checksum.status"], "0") {
				t.Errorf("%s: damaged: %v", s.url, r)
			}
		}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("%s: %v (-want, +tshark)\n%s", s.url, s.fields, diff)
		}
		for k, f := range s.frames {
			if got := raw[3*i+k][2*(14+s.overhead):]; got != hex.EncodeToString(f.Data) {
				t.Errorf("%s: frame %d: got %s, want %x", s.url, k, got, f.Data)
			}
		}
	}
}

func repeat(line string, n int) (all []string) {
	for range n {
		all = append(all, line)
	}
	return all
}
