package filter

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// switched is what a switch finds in the headers of a frame: the fields, and which of them are there.
type switched struct{ value, there flowMatch }

func (s *switched) set(f flowField, b ...byte) {
	copy(s.value.value[f][:], b)
	for i := range b {
		s.there.mask[f][i] = 0xff
	}
}

// parseAsSwitch reads a whole frame as Open vSwitch does (ovs-fields(7)).
func parseAsSwitch(b []byte) *switched {
	s := &switched{}
	s.set(fieldDst, b[:6]...)
	s.set(fieldSrc, b[6:12]...)
	s.set(fieldVLAN, 0, 0)
	typ := binary.BigEndian.Uint16(b[12:])
	b = b[14:]
	if typ == typeVLAN || typ == typeQinQ {
		s.set(fieldVLAN, b[0]|0x10, b[1])
		typ = binary.BigEndian.Uint16(b[2:])
		b = b[4:]
	}
	if typ < 0x600 {
		typ = 0x5ff
	}
	s.set(fieldType, byte(typ>>8), byte(typ))
	switch typ {
	case typeIPv4:
		s.ipv4(b)
	case typeIPv6:
		s.ipv6(b)
	case typeARP, typeRARP:
		s.set(fieldARPOp, b[6:8]...)
		s.set(fieldARPSHA, b[8:14]...)
		s.set(fieldARPSPA, b[14:18]...)
		s.set(fieldARPTHA, b[18:24]...)
		s.set(fieldARPTPA, b[24:28]...)
	case typeMPLS:
		s.set(fieldMPLS, b[:4]...)
	}
	return s
}

func (s *switched) ipv4(b []byte) {
	s.set(fieldTOS, b[1])
	s.set(fieldTTL, b[8])
	s.set(fieldProto, b[9])
	s.set(fieldNetSrc, b[12:16]...)
	s.set(fieldNetDst, b[16:20]...)
	s.fragment(binary.BigEndian.Uint16(b[6:])&0x2000 != 0, binary.BigEndian.Uint16(b[6:])&0x1fff != 0)
	s.transport(b[9], b[4*(b[0]&0xf):], ipICMP)
}

func (s *switched) fragment(more, later bool) {
	var f byte
	if more || later {
		f = 1
	}
	if later {
		f |= 2
	}
	s.set(fieldFrag, f)
}

func (s *switched) ipv6(b []byte) {
	s.set(fieldTOS, b[0]<<4|b[1]>>4)
	s.set(fieldTTL, b[7])
	s.set(field6Src, b[8:24]...)
	s.set(field6Dst, b[24:40]...)
	p, b := b[6], b[40:]
	s.fragment(false, false)
	if p == 44 {
		s.fragment(true, binary.BigEndian.Uint16(b[2:])&^7 != 0)
		p, b = b[0], b[8:]
	}
	s.set(fieldProto, p)
	s.transport(p, b, ipICMPv6)
}

func (s *switched) transport(p byte, b []byte, icmp byte) {
	if s.value.value[fieldFrag][0]&2 != 0 {
		return
	}
	switch p {
	case ipTCP:
		s.set(fieldTCPFlags, b[13])
		fallthrough
	case ipUDP, ipSCTP:
		s.set(fieldPortSrc, b[:2]...)
		s.set(fieldPortDst, b[2:4]...)
	case icmp:
		s.set(fieldICMPType, b[0])
		s.set(fieldICMPCode, b[1])
	}
}

// pass looks a packet up in a table.
func (s *switched) pass(table []FlowEntry) bool {
	packet := s.value
	packet.mask = s.there.mask
	for _, e := range table {
		if e.fields.covers(&packet) {
			return e.Pass
		}
	}
	return false
}

// The entries pass exactly what the matcher matches, or more when there is a residual.
func TestOpenFlowAgrees(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(41, 42))}
	var frames [][]byte
	for len(frames) < 3000 {
		b := m.ethernet(2)
		if len(b) > 60 && !bytes.Contains(b[12:40], []byte{0xaa, 0xaa, 3, 0, 0, 0}) { // SNAP is IP for a switch
			frames = append(frames, b)
		}
	}
	exactly, hits, over := 0, 0, 0
	extra := []string{"ip and tcp dst portrange 1000-2000", "vlan 10 and ip and not host 10.0.0.1", "ip and not (tcp or udp)", "ip and tcp and not port 80", "ip net 10.0.0.0/8 and tcp port 443",
		"ip host 10.0.0.1 or arp host 10.0.0.2", "ip proto 1 and icmp[icmptype] = icmp-echo", "ip src net 10.0.0.0/24 and udp dst port 53", "not vlan and arp", "ether src 02:00:00:00:00:01 and not ip6",
		"ip and (tcp port 80 or udp port 53) and not src net 192.168.0.0/16", "ip[1] & 0xfc = 0", "vlan 10 or ip", "ip6 src host fd00::1", "not (ip and tcp portrange 1024-65535)", "ip6 and not ip6 proto 17",
		"ip and tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn"}
	for _, e := range slices.Concat(agreed, own, extra) {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Fatal(err)
		}
		table, residual, err := f.OpenFlow()
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		if !residual {
			exactly++
		}
		for i, b := range frames {
			want, got := f.Match(b, len(b)), parseAsSwitch(b).pass(table)
			if want && !got || got && !want && !residual {
				t.Errorf("%q: frame %d %x: matcher %t, entries %t, residual %t", e, i, b, want, got, residual)
				for _, e := range table {
					t.Log(e.Flow("pass"))
				}
				break
			}
			if got && !want {
				over++
			}
			if want {
				hits++
			}
		}
	}
	t.Logf("%d expressions are exact; %d matches, %d frames too many", exactly, hits, over)
	if exactly < 30 || hits < 10000 || over > 5*hits {
		t.Errorf("%d expressions are exact; %d matches, %d frames too many", exactly, hits, over)
	}
}

// ovs-ofctl must take every entry.
func TestOpenFlowSyntax(t *testing.T) {
	ofctl := testkit.Tool(t, "ovs-ofctl")
	var flows []string
	for _, e := range slices.Concat(agreed, own, []string{"ip[8] = 64 and ip[1] = 3", "arp[8:4] = 1", "icmp6[1] = 0", "ip6 net fd00::/16 and tcp portrange 5-9", "tcp[13] = 2 and ip"}) {
		f, err := Compile(e, frame.LinkEthernet, Options{})
		if err != nil {
			t.Fatal(err)
		}
		table, _, err := f.OpenFlow()
		if err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		for _, e := range table {
			flows = append(flows, "table=0,"+e.Flow("output:1"))
		}
	}
	path := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(path, []byte(strings.Join(flows, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(ofctl, "-O", "OpenFlow15", "parse-flows", path).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("normalization")) {
		t.Fatalf("ovs-ofctl: %v: %s", err, out)
	}
}
