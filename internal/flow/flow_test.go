package flow

import (
	"net/netip"
	"testing"
)

func TestAddr(t *testing.T) {
	f := func(text string, is4 bool) {
		t.Helper()
		a := FromNetip(netip.MustParseAddr(text))
		if a.String() != text || a.Is4() != is4 || a.IsZero() {
			t.Errorf("%s: got %q, Is4 %t, IsZero %t", text, a, a.Is4(), a.IsZero())
		}
	}
	f("10.0.0.1", true)
	f("255.255.255.255", true)
	f("0.0.0.0", true) // known, unlike the zero Addr
	f("fd00::1", false)
	f("::1", false)
	f("2001:db8::ff:0", false)

	if got := V4([]byte{192, 0, 2, 7}); got.String() != "192.0.2.7" {
		t.Errorf("V4: got %s", got)
	}
	if got := V6(netip.MustParseAddr("fe80::2").AsSlice()); got.String() != "fe80::2" {
		t.Errorf("V6: got %s", got)
	}
	var zero Addr
	if !zero.IsZero() || zero.Is4() || zero.Netip().IsValid() || zero.String() != "" || FromNetip(netip.Addr{}) != zero {
		t.Error("the zero Addr must mean not known")
	}
}

func TestMAC(t *testing.T) {
	m := MACFrom([]byte{0x02, 0x00, 0x0a, 0xff, 0x00, 0x01})
	if m != 0x02000aff0001 || m.String() != "02:00:0a:ff:00:01" || m.Group() {
		t.Errorf("got %012x %s group %t", uint64(m), m, m.Group())
	}
	var b [6]byte
	m.Put(b[:])
	if b != [6]byte{0x02, 0x00, 0x0a, 0xff, 0x00, 0x01} {
		t.Errorf("Put: got %x", b)
	}
	if !MAC(0xffffffffffff).Group() || !MAC(0x333300000001).Group() || MAC(0).String() != "" {
		t.Error("broadcast and IPv6 multicast are groups, zero has no text")
	}
}

// IANA 351: the VXLAN of VNI 5001 is 0x0100000000001389.
func TestSegment(t *testing.T) {
	s := NewSegment(KindVXLAN, 5001)
	if s != 0x0100000000001389 || s.Kind() != KindVXLAN || s.Number() != 5001 {
		t.Errorf("got %016x", uint64(s))
	}
	if NewSegment(KindVLAN, 100) == NewSegment(KindVXLAN, 100) {
		t.Error("VLAN 100 and VNI 100 must not meet")
	}
	if g := NewSegment(KindGRE, 0xffffffff); g.Number() != 0xffffffff || g.Kind() != KindGRE {
		t.Errorf("GRE key: got %016x", uint64(g))
	}
}

func TestRole(t *testing.T) {
	for r := RoleUnknown; r <= RoleUnderlay; r++ {
		if ParseRole(r.String()) != r {
			t.Errorf("role %d: %q does not parse back", r, r)
		}
	}
	if ParseRole("tap") != RoleUnknown || Role(99).String() != "unknown" {
		t.Error("what is not a role is unknown")
	}
}
