package filter

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

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

// TestTunnelPorts has tunnels on other ports than the usual ones: the words find them there alone, in the kernel's part, too.
func TestTunnelPorts(t *testing.T) {
	f := func(e string, port uint16, named dissect.Config, want bool) {
		t.Helper()
		b := unhex("0200000000010200000000020800" + "4500006e000000004011" + "00000a0000010a000002" + "c0000000005a0000" + "0800000000138900" +
			"0200000000bb0200000000aa0800" + "4500002800004000400600000202020203030303" + "c0000050" + "0000000000000000" + "5018000000000000")
		binary.BigEndian.PutUint16(b[36:], port)
		flt, err := Compile(e, frame.LinkEthernet, Options{Tunnels: named})
		if err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		prog, residual, err := flt.BPF()
		if err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		vm, _ := bpf.NewVM(prog)
		n, _ := vm.Run(b)
		if got := flt.Match(b, len(b)); got != want || !residual && (n > 0) != want {
			t.Errorf("%q of port %d: matcher %t, BPF %d, want %t", e, port, got, n, want)
		}
	}
	two := dissect.Config{VXLANPorts: []uint16{4788, 4799}}
	for _, e := range []string{"vxlan 5001", "vxlan and tcp port 80", "inner tcp port 80", "outer udp and inner host 2.2.2.2"} {
		f(e, 4789, dissect.Config{}, true)
		f(e, 4788, dissect.Config{}, false)
		f(e, 4788, two, true)
		f(e, 4799, two, true)
		f(e, 4789, two, false)
	}
	f("vxlan", 8472, dissect.Config{}, false) // as libpcap has it
	f("inner tcp", 8472, dissect.Config{}, true)
}

// TestRegexOfBytes asks for bytes, whatever text they would be.
func TestRegexOfBytes(t *testing.T) {
	header := unhex("020000000002020000000001080045000000000000004011000a0a0000010a000002" + "03e8003500000000")
	f := func(expr string, payload string, want bool) {
		t.Helper()
		flt, err := Compile("payload regex "+expr, frame.LinkEthernet, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		b := append(bytes.Clone(header), payload...)
		binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
		binary.BigEndian.PutUint16(b[38:], uint16(len(b)-34))
		if got := flt.Match(b, len(b)); got != want {
			t.Errorf("%s on %q: %t", expr, payload, got)
		}
		if n := testkit.Allocs(100, func() { flt.Match(b, len(b)) }); n != 0 {
			t.Errorf("%s: %v allocations", expr, n)
		}
	}
	f(`/^\xff\xd8\xff/`, "\xff\xd8\xff\xe0", true)
	f(`/^\xff\xd8\xff/`, "\xc3\xbf\xd8\xff", false)
	f(`/^..\x7b/`, "\xc3\xa9\x7b", true)
	f(`/^.\x7b/`, "\xc3\xa9\x7b", false)
	f(`/^.{4}$/`, "\xc3\xa9\xc3\xa9", true)
	f(`/^[\x80-\x8f]+$/`, "\x80\x8f", true)
	f(`/^[\x80-\x8f]+$/`, "\x80\x90", false)
	f(`/^[^\x00]{3}$/`, "\xff\xfe\x01", true)
	f(`/caf\x{e9}/`, "caf\xe9", true)
	f(`/café+!/`, "caf\xc3\xa9\xc3\xa9!", true)
	f(`/^a.*z$/`, "a\xff\n\xc3\xa9z", true)
	f(`/^a[^;]+;$/`, "a\xff\xc3\xa9;", true)
	f(`/(?i)get .+ http/`, "GET /\xc3\xa9 HTTP", true)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// matches checks what a filter says of an Ethernet frame.
func matches(t *testing.T, expr, frameHex string, want bool) {
	t.Helper()
	flt, err := Compile(expr, frame.LinkEthernet, Options{})
	if err != nil {
		t.Error(err)
		return
	}
	b := unhex(strings.ReplaceAll(frameHex, " ", ""))
	if got := flt.Match(b, len(b)); got != want {
		t.Errorf("%s: %t of %s", expr, got, frameHex)
	}
}

// An E-CID has a base, an extension and a group, and an ERSPAN session is behind whatever the flags of GRE announce.
func TestNumbersOfTags(t *testing.T) {
	f := func(expr, frameHex string, want bool) { t.Helper(); matches(t, expr, frameHex, want) }
	const ethernet, ip = "020000000002020000000001", "0800 4500000000000000402f00000a0000010a000002"
	f("etag 5", ethernet+"893f 0001 0005 00 00 0800", true)
	f("etag 5", ethernet+"893f 0001 c005 00 00 0800", true)  // two bits are reserved
	f("etag 5", ethernet+"893f 0001 1005 00 00 0800", false) // a group: several ports
	f("etag 1048581", ethernet+"893f 0001 1005 00 00 0800", true)
	f("etag 5", ethernet+"893f 0001 0005 00 01 0800", false)
	f("etag 4101", ethernet+"893f 0001 0005 ff 01 0800", true)
	for _, gre := range []string{
		"1000 88be 00000001",
		"9000 88be 00000000 00000001",
		"3000 88be 00000007 00000001",
		"b000 88be 00000000 00000007 00000001",
		"1000 22eb 00000001",
		"b000 22eb 00000000 00000007 00000001",
		"0000 22eb",
	} {
		f("erspan 5", ethernet+ip+gre+"1001 f805 00000000 00000000", true)
		f("erspan 6", ethernet+ip+gre+"1001 f805 00000000 00000000", false)
		f("erspan", ethernet+ip+gre+"1001 f805 00000000 00000000", true)
	}
	f("erspan 5", ethernet+ip+"0000 88be 1001 f805 00000000 00000000", false) // type I has no session
	f("gre 7", ethernet+ip+"2000 0800 00000007", true)
	f("gre 7", ethernet+ip+"a000 0800 00000000 00000007", true)
	f("gre 7", ethernet+ip+"6000 0800 00000000 00000007 00000000", true) // with source routes
}

// Found against tcpdump on random expressions: a comparison that is true of every number still needs its bytes, ICMPv6 behind a fragment header is
// elsewhere, and the link-layer header behind pppoes and geneve is the inner one.
func TestAsTcpdump(t *testing.T) {
	f := func(expr, frameHex string, want bool) { t.Helper(); matches(t, expr, frameHex, want) }
	const ethernet, addresses6 = "020000000002020000000001", "fd000000000000000000000000000001 fd000000000000000000000000000002"
	f("pim[8] <= 0xffffffff", ethernet+"0800 4500001c0000000040670000 0a000001 0a000002 2000000000000000", false)
	f("pim[7] <= 0xffffffff", ethernet+"0800 4500001c0000000040670000 0a000001 0a000002 2000000000000000", true)
	f("not pim[8] > 0xffffffff", ethernet+"0800 4500001c0000000040670000 0a000001 0a000002 2000000000000000", false)
	f("icmp6[0] = 128", ethernet+"86dd 6000000000083a40"+addresses6+"8000000000010001", true)
	f("icmp6[0] = 58", ethernet+"86dd 6000000000102c40"+addresses6+"3a00000000000007 8000000000010001", false)
	f("icmp6", ethernet+"86dd 6000000000102c40"+addresses6+"3a00000000000007 8000000000010001", true)
	const pppoe = ethernet + "8864 11000007 0016 0021 4500001400000000403b0000 0a000001 0a000002"
	f("pppoes and ether[1] = 0x21", pppoe, true)
	f("pppoes and byte 1 = 0x21", pppoe, true)
	f("byte 1 = 0x21", pppoe, false)
	f("pppoes 8 or ether[1] = 0x21", pppoe, true)
	const geneve = ethernet + "0800 4500004000000000401100000a0000010a000002 c00017c1 002c0000 0000655800000100 020000000004020000000003 0806 000108000604000102000000"
	f("geneve and byte 5 = 4", geneve, true)
	f("byte 5 = 4", geneve, false)
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
	f("tcp port htps", `filter: column 10: unknown port "htps"; did you mean "https"?`)
	f("port zzzzzz", `filter: column 6: unknown port "zzzzzz"; give its number`)
	f("ip proto tpc", `filter: column 10: unknown protocol number "tpc"; did you mean "tcp"?`)
	f("tcp[tcpflag] != 0", `filter: column 5: "tcpflag" is not expected; did you mean "tcpflags"?`)
	f("host 10.0.0.300", `filter: column 6: invalid IPv4 address "10.0.0.300"`)
	f("ip[0:3] = 1", `filter: column 6: data size must be 1, 2, or 4, not 3`)
	f("vlan 5000", `filter: column 6: VLAN tag 5000 greater than maximum 4095`)
	f("ip and mpls 1048576", `filter: column 13: MPLS label 1048576 greater than maximum 1048575`)
	f("pppoes 65536", `filter: column 8: PPPoE session number 65536 greater than maximum 65535`)
	f("vxlan 16777216", `filter: column 7: VXLAN VNI 16777216 greater than maximum 16777215`)
	f("vntag src 4095 dst 16384", `filter: column 20: VN-Tag destination VIF 16384 greater than maximum 16383`)
	f("vntag src 4096", `filter: column 11: VN-Tag source VIF 4096 greater than maximum 4095`)
	f("etag 4194304", `filter: column 6: E-CID 4194304 greater than maximum 4194303`)
	f("tcp and erspan 1024", `filter: column 16: ERSPAN session 1024 greater than maximum 1023`)
	f("byte 3 = 256", `filter: column 10: byte argument 256 greater than maximum 255`)
	f("net 10.0.0.0/33", `filter: column 14: mask length must be <= 32`)
	f("net fd00::/129", `filter: column 12: mask length must be <= 128`)
	f("net 10.0.0.0 mask 255.0.0.256", `filter: column 19: invalid IPv4 address "255.0.0.256"`)
	f("portrange 5-70000", `filter: column 13: port number 70000 greater than maximum 65535`)
	f("portrange ssh-htps", `filter: column 15: unknown port "htps"; did you mean "https"?`)
	f("portrange 70000-5", `filter: column 11: port number 70000 greater than maximum 65535`)
	f("payload regex /(/", "filter: column 15: the regular expression is not right: missing closing )")
	f("payload regex /a{2000}/", "filter: column 15: the regular expression is not right: invalid repeat count")
}
