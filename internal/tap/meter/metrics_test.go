package meter

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// segment is a TCP segment of one direction of a conversation.
type segment struct {
	back    bool // from the server
	at      float64
	flags   uint8
	seq     uint32
	size    int
	window  uint16
	payload string
}

func (s segment) frame() frame.Frame {
	p := packet{srcMAC: 1, dstMAC: 2, src: "10.0.0.1", dst: "10.0.0.2", proto: 6, srcPort: 40000, dstPort: 443, flags: s.flags, payload: s.size}
	if s.back {
		p.srcMAC, p.dstMAC, p.src, p.dst, p.srcPort, p.dstPort = 2, 1, p.dst, p.src, 443, 40000
	}
	if s.payload != "" {
		p.payload = len(s.payload)
	}
	f := p.at(s.at)
	const tcp = 14 + 20
	binary.BigEndian.PutUint32(f.Data[tcp+4:], s.seq)
	binary.BigEndian.PutUint16(f.Data[tcp+14:], s.window)
	copy(f.Data[len(f.Data)-len(s.payload):], s.payload)
	return f
}

func framesOf(segments []segment) (frames []frame.Frame) {
	for _, s := range segments {
		if s.window == 0 && s.flags&tcpSYN != 0 {
			s.window = 1000
		}
		frames = append(frames, s.frame())
	}
	return frames
}

const (
	syn, ack, fin, rst = tcpSYN, tcpACK, tcpFIN, tcpRST
	win                = 500
)

func TestTCPMetrics(t *testing.T) {
	f := func(name string, want string, segments ...segment) {
		t.Helper()
		got, _ := run(t, DefaultConfig(), framesOf(segments))
		r := got[0]
		text := fmt.Sprintf("rtt %d retransmits %d zero %d client %d", r.RTTUS, r.Retransmits, r.ZeroWindows, r.Client)
		if text != want {
			t.Errorf("%s: %s, want %s", name, text, want)
		}
	}
	data := func(at float64, seq uint32, size int) segment {
		return segment{at: at, flags: ack, seq: seq, size: size, window: win}
	}
	open := func(more ...segment) []segment {
		return append([]segment{{at: 1, flags: syn, seq: 100}, {at: 1.01, flags: ack, seq: 101, window: win}}, more...)
	}
	f("handshake", "rtt 10000 retransmits 0 zero 0 client 1", open()...)
	f("SYN sent again: no time", "rtt 0 retransmits 1 zero 0 client 1",
		segment{at: 1, flags: syn, seq: 100}, segment{at: 2, flags: syn, seq: 100}, data(2.01, 101, 0))
	f("a reset is no acknowledgement", "rtt 0 retransmits 0 zero 0 client 1", segment{at: 1, flags: syn, seq: 100}, segment{at: 1.1, flags: rst | ack, seq: 101})
	f("answer", "rtt 0 retransmits 0 zero 0 client 2", segment{at: 1, flags: syn | ack, seq: 100}, data(1.1, 101, 50))
	f("in the middle", "rtt 0 retransmits 0 zero 0 client 0", data(1, 5, 100), data(1.1, 105, 100))
	f("sent again", "rtt 10000 retransmits 1 zero 0 client 1", open(data(2, 101, 100), data(2.1, 201, 100), data(2.2, 101, 100))...)
	f("sent again over the wrap", "rtt 0 retransmits 1 zero 0 client 0", data(1, 0xffffffc0, 100), data(1.1, 36, 10), data(1.2, 0xffffffc0, 100))
	f("overtaken: within half the handshake", "rtt 10000 retransmits 0 zero 0 client 1", open(data(2, 201, 100), data(2.004, 101, 100))...)
	f("lost before the point: later than that", "rtt 10000 retransmits 1 zero 0 client 1", open(data(2, 201, 100), data(2.011, 101, 100))...)
	f("overtaken, no handshake seen: 3 ms", "rtt 0 retransmits 1 zero 0 client 0",
		data(1, 1, 100), data(1.1, 201, 100), data(1.102, 101, 100), data(1.2, 401, 100), data(1.21, 301, 100))
	f("keep-alive", "rtt 10000 retransmits 0 zero 0 client 1", open(data(2, 101, 100), data(20, 200, 1), data(30, 200, 0))...)
	f("FIN sent again", "rtt 10000 retransmits 1 zero 0 client 1",
		open(segment{at: 2, flags: fin | ack, seq: 101, window: win}, segment{at: 2.5, flags: fin | ack, seq: 101, window: win})...)
	f("closed window", "rtt 10000 retransmits 0 zero 2 client 1",
		open(segment{at: 2, flags: ack, seq: 101}, segment{at: 2.1, flags: ack, seq: 101}, segment{at: 2.2, flags: rst, seq: 101})...)
	f("new connection on the same ports", "rtt 10000 retransmits 0 zero 0 client 1",
		open(data(2, 101, 100), segment{at: 3, flags: syn, seq: 7}, data(3.1, 8, 10))...)
}

// TestMetrics looks at what single packets tell: lengths, tags, label, fragments.
func TestMetrics(t *testing.T) {
	base := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 4000, dstPort: 5000, payload: 72}
	long := base
	long.payload = 500
	f := func(name string, frames []frame.Frame, want string) {
		t.Helper()
		got, _ := run(t, DefaultConfig(), frames)
		var b strings.Builder
		for _, r := range got {
			fmt.Fprintf(&b, "p %d len %d-%d vlan %d.%d vif %d>%d mpls %d frag %d l2 %d\n",
				r.Packets, r.MinLen, r.MaxLen, r.VLAN, r.InnerVLAN, r.SrcVIF, r.DstVIF, r.MPLS, r.Fragments, r.L2Octets)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	insert := func(p packet, header string) frame.Frame {
		f := p.at(1)
		f.Data = append(append(append([]byte(nil), f.Data[:12]...), header...), f.Data[12:]...)
		f.OrigLen = len(f.Data)
		return f
	}
	mpls := func(label string) frame.Frame {
		f := base.at(1)
		f.Data = append(append(append([]byte(nil), f.Data[:12]...), label...), f.Data[14:]...)
		f.OrigLen = len(f.Data)
		return f
	}
	f("lengths", []frame.Frame{base.at(1), long.at(2), base.at(3)}, "p 3 len 100-528 vlan 0.0 vif 0>0 mpls 0 frag 0 l2 770\n")
	f("two tags", []frame.Frame{insert(base, "\x88\xa8\x00\x0a\x81\x00\x00\x14")}, "p 1 len 100-100 vlan 10.20 vif 0>0 mpls 0 frag 0 l2 122\n")
	f("VN-Tag", []frame.Frame{insert(base, "\x89\x26\x80\x05\x00\x03")}, "p 1 len 100-100 vlan 0.0 vif 3>5 mpls 0 frag 0 l2 120\n")
	f("labels: the top one; another is another flow", []frame.Frame{
		mpls("\x88\x47\x00\x01\x00\x40\x00\x01\x11\x40"), mpls("\x88\x47\x00\x01\x00\x40\x00\x01\x11\x40"), mpls("\x88\x47\x00\x02\x01\x40"),
	}, "p 2 len 100-100 vlan 0.0 vif 0>0 mpls 16 frag 0 l2 244\np 1 len 100-100 vlan 0.0 vif 0>0 mpls 32 frag 0 l2 118\n")
	super := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 6, flags: 24, payload: 10000}.at(1)
	super.VNet = frame.VNet{Type: frame.GSOTCPv4, Segment: 1448}
	f("super-frame", []frame.Frame{super}, "p 7 len 1364-1500 vlan 0.0 vif 0>0 mpls 0 frag 0 l2 10462\n")
	first, last := base, base
	first.more, last.fragOff, last.payload = true, 80, 20
	f("fragments", []frame.Frame{first.at(1), last.at(1.1), base.at(1.2)}, "p 3 len 40-100 vlan 0.0 vif 0>0 mpls 0 frag 2 l2 282\n")
}

// TestKeys meters the same packets under each key: two flows of a tenant in one tunnel, and one packet outside.
func TestKeys(t *testing.T) {
	a := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, srcPort: 4000, dstPort: 5000, payload: 72, vni: 7, vtepSrc: "192.0.2.1", vtepDst: "192.0.2.2"}
	b := a
	b.dst = "10.0.0.3"
	plain := a
	plain.vni = 0
	moved := a.at(4)
	binary.BigEndian.PutUint16(moved.Data[34:], 61000) // another source port of the tunnel
	frames := []frame.Frame{a.at(1), b.at(2), a.at(3), moved, plain.at(5)}
	f := func(k Key, want ...string) {
		t.Helper()
		c := DefaultConfig()
		c.Key = k
		got, _ := run(t, c, frames)
		if diff := cmp.Diff(strings.Join(want, "\n")+"\n", text(got)); diff != "" {
			t.Errorf("%s:\n%s", k, diff)
		}
	}
	const inner = "10.0.0.1:4000>10.0.0.2:5000/17 %d p %d o %d l2 flags 0 ttl 64-64 end 4"
	f(KeyInner,
		"1-4 "+fmt.Sprintf(inner, 3, 300, 342)+" vxlan 7 192.0.2.1>192.0.2.2:4789/17",
		"2-2 10.0.0.1:4000>10.0.0.3:5000/17 1 p 100 o 114 l2 flags 0 ttl 64-64 end 4 vxlan 7 192.0.2.1>192.0.2.2:4789/17",
		"5-5 "+fmt.Sprintf(inner, 1, 100, 114))
	f(KeyBoth,
		"1-3 "+fmt.Sprintf(inner, 2, 200, 228)+" vxlan 7 192.0.2.1>192.0.2.2:4789/17",
		"2-2 10.0.0.1:4000>10.0.0.3:5000/17 1 p 100 o 114 l2 flags 0 ttl 64-64 end 4 vxlan 7 192.0.2.1>192.0.2.2:4789/17",
		"4-4 "+fmt.Sprintf(inner, 1, 100, 114)+" vxlan 7 192.0.2.1>192.0.2.2:4789/17",
		"5-5 "+fmt.Sprintf(inner, 1, 100, 114))
	f(KeyOuter,
		"1-3 192.0.2.1:50000>192.0.2.2:4789/17 3 p 450 o 492 l2 flags 0 ttl 64-64 end 4",
		"4-4 192.0.2.1:61000>192.0.2.2:4789/17 1 p 150 o 164 l2 flags 0 ttl 64-64 end 4",
		"5-5 "+fmt.Sprintf(inner, 1, 100, 114))
}

// TestOuterFragments counts every fragment of a tunnel when the tunnel is what is metered.
func TestOuterFragments(t *testing.T) {
	c := DefaultConfig()
	c.Key = KeyOuter
	p := packet{src: "10.0.0.1", dst: "10.0.0.2", proto: 17, payload: 1400, vni: 5001, vtepSrc: "192.0.2.1", vtepDst: "192.0.2.2"}
	got, _ := run(t, c, tunnelFragments(p))
	want := "1-1 192.0.2.1:50000>192.0.2.2:4789/17 2 p 1498 o 1526 l2 flags 0 ttl 64-64 end 4 marks 20\n"
	if diff := cmp.Diff(want, text(got)); diff != "" {
		t.Error(diff)
	}
}

// tunnelFragments returns the frame of p with the tunnel's packet in two fragments.
func tunnelFragments(p packet) []frame.Frame {
	udp := p.at(1).Data[34:]
	piece := func(off, n int, more bool) frame.Frame {
		b := appendIP([]byte{2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1}, p.vtepSrc, p.vtepDst, 17, 64, 0, 77, off, more, udp[off:off+n])
		return frame.Frame{Data: b, OrigLen: len(b), TimeNS: second, Link: frame.LinkEthernet, Dir: frame.Unknown}
	}
	return []frame.Frame{piece(0, 1000, true), piece(1000, len(udp)-1000, false)}
}

func TestBiflow(t *testing.T) {
	c := DefaultConfig()
	c.Biflow = true
	f := func(name string, frames []frame.Frame, want string) {
		t.Helper()
		got, _ := run(t, c, frames)
		var b strings.Builder
		for _, r := range got {
			dir := ">"
			if r.Is(flow.MarkReverse) {
				dir = "reverse of it:"
			}
			fmt.Fprintf(&b, "%s %s:%d-%d p %d end %d client %d app %s/%s/%s\n", dir, r.Src, r.SrcPort, r.DstPort, r.Packets, r.EndReason, r.Client, r.App, r.AppHow, r.AppName)
		}
		if diff := cmp.Diff(strings.TrimLeft(want, "\n"), b.String()); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	conversation := []segment{
		{at: 1, flags: syn, seq: 100}, {at: 1.01, flags: syn | ack, seq: 500, back: true}, {at: 1.02, flags: ack, seq: 101, window: win},
		{at: 1.03, flags: ack, seq: 101, window: win, payload: "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"}, {at: 1.05, flags: ack, seq: 501, back: true, size: 1000, window: win},
	}
	f("both directions", framesOf(conversation), `
> 10.0.0.1:40000-443 p 3 end 4 client 1 app http/http/a.example
reverse of it: 10.0.0.2:443-40000 p 2 end 4 client 2 app http/http/a.example
`)
	f("the answer is seen first", framesOf([]segment{conversation[1], conversation[0], conversation[2]}), `
> 10.0.0.1:40000-443 p 2 end 4 client 1 app https/port/
reverse of it: 10.0.0.2:443-40000 p 1 end 4 client 2 app https/port/
`)
	f("one direction alone", framesOf(conversation[3:4]), "> 10.0.0.1:40000-443 p 1 end 4 client 0 app http/http/a.example\n")
	fins := append(conversation[:5:5], segment{at: 2, flags: fin | ack, seq: 135, window: win}, segment{at: 9, flags: ack, seq: 1501, back: true, window: win, size: 10},
		segment{at: 10, flags: fin | ack, seq: 1511, back: true, window: win}, segment{at: 10.1, flags: ack, seq: 136, window: win}, segment{at: 30, flags: ack, seq: 136, window: win})
	f("ends after both FINs", framesOf(fins), `
> 10.0.0.1:40000-443 p 5 end 3 client 1 app http/http/a.example
reverse of it: 10.0.0.2:443-40000 p 4 end 3 client 2 app http/http/a.example
> 10.0.0.1:40000-443 p 1 end 4 client 0 app https/port/
`)
	lasting := conversation[:5:5]
	for at := 10.0; at < 100; at += 10 {
		lasting = append(lasting, segment{at: at, flags: ack, seq: 1501, back: true, window: win})
	}
	f("the active timeout ends both; what is known stays", framesOf(append(lasting, segment{at: 101, flags: ack, seq: 135, window: win})), `
> 10.0.0.1:40000-443 p 3 end 2 client 1 app http/http/a.example
reverse of it: 10.0.0.2:443-40000 p 8 end 2 client 2 app http/http/a.example
> 10.0.0.1:40000-443 p 1 end 4 client 1 app http/http/a.example
reverse of it: 10.0.0.2:443-40000 p 3 end 4 client 2 app http/http/a.example
`)
	ping := packet{srcMAC: 1, dstMAC: 2, src: "10.0.0.1", dst: "10.0.0.2", proto: 1, srcPort: 8}
	pong := packet{srcMAC: 2, dstMAC: 1, src: "10.0.0.2", dst: "10.0.0.1", proto: 1, vni: 0}
	f("echo", []frame.Frame{ping.at(1), pong.at(2)}, `
> 10.0.0.1:0-0 p 1 end 4 client 0 app icmp/protocol/
reverse of it: 10.0.0.2:0-0 p 1 end 4 client 0 app icmp/protocol/
`)
	in, out := ping.at(1), pong.at(2)
	in.Dir, out.Dir, in.Point, out.Point = frame.Ingress, frame.Egress, 3, 3
	f("at a port, in and out", []frame.Frame{in, out}, `
> 10.0.0.1:0-0 p 1 end 4 client 0 app icmp/protocol/
reverse of it: 10.0.0.2:0-0 p 1 end 4 client 0 app icmp/protocol/
`)
	out.Dir = frame.Ingress
	f("both ingress is not one place", []frame.Frame{in, out}, `
> 10.0.0.1:0-0 p 1 end 4 client 0 app icmp/protocol/
> 10.0.0.2:0-0 p 1 end 4 client 0 app icmp/protocol/
`)
}

// TestHints follows what payload tells from packet to record, and over the active timeout.
func TestHints(t *testing.T) {
	f := func(name, want string, segments ...segment) {
		t.Helper()
		got, _ := run(t, DefaultConfig(), framesOf(segments))
		var b strings.Builder
		for _, r := range got {
			fmt.Fprintf(&b, "%s/%s/%s ", r.App, r.AppHow, r.AppName)
		}
		if b.String() != want {
			t.Errorf("%s: %s, want %s", name, b.String(), want)
		}
	}
	at := func(at float64, seq uint32, payload string) segment {
		return segment{at: at, flags: ack, seq: seq, window: win, payload: payload}
	}
	const get = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
	f("by port", "https/port/ ", at(1, 1, "????"))
	f("by payload", "http/http/a.example ", at(1, 1, get), at(2, 36, "SSH-2.0-x\r\n"))
	f("the fifth packet is not looked at", "https/port/ ", at(1, 1, "????"), at(1, 5, "????"), at(1, 9, "????"), at(1, 13, "????"), at(2, 17, get))
	f("a later record of the flow", "http/http/a.example http/http/a.example ", at(1, 1, get), at(15, 36, ""), at(29, 36, ""), at(43, 36, ""), at(57, 36, ""), at(71, 36, ""))
	f("not after an idle time", "http/http/a.example https/port/ ", at(1, 1, get), at(17, 36, ""))
	hello := clientHello("split.example", 3000)
	f("a ClientHello in pieces", "https/tls/split.example ", at(1, 1, hello[:1400]), at(1.1, 2801, hello[2800:]), at(1.2, 1401, hello[1400:2800]))
	f("the last piece is missing", "https/tls/ ", at(1, 1, hello[:1400]), at(1.1, 1401, hello[1400:2800]))
}

// clientHello is a TLS record with a server name behind so many bytes of another extension.
func clientHello(name string, before int) string {
	u16 := func(n int) string { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }
	ext := u16(51) + u16(before) + strings.Repeat("k", before)
	ext += u16(0) + u16(len(name)+5) + u16(len(name)+3) + "\x00" + u16(len(name)) + name
	ext += u16(16) + u16(5) + u16(3) + "\x02h2"
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + u16(2) + "\x13\x01" + "\x01\x00" + u16(len(ext)) + ext
	msg := "\x01\x00" + u16(len(body)) + body
	return "\x16\x03\x01" + u16(len(msg)) + msg
}

// TestNames shares names between flows and frees them with the last one.
func TestNames(t *testing.T) {
	n := newNames()
	a, b, c := n.take([]byte("a")), n.take([]byte("b")), n.take([]byte("a"))
	if a != c || a == b || n.text(a) != "a" || n.text(b) != "b" || n.text(0) != "" {
		t.Errorf("%d %d %d", a, b, c)
	}
	n.give(a)
	n.give(b)
	n.give(0)
	if n.text(a) != "a" || len(n.numbers) != 1 {
		t.Errorf("%+v", n)
	}
	n.give(c)
	if len(n.numbers) != 0 || n.bytes != 0 {
		t.Errorf("%+v", n)
	}
	for i := range uint32(maxNameBytes/(nameOverheads+8) + 10) {
		if n.take(binary.BigEndian.AppendUint64(nil, uint64(i))) == 0 {
			if n.bytes < maxNameBytes-100 {
				t.Errorf("refused at %d bytes", n.bytes)
			}
			return
		}
	}
	t.Error("never refused")
}
