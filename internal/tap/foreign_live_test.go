//go:build linux

package tap_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/tap"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// listener is a host 10.7.0.9 (fd07::9) on which a tap listens for what a mirror on the host 10.7.0.1 (fd07::1) sends.
type listener struct {
	t            *testing.T
	mirror, host *testns.Space
}

func newListener(t *testing.T) *listener {
	t.Helper()
	l := &listener{t, testns.New(t), testns.New(t)}
	for _, s := range []*testns.Space{l.mirror, l.host} {
		s.Sh("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0")
	}
	l.mirror.Sh("ip link add eth0 mtu 2000 type veth peer name eth0 mtu 2000 netns NS; ip link set eth0 up", l.host)
	l.host.Sh("ip link set eth0 up; ip addr add 10.7.0.9/24 dev eth0; ip addr add fd07::9/64 dev eth0 nodad")
	l.mirror.Up("eth0")
	l.host.Up("eth0")
	return l
}

// frames returns n frames of a VM, some with a tag; number tells one call's from another's.
func (l *listener) frames(number, n int) (all [][]byte) {
	l.t.Helper()
	for i := range n {
		tag := ""
		if i%4 == 3 {
			tag = "8100a007"
		}
		text := fmt.Sprintf("020000000009 0200000000aa %s 0800 4500002e %04x0000 4011 0000 0a090001 0a090002 1b581b59 001a0000 %036x", tag, i+1, number)
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		must(l.t, err)
		all = append(all, b)
	}
	return all
}

// write sends frames through an interface of the mirror's host.
func (l *listener) write(iface string, frames ...[]byte) {
	l.t.Helper()
	must(l.t, l.mirror.Do(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for n, b := range frames {
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}); err != nil {
				return err
			}
			if n%8 == 7 {
				time.Sleep(time.Millisecond) // the receivers' queues are short
			}
		}
		return nil
	}))
}

// reception is a tap that listens, and a capture of what comes to its host.
type reception struct {
	l          *listener
	line       *tap.Tap
	stop       func()
	stopWire   func()
	file, wire string
}

func (l *listener) listen(filter string, urls ...string) *reception {
	l.t.Helper()
	dir := l.t.TempDir()
	r := &reception{l: l, file: filepath.Join(dir, "got.pcapng"), wire: filepath.Join(dir, "wire.pcap")}
	r.stopWire = l.host.Dump(testkit.Tool(l.t, "tcpdump"), r.wire, "-s", "2000", "-Q", "in", filter)
	spec := tap.DefaultSpec()
	spec.Listen, spec.NetNS, spec.To = urls, l.host.Path(), []string{"pcapng:" + r.file}
	r.line, r.stop = start(l.t, spec)
	return r
}

func (r *reception) in() uint64 { return r.line.Statements()[0].In }

// warm calls send until something comes.
func (r *reception) warm(what string, send func()) {
	r.l.t.Helper()
	before := r.in()
	for end := time.Now().Add(time.Minute); r.in() == before; time.Sleep(20 * time.Millisecond) {
		if send(); time.Now().After(end) {
			r.l.t.Fatalf("%s: nothing comes", what)
		}
	}
	r.rest(0)
}

// rest waits until n more frames have come since before, and none for a while.
func (r *reception) rest(want uint64) {
	still, last := 0, r.in()
	for end := time.Now().Add(time.Minute); (last < want || still < 8) && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if still++; r.in() != last {
			still, last = 0, r.in()
		}
	}
}

// frames ends the reception and returns the frames of the VM, in hexadecimal and sorted, by the names of their points.
func (r *reception) frames() map[string][]string {
	t := r.l.t
	t.Helper()
	testns.WaitStill(r.wire)
	r.stop()
	r.stopWire()
	for _, s := range r.line.Statements() {
		if err := s.Balance(); err != nil {
			t.Error(err)
		}
	}
	tshark := testkit.Tool(t, "tshark")
	points := rows(t, tshark, r.file, "eth.src", "frame.interface_name")
	raw, err := exec.Command(tshark, "-r", r.file, "-x").Output()
	must(t, err)
	all, data := map[string][]string{}, dumped(string(raw))
	if len(points) != len(data) {
		t.Fatalf("%d frames, %d with bytes", len(points), len(data))
	}
	for i, p := range points {
		if src, name, _ := strings.Cut(p, ";"); src == "02:00:00:00:00:aa" {
			all[name] = append(all[name], data[i])
		}
	}
	for _, list := range all {
		slices.Sort(list)
	}
	return all
}

// dumped returns the frames of tshark's hexadecimal dump.
func dumped(text string) (all []string) {
	row := regexp.MustCompile(`(?m)^[0-9a-f]{4}  ((?:[0-9a-f]{2} ){1,16})`)
	for block := range strings.SplitSeq(text, "\n\n") {
		var b strings.Builder
		for _, m := range row.FindAllStringSubmatch(block, -1) {
			b.WriteString(strings.ReplaceAll(m[1], " ", ""))
		}
		if b.Len() > 0 {
			all = append(all, b.String())
		}
	}
	return all
}

func hexes(frames [][]byte) (all []string) {
	for _, b := range frames {
		all = append(all, hex.EncodeToString(b))
	}
	slices.Sort(all)
	return all
}

// TestListenOpenVSwitch receives what tunnel ports of Open vSwitch send, in every format that both know, over both families: every frame once, byte by
// byte, under the session that tshark reads on the wire.
func TestListenOpenVSwitch(t *testing.T) {
	l := newListener(t)
	l.mirror.Sh("ip link add in0 mtu 2000 type veth peer name src0 mtu 2000; for i in in0 src0; do sysctl -qw net.ipv6.conf.$i.disable_ipv6=1; ip link set $i up; done")
	db := ovstest.New(t, l.mirror.Do)
	db.Switch()
	db.Vsctl("add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy eth0 -- add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int in0")
	l.mirror.Sh("ip link set br-phy mtu 1600 up; ip addr add 10.7.0.1/24 dev br-phy; ip addr add fd07::1/64 dev br-phy nodad; ping -c1 -w60 -i0.2 10.7.0.9 >/dev/null; ping -c1 -w60 -i0.2 fd07::9 >/dev/null")
	r := l.listen("udp or ip proto 47 or ip6 proto 47", "vxlan://", "vxlan://:4790?vni=7,5002", "geneve://", "gre://", "erspan://")
	const each = 24
	want, wire := map[string][]string{}, map[string]string{}
	other := l.frames(0, 1)[0]
	other[11] = 0xbb // of another VM
	f := func(port, point, onWire string) {
		t.Helper()
		number := len(want) + 1
		frames := l.frames(number, each)
		want[point], wire[fmt.Sprintf("%036x", number)] = hexes(frames), onWire
		db.Vsctl("--if-exists del-port br-int t0 -- add-port br-int t0 -- set interface t0 " + port)
		r.warm(port, func() { l.write("src0", other) })
		before := r.in()
		l.write("src0", frames...)
		r.rest(before + each)
	}
	v4, v6 := "options:remote_ip=10.7.0.9 ", "options:remote_ip=fd07::9 "
	f(v4+"type=vxlan options:key=5001", "vxlan 10.7.0.1 vni 5001", "5001;;;")
	f(v4+"type=vxlan options:key=5002 options:dst_port=4790", "vxlan 10.7.0.1 vni 5002", "5002;;;")
	f(v4+"type=geneve options:key=5003", "geneve 10.7.0.1 vni 5003", ";0x00138b;;")
	f(v4+"type=gre options:key=77", "gre 10.7.0.1 key 77", ";;0x0000004d;")
	f(v4+"type=gre", "gre 10.7.0.1", ";;;")
	f(v4+"type=erspan options:key=321 options:erspan_ver=1 options:erspan_idx=7", "erspan 10.7.0.1 session 321", ";;;321")
	f(v4+"type=erspan options:key=1023 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=4", "erspan 10.7.0.1 session 1023", ";;;1023")
	f(v6+"type=vxlan options:key=16777215", "vxlan fd07::1 vni 16777215", "16777215;;;")
	f(v6+"type=geneve options:key=9", "geneve fd07::1 vni 9", ";0x000009;;")
	f(v6+"type=ip6gre options:key=78", "gre fd07::1 key 78", ";;0x0000004e;")
	f(v6+"type=ip6erspan options:key=3 options:erspan_ver=2 options:erspan_dir=0 options:erspan_hwid=0", "erspan fd07::1 session 3", ";;;3")
	if diff := cmp.Diff(want, r.frames()); diff != "" {
		t.Errorf("(-sent, +received)\n%.3000s", diff)
	}
	read := map[string]bool{}
	for _, row := range decoded(t, r.wire, "udp.port==4790,vxlan", "vxlan.vni", "geneve.vni", "gre.key", "erspan.spanid", "data.data") {
		at := strings.LastIndexByte(row, ';')
		want, ok := wire[row[at+1:]]
		if ok {
			read[row[at+1:]] = true
		}
		if ok && row[:at] != want {
			t.Errorf("tshark reads %q on the wire, want %q", row[:at], want)
		}
	}
	if len(read) != len(wire) {
		t.Errorf("tshark finds frames of %d of %d ports on the wire", len(read), len(wire))
	}
}

// decoded returns tshark's fields of a capture, with ports decoded as it is told.
func decoded(t *testing.T, path, as string, fields ...string) (all []string) {
	t.Helper()
	args := []string{"-r", path, "-d", as, "-T", "fields", "-E", "occurrence=a", "-E", "separator=;"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command(testkit.Tool(t, "tshark"), args...).Output()
	must(t, err)
	for l := range strings.Lines(string(out)) {
		all = append(all, strings.TrimRight(l, "\n"))
	}
	return all
}

// TestListenKernelDevices receives what the kernel's own tunnel devices send, as far as the kernel has them.
func TestListenKernelDevices(t *testing.T) {
	l := newListener(t)
	l.mirror.Sh("ip addr add 10.7.0.1/24 dev eth0; ping -c1 -w60 -i0.2 10.7.0.9 >/dev/null")
	r := l.listen("udp or proto 47", "vxlan://", "vxlan://:8472", "geneve://", "gre://", "erspan://")
	const each = 24
	want := map[string][]string{}
	f := func(device, point string) {
		t.Helper()
		var no error
		must(t, l.mirror.Do(func() error {
			out, err := exec.Command("sh", "-c", "ip link add t0 type "+device+" && ip link set t0 addrgenmode none && ip link set t0 mtu 1500 up").CombinedOutput()
			if err != nil {
				no = fmt.Errorf("%s", bytes.TrimSpace(out))
			}
			return nil
		}))
		if no != nil {
			t.Logf("%s: this kernel has no such device: %v", device, no)
			return
		}
		frames := l.frames(len(want)+1, each)
		want[point] = hexes(frames)
		before := r.in()
		l.write("t0", frames...)
		r.rest(before + each)
		l.mirror.Sh("ip link del t0")
	}
	f("vxlan id 5001 remote 10.7.0.9 dstport 4789 dev eth0", "vxlan 10.7.0.1 vni 5001")
	f("vxlan id 1 remote 10.7.0.9 dstport 8472 dev eth0", "vxlan 10.7.0.1 vni 1")
	f("geneve id 5002 remote 10.7.0.9", "geneve 10.7.0.1 vni 5002")
	f("gretap local 10.7.0.1 remote 10.7.0.9 key 77", "gre 10.7.0.1 key 77")
	f("erspan local 10.7.0.1 remote 10.7.0.9 seq key 5 erspan_ver 1 erspan 7", "erspan 10.7.0.1 session 5")
	f("erspan local 10.7.0.1 remote 10.7.0.9 seq key 6 erspan_ver 2 erspan_dir ingress erspan_hwid 3", "erspan 10.7.0.1 session 6")
	if diff := cmp.Diff(want, r.frames()); diff != "" || len(want) == 0 {
		t.Errorf("%d kinds of device; (-sent, +received)\n%.3000s", len(want), diff)
	}
}

// TestListenTZSP receives TZSP as access points and routers send it; tshark reads the same frames on the wire.
func TestListenTZSP(t *testing.T) {
	l := newListener(t)
	l.mirror.Sh("ip addr add 10.7.0.1/24 dev eth0; ping -c1 -w60 -i0.2 10.7.0.9 >/dev/null")
	headers := []string{ // version 1, type 0 (received) or 1 (for transmit), Ethernet; tags up to the end (1)
		"01 00 0001 01",
		"01 00 0001 00 0a01c4 00 01",                         // padding, signal strength
		"01 00 0001 3c06020000000001 29 02 0040 01",          // sensor, original length
		"01 01 0001 0d 04 00000007 28 04 00000001 00 00 01 ", // time stamp, packet count
	}
	r := l.listen("udp port 37008", "tzsp://")
	var c net.Conn
	must(t, l.mirror.Do(func() (err error) { c, err = net.Dial("udp", "10.7.0.9:37008"); return err }))
	defer c.Close()
	var frames [][]byte
	for i, h := range headers {
		for _, b := range l.frames(i, 4) {
			head, err := hex.DecodeString(strings.ReplaceAll(h, " ", ""))
			must(t, err)
			frames = append(frames, b)
			_, err = c.Write(append(head, b...))
			must(t, err)
		}
	}
	r.rest(uint64(len(frames)))
	if diff := cmp.Diff(map[string][]string{"tzsp 10.7.0.1": hexes(frames)}, r.frames()); diff != "" {
		t.Errorf("(-sent, +received)\n%.2000s", diff)
	}
	read := decoded(t, r.wire, "udp.port==37008,tzsp", "tzsp.version", "tzsp.encap", "eth.src")
	for _, row := range read {
		if !strings.HasPrefix(row, "1;1;") || !strings.HasSuffix(row, ",02:00:00:00:00:aa") {
			t.Errorf("tshark reads %q", row)
		}
	}
	if len(read) != len(frames) {
		t.Errorf("tshark reads %d frames", len(read))
	}
}
