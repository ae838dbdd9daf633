package filter

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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

// maker builds random frames that hit the branches of the expressions.
type maker struct{ r *rand.Rand }

func (m maker) pick(b ...string) []byte {
	out, err := hex.DecodeString(b[m.r.IntN(len(b))])
	if err != nil {
		panic(err)
	}
	return out
}

func (m maker) ethernet(deep int) []byte {
	b := append(m.pick("020000000001", "020000000002", "ffffffffffff", "01005e000001"), m.pick("020000000001", "020000000002")...)
	return append(b, m.typed(deep)...)
}

func (m maker) typed(deep int) []byte {
	switch n := m.r.IntN(20); {
	case n < 7:
		return append(m.pick("0800"), m.ipv4(deep)...)
	case n < 11:
		return append(m.pick("86dd"), m.ipv6(deep)...)
	case n < 14 && deep > 0:
		return append(m.pick("8100000a", "88a80014", "91000000", "8100300a"), m.typed(deep-1)...)
	case n < 15: // ARP and RARP, sender 02:…:01
		b := append(m.pick("08060001080006040001020000000001", "80350001080006040002020000000001"), m.addr4()...)
		return append(append(b, make([]byte, 6)...), m.addr4()...)
	case n < 17:
		return append(append(m.pick("8847"), m.pick("00064140", "0006404000065140", "00065140")...), m.anyIP(deep)...)
	case n < 18:
		return append(m.pick("88641100000500400021", "88641100000600400057"), m.anyIP(deep)...)
	case n < 19:
		return append(m.pick("0026424203", "0026fefe03", "0026aaaa030000000800", "88cc0207", "8926400900034500", "893f000000050000"), m.anyIP(deep)...)
	}
	return append(m.pick("8926400900030800", "893f0000000500000800"), m.ipv4(deep)...)
}

func (m maker) anyIP(deep int) []byte {
	if m.r.IntN(2) == 0 {
		return m.ipv4(deep)
	}
	return m.ipv6(deep)
}

func (m maker) addr4() []byte {
	return m.pick("0a000001", "0a000002", "0a010203", "c0a80001", "e0000001")
}
func (m maker) addr6() []byte {
	return m.pick("fd000000000000000000000000000001", "fd000000000000000000000000000002", "ff020000000000000000000000000001", "20010db8000000000000000000000001")
}

func (m maker) ipv4(deep int) []byte {
	p, body := m.transport(deep, false)
	words := 5 + m.r.IntN(2)
	b := make([]byte, 4*words)
	b[0], b[8], b[9] = 0x40|byte(words), byte(m.r.IntN(256)), p
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(body)))
	copy(b[6:], m.pick("0000", "0000", "0000", "4000", "2000", "0010"))
	copy(b[12:], m.addr4())
	copy(b[16:], m.addr4())
	return append(b, body...)
}

func (m maker) ipv6(deep int) []byte {
	p, body := m.transport(deep, true)
	if m.r.IntN(5) == 0 {
		body = append([]byte{p, 0, 0, 0, 0, 0, 0, 1}, body...)
		p = 44
	}
	b := make([]byte, 8, 40)
	b[0], b[6], b[7] = 0x60, p, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	return append(append(append(b, m.addr6()...), m.addr6()...), body...)
}

func (m maker) transport(deep int, v6 bool) (byte, []byte) {
	ports := func(n int) []byte {
		b := make([]byte, n+m.r.IntN(40))
		copy(b, append(m.pick("0050", "01bb", "0035", "05dc", "c000"), m.pick("0050", "01bb", "0035", "12b5", "17c1")...))
		return b
	}
	switch n := m.r.IntN(16); {
	case n < 5:
		b := ports(20)
		b[12], b[13] = 0x50, m.pick("02", "12", "10", "11", "18")[0]
		return 6, b
	case n < 8:
		b := ports(8)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		return 17, b
	case n < 9:
		if v6 {
			return 58, m.pick("8000000000010001", "8700000000000000")
		}
		return 1, m.pick("0800000000010001", "0000000000010001", "0301000000000000")
	case n < 10:
		return m.pick("02", "33", "32", "67", "70", "84")[0], ports(12)
	case n < 11:
		return 47, append(m.pick("00000800", "2000080000000007", "a0000800ffff000000000007", "100088be00000001100a0005", "2000655800000008"), m.anyIP(0)...)
	case deep > 0 && n < 14:
		return 17, append(append(m.pick("c00012b500500000", "c00012b500500000"), m.pick("0800000000138900", "0800000000138a00", "0c00000000138900")...), m.ethernet(deep-1)...)
	case deep > 0:
		return 17, append(append(m.pick("c00017c100500000"), m.pick("0000655800138900", "0100655800138900aabbccdd", "0000655800138a00")...), m.ethernet(deep-1)...)
	}
	return 17, ports(8)
}

func (m maker) frame() []byte {
	b := m.ethernet(2)
	switch m.r.IntN(10) {
	case 0: // cut
		b = b[:max(1, m.r.IntN(len(b)))]
	case 1: // damaged
		b[m.r.IntN(len(b))] ^= byte(1 << m.r.IntN(8))
	}
	return b
}

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

func TestMatchDoesNotAllocate(t *testing.T) {
	b := maker{rand.New(rand.NewPCG(5, 6))}.ethernet(2)
	for _, e := range []string{"vxlan 5001 and tcp port 80 or host 10.0.0.1", "ip[2:2] - ((ip[0]&0xf)<<2) > 40", "vxlan and vxlan and vxlan and tcp", "inbound", "inner tcp"} {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { f.Match(b, len(b)) }); n != 0 {
			t.Errorf("%q: %v allocations", e, n)
		}
	}
}

// One filter serves many goroutines.
func TestMatchConcurrently(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(61, 62))}
	frames := make([][]byte, 200)
	for i := range frames {
		frames[i] = m.ethernet(2)
	}
	for _, e := range []string{"tcp port 80 or vxlan 5001", "inner (tcp or udp) or payload hex 00", "inbound and ip[0] % ip[1] = 1"} {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]bool, len(frames))
		for i, b := range frames {
			want[i] = oracleMatch(f, b, len(b), frame.Unknown)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i, b := range frames {
					if f.Match(b, len(b)) != want[i] {
						t.Errorf("%q: frame %d: not %t", e, i, want[i])
					}
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkMatch(b *testing.B) {
	m := maker{rand.New(rand.NewPCG(7, 8))}
	frames := make([][]byte, 256)
	for i := range frames {
		frames[i] = m.ethernet(2)
	}
	for _, e := range []string{"tcp", "tcp port 80", "host 10.0.0.1", "net 10.0.0.0/8 and not port 22", "ip6 and udp port 53", "tcp[tcpflags] & tcp-syn != 0", "vlan and tcp port 80",
		"vxlan 5001 and tcp port 80", "ip[2:2] - ((ip[0]&0xf)<<2) > 40"} {
		b.Run(strings.ReplaceAll(e, "/", "_"), func(b *testing.B) {
			f, err := Compile(e, frame.LinkEthernet, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f.Match(frames[i&255], len(frames[i&255]))
			}
		})
	}
}

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

// The words that look into the dissected frame, on a VXLAN frame with an HTTP request inside.
func TestDeep(t *testing.T) {
	http := "GET /admin HTTP/1.1"
	tcp := append(append(unhex("c0000050"), make([]byte, 8)...), append(unhex("5018000000000000"), http...)...)
	ip := append(unhex("4500003b000040004006000002020202"+"03030303"), tcp...)
	in := append(unhex("0200000000bb0200000000aa0800"), ip...)
	udp := append(unhex("c00012b5005000000800000000138900"), in...)
	out := append(append(unhex("02000000000102000000000208004500008000000000401100000a0000010a000002"), udp...), nil...)
	f := func(e string, want bool) {
		t.Helper()
		flt, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Errorf("%q: %v", e, err)
			return
		}
		if got := flt.Match(out, len(out)); got != want {
			t.Errorf("%q: got %t", e, got)
		}
		prog, residual, err := flt.BPF()
		if err != nil || !residual {
			t.Errorf("%q: residual %t, %v", e, residual, err)
			return
		}
		vm, _ := bpf.NewVM(prog)
		if n, _ := vm.Run(out); want && n == 0 {
			t.Errorf("%q: the kernel's part drops what matches", e)
		}
	}
	f("inner tcp port 80", true)
	f("inner host 2.2.2.2", true)
	f("inner host 10.0.0.1", false)
	f("outer host 10.0.0.1 and inner dst host 3.3.3.3", true)
	f("vxlan 5001 and inner ether src 02:00:00:00:00:aa and outer udp", true)
	f("not inner tcp", false)
	f("not inner udp", true)
	f("inner inner tcp", false)
	f(`payload "GET "`, true)
	f(`payload "GET " at 0`, true)
	f(`payload "GET " at 1`, false)
	f("payload hex 474554 at 0", true)
	f(`payload regex /^GET .*admin/`, true)
	f(`payload regex /^POST/`, false)
	f(`inner tcp port 80 and payload "admin"`, true)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Mistakes are shown at their column, with what was expected.
func TestErrors(t *testing.T) {
	f := func(e, want string) {
		t.Helper()
		_, err := Compile(e, frame.LinkEthernet, Options{})
		if err == nil || err.Error() != want {
			t.Errorf("%q: got %v", e, err)
		}
	}
	f("tpc port 80", `filter: column 1: "tpc" is not expected; did you mean "tcp"?`)
	f("tcp prot 80", `filter: column 5: "prot" is not expected; did you mean "port"?`)
	f("host web-1", `filter: column 6: unknown host "web-1"; names are not resolved here, give an address`)
	f("tcp port", `filter: column 9: the expression ends too early; expected a port number or a service name`)
	f("(tcp or udp", `filter: column 12: the expression ends too early; expected a closing parenthesis for column 1`)
	f("tcp port 70000", `filter: column 10: port number 70000 greater than maximum 65535`)
	f("host 10.0.0.300", `filter: column 6: invalid IPv4 address "10.0.0.300"`)
	f("ip[0:3] = 1", `filter: column 6: data size must be 1, 2, or 4, not 3`)
	f("vlan 5000", `filter: column 1: VLAN tag 5000 greater than maximum 4095`)
	f("payload regex /(/", "filter: column 1: error parsing regexp: missing closing ): `(?s)(`")
}
