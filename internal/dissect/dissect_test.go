package dissect_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"github.com/google/go-cmp/cmp"
)

// Headers to put frames together from, written by hand.
const (
	eth4   = "020000000002 020000000001 0800 "
	eth6   = "020000000002 020000000001 86dd "
	tcp80  = "c000 0050 00000001 00000002 5018 01f4 0000 0000 " // 49152 → 80, PSH ACK
	dns    = "c001 0035 000c 0000 61626364 "                    // 49153 → 53, 4 bytes
	vxlan1 = "08000000 001389 00 "                              // VNI 5001
)

// bytesOf reads hexadecimal digits with blanks between them.
func bytesOf(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("bad test input: %v", err)
	}
	return b
}

// ip4 returns an IPv4 header without options from 10.0.0.1 to 10.0.0.2.
func ip4(proto, total int) string {
	return fmt.Sprintf("4500 %04x 1234 4000 40 %02x 0000 0a000001 0a000002 ", total, proto)
}

// ip6 returns an IPv6 header from fd00::1 to fd00::2.
func ip6(next, payload int) string {
	return fmt.Sprintf("60000000 %04x %02x 40 fd000000000000000000000000000001 fd000000000000000000000000000002 ", payload, next)
}

func udp(dst, length int) string { return fmt.Sprintf("c002 %04x %04x 0000 ", dst, length) }

// stack returns the layers of p as text: kind@offset+length.
func stack(p *dissect.Packet) string {
	var out []string
	for _, l := range p.Layers[:p.NLayers] {
		out = append(out, fmt.Sprintf("%s@%d+%d", l.Kind, l.Off, l.Len))
	}
	return strings.Join(out, " ")
}

// run dissects a whole Ethernet frame into a packet that was used before.
func run(t testing.TB, digits string) *dissect.Packet {
	t.Helper()
	return runLink(t, frame.LinkEthernet, digits)
}

func runLink(t testing.TB, link frame.LinkType, digits string) *dissect.Packet {
	t.Helper()
	p := dirty()
	b := bytesOf(t, digits)
	dissect.New(dissect.Config{}).Dissect(p, link, b, len(b))
	return p
}

// dirty returns a packet in which every level says something false.
func dirty() *dissect.Packet {
	p := &dissect.Packet{NLayers: 7, NLevels: 3, Issues: dissect.Deep}
	for i := range p.Levels {
		p.Levels[i] = dissect.Flow{
			SrcMAC: 1, DstMAC: 2, Src: flow.Addr{1}, Dst: flow.Addr{2}, SrcPort: 3, DstPort: 4, EtherType: 5, VLAN: 6, InnerVLAN: 7,
			ICMPTypeCode: 8, TCPFlags: 9, IPLen: 10, FragOff: 11, IPID: 12, Proto: 13, TTL: 14, ToS: 15, MoreFrags: true, HasIP: true,
			Segment: 16, TunnelType: 17, NetOff: 18, TransOff: 19, PayloadOff: 20, LinkOff: 21, IPLen32: 22,
		}
	}
	return p
}

func addr(s string) flow.Addr { return flow.FromNetip(mustAddr(s)) }

func TestTCPFlow(t *testing.T) {
	p := run(t, eth4+ip4(6, 43)+tcp80+"616263 000000") // 3 bytes of data, 3 of padding
	want := dissect.Flow{
		SrcMAC: 0x020000000001, DstMAC: 0x020000000002, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), SrcPort: 49152, DstPort: 80,
		EtherType: 0x0800, TCPFlags: 0x18, IPLen: 43, IPLen32: 43, IPID: 0x1234, Proto: 6, TTL: 64, HasIP: true,
		NetOff: 14, TransOff: 34, PayloadOff: 54,
	}
	if diff := cmp.Diff(want, *p.Inner()); diff != "" {
		t.Errorf("flow (-want +got):\n%s", diff)
	}
	if got, want := stack(p), "ethernet@0+14 ip@14+20 tcp@34+20"; got != want {
		t.Errorf("layers = %s, want %s", got, want)
	}
	if p.NLevels != 1 || p.Issues != 0 {
		t.Errorf("levels, issues = %d, %#x, want 1, 0", p.NLevels, p.Issues)
	}
}

func TestVXLANFlows(t *testing.T) {
	p := run(t, eth4+ip4(17, 106)+udp(4789, 86)+vxlan1+"02000000000b 02000000000a 8100 0064 86dd "+ip6(17, 12)+dns)
	outer := dissect.Flow{
		SrcMAC: 0x020000000001, DstMAC: 0x020000000002, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), SrcPort: 49154, DstPort: 4789,
		EtherType: 0x0800, IPLen: 106, IPLen32: 106, IPID: 0x1234, Proto: 17, TTL: 64, HasIP: true, NetOff: 14, TransOff: 34, PayloadOff: 42,
	}
	inner := dissect.Flow{
		SrcMAC: 0x02000000000a, DstMAC: 0x02000000000b, Src: addr("fd00::1"), Dst: addr("fd00::2"), SrcPort: 49153, DstPort: 53,
		EtherType: 0x86dd, VLAN: 100, IPLen: 52, IPLen32: 52, Proto: 17, TTL: 64, HasIP: true, Segment: flow.NewSegment(flow.KindVXLAN, 5001),
		TunnelType: 1, LinkOff: 50, NetOff: 68, TransOff: 108, PayloadOff: 116,
	}
	if diff := cmp.Diff([]dissect.Flow{outer, inner}, p.Levels[:p.NLevels]); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
	if p.Issues != 0 {
		t.Errorf("issues = %#x, want none", p.Issues)
	}
}
