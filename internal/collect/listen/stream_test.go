package listen

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pion/dtls/v3"

	"crosstap/internal/flowproto"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// message is an IPFIX message of n bytes with a mark in its sequence number.
func message(n int, mark uint32) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint16(b, ipfixVersion)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	binary.BigEndian.PutUint32(b[8:], mark)
	return b
}

func streamConfig(t Transport) Config {
	cfg := DefaultConfig()
	cfg.Transport, cfg.Addr = t, "127.0.0.1:0"
	return cfg
}

// collectN reads n datagrams, the End of a connection counted too.
func collectN(t *testing.T, out chan Batch, n int) (got []Datagram) {
	t.Helper()
	late := time.After(patience)
	for len(got) < n {
		select {
		case b := <-out:
			for _, d := range b.Datagrams {
				d.Data = bytes.Clone(d.Data)
				got = append(got, d)
			}
			b.Release()
		case <-late:
			t.Fatalf("%d of %d datagrams came", len(got), n)
		}
	}
	return got
}

func dialTCP(t *testing.T, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// closed waits until the other side has closed the connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("connection still open: %v", err)
	}
}

// However the stream is cut into segments, its messages come whole and in order, and then its end.
func TestTCPMessages(t *testing.T) {
	out := make(chan Batch, 64)
	l, stop := start(t, streamConfig(TCP), out)
	var stream []byte
	sizes := []int{16, 20, 1400, 65535, 16, 40000, 17}
	for i, n := range sizes {
		stream = append(stream, message(n, uint32(i))...)
	}
	f := func(chunk int) {
		t.Helper()
		c := dialTCP(t, l.Addr())
		for b := stream; len(b) > 0; {
			n := min(chunk, len(b))
			if _, err := c.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		c.Close()
		got := collectN(t, out, len(sizes)+1)
		for i, n := range sizes {
			d := got[i]
			if len(d.Data) != n || binary.BigEndian.Uint32(d.Data[8:]) != uint32(i) || d.Protocol != flowproto.IPFIX || d.Via != TCP || d.Conn == 0 || d.Conn != got[0].Conn ||
				d.From.String() != c.LocalAddr().String() || d.Local != l.Addr() || d.End {
				t.Errorf("chunks of %d: message %d: %d bytes, %+v", chunk, i, len(d.Data), d.Via)
			}
		}
		if e := got[len(sizes)]; !e.End || e.Conn != got[0].Conn || e.Data != nil {
			t.Errorf("no end: %+v", e)
		}
	}
	f(len(stream))
	f(4096)
	f(777)
	f(65536)
	s := stop()
	balanced(t, s.Book)
	if s.Book.Out != uint64(4*len(sizes)) || s.Accepted != 4 || s.Bytes != uint64(4*len(stream)) {
		t.Errorf("%+v", s)
	}
}

// A stream that is no IPFIX ends at once; one that ends within a message is counted.
func TestTCPNonsense(t *testing.T) {
	out := make(chan Batch, 64)
	l, stop := start(t, streamConfig(TCP), out)
	f := func(b []byte) {
		t.Helper()
		c := dialTCP(t, l.Addr())
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		closed(t, c)
	}
	f([]byte("GET / HTTP/1.1\r\n\r\n"))
	f([]byte{0, 9, 0, 20, 0})
	f([]byte{0, 10, 0, 15, 0})
	f(append(message(20, 1), 0, 5))
	collectN(t, out, 2)
	c := dialTCP(t, l.Addr())
	if _, err := c.Write(message(100, 1)[:60]); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for l.Book().Dropped[DropCut].N == 0 {
		time.Sleep(time.Millisecond)
	}
	s := stop()
	balanced(t, s.Book)
	if s.Book.Dropped[DropFraming].N != 4 || s.Book.Dropped[DropCut].N != 1 || s.Book.Out != 1 {
		t.Errorf("%+v", s.Book)
	}
}

// Who is slow, silent or one too many does not keep a connection.
func TestTCPBounds(t *testing.T) {
	const soon = 30 * time.Millisecond // each listener has one short bound, so that a slow test meets no other
	f := func(change func(*StreamConfig), try func(*Listener)) Status {
		t.Helper()
		cfg := streamConfig(TCP)
		cfg.Stream.First, cfg.Stream.Message, cfg.Stream.Idle = time.Hour, time.Hour, time.Hour
		change(&cfg.Stream)
		l, stop := start(t, cfg, make(chan Batch, 64))
		try(l)
		s := stop()
		balanced(t, s.Book)
		return s
	}
	f(func(c *StreamConfig) { c.First = soon }, func(l *Listener) { closed(t, dialTCP(t, l.Addr())) })
	s := f(func(c *StreamConfig) { c.Message = soon }, func(l *Listener) {
		slow := dialTCP(t, l.Addr())
		go func() {
			for _, b := range message(65535, 1) { // a byte at a time would take minutes
				if _, err := slow.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
		closed(t, slow)
	})
	if s.Book.Dropped[DropCut].N != 1 {
		t.Errorf("slow: %+v", s)
	}
	f(func(c *StreamConfig) { c.Idle = soon }, func(l *Listener) {
		idle := dialTCP(t, l.Addr())
		if _, err := idle.Write(message(16, 1)); err != nil {
			t.Fatal(err)
		}
		closed(t, idle)
	})
	s = f(func(c *StreamConfig) { c.PerAddress = 2 }, func(l *Listener) {
		dialTCP(t, l.Addr())
		dialTCP(t, l.Addr())
		for l.Status().Accepted < 2 {
			time.Sleep(time.Millisecond)
		}
		closed(t, dialTCP(t, l.Addr()))
	})
	if s.Refused != 1 || s.Accepted != 2 {
		t.Errorf("one too many: %+v", s)
	}
}

// A line that stands still makes the exporter wait: nothing is lost, and no more than its window is taken in.
func TestTCPBackPressure(t *testing.T) {
	out := make(chan Batch)
	l, stop := start(t, streamConfig(TCP), out)
	c := dialTCP(t, l.Addr())
	const sent = 2000
	go func() {
		m := message(1400, 7)
		for range sent {
			if _, err := c.Write(m); err != nil {
				return
			}
		}
		c.Close()
	}()
	time.Sleep(20 * time.Millisecond)
	if in := l.Book().In; in > 4*streamBatch {
		t.Errorf("%d messages taken in while nobody reads", in)
	}
	collectN(t, out, sent+1)
	s := stop()
	balanced(t, s.Book)
	if s.Book.Out != sent {
		t.Errorf("%+v", s.Book)
	}
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue writes a certificate and its key to files.
func (a authority) issue(t *testing.T, dir, name string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kd}))
	return cert, key
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tlsFixture is a listener that wants certificates, and what an exporter needs to get in.
func tlsFixture(t *testing.T, tr Transport) (cfg Config, ca authority, dir string, client tls.Certificate) {
	t.Helper()
	dir, ca = t.TempDir(), newAuthority(t)
	cfg = streamConfig(tr)
	cfg.TLS.Cert, cfg.TLS.Key = ca.issue(t, dir, "collector", 2)
	cfg.TLS.ClientCA = filepath.Join(dir, "ca.pem")
	write(t, cfg.TLS.ClientCA, ca.pem)
	c, k := ca.issue(t, dir, "exporter", 3)
	client, err := tls.LoadX509KeyPair(c, k)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, ca, dir, client
}

func TestTLS(t *testing.T) {
	cfg, ca, dir, client := tlsFixture(t, TLS)
	out := make(chan Batch, 64)
	l, stop := start(t, cfg, out)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	dialTLS := func(certs ...tls.Certificate) (*tls.Conn, error) {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "collector", Certificates: certs})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		return c, nil
	}
	c, err := dialTLS(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(message(1000, 1)); err != nil {
		t.Fatal(err)
	}
	if got := collectN(t, out, 1); got[0].Via != TLS || len(got[0].Data) != 1000 {
		t.Errorf("%+v", got)
	}
	stranger := newAuthority(t)
	sc, sk := stranger.issue(t, t.TempDir(), "stranger", 9)
	bad, err := tls.LoadX509KeyPair(sc, sk)
	if err != nil {
		t.Fatal(err)
	}
	for _, certs := range [][]tls.Certificate{nil, {bad}} {
		if c, err := dialTLS(certs...); err == nil { // TLS 1.3 tells the client with its first read
			closed(t, c)
		}
	}
	for l.Status().Refused < 2 {
		time.Sleep(time.Millisecond)
	}

	// a renewed certificate is used for the next connection, a broken one is not
	ca.issue(t, dir, "collector", 77)
	serial := func() int64 {
		certs := l.bound().(*connections).certs
		certs.mu.Lock()
		certs.lookedS = time.Time{}
		certs.mu.Unlock()
		c, err := dialTLS(client)
		if err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 77 {
		t.Errorf("certificate %d after the renewal", n)
	}
	write(t, cfg.TLS.Cert, []byte("rubbish"))
	if n := serial(); n != 77 || l.Status().TLSError == "" {
		t.Errorf("certificate %d with a broken file, error %q", n, l.Status().TLSError)
	}
	balanced(t, stop().Book)
}

func TestDTLS(t *testing.T) {
	cfg, ca, _, client := tlsFixture(t, DTLS)
	out := make(chan Batch, 64)
	l, stop := start(t, cfg, out)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	dialDTLS := func(certs ...tls.Certificate) (*dtls.Conn, error) {
		opts := []dtls.ClientOption{dtls.WithRootCAs(pool), dtls.WithServerName("collector")}
		if len(certs) > 0 {
			opts = append(opts, dtls.WithCertificates(certs...))
		}
		c, err := dtls.DialWithOptions("udp", net.UDPAddrFromAddrPort(l.Addr()), opts...)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return c, c.HandshakeContext(ctx)
	}
	c, err := dialDTLS(client)
	if err != nil {
		t.Fatal(err)
	}
	for l.Book().Out == 0 { // what comes before our side has finished its handshake is lost, as over UDP
		if _, err := c.Write(message(16, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := c.Write(message(1400, 1)); err != nil {
		t.Fatal(err)
	}
	var got []Datagram
	for len(got) == 0 || len(got[len(got)-1].Data) != 1400 {
		got = append(got, collectN(t, out, 1)...)
	}
	if d := got[len(got)-1]; d.Via != DTLS || got[0].Conn != d.Conn || d.Local != l.Addr() {
		t.Errorf("%+v", got)
	}
	if c, err := dialDTLS(); err == nil {
		c.Close()
		t.Error("let in without a certificate")
	} else if c != nil {
		c.Close()
	}
	c.Close()
	for !got[len(got)-1].End {
		got = append(got, collectN(t, out, 1)...)
	}
	balanced(t, stop().Book)
}

// FuzzFramer: whatever the bytes and their pieces, the messages are those that a plain walk over the whole finds.
func FuzzFramer(f *testing.F) {
	f.Add(append(message(16, 0), message(40, 1)...), true)
	f.Add(append(message(300, 0), 0, 10, 0, 3), false)
	f.Add([]byte{0, 10, 255, 255}, true)
	f.Fuzz(func(t *testing.T, b []byte, single bool) {
		var want [][]byte
		bad := false
		for rest := b; len(rest) >= 2; {
			if rest[0] != 0 || rest[1] != 10 {
				bad = true
				break
			}
			if len(rest) < 4 {
				break
			}
			n := int(rest[2])<<8 | int(rest[3])
			if n < 16 {
				bad = true
			}
			if n < 16 || n > len(rest) {
				break
			}
			want, rest = append(want, rest[:n]), rest[n:]
		}
		var r io.Reader = bytes.NewReader(b)
		if single {
			r = iotest.OneByteReader(r)
		}
		fr := framer{buf: make([]byte, streamBufSize)}
		var got [][]byte
		ended := false
		for !ended {
			err := fr.fill(r)
			for {
				msg, wrong := fr.next()
				if wrong {
					ended = true
				}
				if msg == nil {
					break
				}
				got = append(got, bytes.Clone(msg))
			}
			fr.keep()
			if err != nil {
				break
			}
		}
		if ended != bad || len(got) != len(want) {
			t.Fatalf("%d messages, bad %v; want %d, %v", len(got), ended, len(want), bad)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("message %d differs", i)
			}
		}
	})
}
