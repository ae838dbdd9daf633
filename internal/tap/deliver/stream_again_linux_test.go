package deliver

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
)

// TestCertificateExpires has the receiver's certificate expire and be renewed: what was sent before is through, what cannot wait is lost and counted, the failure
// says why and since when it is over, and frames go on.
func TestCertificateExpires(t *testing.T) {
	dir := authority(t, "tool", "expired", "tap")
	var mu sync.Mutex
	name, conns := "tool", []net.Conn{}
	become := func(to string) { // and close what is open
		mu.Lock()
		defer mu.Unlock()
		name = to
		for _, c := range conns {
			c.Close()
		}
		conns = nil
	}
	port := testkit.Port(t)
	l, err := tls.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		c, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
		return &c, err
	}})
	must(t, err)
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			readers.Go(func() { _, _ = io.Copy(io.Discard, c) })
		}
	})
	defer readers.Wait()
	defer become("")
	defer l.Close()

	s := stream(t, port, dir, "&queue=1MiB")
	r, all := run(s), numbered(1000, 1000)
	r.send(t, all, func(x ledger.Statement) bool { return x.Out > 1000 })
	become("expired")
	r.send(t, all, func(ledger.Statement) bool {
		x := s.Trouble()
		return x.Err != nil && strings.Contains(x.Err.Error(), "expired")
	})
	if s.Up() || !s.Trouble().Recovered.IsZero() {
		t.Errorf("up %v, %+v", s.Up(), s.Trouble())
	}
	r.send(t, all, func(x ledger.Statement) bool { return dropped(x, "queue_full") > 1000 })
	become("tool")
	before := r.book.Read().Out
	for !s.Up() { // the queue is full: what comes is lost
		r.in <- frame.Batch{}
		time.Sleep(time.Millisecond)
	}
	r.send(t, all[:10], func(x ledger.Statement) bool { return x.Out > before+1000 })
	if s.Trouble().Recovered.IsZero() {
		t.Errorf("%+v", s.Trouble())
	}
	close(r.in)
	must(t, <-r.done)
	if st := r.book.Read(); st.Balance() != nil || st.Held != 0 || st.In != uint64(r.sent) {
		t.Errorf("%d sent, %+v", r.sent, st)
	}
}
