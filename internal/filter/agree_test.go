package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// expressions that Debian's tcpdump knows too.
var agreed = []string{
	"", "ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "ah", "esp", "pim", "vrrp", "not ip", "host 10.0.0.1", "src host 10.0.0.1",
	"dst net 10.0.0.0/24", "net 10", "host fd00::1", "src net fd00::/16", "ip6 dst host fd00::2", "tcp port 80", "port 53", "udp dst port 4789", "not tcp port 80",
	"tcp src portrange 1000-2000", "port 80 or 443", "tcp dst port 80 or 443 and host 10.0.0.1", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[13] = 2",
	"icmp[icmptype] = icmp-echo", "ip[8] < 64", "ip[2:2] > 100 and ip[2:2] <= 1000", "tcp[12] & 0xf0 != 0x50", "ip[2:2] - ((ip[0]&0xf)<<2) > 40",
	"ether host 02:00:00:00:00:01", "ether dst 02:00:00:00:00:02", "ether broadcast", "multicast", "ip multicast", "ip6 multicast", "less 100", "greater 200", "len % 2 = 1",
	"vlan", "vlan 10", "vlan and ip", "vlan 10 and tcp port 80", "vlan and vlan 20 and udp", "vlan or ip", "mpls", "mpls 100", "mpls and ip", "mpls and mpls and ip6", "pppoes", "pppoes 5 and ip",
	"pppoes and tcp port 80", "geneve", "geneve 5001", "geneve and ip", "geneve and tcp port 80", "geneve 5001 and host 10.0.0.1", "ip proto 47", "proto \\udp", "ip6 proto 58",
	"ether proto 0x88cc", "ether proto \\arp", "llc", "stp", "iso", "link[0] & 1 = 0", "ether[6:4] = 0x02000000", "udp[4:2] > 20", "byte 14 > 64", "arp[6:2] = 1",
	"ip[6:2] & 0x1fff != 0", "icmp6[0] = 128", "not (tcp or udp) and ip", "ip and not net 10.0.0.0/8 or ip6", "src and dst net 10.0.0.0/8", "ip src or dst 10.0.0.2",
}

// own are the words that only we have, with frames that they must tell apart.
var own = []string{"vxlan", "vxlan 5001", "vxlan and ip", "vxlan 5001 and tcp port 80", "vxlan and vxlan", "gre", "gre 7", "erspan", "erspan 5", "nsh", "vntag", "vntag src 3", "vntag dst 9 and ip",
	"etag", "etag 5 and tcp", "vxlan or geneve", "vlan and vxlan 5001 and host 10.0.0.1", "(vxlan or geneve) and port 80"}

// The matcher, the BPF machine of x/net and the kernel's must say the same of every frame, also of cut and damaged ones.
func TestEnginesAgree(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(1, 2))}
	frames := make([][]byte, 3000)
	for i := range frames {
		frames[i] = m.frame()
	}
	hits := 0
	for _, e := range append(append([]string{}, agreed...), own...) {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		prog, residual, err := f.BPF()
		if err != nil || residual {
			t.Errorf("%q: residual %t, %v", e, residual, err)
			continue
		}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		sock := newKernelFilter(t, prog)
		for i, b := range frames {
			want := f.Match(b, len(b))
			if oracle := oracleMatch(f, b, len(b), frame.Unknown); oracle != want {
				t.Fatalf("%q: frame %d %x: matcher %t, its tests one by one %t", e, i, b, want, oracle)
			}
			n, err := vm.Run(b)
			if err != nil || n > 0 != want {
				t.Fatalf("%q: frame %d %x: matcher %t, BPF %d, %v", e, i, b, want, n, err)
			}
			if got := sock.match(t, b); got != want {
				t.Fatalf("%q: frame %d %x: matcher %t, kernel %t", e, i, b, want, got)
			}
			if want {
				hits++
			}
		}
		sock.close()
	}
	if hits < 10000 {
		t.Errorf("only %d matches: the frames miss what the expressions look for", hits)
	}
}

// Jumps farther than a conditional one reaches go over others.
func TestLongProgramsAgree(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(51, 52))}
	ports := []string{"80"}
	for p := range 250 {
		ports = append(ports, strconv.Itoa(2000+2*p))
	}
	list := strings.Join(ports, " or ")
	for _, e := range []string{"tcp port " + list, "not udp port " + list, "vlan and (tcp or not dst port " + list + ")"} {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Fatal(err)
		}
		prog, _, err := f.BPF()
		if err != nil {
			t.Fatal(err)
		}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		sock := newKernelFilter(t, prog)
		for range 300 {
			b := m.frame()
			want := f.Match(b, len(b))
			n, err := vm.Run(b)
			if got := sock.match(t, b); err != nil || n > 0 != want || got != want {
				t.Fatalf("%.20q, %d instructions: %x: matcher %t, BPF %d, kernel %t, %v", e, len(prog), b, want, n, got, err)
			}
		}
		sock.close()
	}
}

// tcpdump must choose the same frames.
func TestTcpdumpAgrees(t *testing.T) {
	tcpdump := testkit.Tool(t, "tcpdump")
	m := maker{rand.New(rand.NewPCG(3, 4))}
	frames := make([][]byte, 4000)
	for i := range frames {
		frames[i] = m.ethernet(2) // whole: of cut ones libpcap's optimizer may skip a read that ends ours
	}
	path := filepath.Join(t.TempDir(), "in.pcap")
	if err := os.WriteFile(path, pcapFile(frames), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range agreed {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		cmd := exec.Command(tcpdump, "-n", "-r", path, "-w", "-", e)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("tcpdump %q: %v: %s", e, err, stderr.Bytes())
			continue
		}
		chosen := chosenFrames(out)
		for i, b := range frames {
			if got := f.Match(b, len(b)); got != chosen[i] {
				t.Errorf("%q: frame %d %x: got %t, tcpdump %t", e, i, b, got, chosen[i])
				break
			}
		}
	}
}

// pcapFile writes frames whose times number them.
func pcapFile(frames [][]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, 262144)
	b = binary.LittleEndian.AppendUint32(b, 1)
	for i, f := range frames {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

func chosenFrames(b []byte) map[int]bool {
	out := map[int]bool{}
	for off := 24; off+16 <= len(b); {
		out[int(binary.LittleEndian.Uint32(b[off:]))] = true
		off += 16 + int(binary.LittleEndian.Uint32(b[off+8:]))
	}
	return out
}

// kernelFilter is a socket pair with a program attached: what it drops did not match.
type kernelFilter struct{ in, out int }

func newKernelFilter(t *testing.T, prog []bpf.Instruction) kernelFilter {
	t.Helper()
	raw, err := bpf.Assemble(prog)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(fds[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}); err != nil {
		t.Fatalf("attach: %v", err)
	}
	return kernelFilter{fds[0], fds[1]}
}

func (k kernelFilter) match(t *testing.T, b []byte) bool {
	t.Helper()
	if err := unix.Send(k.in, b, 0); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatalf("send: %v", err)
	}
	var buf [65536]byte
	_, _, err := unix.Recvfrom(k.out, buf[:], unix.MSG_DONTWAIT)
	return err == nil
}

func (k kernelFilter) close() { unix.Close(k.in); unix.Close(k.out) }

// Any text is a filter or an error, in bounded time.
func FuzzCompile(f *testing.F) {
	for _, e := range append(append([]string{`payload regex /GET .*/`, `inner tcp port 80 and outer host 1.2.3.4`, `payload hex 474554 at 0`}, agreed...), own...) {
		f.Add(e)
	}
	frames := maker{rand.New(rand.NewPCG(9, 9))}
	data := frames.ethernet(2)
	f.Fuzz(func(t *testing.T, e string) {
		if len(e) > 2000 {
			return
		}
		flt, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			var fe *Error
			if !errors.As(err, &fe) {
				t.Fatalf("%q: %v is no *Error", e, err)
			}
			return
		}
		want := flt.Match(data, len(data))
		if oracle := oracleMatch(flt, data, len(data), frame.Unknown); oracle != want {
			t.Fatalf("%q: matcher %t, its tests one by one %t", e, want, oracle)
		}
		prog, residual, err := flt.BPF()
		if err != nil {
			return
		}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		n, err := vm.Run(data)
		if err != nil || want && n == 0 && flt.opt.SnapLen > 0 || !residual && n > 0 != want {
			t.Fatalf("%q: matcher %t, BPF %d, residual %t, %v", e, want, n, residual, err)
		}
	})
}
