//go:build linux

package filter

import (
	"errors"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/testns"
)

// Frames sent over a veth pair arrive with their outermost VLAN tag beside them. The programs on packet sockets must
// choose what the matcher chooses of the frames as sent.
func TestKernelVLAN(t *testing.T) {
	ns := testns.New(t)
	ns.Sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip link add va type veth peer name vb; ip link set va up; ip link set vb up")
	ns.Up("va", "vb")
	m := maker{rand.New(rand.NewPCG(21, 22))}
	var frames [][]byte
	for tagged := 0; len(frames) < 160; {
		b := m.frame()
		if isTagged := len(b) > 13 && (b[12] == 0x81 || b[12] == 0x88 && b[13] == 0xa8); len(b) >= 60 && (isTagged || tagged > len(frames)/2) {
			frames = append(frames, b)
			if isTagged {
				tagged++
			}
		}
	}
	exprs := append(append([]string{"ether[12:4] = 0x8100000a", "ether[14:2] = 10", "ether[10:4] & 0xffff = 0x88a8", "ether[13:2] > 5", "ether[15:2] & 0xff = 8", "len = 64",
		"ether[12:2] > 0x8100", "vlan and ip[ip[0] & 0xf:2] > 3", "ether[ether[12] & 0xf] = 0"}, agreed...), own...)
	hits := 0
	err := ns.Do(func() error {
		v := newVeth(t)
		defer v.close()
		for _, e := range exprs {
			f, err := Compile(e, frame.LinkEthernet, Options{KernelVLAN: true})
			if err != nil {
				t.Errorf("%q: %v", e, err)
				continue
			}
			residual := v.attach(t, f)
			if x, err := f.Explain(); err != nil || residual != (x.Deep != "") {
				t.Errorf("%q: residual %t, named %q, %v", e, residual, x.Deep, err)
			}
			for i, b := range frames {
				want := f.Match(b, len(b))
				classic, extended := v.pass(t, b)
				if residual {
					if want && (!classic || !extended) {
						t.Errorf("%q: frame %d %x: the kernel drops what matches", e, i, b)
					}
					continue
				}
				if classic != want || extended != want {
					t.Errorf("%q: frame %d %x: matcher %t, BPF %t, eBPF %t", e, i, b, want, classic, extended)
					break
				}
				if want {
					hits++
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if hits < 1000 {
		t.Errorf("only %d matches", hits)
	}
}

// veth sends on one end of the pair and receives on the other: without a filter, with a classic one and with eBPF.
type veth struct{ out, all, classic, extended int }

func newVeth(t *testing.T) *veth {
	t.Helper()
	return &veth{packetSocket(t, "va"), packetSocket(t, "vb"), packetSocket(t, "vb"), packetSocket(t, "vb")}
}

func packetSocket(t *testing.T, name string) int {
	t.Helper()
	dev, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, all)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func (v *veth) close() {
	for _, fd := range []int{v.out, v.all, v.classic, v.extended} {
		unix.Close(fd)
	}
}

func (v *veth) attach(t *testing.T, f *Filter) (residual bool) {
	t.Helper()
	prog, residual, err := f.BPF()
	if err != nil {
		t.Fatalf("%q: %v", f.Expr, err)
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		t.Fatal(err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(v.classic, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}); err != nil {
		t.Fatalf("%q: attach: %v", f.Expr, err)
	}
	ins, _, err := f.EBPF()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: ins, License: "Apache-2.0"})
	if err != nil {
		t.Fatalf("%q: %v", f.Expr, err)
	}
	defer loaded.Close()
	if err := unix.SetsockoptInt(v.extended, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, loaded.FD()); err != nil {
		t.Fatal(err)
	}
	return residual
}

// pass sends a frame. The socket without a filter was bound first, so it is served last.
func (v *veth) pass(t *testing.T, b []byte) (classic, extended bool) {
	t.Helper()
	if _, err := unix.Write(v.out, b); err != nil {
		t.Fatal(err)
	}
	wait := []unix.PollFd{{Fd: int32(v.all), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(wait, 5000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("frame %x never arrived: %v", b, err)
		}
		break
	}
	arrived := func(fd int) bool {
		var buf [2048]byte
		_, _, err := unix.Recvfrom(fd, buf[:], 0)
		return err == nil
	}
	arrived(v.all)
	return arrived(v.classic), arrived(v.extended)
}
