package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
	"crosstap/internal/testns"
)

// superFrame returns a TCP segment of a to b with so many bytes, as a virtual machine gives it to its host: with the header of struct virtio_net_hdr that
// says how it is to be cut, and nothing about the number of pieces.
func superFrame(t *testing.T, payload, size int) []byte {
	t.Helper()
	tcp := unhex(t, "1b58 1b58 00000001 00000001 8010 ffff 0000 0000 0101080a 00000001 00000001") // 12 bytes of options
	ip := unhex(t, "46000000 00004000 4006 0000 0a090001 0a090002 94040000")                      // 4 bytes of options: router alert
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(tcp)+payload))
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	const ethernet, checksumAt = 14, 16
	head := []byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_TCPV4}
	for _, n := range []int{ethernet + len(ip) + len(tcp), size, ethernet + len(ip), checksumAt} {
		head = binary.NativeEndian.AppendUint16(head, uint16(n))
	}
	return slices.Concat(head, unhex(t, "ffffffffffff 0200000000aa 0800"), ip, tcp, make([]byte, payload))
}

// superFrames sends frames with a virtio header from a's interface.
func (l *lab) superFrames(n int, b []byte) {
	l.t.Helper()
	must(l.t, l.a.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for range n {
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Attrs().Index, Halen: 6}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestMirrorLosesSegments has segments of super-frames lost in the device, in all the ways in which that can be: each of their segments is in the books
// once, as what was copied, or what was lost. What the tool was given stands in the counters of the interface that leads there.
func TestMirrorLosesSegments(t *testing.T) {
	l := newLab(t)
	l.arp()
	for _, x := range []*testns.Space{l.a, l.b, l.tool, l.host} { // nobody else sends
		x.Sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	}
	l.host.Sh("ip neigh replace 10.7.0.9 lladdr " + l.mac(l.tool) + " dev up0 nud permanent")
	l.tool.Sh("ip addr flush dev eth0")
	const frames, each = 16, 5
	cut := l.vxlan(78)
	cut.Keep = 100
	numbered := l.outer(47, 0, "100088be 00000000 10000005 00000000", 4, 8, false)
	f := func(name string, o Outer, copies uint64, hinder func(m *Mirror)) {
		t.Helper()
		m, err := NewMirror(MirrorConfig{
			Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path(), Filter: "ether src 02:00:00:00:00:aa", IngressOnly: true}, Outer: o,
		})
		must(t, err)
		must(t, m.Open())
		defer m.Close()
		hinder(m)
		before := l.port(l.host, "up0").TxPackets
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx, nil) }()
		l.superFrames(frames, superFrame(t, 4*1000+1, 1000))
		await(t, name+": all is known while it runs", func() bool {
			s := m.Book().Read()
			return s.In == frames && s.Held == 0 && s.Balance() == nil && s.Out+dropped(s, DropLost) == frames*each
		})
		cancel()
		must(t, <-done)
		s := m.Book().Read()
		if s.Balance() != nil || s.In != frames || s.Made != frames*(each-1) || s.Out != copies || dropped(s, DropLost) != frames*each-copies {
			t.Errorf("%s: %+v", name, s)
		}
		if n := l.port(l.host, "up0").TxPackets - before; n != copies {
			t.Errorf("%s: %d copies left the host, the books have %d", name, n, s.Out)
		}
	}
	never := func(*Mirror) {}
	on := func(index func(d *device) int, do func(x netlink.Link) error) func(m *Mirror) { // something happens to a part of the device
		return func(m *Mirror) {
			must(t, netns.Do(m.cfg.NetNS, func() error {
				x, err := netlink.LinkByIndex(index(m.devices[0]))
				if err != nil {
					return err
				}
				return do(x)
			}))
		}
	}
	upper, lower := func(d *device) int { return d.index }, func(d *device) int { return d.lower }
	second := on(lower, func(x netlink.Link) error { return everySecond(t, x.Attrs().Index) })
	for i, o := range []Outer{cut, numbered} {
		f(fmt.Sprintf("%d: nothing in the way", i), o, frames*each, never)
		f(fmt.Sprintf("%d: every second segment", i), o, frames*each/2, second)
		f(fmt.Sprintf("%d: the upper end is down", i), o, 0, on(upper, netlink.LinkSetDown))
	}
}

// TestMirrorOfVirtualMachines copies what a hypervisor puts into a tap: super-frames of which the kernel does not know of how many segments they are.
func TestMirrorOfVirtualMachines(t *testing.T) {
	l := newLab(t)
	l.host.Sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && ip neigh replace 10.7.0.9 lladdr " + l.mac(l.tool) + " dev up0 nud permanent")
	l.tool.Sh("ip addr flush dev eth0")
	vm, err := openVM(l.host, "vm0")
	if err != nil {
		t.Skip("no tap: ", err)
	}
	defer unix.Close(vm)
	l.host.Sh("ip link set vm0 addrgenmode none; ip link set vm0 up")
	l.host.Up("vm0")
	const frames, each = 16, 5
	cut := l.vxlan(78)
	cut.Keep = 100
	for _, o := range []Outer{cut, l.outer(47, 0, "100088be 00000000 10000005 00000000", 4, 8, false)} {
		before := l.port(l.host, "up0").TxPackets
		stop := l.mirror(MirrorConfig{Config: Config{Interfaces: []string{"vm0"}, Filter: "tcp", IngressOnly: true}, Outer: o})
		for range frames {
			_, err := unix.Write(vm, superFrame(t, 4*1000+1, 1000))
			must(t, err)
		}
		await(t, "all copies have left", func() bool { return l.port(l.host, "up0").TxPackets-before >= frames*each })
		s := stop()
		if s.In != frames || s.Made != frames*(each-1) || s.Out != frames*each {
			t.Errorf("%+v", s)
		}
		if n := l.port(l.host, "up0").TxPackets - before; n != frames*each {
			t.Errorf("%d copies left the host", n)
		}
	}
}

// openVM makes a tap through which frames with a virtio header go, as a hypervisor does.
func openVM(space *testns.Space, name string) (fd int, err error) {
	err = space.Do(func() error {
		if fd, err = unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	})
	return fd, err
}

// everySecond drops every second packet that leaves through an interface, before other programs see it, until the test ends.
func everySecond(t *testing.T, index int) error {
	t.Helper()
	turn, err := newStats()
	if err != nil {
		return err
	}
	c := &code{}
	c.add(
		asm.LoadMapValue(asm.R1, turn.m.FD(), 0), asm.Mov.Imm(asm.R2, 1), fetchAdd(asm.R1, asm.R2), asm.And.Imm(asm.R2, 1), asm.JEq.Imm(asm.R2, 0, "pass"),
	)
	c.result(actShot)
	c.at("pass")
	c.result(actNext)
	p, err := load("every_second", c.ins)
	if err != nil {
		return err
	}
	a, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: ebpf.AttachTCXEgress, Anchor: link.Head()})
	if err != nil {
		return err
	}
	t.Cleanup(func() { a.Close(); p.Close(); turn.close() })
	return nil
}
