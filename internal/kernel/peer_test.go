package kernel

import (
	"encoding/hex"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/ovsdb/ovstest"
)

// sample frames of a tapped VM, with and without a tag.
func (l *lab) mixed() (all [][]byte) {
	payload := slices.Concat(unhex(l.t, "45000032 00000000 4011664a 0a090001 0a090002 1b581b58 001e0000"), make([]byte, 22))
	macs := unhex(l.t, "020000000009 0200000000aa")
	for i := range 40 {
		b := slices.Concat(macs, unhex(l.t, "0800"), payload, make([]byte, i))
		if i%4 == 3 {
			b = slices.Concat(macs, unhex(l.t, "8100 a007 0800"), payload, make([]byte, i))
		}
		b[len(b)-1] = byte(i)
		all = append(all, b)
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

// sent sends frames past a mirror and returns when the tool's interface has shown as many.
func (l *lab) sent(o Outer, frames [][]byte, iface string) (got [][]byte) {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "got.pcap")
	stopDump := l.dumpOf(iface, path, "ether src 02:00:00:00:00:aa")
	stop := l.mirror(MirrorConfig{Config: Config{Filter: "ether src 02:00:00:00:00:aa", IngressOnly: true}, Outer: o})
	for part := range slices.Chunk(frames, 8) {
		l.raw(part...)
		time.Sleep(time.Millisecond) // the receivers' queues are short
	}
	stopDump(len(frames))
	if s := stop(); s.Out != uint64(len(frames)) {
		l.t.Errorf("%+v", s)
	}
	return l.read(path)
}

// TestKernelDevice sends copies to a VXLAN device of the kernel, over both families.
func TestKernelDevice(t *testing.T) {
	l := newLab(t)
	for _, v6 := range []bool{false, true} {
		o := l.outer(17, 4790, "08000000 ffffff00", -1, -1, v6)
		l.tool.Sh("ip link add vx0 type vxlan id 16777215 dstport 4790 udp6zerocsumrx local " + o.Tool.String() + " dev eth0; ip link set vx0 addrgenmode none; ip link set vx0 up")
		frames := l.mixed()
		if diff := cmp.Diff(hexes(frames), hexes(l.sent(o, frames, "vx0"))); diff != "" {
			t.Errorf("IPv6 %t: (-sent, +received)\n%.1000s", v6, diff)
		}
		l.tool.Sh("ip link del vx0")
	}
}

// TestOpenVSwitch sends copies to tunnel ports of Open vSwitch, which takes the headers off and passes the frames on to a plain port.
func TestOpenVSwitch(t *testing.T) {
	l := newLab(t)
	l.tool.Sh(`ip addr flush dev eth0; ip link set eth0 up; ip link add out0 type veth peer name seen0
		sysctl -qw net.ipv6.conf.out0.disable_ipv6=1 net.ipv6.conf.seen0.disable_ipv6=1; ip link set out0 mtu 2000 up; ip link set seen0 mtu 2000 up`)
	db := ovstest.New(t, l.tool.Do)
	db.Switch()
	db.Vsctl("add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy eth0 -- add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int out0")
	l.tool.Sh("ip link set br-phy mtu 1600 up; ip addr add 10.7.0.9/24 dev br-phy")
	l.host.Reach("10.7.0.9")
	f := func(name string, o Outer, port string) {
		t.Helper()
		db.Vsctl("add-port br-int tun0 -- set interface tun0 options:remote_ip=10.7.0.1 " + port)
		frames := l.mixed()
		if diff := cmp.Diff(hexes(frames), hexes(l.sent(o, frames, "seen0"))); diff != "" {
			t.Errorf("%s: (-sent, +received)\n%.1000s", name, diff)
		}
		db.Vsctl("del-port br-int tun0")
	}
	f("vxlan", l.vxlan(77), "type=vxlan options:key=77")
	f("geneve", l.outer(17, 6081, "00006558 00004d00", -1, -1, false), "type=geneve options:key=77")
	f("gre", l.outer(47, 0, "20006558 0000004d", -1, -1, false), "type=gre options:key=77")
	f("erspan2", l.outer(47, 0, "100088be 00000000 10000141 00000000", 4, 8, false), "type=erspan options:key=321 options:erspan_ver=1 options:erspan_idx=1")
}
