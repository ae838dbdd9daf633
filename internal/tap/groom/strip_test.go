package groom_test

import (
	"bytes"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/tap/groom"
	"crosstap/internal/wire"
)

// TestStripInsideOfWhatStays takes a tag off a frame in a tunnel that stays: lengths and checksums of the tunnel's headers follow,
// and one that was wrong stays wrong.
func TestStripInsideOfWhatStays(t *testing.T) {
	inner := packet{src: 1, dst: 2, srcPort: 3, dstPort: 80, ttl: 64, vlan: 7, tcp: true, payload: []byte("abc")}
	bare := inner
	bare.vlan = 0
	in, want := inVXLAN(inner.frame(0, 0), 5), inVXLAN(bare.frame(0, 0), 5)
	sum := func(f frame.Frame) uint16 {
		h := wire.UDP(f.Data[34:])
		h.SetChecksum(0)
		return wire.TransportChecksum(f.Data[26:30], f.Data[30:34], wire.ProtoUDP, h)
	}
	f := func(what string, given, then uint16) {
		t.Helper()
		wire.UDP(in.Data[34:]).SetChecksum(given)
		wire.UDP(want.Data[34:]).SetChecksum(then)
		got := apply(t, pipeline(t, "strip=vlan"), []frame.Frame{in})[0][0]
		if !bytes.Equal(got.Data, want.Data) || got.OrigLen != want.OrigLen {
			t.Errorf("%s:\n%x\n%x", what, got.Data, want.Data)
		}
	}
	f("no outer checksum", 0, 0)
	before, after := sum(in), sum(want)
	f("an outer checksum", before, after)
	f("a wrong one", wire.UpdateChecksum(before, 0, 1), wire.UpdateChecksum(after, 0, 1))
}

// TestStripLinks chooses what a packet begins with that was tunnelled without Ethernet.
func TestStripLinks(t *testing.T) {
	ip := packet{src: 1, dst: 2, srcPort: 3, dstPort: 80, ttl: 64, payload: []byte("abc")}.frame(0, 0).Data[14:]
	gre := packet{src: 8, dst: 9, ttl: 64}.frame(0, 0)
	gre.Data = append(gre.Data[:34], append([]byte{0, 0, 8, 0}, ip...)...)
	wire.IPv4(gre.Data[14:]).SetProtocol(wire.ProtoGRE)
	wire.IPv4(gre.Data[14:]).SetTotalLen(uint16(len(gre.Data) - 14))
	gre.Data = append(gre.Data, 1, 2, 3, 4) // a trailer of the outer frame goes too
	gre.OrigLen = len(gre.Data)
	raw := gre
	raw.Data, raw.OrigLen, raw.Link = gre.Data[14:], gre.OrigLen-14, frame.LinkIPv4
	f := func(in frame.Frame, flags string, link frame.LinkType, head string) {
		t.Helper()
		got := apply(t, pipeline(t, flags), []frame.Frame{in})[0][0]
		if want := append([]byte(head), ip...); got.Link != link || !bytes.Equal(got.Data, want) || got.OrigLen != len(want) {
			t.Errorf("%s: link %d, %d bytes\n%x\n%x", flags, got.Link, got.OrigLen, got.Data, want)
		}
	}
	f(gre, "strip=gre", frame.LinkRaw, "")
	f(gre, "strip=gre/link=ethernet", frame.LinkEthernet, string(gre.Data[:14]))
	f(raw, "strip=all", frame.LinkIPv4, "")
	f(raw, "strip=all/link=ethernet", frame.LinkEthernet, "\x02\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x08\x00")
	if got := apply(t, pipeline(t, "strip=vxlan"), []frame.Frame{gre})[0][0]; !bytes.Equal(got.Data, gre.Data) {
		t.Error("another tunnel was stripped")
	}
}

// TestStripCookedLLC: a cooked header in front of LLC has a protocol number of its own, and no length.
func TestStripCookedLLC(t *testing.T) {
	const (
		sll     = "\x00\x00\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00"
		sll2    = "\x00\x00\x00\x00\x00\x03\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00"
		snap    = "\xaa\xaa\x03\x00\x00\x00"
		etag    = "\x00\x01\x00\x02\x00\x00"
		payload = "payload behind the headers"
	)
	udp := packet{src: 1, dst: 2, srcPort: 3, dstPort: 9, ttl: 64, payload: []byte(payload)}.frame(0, 0)
	tunnel := inVXLAN(udp, 5)
	ip, outer := string(udp.Data[14:]), string(tunnel.Data[14:])
	f := func(link frame.LinkType, flags, in string, then frame.LinkType, want string) {
		t.Helper()
		got := apply(t, pipeline(t, flags), []frame.Frame{{Data: []byte(in), OrigLen: len(in), Link: link}})[0][0]
		if got.Link != then || string(got.Data) != want || got.OrigLen != len(want) {
			t.Errorf("link %d, %d bytes\n%x\n%x", got.Link, got.OrigLen, got.Data, want)
		}
	}
	length := string([]byte{0, byte(8 + len(ip))})
	f(frame.LinkSLL, "strip=etag", sll+"\x89\x3f"+etag+length+snap+"\x08\x00"+ip, frame.LinkSLL, sll+"\x00\x04"+snap+"\x08\x00"+ip)
	f(frame.LinkSLL2, "strip=etag", "\x89\x3f"+sll2+etag+length+snap+"\x08\x00"+ip, frame.LinkSLL2, "\x00\x04"+sll2+snap+"\x08\x00"+ip)
	f(frame.LinkSLL, "strip=vlan", sll+"\x00\x04"+snap+"\x81\x00\x00\x07\x08\x00"+ip, frame.LinkSLL, sll+"\x00\x04"+snap+"\x08\x00"+ip)
	f(frame.LinkSLL, "strip=vxlan", sll+"\x00\x04"+snap+"\x08\x00"+outer, frame.LinkEthernet, string(udp.Data))
	f(frame.LinkSLL2, "strip=vxlan", "\x00\x04"+sll2+snap+"\x08\x00"+outer, frame.LinkEthernet, string(udp.Data))
}

// TestStripInGREOverUDP: a checksum of GRE follows also where GRE is in UDP.
func TestStripInGREOverUDP(t *testing.T) {
	ip := packet{src: 1, dst: 2, srcPort: 3, dstPort: 9, ttl: 64, payload: []byte("abc")}.frame(0, 0).Data[14:]
	gre := append([]byte("\x80\x00\x89\x4f\x00\x00\x00\x00\x0f\xc2\x02\x01\x00\x00\x01\xff"), ip...) // NSH without metadata
	wire.GRE(gre).SetChecksum(wire.ChecksumWith(0, gre))
	in := packet{src: 8, dst: 9, srcPort: 50000, dstPort: 4754, ttl: 64, payload: gre}.frame(0, 0)
	got := apply(t, pipeline(t, "strip=nsh"), []frame.Frame{in})[0][0].Data
	if len(got) != len(in.Data)-8 || wire.GRE(got[42:]).Protocol() != wire.TypeIPv4 || wire.ChecksumWith(0, got[42:]) != 0 {
		t.Errorf("%x", got)
	}
}

// TestStripMovesTheVirtioHeader: a super-frame may be stripped before it is cut, or counted.
func TestStripMovesTheVirtioHeader(t *testing.T) {
	s := super(3000)
	in := inVXLAN(s, 5)
	in.VNet = s.VNet
	in.VNet.CsumStart += 50
	in.VNet.HdrLen += 50
	got := apply(t, pipeline(t, "strip=all"), []frame.Frame{in})[0][0]
	if got.VNet != s.VNet || !bytes.Equal(got.Data, s.Data) {
		t.Errorf("%+v, want %+v", got.VNet, s.VNet)
	}
	cut := apply(t, pipeline(t, "strip=all,repair"), []frame.Frame{in})[0]
	want := apply(t, pipeline(t, "repair"), []frame.Frame{s})[0]
	equal(t, "repair and strip", want, cut)
}

// TestStripLeavesFragments alone: the packet inside is not all there.
func TestStripLeavesFragments(t *testing.T) {
	in := inVXLAN(packet{src: 1, dst: 2, payload: make([]byte, 50)}.frame(0, 0), 5)
	in.Data[20] |= 0x20
	p := pipeline(t, "strip=all")
	got := apply(t, p, []frame.Frame{in})[0][0]
	if !bytes.Equal(got.Data, in.Data) || len(p.Notes()) != 1 {
		t.Errorf("%v", p.Notes())
	}
}

// TestStripTellsExportersApart: two exporters mirror one packet to the same interface; it is a duplicate though it came in at one
// point. The same exporter sending it twice is not.
func TestStripTellsExportersApart(t *testing.T) {
	in := packet{src: 1, dst: 2, srcPort: 3, dstPort: 4, id: 5, ttl: 64, payload: []byte("x")}.frame(0, 0)
	a, b := inVXLAN(in, 5), inVXLAN(in, 5)
	copy(b.Data[26:30], []byte{10, 0, 0, 77})
	if got := passes(t, "strip=all,dedup", []frame.Frame{a, b, a}); len(got) != 2 || got[1] != 2 {
		t.Errorf("passed %v, want the first and the third", got)
	}
	other := inVXLAN(in, 5)
	wire.VXLAN(other.Data[42:]).SetVNI(5002)
	if got := passes(t, "strip=all,dedup", []frame.Frame{a, other}); len(got) != 1 {
		t.Errorf("another session: passed %v", got)
	}
}

// TestDeepFrames strips more tunnels than the dissector keeps levels of.
func TestDeepFrames(t *testing.T) {
	in := packet{src: 1, dst: 2, srcPort: 3, dstPort: 80, ttl: 64, payload: []byte("abc")}.frame(0, 0)
	f := in
	for range 4 {
		f = inVXLAN(f, 6)
	}
	got := apply(t, pipeline(t, "strip=all"), []frame.Frame{f})[0][0]
	if !bytes.Equal(got.Data, in.Data) {
		t.Errorf("%x", got.Data)
	}
	p, err := groom.New(groom.Config{Spec: groom.Spec{Strip: &groom.Strip{Headers: groom.HeaderAll}}, Dissector: dissect.New(dissect.Config{VXLANPorts: []uint16{}})})
	must2(t, err)
	if got := apply(t, p, []frame.Frame{f})[0][0]; !bytes.Equal(got.Data, f.Data) {
		t.Error("a tunnel on a port that is none was stripped")
	}
}
