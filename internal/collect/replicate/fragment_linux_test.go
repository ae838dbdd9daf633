package replicate

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// On a way of 1500 bytes a long datagram leaves in fragments, which the receiver's kernel puts together again.
func TestKeepFragments(t *testing.T) {
	testkit.Root(t)
	here, there := testns.New(t), testns.New(t)
	here.Sh(`ip link add va type veth peer name vb netns NS
ip addr add 10.77.0.1/24 dev va; ip -6 addr add fd77::1/64 dev va nodad; ip link set va up`, there)
	there.Sh(`ip addr add 10.77.0.2/24 dev vb; ip -6 addr add fd77::2/64 dev vb nodad; ip link set vb up
ip route add 192.0.2.0/24 dev vb; ip -6 route add 2001:db8::/64 dev vb`)
	here.Up("va")
	there.Up("vb")
	f := func(at, exporter string, n int) {
		t.Helper()
		var c net.PacketConn
		if err := there.Do(func() (err error) { c, err = net.ListenPacket("udp", at); return err }); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r, err := New(Config{Name: "x", To: []netip.AddrPort{netip.MustParseAddrPort(at)}, Source: Keep, Share: All})
		if err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte("crosstap"), n/8+1)[:n]
		if err := here.Do(func() error {
			if err := r.Bind(nil); err != nil {
				return err
			}
			r.targets[0].offer(&Datagram{Data: data, From: netip.MustParseAddrPort(exporter)})
			b, _ := r.targets[0].queue.take(t.Context(), block{})
			r.targets[0].send(b.items[0].from, b.bytes)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		defer r.targets[0].close()
		buf := make([]byte, 65536)
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		got, from, err := c.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:got], data) || from.String() != exporter {
			t.Errorf("%d of %d bytes from %v: %v, %+v", got, n, from, err, r.Status().Targets[0])
		}
	}
	f("10.77.0.2:2055", "192.0.2.7:4444", 1472)
	f("10.77.0.2:2055", "192.0.2.7:4444", 1473)
	f("10.77.0.2:2055", "192.0.2.7:4444", 9000)
	f("[fd77::2]:2055", "[2001:db8::7]:4444", 1452)
	f("[fd77::2]:2055", "[2001:db8::7]:4444", 8999)
}
