package export

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/netns"
	"crosstap/internal/testkit"
)

// inNamespace runs f on a thread in a network namespace of its own, which disappears with the thread. Sockets that f
// opens stay in it.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	testkit.Root(t)
	err := netns.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		f()
		return nil
	})
	if err != nil {
		testkit.Missing(t, "unshare: "+err.Error())
	}
}

func sh(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", line, err, out)
	}
}

// A path that is narrower than thought: the message that did not pass is encoded anew, nothing is lost, and nothing is
// fragmented.
func TestPathMTU(t *testing.T) {
	var c *collector
	var s *sender
	inNamespace(t, func() {
		sh(t, "ip link set lo up && ip link set lo mtu 1280")
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		c = &collector{conn: conn.(*net.UDPConn), session: ipfix.NewSession(ipfix.Limits{})}
		e, err := New(config(c.target(t)))
		if err != nil {
			t.Error(err)
			return
		}
		s = e.senders[0]
		if !s.ready(t.Context(), time.Now()) {
			t.Errorf("no socket: %s", s.st.LastError)
		}
		sh(t, "ip link set lo mtu 700") // after the socket asked for the path
	})
	if t.Failed() {
		return
	}
	defer c.conn.Close()
	defer s.close()
	if s.enc.MaxLen() != 1280-28 {
		t.Errorf("first messages may have %d bytes, want %d", s.enc.MaxLen(), 1280-28)
	}
	want := records(200)
	s.book.In(200)
	s.book.Hold(200)
	s.add(t.Context(), want)
	s.flush(t.Context())
	c.read(t, 200)
	if c.lost != 0 || c.longest > 700-28 || c.longest < 500 {
		t.Errorf("%d lost, longest message %d bytes", c.lost, c.longest)
	}
	for i := range want {
		found := false
		for j := range c.recs {
			found = found || c.recs[j].SrcPort == want[i].SrcPort
		}
		if !found {
			t.Errorf("record %d is missing", i)
		}
	}
	st := s.book.Read()
	if st.Out != 200 || st.Held != 0 || st.Balance() != nil || s.status().TooBig == 0 {
		t.Errorf("books %+v, status %+v", st, s.status())
	}
}
