package replicate

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
	"crosstap/internal/testkit"
)

// With CAP_NET_RAW a copy has the exporter's address and port, in IPv4 and IPv6, also when it takes several fragments.
func TestKeep(t *testing.T) {
	testkit.Root(t)
	f := func(at, exporter string, n int) {
		t.Helper()
		a := listen(t, at)
		r, end := start(t, Config{Name: "x", To: []netip.AddrPort{a.addr}, Source: Keep, Share: All})
		from := netip.MustParseAddrPort(exporter)
		data := bytes.Repeat([]byte("0123456789abcde"), n/15+1)[:n]
		r.Offer(Datagram{Data: data, From: from})
		got, sender := a.next(t)
		if got != string(data) || sender != from {
			t.Errorf("%d of %d bytes from %v, want %v", len(got), n, sender, from)
		}
		if s := end(); !s.Targets[0].Kept || s.Targets[0].Book.Out != 1 {
			t.Errorf("%+v", s)
		}
	}
	f("127.0.0.1:0", "127.9.8.7:2055", 1)
	f("127.0.0.1:0", "127.9.8.7:2055", 1400)
	f("127.0.0.1:0", "127.9.8.7:65535", 65507)
	f("[::1]:0", "[::1]:4444", 1401)
	f("[::1]:0", "[2001:db8::7]:4444", 100)
}

// Fragments have the offsets and flags of RFC 791 and RFC 8200, multiples of eight bytes but for the last.
func TestFragments(t *testing.T) {
	f := func(to string, header int, want ...string) {
		t.Helper()
		s := &rawSender{to: netip.MustParseAddrPort(to), id: 0x0102}
		from := netip.MustParseAddrPort("192.0.2.1:7")
		if header == lenIPv6 {
			from = netip.MustParseAddrPort("[2001:db8::1]:7")
		}
		p, err := s.packet(from, make([]byte, 20))
		if err != nil {
			t.Fatal(err)
		}
		body := p[header:]
		for i, off := range []int{0, 16} {
			part := s.partOf(p[:header], body[off:min(off+16, len(body))], off, i == 0)
			fixed := part[:header]
			if header == lenIPv6 {
				fixed = part[:header+lenFragment]
			}
			if got := strings.ToLower(hexOf(fixed)); got != want[i] {
				t.Errorf("fragment %d\ngot  %s\nwant %s", i, got, want[i])
			}
		}
	}
	f("198.51.100.2:2055", lenIPv4,
		"4500002401022000 40110000 c0000201 c6336402", "4500002001020002 40110000 c0000201 c6336402")
	f("[2001:db8::2]:2055", lenIPv6,
		"60000000 0018 2c 40 20010db8000000000000000000000001 20010db8000000000000000000000002 1100 0001 00000102",
		"60000000 0014 2c 40 20010db8000000000000000000000001 20010db8000000000000000000000002 1100 0010 00000102")
}

// hexOf groups the bytes as the expected texts do.
func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out []byte
	groups := map[int]bool{8: true, 12: true, 16: true}
	if len(b) > lenIPv4 {
		groups = map[int]bool{4: true, 6: true, 7: true, 8: true, 24: true, 40: true, 42: true, 44: true}
	}
	for i, c := range b {
		if groups[i] {
			out = append(out, ' ')
		}
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// Without CAP_NET_RAW keeping the source is refused with the way out, and trying falls back to our own address.
func TestKeepRefused(t *testing.T) {
	to := netip.MustParseAddrPort("127.0.0.1:2055")
	err := withoutRaw(t, func() error {
		_, err := newRawSender(to)
		return err
	})
	if err == nil || err.Error() != "target 127.0.0.1:2055: keeping the source address needs CAP_NET_RAW: operation not permitted; give the capability, or source: own" {
		t.Error(err)
	}
	err = withoutRaw(t, func() error {
		r, err := New(Config{Name: "x", To: []netip.AddrPort{to}, Source: Try, Share: All})
		if err != nil {
			return err
		}
		if err := r.Bind(nil); err != nil {
			return err
		}
		if s := r.Status().Targets[0]; s.Kept || !strings.Contains(s.Error, "CAP_NET_RAW") {
			t.Errorf("%+v", s)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// withoutRaw runs f on a thread that has no CAP_NET_RAW, and gives the thread up.
func withoutRaw(t *testing.T, f func() error) error {
	t.Helper()
	return netns.OnThread(func() error {
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var d [2]unix.CapUserData
		if err := unix.Capget(&h, &d[0]); err != nil {
			return err
		}
		for i := range d {
			d[i].Effective = 0
		}
		if err := unix.Capset(&h, &d[0]); err != nil {
			return err
		}
		return f()
	})
}
