package rpcap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"crosstap/internal/frame"
)

func (s *Server) port() uint16 { return uint16(s.Addr().Port) }

// packets are n frames of 60 bytes and more at a point, each with its number in its last byte but one.
func packets(point uint32, n int) (all []frame.Frame) {
	for i := range n {
		b := make([]byte, 60+i%40)
		b[12], b[13], b[len(b)-2] = 8, 0, byte(i)
		all = append(all, frame.Frame{Data: b, OrigLen: len(b), TimeNS: int64(i+1) * 1e6, Point: point, Link: frame.LinkEthernet})
	}
	return all
}

// begin connects our client and starts a capture.
func begin(t *testing.T, s *Server, cc ClientConfig, c CaptureConfig) *Client {
	t.Helper()
	cc.Host, cc.Port = "127.0.0.1", s.port()
	cl, err := Dial(context.Background(), cc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if c.Device == "" {
		c.Device = "vpA"
	}
	if _, err := cl.Start(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	waitCaptures(t, s, 1)
	return cl
}

// read returns the numbers of n frames.
func read(t *testing.T, c *Client, n int) (numbers []int) {
	t.Helper()
	for range n {
		f, _, err := c.Next(nil)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, int(f.Data[len(f.Data)-2]))
	}
	return numbers
}

func TestSampling(t *testing.T) {
	f := func(s Sampling, want ...int) {
		t.Helper()
		srv := serve(t, nil)
		c := begin(t, srv, ClientConfig{}, CaptureConfig{Sampling: s})
		srv.Publish(packets(0, 10))
		for i, n := range read(t, c, len(want)) {
			if n != want[i] {
				t.Errorf("%+v: frame %d is number %d, want %d", s, i, n, want[i])
			}
		}
		if st, err := c.Stats(); err != nil || st.Received != uint32(len(want)) || st.Sent != st.Received {
			t.Errorf("%+v, %v", st, err)
		}
	}
	f(Sampling{}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	f(Sampling{SampleEvery, 4}, 3, 7)
	f(Sampling{SampleAfter, 4}, 0, 4, 8)
}

// TestEndAndAgain ends a capture, asks for its figures, and starts another with a cut and another filter.
func TestEndAndAgain(t *testing.T) {
	s := serve(t, func(c *ServerConfig) { c.Dropped = func(uint32) (uint64, uint64) { return 3, 2 } })
	c := begin(t, s, ClientConfig{}, CaptureConfig{SnapLen: 20})
	s.Publish(packets(0, 2))
	f, _, err := c.Next(nil)
	if err != nil || len(f.Data) != 20 || f.OrigLen != 60 {
		t.Errorf("%d of %d bytes, %v", len(f.Data), f.OrigLen, err)
	}
	if err := c.End(); err != nil {
		t.Fatal(err)
	}
	waitCaptures(t, s, 0)
	if st, err := c.Stats(); err != nil || st.Received != 2 || st.KernelDropped != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	var e *Error
	if err := c.End(); !errors.As(err, &e) || e.Code != CodeEnd {
		t.Error(err)
	}
	if _, err := c.Start(context.Background(), CaptureConfig{Device: "tun0"}); err != nil || c.link != frame.LinkRaw {
		t.Error(c.link, err)
	}
	if _, _, err := c.ask(msgUpdateFilter, appendFilter(nil, []bpf.RawInstruction{{Op: 0x15, Jt: 9}, {Op: 6}})); !errors.As(err, &e) || e.Code != CodeFilter {
		t.Error(err)
	}
	if _, _, err := c.ask(msgUpdateFilter, appendFilter(nil, []bpf.RawInstruction{{Op: 6}})); err != nil {
		t.Error(err)
	}
	s.Publish(packets(1, 5))
	if st, err := c.Stats(); err != nil || st.Received != 0 {
		t.Errorf("the new filter takes frames: %+v, %v", st, err)
	}
}

func TestPassword(t *testing.T) {
	s := serve(t, func(c *ServerConfig) { c.User, c.Password = "ops", "secret" })
	f := func(user, password string, code Code) {
		t.Helper()
		c, err := Dial(context.Background(), ClientConfig{Host: "127.0.0.1", Port: s.port(), User: user, Password: password})
		var e *Error
		switch {
		case err == nil:
			c.Close()
			if code != 0 {
				t.Errorf("%q, %q is let in", user, password)
			}
		case !errors.As(err, &e) || e.Code != code:
			t.Error(err)
		}
	}
	f("ops", "secret", 0)
	f("ops", "Secret", CodeLogin)
	f("", "", CodeLogin)
	// Nothing is told before the login.
	for _, kind := range []uint8{msgFindAll, msgOpen, msgStart, msgStats} {
		if got := ask(t, dial(t, s), message(kind, 0, nil)); got[1] != msgError || got[3] != byte(CodeWrongMessage) {
			t.Errorf("type %d: %x", kind, got)
		}
	}
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	s := serve(t, func(c *ServerConfig) { c.TLS = &tls.Config{Certificates: web.TLS.Certificates} })
	c := begin(t, s, ClientConfig{TLS: &tls.Config{RootCAs: pool, ServerName: "example.com"}}, CaptureConfig{})
	s.Publish(packets(0, 3))
	read(t, c, 3)
	if _, err := Dial(context.Background(), ClientConfig{Host: "127.0.0.1", Port: s.port(), TLS: &tls.Config{}}); err == nil {
		t.Error("an unknown certificate is trusted")
	}
	var e *Error
	if _, err := Dial(context.Background(), ClientConfig{Host: "127.0.0.1", Port: s.port()}); !errors.As(err, &e) || e.Code != CodeTLSRequired {
		t.Error(err)
	}
	plain := dial(t, serve(t, nil))
	if _, err := plain.Write([]byte{22, 3, 1, 0, 5}); err != nil {
		t.Fatal(err)
	}
	alert, err := io.ReadAll(plain)
	equal(t, "alert", []byte{21, 3, 1, 0, 2, 2, 40}, alert)
	_ = err
}

// TestServerOpens has the server connect to the client, over TCP and over UDP.
func TestServerOpens(t *testing.T) {
	s := serve(t, nil)
	f := func(flags uint16, port int, receive func() []byte) {
		t.Helper()
		c := dial(t, s)
		ask(t, c, message(msgAuth, 0, make([]byte, 8)))
		ask(t, c, message(msgOpen, 0, []byte("vpA")))
		got := ask(t, c, message(msgStart, 0, start{snapLen: 100, flags: flags, port: uint16(port), filter: []bpf.RawInstruction{{Op: 6, K: 100}}}.append(nil)))
		if got[1] != msgStart|reply || got[12] != 0 || got[13] != 0 {
			t.Fatalf("%x", got)
		}
		waitCaptures(t, s, 1)
		s.Publish(packets(0, 1))
		if b := receive(); len(b) != headerLen+packetLen+60 || b[1] != msgPacket {
			t.Errorf("%x", b)
		}
		_, _ = c.Write(message(msgClose, 0, nil))
		waitCaptures(t, s, 0)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := make([]byte, 1000)
	f(flagServerOpens, l.Addr().(*net.TCPAddr).Port, func() []byte {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n, _ := io.ReadAtLeast(c, b, headerLen+packetLen+60)
		return b[:n]
	})
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	f(flagDatagram, u.LocalAddr().(*net.UDPAddr).Port, func() []byte {
		n, _, _ := u.ReadFrom(b)
		return b[:n]
	})
}

// TestSlowClient publishes more than a client's buffer holds while it does not read: the rest is counted as dropped, nothing waits.
func TestSlowClient(t *testing.T) {
	s := serve(t, func(c *ServerConfig) { c.BufferBytes = 2 * (maxCaptured + headerLen + packetLen) })
	c := begin(t, s, ClientConfig{}, CaptureConfig{})
	big := make([]frame.Frame, 100)
	for i := range big {
		big[i] = frame.Frame{Data: make([]byte, 60000), OrigLen: 60000, Link: frame.LinkEthernet}
	}
	const rounds = 4
	for range rounds {
		s.Publish(big)
	}
	st, err := c.Stats()
	if err != nil || st.Received != rounds*100 || st.KernelDropped == 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	n := int(st.Received - st.KernelDropped)
	for i := range n {
		if f, _, err := c.Next(nil); err != nil || len(f.Data) != 60000 {
			t.Fatalf("frame %d of %d: %d bytes, %v", i, n, len(f.Data), err)
		}
	}
	if b := s.Book().Read(); b.Balance() != nil || b.Out != uint64(n) || b.Dropped[DropSlow].N != uint64(st.KernelDropped) {
		t.Errorf("%+v", b)
	}
}

// TestLimits has clients that are too many, too quiet, too long and speak nonsense.
func TestLimits(t *testing.T) {
	s := serve(t, func(c *ServerConfig) { c.MaxClients = 1 })
	expect := func(c net.Conn, code Code) {
		t.Helper()
		h, _, err := readMessage(c, nil, maxReply)
		if err != nil || h.kind != msgError || h.value != uint16(code) {
			t.Errorf("%+v, %v, want error %d", h, err, code)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection stays")
		}
	}
	login := func(s *Server) net.Conn {
		t.Helper()
		c := dial(t, s)
		_, _ = c.Write(message(msgAuth, 0, make([]byte, 8)))
		if h, _, err := readMessage(c, nil, maxReply); err != nil || h.kind != msgAuth|reply {
			t.Fatal(h, err)
		}
		return c
	}
	login(s)
	expect(dial(t, s), CodeHost)
	s = serve(t, func(c *ServerConfig) { c.IdleTimeout = 50 * time.Millisecond })
	expect(login(s), CodeIdle)

	s = serve(t, nil)
	c := dial(t, s)
	_, _ = c.Write(header{kind: msgOpen, length: maxRequest + 1}.append(nil))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a request that is too long is waited for")
	}
	c = dial(t, s)
	ask(t, c, message(msgAuth, 0, make([]byte, 8)))
	for _, m := range [][]byte{
		message(99, 0, nil), message(msgStart, 0, nil), message(msgStart, 0, make([]byte, 20)), message(msgAuth, 0, []byte{0, 1, 0, 0, 0, 9, 0, 9}),
		message(msgAuth, 0, []byte{0, 7, 0, 0, 0, 0, 0, 0}), message(msgSampling, 0, []byte{9, 0, 0, 0, 0, 0, 0, 1}), message(msgUpdateFilter, 0, nil),
		{7, msgFindAll, 0, 0, 0, 0, 0, 0}, message(msgOpen, 0, []byte("\x00nothing")),
	} {
		if got := ask(t, c, m); got[1] != msgError {
			t.Errorf("%x: %x", m, got)
		}
	}
}

// TestOwnConnections gives the server the packets of its own data connection: no client gets them.
func TestOwnConnections(t *testing.T) {
	s := serve(t, nil)
	c := begin(t, s, ClientConfig{}, CaptureConfig{})
	to, from := c.data.LocalAddr().(*net.TCPAddr), c.data.RemoteAddr().(*net.TCPAddr)
	b := make([]byte, 60)
	copy(b[12:], []byte{8, 0, 0x45})
	b[14+9] = 6
	copy(b[26:], from.IP.To4())
	copy(b[30:], to.IP.To4())
	b[34], b[35], b[36], b[37] = byte(from.Port>>8), byte(from.Port), byte(to.Port>>8), byte(to.Port)
	own := frame.Frame{Data: b, OrigLen: 60, Link: frame.LinkEthernet}
	s.Publish([]frame.Frame{own, packets(0, 1)[0], own})
	read(t, c, 1)
	if st, err := c.Stats(); err != nil || st.Received != 1 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestParseServer(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(text, addr, mistake string) {
		t.Helper()
		c, err := ParseServer(text)
		if err == nil {
			c.Interfaces = func() []Interface { return nil }
			err = c.Validate()
		}
		switch {
		case mistake == "" && (err != nil || c.Addr != addr):
			t.Errorf("%s: %s, %v", text, c.Addr, err)
		case mistake != "" && (err == nil || !strings.Contains(err.Error(), mistake)):
			t.Errorf("%s: %v, want %q", text, err, mistake)
		}
	}
	f("rpcap://", "127.0.0.1:2002", "")
	f("rpcap://[::1]:2003?clients=3", "[::1]:2003", "")
	f("rpcap://*:2002?user=ops&password_file="+file, "[::]:2002", "")
	f("rpcap://10.0.0.1?open=yes", "10.0.0.1:2002", "")
	f("rpcap://10.0.0.1", "", "without a password")
	f("rpcap://10.0.0.1?user=x", "", "without password_file")
	f("rpcap://10.0.0.1?opne=yes", "", `did you mean "open"`)
	f("rpcap://?clients=2&clients=3", "", "given twice")
	f("rpcap://host.example", "", "want an address")
	f("rpcaps://", "", "cert and key")
	f("rpcap://?cert=x", "", "for rpcaps")
	f("rpcap://?clients=0", "", "1 to 1000")
	f("rpcap://?password_file="+filepath.Join(dir, "none"), "", "no such file")
}

func TestParseTarget(t *testing.T) {
	f := func(text, want, mistake string) {
		t.Helper()
		x, err := ParseTarget(text)
		switch {
		case mistake == "" && (err != nil || x.String() != want):
			t.Errorf("%s: %s, %v", text, x, err)
		case mistake != "" && (err == nil || !strings.Contains(err.Error(), mistake) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: %v, want %q", text, err, mistake)
		}
	}
	f("rpcap://host/eth0", "rpcap://host:2002/eth0", "")
	f("rpcaps://ops:secret@[fd00::1]:2003/eth0?sample=10", "rpcaps://[fd00::1]:2003/eth0", "")
	f("rpcap://host", "rpcap://host:2002/", "")
	f("rpcap://ops:secret@host:99999/eth0", "", "port")
	f("rpcap://ops:secret@host/eth0?sample=0", "", "want N")
	f("rpcap://host/eth0?sampel=3", "", `did you mean "sample"`)
	f("rpcap://host/eth0?ca=x", "", "rpcaps")
	f("rpcap://ops:secret@host/%zz", "", "cannot be read")
}
