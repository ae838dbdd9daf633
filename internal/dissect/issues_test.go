package dissect_test

import (
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

func TestFragments(t *testing.T) {
	f := func(name, digits string, off uint16, more bool, id uint32, proto uint8, sport uint16, issues dissect.Issue) {
		t.Helper()
		p := run(t, digits)
		got := p.Inner()
		if got.FragOff != off || got.MoreFrags != more || got.IPID != id || got.Proto != proto || got.SrcPort != sport || p.Issues != issues {
			t.Errorf("%s: offset, more, id, protocol, port, issues = %d, %v, %#x, %d, %d, %#x\n\twant %d, %v, %#x, %d, %d, %#x", name,
				got.FragOff, got.MoreFrags, got.IPID, got.Proto, got.SrcPort, p.Issues, off, more, id, proto, sport, issues)
		}
	}
	const addrs = "0a000001 0a000002 "
	f("first", eth("0800", "4500 0020 0007 2000 40 11 0000 "+addrs+dns), 0, true, 7, 17, 49153, 0)
	f("later", eth("0800", "4500 0020 0007 20b9 40 11 0000 "+addrs+dns), 1480, true, 7, 17, 0, dissect.FragmentTail)
	f("last", eth("0800", "4500 0020 0007 00b9 40 11 0000 "+addrs+dns), 1480, false, 7, 17, 0, dissect.FragmentTail)
	f("IPv6 first", eth("86dd", v6(44, "11 00 0001 00010007 "+dns)), 0, true, 0x10007, 17, 49153, 0)
	f("IPv6 last", eth("86dd", v6(44, "11 00 05c8 00010007 "+dns)), 1480, false, 0x10007, 17, 0, dissect.FragmentTail)
	f("IPv6 atomic", eth("86dd", v6(44, "11 00 0000 00010007 "+dns)), 0, false, 0x10007, 17, 49153, 0)
	f("inner packet of a first fragment", eth("0800", "4500 005a 0007 2000 40 11 0000 "+addrs+
		udp(4789, 1500)+vxlan1+eth("0800", ip4(6, 1450)+tcp80)), 0, false, 0x1234, 6, 49152, 0)
}

// TestLengths: padding is not counted, and a length of 0 is taken from the frame where super-frames have it.
func TestLengths(t *testing.T) {
	f := func(name, digits string, origLen int, want uint32, issues dissect.Issue) {
		t.Helper()
		p, b := dirty(), bytesOf(t, digits)
		dissect.New(dissect.Config{}).Dissect(p, frame.LinkEthernet, b, max(origLen, len(b)))
		if got := p.Inner().IPLen32; got != want || p.Issues != issues {
			t.Errorf("%s: IPLen32, issues = %d, %#x, want %d, %#x", name, got, p.Issues, want, issues)
		}
	}
	f("padding", eth("0800", v4(17, dns)+pad), 0, 32, 0)
	f("IPv4 length 0", eth("0800", ip4(6, 0)+tcp80), 80014, 80000, 0)
	f("IPv6 length 0", eth("86dd", ip6(6, 0)+tcp80), 80014, 80000, 0)
	f("jumbogram", eth("86dd", ip6(0, 0)+"06 00 c2 04 00013880 "+tcp80), 80054, 80040, 0)
	f("IPv6 without payload", eth("86dd", ip6(59, 0)+pad), 0, 40, 0)
	f("cut by the snap length", eth("0800", ip4(6, 1500)+tcp80), 1514, 1500, 0)
	f("cut behind GRE", eth("0800", ip4(47, 64)+"00000800"), 78, 64, dissect.Truncated)
	f("GRE alone", eth("0800", v4(47, "00000000")+pad), 0, 24, 0)
	f("longer than the frame", eth("0800", ip4(6, 1500)+tcp80), 0, 1500, dissect.Malformed)
	f("inside padding", eth("0800", v4(17, udpTo(4789, vxlan1+eth("0800", v4(17, dns)+pad)))), 0, 32, 0)
}

func TestIssues(t *testing.T) {
	f := func(name, digits string, want dissect.Issue, last string) {
		t.Helper()
		p := run(t, digits)
		got := p.Layers[p.NLayers-1].Kind.String()
		if p.Issues != want || got != last {
			t.Errorf("%s: issues, last layer = %#x, %s, want %#x, %s", name, p.Issues, got, want, last)
		}
	}
	f("cut Ethernet", "020000000002 0200", dissect.Truncated, "ethernet")
	f("cut IPv4", eth("0800", "4500 0028"), dissect.Truncated, "ip")
	f("cut TCP", eth("0800", ip4(6, 28)+"c000 0050"), dissect.Truncated|dissect.Malformed, "tcp")
	f("TCP beyond the packet", eth("0800", ip4(6, 28)+tcp80), dissect.Malformed, "tcp")
	f("TCP header of 4 bytes", eth("0800", v4(6, "c000 0050 00000001 00000002 1018 01f4 0000 0000")), dissect.Malformed, "tcp")
	f("IPv4 header of 4 bytes", eth("0800", "4100 0028 0000 0000 40 06 0000 0a000001 0a000002"), dissect.Malformed, "ip")
	f("IPv4 version 5", eth("0800", "5500 0028 0000 0000 40 06 0000 0a000001 0a000002"), dissect.Malformed, "ip")
	f("total length below the header", eth("0800", ip4(6, 10)+tcp80), dissect.Malformed, "ip")
	f("VXLAN without VNI", eth("0800", v4(17, udpTo(4789, "00000000 001389 00 "+eth("0800", v4(6, tcp80))))), dissect.Malformed, "vxlan")
	f("GRE version 2", eth("0800", v4(47, "0002 0800 "+v4(6, tcp80))), dissect.Malformed, "gre")
	f("length between 802.3 and Ethernet II", eth("05f0", v4(6, tcp80)), dissect.Malformed, "ethernet")
	f("LLDP", eth("88cc", "0207"), dissect.Unsupported, "ethernet")
	f("OSPF", eth("0800", v4(89, pad)), dissect.Unsupported, "ip")
	f("novell's own 802.3", eth("000c", "ffff 0020 "+pad), dissect.Unsupported, "ethernet")
}

// TestCutPorts: what can be read of a cut transport header is kept.
func TestCutPorts(t *testing.T) {
	p := run(t, eth("0800", ip4(6, 40)+"c000 0050 00000001 00000002 5012"))
	if f := p.Inner(); f.SrcPort != 49152 || f.DstPort != 80 || f.TCPFlags != 0x12 || f.PayloadOff != 0 {
		t.Errorf("ports, flags, payload = %d, %d, %#x, %d, want 49152, 80, 0x12, 0", f.SrcPort, f.DstPort, f.TCPFlags, f.PayloadOff)
	}
}

// TestLevels: the first levels and the innermost one are kept.
func TestLevels(t *testing.T) {
	packet := v4(6, tcp80)
	for range 9 {
		packet = v4(4, packet)
	}
	p := run(t, eth("0800", packet))
	if p.NLayers != 12 || p.NLevels != dissect.MaxLevels {
		t.Fatalf("layers, levels = %d, %d, want 12, %d", p.NLayers, p.NLevels, dissect.MaxLevels)
	}
	if p.Outer().NetOff != 14 || p.Levels[4].NetOff != 14+4*20 || p.Inner().NetOff != 14+9*20 || p.Inner().DstPort != 80 {
		t.Errorf("levels begin at %d, …, %d, %d", p.Outer().NetOff, p.Levels[4].NetOff, p.Inner().NetOff)
	}
}
