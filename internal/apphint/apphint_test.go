package apphint

import (
	"encoding/binary"
	"strings"
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

func u16(n int) string { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }

func u24(n int) string { return "\x00" + u16(n) }

// hello builds a ClientHello with a server name and protocols, and so many bytes of another extension before them.
func hello(name string, before int, protocols ...string) string {
	list := ""
	for _, p := range protocols {
		list += string([]byte{byte(len(p))}) + p
	}
	sni := u16(len(name)+3) + "\x00" + u16(len(name)) + name
	ext := u16(51) + u16(before) + strings.Repeat("k", before)
	ext += u16(0) + u16(len(sni)) + sni
	if list != "" {
		ext += u16(16) + u16(len(list)+2) + u16(len(list)) + list
	}
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x20" + strings.Repeat("s", 32) + u16(4) + "\x13\x01\x13\x02" + "\x01\x00" + u16(len(ext)) + ext
	return "\x01" + u24(len(body)) + body
}

func record(b string) string { return "\x16\x03\x01" + u16(len(b)) + b }

func text(h Hint) string {
	s := h.App.String() + " " + h.How.String() + " " + string(h.Name)
	if h.More {
		s += " more"
	}
	return s
}

func tcpTo(port uint16, b string) *Packet {
	return &Packet{Proto: protoTCP, SrcPort: 40000, DstPort: port, Payload: []byte(b)}
}

func udpTo(port uint16, b string) *Packet {
	return &Packet{Proto: protoUDP, SrcPort: 40000, DstPort: port, Payload: []byte(b)}
}

func TestLook(t *testing.T) {
	f := func(p *Packet, want string) {
		t.Helper()
		if got := text(New().Look(p, nil)); got != want {
			t.Errorf("%q: %s, want %s", p.Payload[:min(len(p.Payload), 60)], got, want)
		}
	}
	nothing := "  "
	whole := hello("WWW.Example.COM.", 5, "h2", "http/1.1")
	f(tcpTo(443, record(whole)), "https tls www.example.com")
	f(tcpTo(9999, record(hello("a.b", 0))), "tls tls a.b")
	f(tcpTo(853, record(hello("dns.example", 0, "unknown", "dot"))), "dns-tls tls dns.example")
	f(tcpTo(443, record(whole)[:60]), "tls tls  more")
	f(tcpTo(443, record(whole[:50])+record(whole[50:])), "https tls www.example.com")
	f(tcpTo(443, record("\x02"+u24(70)+strings.Repeat("x", 70))), "tls tls ")
	f(tcpTo(443, record(hello("evil\n\xff<b>.example", 0))), "tls tls evil??"+"?b?.example")
	f(tcpTo(443, record(hello(strings.Repeat("a", 300), 0))), "tls tls "+strings.Repeat("a", 255))
	f(tcpTo(443, "\x16\x03\x01\x00\x00\x01\x00"), nothing)
	f(tcpTo(443, "\x16\x03\x01\xff\xff\x01\x00"), nothing)
	f(tcpTo(443, "\x17\x03\x03\x00\x10aaaaaaaaaaaaaaaa"), nothing)

	f(tcpTo(22, "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"), "ssh ssh ssh-2.0-openssh_9.2p1")
	f(tcpTo(80, "GET / HTTP/1.1\r\nAccept: */*\r\nhOST:  Shop.Example:8080\r\n\r\n"), "http http shop.example")
	f(tcpTo(80, "GET http://u:p@Proxy.Example:3128/x?y HTTP/1.1\r\nHost: other\r\n\r\n"), "http http proxy.example")
	f(tcpTo(80, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n"), "http http [2001:db8::1]")
	f(tcpTo(80, "GET / HTTP/1.1\r\nHost: 2001:db8::1\r\n\r\n"), "http http 2001:db8::1")
	f(tcpTo(80, "GET / HTTP/1.0\r\n\r\n"), "http http ")
	f(tcpTo(80, "GET / HTTP/1.1\r\nHost: cut.exam"), "http http ")
	f(tcpTo(80, "GET /"+strings.Repeat("a", 1400)), "http http ")
	f(tcpTo(80, "M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n"), "http http a")
	f(tcpTo(80, "HTTP/1.1 200 OK\r\n\r\n"), "http http ")
	f(tcpTo(80, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "http http ")
	f(tcpTo(25, "HELO example.org\r\n"), nothing)
	f(tcpTo(25, "MAIL FROM:<a@b>\r\n"), nothing)
	f(tcpTo(80, strings.Repeat("\x00", 500)), nothing)

	query := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	name := "\x03WWW\x07example\x03com\x00"
	f(udpTo(53, query+name+"\x00\x01\x00\x01"), "dns dns www.example.com")
	f(tcpTo(53, u16(33)+query+name+"\x00\x1c\x00\x01"), "dns dns www.example.com")
	f(udpTo(5353, query+"\x05_http\x04_tcp\x05local\x00\x00\x0c\x80\x01"), "mdns dns _http._tcp.local")
	f(udpTo(5353, "\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00"), "mdns dns ")
	f(udpTo(5355, query+"\x04host\x00\x00\x01\x00\x01"), "llmnr dns host")
	f(udpTo(53, query+"\x00\x00\x02\x00\x01"), "dns dns .")
	f(udpTo(53, query+"\xc0\x0c\x00\x02\x00\x01"), nothing)
	f(udpTo(53, query+"\x3f"+strings.Repeat("a", 63)+"\x3f"+strings.Repeat("b", 20)), "dns dns ")
	f(udpTo(53, query+strings.Repeat("\x3f"+strings.Repeat("a", 63), 5)), nothing)
	f(udpTo(53, strings.Repeat("\x00", 200)), nothing)
	f(udpTo(1000, query+name+"\x00\x01\x00\x01"), "dns dns www.example.com")
	f(udpTo(137, query+name+"\x00\x01\x00\x01"), nothing)
	f(udpTo(1000, strings.Replace(query, "\x01\x00\x00\x01", "\x81\x00\x00\x01", 1)+name+"\x00\x01\x00\x01"), nothing)
	f(udpTo(1000, strings.Repeat("\x00", 200)), nothing)
}

// TestParts gives a ClientHello in pieces, in order and not.
func TestParts(t *testing.T) {
	msg := record(hello("split.example", 1700, "h2"))
	f := func(cuts []int, order []int, want ...string) {
		t.Helper()
		in, part := New(), new(Part)
		for i, n := range order {
			end := len(msg)
			if n+1 < len(cuts) {
				end = cuts[n+1]
			}
			p := tcpTo(443, msg[cuts[n]:end])
			p.Seq = 0xfffffff0 + uint32(cuts[n]) // wraps
			if got := text(in.Look(p, part)); got != want[i] {
				t.Errorf("cuts %v, piece %d: %s, want %s", cuts, n, got, want[i])
			}
		}
	}
	f([]int{0}, []int{0}, "https tls split.example")
	f([]int{0, 1400}, []int{0, 1}, "tls tls  more", "https tls split.example")
	f([]int{0, 700, 1400}, []int{0, 2, 1}, "tls tls  more", "tls tls  more", "https tls split.example")
	f([]int{0, 700, 1400}, []int{0, 0, 1, 2}, "tls tls  more", "tls tls  more", "tls tls  more", "https tls split.example")
}

// TestSpans joins pieces in any order.
func TestSpans(t *testing.T) {
	f := func(want int, pieces ...span) {
		t.Helper()
		var p Part
		for _, s := range pieces {
			p.add(s.from, make([]byte, s.to-s.from))
		}
		if got := len(p.prefix()); got != want {
			t.Errorf("%v: %d bytes, want %d", pieces, got, want)
		}
	}
	f(0)
	f(0, span{5, 9})
	f(9, span{5, 9}, span{0, 5})
	f(20, span{10, 20}, span{0, 3}, span{2, 12})
	f(30, span{20, 30}, span{10, 15}, span{0, 5}, span{4, 21})
	f(5, span{20, 30}, span{10, 15}, span{0, 5})
	f(partBytes, span{0, partBytes + 100})
	f(3, span{0, 3}, span{partBytes, partBytes + 1}, span{-1, 5})
	many := []span{}
	for i := range 40 {
		many = append(many, span{2*i + 1, 2*i + 2})
	}
	f(2, append(many, span{0, 1})...)
}

func TestByPort(t *testing.T) {
	f := func(proto uint8, src, dst uint16, client flow.Client, want string, how flow.AppHow) {
		t.Helper()
		if got, by := ByPort(proto, src, dst, client); got != want || by != how {
			t.Errorf("%d %d>%d: %s %s, want %s %s", proto, src, dst, got, by, want, how)
		}
	}
	f(6, 40000, 443, 0, "https", flow.AppPort)
	f(6, 443, 40000, 0, "https", flow.AppPort)
	f(6, 443, 40000, flow.ClientSrc, "", flow.AppUnknown)
	f(6, 443, 22, flow.ClientDst, "https", flow.AppPort)
	f(17, 1, 2, 0, "", flow.AppUnknown)
	f(1, 0, 0, 0, "icmp", flow.AppProto)
	f(255, 0, 0, 0, "", flow.AppUnknown)
	if got := TLS.Service(6, 40000, 636); got != "ldaps" {
		t.Error(got)
	}
	if got := TLS.Service(6, 40000, 80); got != "tls" {
		t.Error(got)
	}
	if len(services) >= 256 || len(byPort().services) != len(services)+1 {
		t.Errorf("%d services do not fit an index of 8 bits", len(services))
	}
}

func TestAllocations(t *testing.T) {
	in := New()
	part := new(Part)
	for _, p := range []*Packet{
		tcpTo(443, record(hello("a.example", 0, "h2"))), tcpTo(80, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), tcpTo(22, "SSH-2.0-x\r\n"),
		udpTo(53, "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"), tcpTo(1, "nothing at all"),
	} {
		if n := testkit.Allocs(100, func() {
			part.Reset()
			in.Look(p, nil)
			in.Look(p, part)
		}); n != 0 {
			t.Errorf("%q: %v allocations", p.Payload[:10], n)
		}
	}
}
