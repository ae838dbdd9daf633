package listen

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/flowproto"
)

// stamped returns when the kernel gives datagrams their time when they come, not when they are read: it begins with that a while after the first
// socket has asked for it.
func stamped(t *testing.T) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	}
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; {
		if _, err := c.WriteTo([]byte{0}, c.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
		b, read := make([]byte, 100), time.Now()
		_, n, _, _, err := c.ReadMsgUDP(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		list, err := unix.ParseSocketControlMessage(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.Header.Type == unix.SCM_TIMESTAMPNS && time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))).Before(read) {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("the kernel stamps nothing")
		}
	}
}

// Datagrams of one exporter over several sockets come out in the order in which they were sent, and every socket got its
// part of them though one exporter sent all.
func TestSpreadKeepsOrder(t *testing.T) {
	stamped(t)
	cfg := DefaultConfig()
	cfg.Addr, cfg.Sockets, cfg.Batch = "127.0.0.1:0", 4, 8
	out := make(chan Batch, 64)
	l, stop := start(t, cfg, out)
	c := dial(t, l.Addr())
	const sent = 20000
	done := make(chan uint32)
	var got atomic.Uint32
	go func() {
		var next uint32
		for b := range out {
			for _, d := range b.Datagrams {
				if n := binary.BigEndian.Uint32(d.Data[2:]); n != next {
					t.Errorf("datagram %d where %d should be", n, next)
				}
				next++
			}
			got.Store(next)
			b.Release()
		}
		done <- next
	}()
	b := []byte{0, 10, 0, 0, 0, 0}
	for i := range uint32(sent) {
		binary.BigEndian.PutUint32(b[2:], i)
		send(t, c, b)
		if i%200 == 199 { // the buffers are small without privileges
			for end := time.Now().Add(patience); got.Load()+200 < i && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
	}
	u := l.bound().(*udpListener)
	calls := make([]uint64, len(u.sockets))
	s := stop()
	balanced(t, s.Book)
	for i, k := range u.sockets {
		calls[i] = k.total
	}
	if n := <-done; n != sent || s.Sockets != 4 && s.Sockets != 0 {
		t.Errorf("%d of %d datagrams over %d sockets: %+v", n, sent, s.Sockets, s.Book)
	}
	for i, n := range calls {
		if n < sent/4*9/10 || n > sent/4*11/10 {
			t.Errorf("socket %d of %v got %d of %d datagrams", i, calls, n, sent)
		}
	}
}

// Only those on the list are taken; the list may change.
func TestAllow(t *testing.T) {
	f := func(nets string, from string, want bool) {
		t.Helper()
		var a allowList
		var list []netip.Prefix
		if nets != "" {
			list = append(list, netip.MustParsePrefix(nets))
		}
		a.set(list)
		if got := a.ok(netip.MustParseAddr(from)); got != want {
			t.Errorf("allow %q: %s: %v", nets, from, got)
		}
	}
	f("", "192.0.2.1", true)
	f("192.0.2.0/24", "192.0.2.1", true)
	f("192.0.2.0/24", "192.0.3.1", false)
	f("::ffff:192.0.2.0/120", "192.0.2.1", true)
	f("fe80::/10", "fe80::1%lo", true)
	f("0.0.0.0/0", "2001:db8::1", false)

	cfg := DefaultConfig()
	cfg.Addr, cfg.Allow = "127.0.0.1:0", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	out := make(chan Batch, 8)
	l, stop := start(t, cfg, out)
	c := dial(t, l.Addr())
	send(t, c, []byte{0, 10})
	for l.Book().In == 0 {
		time.Sleep(time.Millisecond)
	}
	l.SetAllow([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	send(t, c, []byte{0, 9})
	b := <-out
	if len(b.Datagrams) != 1 || b.Datagrams[0].Protocol != flowproto.NetFlow9 {
		t.Errorf("batch %+v", b)
	}
	b.Release()
	s := stop()
	balanced(t, s.Book)
	if s.Book.In != 2 || s.Book.Dropped[DropRefused].N != 1 {
		t.Errorf("book %+v", s.Book)
	}
}
