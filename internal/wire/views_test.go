package wire

import (
	"bytes"
	"slices"
	"testing"
)

// setter checks that a setter writes what its getter reads, and not one bit beside the mask.
func setter[V comparable](t *testing.T, name string, h []byte, mask []byte, set func(V), get func() V, v V) {
	t.Helper()
	for _, fill := range []byte{0x00, 0xff} {
		for i := range h {
			h[i] = fill
		}
		set(v)
		if got := get(); got != v {
			t.Errorf("%s: reads %v after writing %v", name, got, v)
		}
		for i := range h {
			if out := (h[i] ^ fill) &^ mask[i]; out != 0 {
				t.Errorf("%s: byte %d changed bits %#02x outside the field", name, i, out)
			}
		}
	}
}

// field returns a mask of n bytes with ones from byte at on.
func field(n, at int, ones ...byte) []byte {
	m := make([]byte, n)
	copy(m[at:], ones)
	return m
}

func TestSetters(t *testing.T) {
	eth := make(Ethernet, EthernetLen)
	setter(t, "type", eth, field(14, 12, 0xff, 0xff), eth.SetType, eth.Type, 0x86dd)
	vlan := make(VLAN, VLANLen)
	setter(t, "vlan id", vlan, field(4, 0, 0x0f, 0xff), vlan.SetID, vlan.ID, 0xabc)
	setter(t, "vlan type", vlan, field(4, 2, 0xff, 0xff), vlan.SetType, vlan.Type, 0x0800)
	ip := make(IPv4, IPv4Len)
	setter(t, "total length", ip, field(20, 2, 0xff, 0xff), ip.SetTotalLen, ip.TotalLen, 0x1234)
	setter(t, "identification", ip, field(20, 4, 0xff, 0xff), ip.SetID, ip.ID, 0x1234)
	setter(t, "tos", ip, field(20, 1, 0xff), ip.SetToS, ip.ToS, 0x12)
	setter(t, "ttl", ip, field(20, 8, 0xff), ip.SetTTL, ip.TTL, 0x12)
	setter(t, "protocol", ip, field(20, 9, 0xff), ip.SetProtocol, ip.Protocol, 0x12)
	setter(t, "header checksum", ip, field(20, 10, 0xff, 0xff), ip.SetChecksum, ip.Checksum, 0x1234)
	ip6 := make(IPv6, IPv6Len)
	setter(t, "payload length", ip6, field(40, 4, 0xff, 0xff), ip6.SetPayloadLen, ip6.PayloadLen, 0x1234)
	setter(t, "next header", ip6, field(40, 6, 0xff), ip6.SetNextHeader, ip6.NextHeader, 0x12)
	setter(t, "hop limit", ip6, field(40, 7, 0xff), ip6.SetHopLimit, ip6.HopLimit, 0x12)
	tcp := make(TCP, TCPLen)
	setter(t, "tcp source", tcp, field(20, 0, 0xff, 0xff), tcp.SetSrcPort, tcp.SrcPort, 0x1234)
	setter(t, "tcp destination", tcp, field(20, 2, 0xff, 0xff), tcp.SetDstPort, tcp.DstPort, 0x1234)
	setter(t, "tcp sequence", tcp, field(20, 4, 0xff, 0xff, 0xff, 0xff), tcp.SetSeq, tcp.Seq, 0x12345678)
	setter(t, "tcp flags", tcp, field(20, 12, 0x01, 0xff), tcp.SetFlags, tcp.Flags, TCPAe|TCPSyn)
	setter(t, "tcp checksum", tcp, field(20, 16, 0xff, 0xff), tcp.SetChecksum, tcp.Checksum, 0x1234)
	udp := make(UDP, UDPLen)
	setter(t, "udp source", udp, field(8, 0, 0xff, 0xff), udp.SetSrcPort, udp.SrcPort, 0x1234)
	setter(t, "udp destination", udp, field(8, 2, 0xff, 0xff), udp.SetDstPort, udp.DstPort, 0x1234)
	setter(t, "udp length", udp, field(8, 4, 0xff, 0xff), udp.SetLength, udp.Length, 0x1234)
	setter(t, "udp checksum", udp, field(8, 6, 0xff, 0xff), udp.SetChecksum, udp.Checksum, 0x1234)
	sctp := make(SCTP, SCTPLen)
	setter(t, "sctp checksum", sctp, field(12, 8, 0xff, 0xff, 0xff, 0xff), sctp.SetChecksum, sctp.Checksum, 0x12345678)
	icmp := make(ICMP, ICMPLen)
	setter(t, "icmp checksum", icmp, field(8, 2, 0xff, 0xff), icmp.SetChecksum, icmp.Checksum, 0x1234)
	vxlan := make(VXLAN, VXLANLen)
	setter(t, "vxlan vni", vxlan, field(8, 4, 0xff, 0xff, 0xff), vxlan.SetVNI, vxlan.VNI, 0x123456)
	geneve := make(Geneve, GeneveLen)
	setter(t, "geneve vni", geneve, field(8, 4, 0xff, 0xff, 0xff), geneve.SetVNI, geneve.VNI, 0x123456)
	pppoe := make(PPPoE, PPPoELen)
	setter(t, "pppoe length", pppoe, field(6, 4, 0xff, 0xff), pppoe.SetLength, pppoe.Length, 0x1234)
}

func TestFields(t *testing.T) {
	f := func(name string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	tag := VNTag{0xc0, 0x41, 0x90, 0x02, 0x08, 0x00}
	f("from bridge", tag.FromBridge(), true)
	f("pointer", tag.Pointer(), true)
	f("destination VIF", tag.DstVIF(), uint16(0x41))
	f("looped", tag.Looped(), true)
	f("version", tag.Version(), uint8(1))
	f("source VIF", tag.SrcVIF(), uint16(2))
	etag := ETag{0xe1, 0x23, 0x1a, 0xbc, 0x01, 0x02, 0x08, 0x00}
	f("ingress E-CID", etag.IngressECID(), uint32(0x01123))
	f("E-CID", etag.ECID(), uint32(0x102abc))
	er := ERSPAN{0x20, 100, 0x71, 0x23, 0, 0, 4, 0x56, 0, 0x11, 0x89, 0x5b, 0x14, 0x01, 0, 2, 0, 0, 0, 3}
	f("VLAN", er.VLAN(), uint16(100))
	f("class of service", er.CoS(), uint8(3))
	f("BSO", er.BSO(), uint8(2))
	f("session", er.Session(), uint16(0x123))
	f("frame type", er.FrameType(), uint8(2))
	f("hardware", er.HardwareID(), uint8(0x15))
	f("egress", er.Egress(), true)
	f("granularity", er.Granularity(), uint8(1))
	f("length", er.Len(), 20)
	sub := ERSPANPlatform(er[ERSPAN3Len:])
	f("platform", sub.ID(), uint8(5))
	port, _ := sub.Port()
	f("port", port, uint32(2))
	sw, _ := sub.Switch()
	f("switch", sw, uint32(1))
	sec, _ := sub.TimestampHigh()
	f("seconds", sec, uint32(3))
	tz := TZSP{1, 0, 0, 1, 0, 0x29, 2, 5, 0xdc, 1}
	f("tags", tz.Len(), 10)
	f("original length", bytes.Equal(tz.Tag(TZSPTagLen), []byte{5, 0xdc}), true)
	f("no tag", tz.Tag(TZSPTagMAC) == nil, true)
	f("jumbo", IPv6Ext{6, 0, 0xc2, 4, 0, 1, 0, 2}.Jumbo(), uint32(0x10002))
	f("jumbo behind padding", IPv6Ext{6, 1, 0, 1, 1, 0, 0xc2, 4, 0, 1, 0, 2, 1, 2, 0, 0}.Jumbo(), uint32(0x10002))
	f("no jumbo", IPv6Ext{6, 0, 5, 2, 0, 0, 1, 0}.Jumbo(), uint32(0))
}

func TestGeneveOptions(t *testing.T) {
	h := Geneve{3, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 0x80, 1, 9, 9, 9, 9, 1, 3, 4, 0}
	var classes []uint16
	for o, rest := NextGeneveOption(h.Options()); o != nil; o, rest = NextGeneveOption(rest) {
		classes = append(classes, o.Class())
	}
	if want := []uint16{0x102, 0x103}; !slices.Equal(classes, want) {
		t.Errorf("classes = %x, want %x", classes, want)
	}
}

// FuzzViews reads every field whose place depends on the bytes, from any valid header.
func FuzzViews(f *testing.F) {
	f.Add([]byte{0xf0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0})
	f.Add([]byte{0x34, 0xff, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0x85, 1, 16, 9, 0})
	f.Add([]byte{1, 0, 0, 1, 0, 0x29, 2, 5, 0xdc, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h := GRE(b); h.Valid() && h.Len() <= len(b) {
			if h.HasKey() {
				h.Key()
			}
			if h.HasSeq() {
				h.Seq()
			}
			if h.HasChecksum() {
				h.Checksum()
			}
		}
		if h := GTPU(b); h.Valid() {
			h.Len()
		}
		if h := TZSP(b); h.Valid() {
			h.Len()
			h.Tag(TZSPTagMAC)
		}
		if h := IPv6Ext(b); h.Valid() {
			h.Jumbo()
		}
		if h := ARP(b); h.Valid() {
			h.SenderHW()
			h.Target()
		}
		if h := Geneve(b); h.Valid() {
			for o, rest := NextGeneveOption(h.Options()); o != nil; o, rest = NextGeneveOption(rest) {
				o.Data()
			}
		}
		if h := NSH(b); h.Valid() {
			h.Metadata()
		}
		if h := ERSPAN(b); h.Valid() {
			h.Len()
		}
		if h := PPP(b); h.Len() > 0 {
			h.Protocol()
		}
		if h := SLL(b); h.Valid() {
			h.Addr()
		}
		if h := SLL2(b); h.Valid() {
			h.Addr()
		}
	})
}
