package export

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
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/testkit"
)

// streamCollector accepts connections one after the other and decodes each as a session of its own.
type streamCollector struct {
	t  *testing.T
	l  net.Listener
	mu sync.Mutex

	recs        []flow.Record
	lost        uint64
	templates   int
	redefined   int
	connections int
	conn        net.Conn
	errs        []error
	wg          sync.WaitGroup
}

func listenTCP(t *testing.T, at string, config *tls.Config) *streamCollector {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	c := &streamCollector{t: t, l: l}
	c.wg.Go(c.accept)
	t.Cleanup(c.close)
	return c
}

func (c *streamCollector) close() {
	c.l.Close()
	c.drop()
	c.wg.Wait()
}

// drop breaks the present connection.
func (c *streamCollector) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
}

// hangUp ends the present connection for the exporter, and goes on reading what was on its way.
func (c *streamCollector) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.(*net.TCPConn).CloseWrite()
}

func (c *streamCollector) accept() {
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.conn, c.connections = conn, c.connections+1
		c.mu.Unlock()
		c.read(conn)
		conn.Close()
	}
}

func (c *streamCollector) read(conn net.Conn) {
	s := ipfix.NewSession(ipfix.Limits{})
	for {
		msg := make([]byte, 16)
		if _, err := io.ReadFull(conn, msg); err != nil {
			return
		}
		msg = append(msg, make([]byte, int(binary.BigEndian.Uint16(msg[2:]))-16)...)
		if _, err := io.ReadFull(conn, msg[16:]); err != nil {
			return
		}
		c.mu.Lock()
		recs, res, err := s.Decode(msg, 1, c.recs)
		c.recs = recs
		c.lost += res.Lost
		c.templates += res.Templates
		c.redefined += res.Redefined
		if err != nil || res.MissingSets != 0 {
			c.errs = append(c.errs, err)
		}
		c.mu.Unlock()
	}
}

func (c *streamCollector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.recs)
}

// wait returns when the collector has n records.
func (c *streamCollector) wait(n int) {
	c.t.Helper()
	c.until(strconv.Itoa(n)+" records", func() bool { return len(c.recs) >= n })
}

// until waits for a condition.
func (c *streamCollector) until(what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		ok := is()
		c.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no %s; %d records in %d connections", what, c.count(), c.connections)
		}
	}
}

func (c *streamCollector) target() Target {
	a := c.l.Addr().(*net.TCPAddr)
	return Target{Transport: TCP, Host: a.IP.String(), Port: uint16(a.Port), Domain: 5, Refresh: time.Minute, SpoolBytes: minSpool}
}

// ports returns the source ports, by which the records of a test are told apart.
func (c *streamCollector) ports() (all []uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.recs {
		all = append(all, r.SrcPort)
	}
	return all
}

func sequence(n int) (all []uint16) {
	for i := range n {
		all = append(all, uint16(i))
	}
	return all
}

// Over a connection a template comes once, nothing is lost, and the books say what was acknowledged.
func TestStream(t *testing.T) {
	c := listenTCP(t, "127.0.0.1:0", nil)
	cfg := config(c.target())
	cfg.SpoolDir = t.TempDir()
	l := start(t, t.Context(), cfg)
	all := records(2000)
	for i := 0; i < len(all); i += 100 {
		l.in <- all[i : i+100]
	}
	c.wait(2000)
	l.end(t)
	if diff := cmp.Diff(sequence(2000), c.ports()); diff != "" || c.lost != 0 || c.redefined != 0 || c.connections != 1 || len(c.errs) > 0 {
		t.Errorf("%d lost, %d redefined, %d connections, %v (-want +got):\n%s", c.lost, c.redefined, c.connections, c.errs, diff)
	}
	if s := l.Books()[0].Read(); s.Out != 2000 {
		t.Errorf("books: %+v", s)
	}
}

// While the collector is away records go to the disk, through the end of the process too; then they come in order and once.
func TestSpoolOutlivesTheProcess(t *testing.T) {
	c := listenTCP(t, fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)), nil)
	target := c.target()
	c.close()
	cfg := config(target)
	cfg.SpoolDir = t.TempDir()
	all := records(3000)
	run := func(part []flow.Record, held int64) {
		t.Helper()
		l := start(t, t.Context(), cfg)
		for i := 0; i < len(part); i += 100 {
			l.in <- part[i : i+100]
		}
		close(l.in)
		if err := <-l.done; err != nil {
			t.Error(err)
		}
		if s := l.Books()[0].Read(); s.Balance() != nil || s.Held != held {
			t.Errorf("books: %v, %+v, want %d held", s.Balance(), s, held)
		}
	}
	run(all[:1000], 1000)
	run(all[1000:2000], 2000)
	back := listenTCP(t, c.l.Addr().String(), nil)
	run(all[2000:], 0)
	back.wait(3000)
	if diff := cmp.Diff(sequence(3000), back.ports()); diff != "" || back.lost != 0 || back.redefined != 0 || len(back.errs) > 0 {
		t.Errorf("%d lost, %d redefined, %v (-want +got):\n%s", back.lost, back.redefined, back.errs, diff)
	}
	left, _ := filepath.Glob(filepath.Join(cfg.SpoolDir, "*", "*.ipfix"))
	if len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
}

// A collector that was told the templates goes away, and the process ends: the next one, which has never told it anything, has the templates of what waits on the disk.
func TestSpoolHasWhatWasTold(t *testing.T) {
	c := listenTCP(t, fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)), nil)
	cfg := config(c.target())
	cfg.SpoolDir = t.TempDir()
	all := records(3000)
	l := start(t, t.Context(), cfg)
	l.in <- all[:1000]
	c.until("acknowledgement of all", func() bool { return l.Books()[0].Read().Out == 1000 })
	c.close()
	c.until("end of the connection", func() bool { return !l.Status()[0].Connected })
	l.in <- all[1000:2000]
	close(l.in)
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	if s := l.Books()[0].Read(); s.Balance() != nil || s.Out != 1000 || s.Held != 1000 {
		t.Errorf("books: %+v", s)
	}
	back := listenTCP(t, c.l.Addr().String(), nil)
	l = start(t, t.Context(), cfg)
	l.in <- all[2000:]
	back.wait(2000)
	l.end(t)
	if diff := cmp.Diff(sequence(3000)[1000:], back.ports()); diff != "" || back.lost != 0 || len(back.errs) > 0 {
		t.Errorf("%d lost, %v (-want +got):\n%s", back.lost, back.errs, diff)
	}
	if s := l.Books()[0].Read(); s.Out != 2000 || s.In != 2000 {
		t.Errorf("books: %+v", s)
	}
}

// What waits on the disk without its templates cannot be sent, and does not count as sent.
func TestSpoolWithoutTemplates(t *testing.T) {
	c := listenTCP(t, "127.0.0.1:0", nil)
	cfg := config(c.target())
	cfg.SpoolDir = t.TempDir()
	sp, _, err := openSpool(filepath.Join(cfg.SpoolDir, spoolName(&cfg.Targets[0])), minSpool)
	if err != nil {
		t.Fatal(err)
	}
	e, recs, n := ipfix.NewEncoder(ipfix.EncoderConfig{Domain: 5}), records(100), 0
	now := time.Now()
	add := func(emit func(m []byte, n int) error) {
		t.Helper()
		for i := range recs {
			if err := e.Add(&recs[i], now, emit); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Flush(now, emit); err != nil {
			t.Fatal(err)
		}
	}
	add(func([]byte, int) error { return nil }) // the messages with the templates
	add(func(m []byte, records int) error {
		n += records
		return sp.put(bytes.Clone(m), records)
	})
	sp.close()
	l := start(t, t.Context(), cfg)
	l.end(t)
	if s := l.Books()[0].Read(); s.Balance() != nil || n != 100 || s.In != 100 || s.Out != 0 || s.Dropped[DropSend].N != 100 {
		t.Errorf("%d records stored; books: %+v", n, s)
	}
}

// A connection that breaks again and again: every record comes at least once, in order but for what is repeated, and the status says how
// many were.
func TestConnectionBreaks(t *testing.T) {
	c := listenTCP(t, "127.0.0.1:0", nil)
	cfg := config(c.target())
	cfg.SpoolDir = t.TempDir()
	l := start(t, t.Context(), cfg)
	all := records(4000)
	breaks := 0
	for i := 0; i < len(all); i += 100 {
		l.in <- all[i : i+100]
		if i%1000 == 900 {
			breaks++
			c.until("another connection", func() bool { return c.connections == breaks })
			c.hangUp()
		}
	}
	for deadline := time.Now().Add(patience); l.Books()[0].Read().Held > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	st := l.Status()[0]
	l.end(t)
	seen := make(map[uint16]int)
	for _, p := range c.ports() {
		seen[p]++
	}
	if st.Connections < 4 || len(c.errs) > 0 || l.Books()[0].Read().Out != 4000 {
		t.Errorf("status %+v, errors %v, books %+v", st, c.errs, l.Books()[0].Read())
	}
	if len(seen) != 4000 || uint64(len(c.ports())-len(seen)) > st.Repeated {
		t.Errorf("%d of 4000 came, %d twice, status says %d repeated", len(seen), len(c.ports())-len(seen), st.Repeated)
	}
}

// A full spool takes no more, counts it, and keeps what it has.
func TestSpoolFull(t *testing.T) {
	c := listenTCP(t, fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)), nil)
	target := c.target()
	c.close()
	cfg := config(target)
	cfg.SpoolDir = t.TempDir()
	l := start(t, t.Context(), cfg)
	for range 30 {
		l.in <- records(1000)
		time.Sleep(2 * time.Millisecond)
	}
	close(l.in)
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	s := l.Books()[0].Read()
	if s.Balance() != nil || s.Dropped[DropSpool].N == 0 || s.Held == 0 || s.Held+int64(s.Dropped[DropSpool].N) != 30000 {
		t.Errorf("books: %v %+v", s.Balance(), s)
	}
}

// A file that ends in the middle of a message, or in anything else, gives up its end alone.
func TestSpoolDamaged(t *testing.T) {
	dir := t.TempDir()
	s, _, err := openSpool(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var msgs [][]byte
	e := ipfix.NewEncoder(ipfix.EncoderConfig{Domain: 5, MaxLen: 600})
	recs := records(50)
	keep := func(m []byte, n int) error {
		msgs = append(msgs, m)
		return s.put(append([]byte(nil), m...), n)
	}
	for i := range recs {
		if err := e.Add(&recs[i], time.Now(), keep); err != nil {
			t.Fatal(err)
		}
	}
	want := s.records
	path := s.path(s.files[0].n)
	if _, _, err := openSpool(dir, 1<<20); err == nil {
		t.Error("a second process could open the spool")
	}
	s.close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write(msgs[0][:40])
	f.Close()
	s, damaged, err := openSpool(dir, 1<<20)
	if err != nil || damaged != 40 || s.records != want {
		t.Fatalf("%v, %d bytes damaged, %d records, want %d", err, damaged, s.records, want)
	}
	var got uint64
	for {
		p, ok, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got += uint64(p.records)
		if err := s.ack(p); err != nil {
			t.Fatal(err)
		}
	}
	if got != want || !s.empty() {
		t.Errorf("%d of %d records", got, want)
	}
	s.close()
}

// certificates makes an authority and certificates of both ends in dir.
func certificates(t *testing.T, dir string) (server *tls.Config) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.pem", "CERTIFICATE", der)
	for i, name := range []string{"collector.example", "exporter.example"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(2 + i)), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		k, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".key", "PRIVATE KEY", k)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "collector.example.pem"), filepath.Join(dir, "collector.example.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	text, _ := os.ReadFile(filepath.Join(dir, "ca.pem"))
	pool.AppendCertsFromPEM(text)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
}

// Both ends show certificates. A collector that does not know ours gets, and costs, nothing.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	c := listenTCP(t, "127.0.0.1:0", certificates(t, dir))
	target := c.target()
	target.Transport, target.CA, target.ServerName = TLS, filepath.Join(dir, "ca.pem"), "collector.example"
	cfg := config(target)
	cfg.SpoolDir = t.TempDir()
	l := start(t, t.Context(), cfg) // without a certificate of our own
	l.in <- records(100)
	for deadline := time.Now().Add(patience); l.Status()[0].LastError == "" && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	close(l.in)
	<-l.done
	if s := l.Books()[0].Read(); s.Held != 100 || s.Out != 0 || l.Status()[0].LastError == "" {
		t.Errorf("books %+v, status %+v", s, l.Status()[0])
	}
	target.Cert, target.Key = filepath.Join(dir, "exporter.example.pem"), filepath.Join(dir, "exporter.example.key")
	cfg.Targets[0] = target
	l = start(t, t.Context(), cfg)
	c.wait(100)
	st := l.Status()[0]
	l.end(t)
	if diff := cmp.Diff(sequence(100), c.ports()); diff != "" || st.Peer != "CN=collector.example" {
		t.Errorf("peer %q (-want +got):\n%s", st.Peer, diff)
	}
}

// The end of the context spools what is left.
func TestStreamContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := config(Target{Transport: TCP, Host: "127.0.0.1", Port: 9, Domain: 5, Refresh: time.Minute, SpoolBytes: minSpool})
	cfg.SpoolDir = t.TempDir()
	l := start(t, ctx, cfg)
	l.in <- records(5)
	time.Sleep(50 * time.Millisecond)
	cancel()
	<-l.done
	if s := l.Books()[0].Read(); s.Balance() != nil || s.In != 5 {
		t.Errorf("books: %v %+v", s.Balance(), s)
	}
}

// Targets of one collector have a spool each.
func TestSpoolForEachTarget(t *testing.T) {
	var targets []Target
	for _, url := range []string{"ipfix+tcp://10.0.0.9?filter=tcp", "ipfix+tcp://10.0.0.9?filter=udp", "ipfix+tcp://10.0.0.8", "ipfix://10.0.0.9"} {
		x, err := ParseTarget(url)
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, x)
	}
	c := DefaultConfig()
	c.Targets, c.SpoolDir = targets, t.TempDir()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range e.senders[:3] {
		if s.stream.dir == "" || seen[s.stream.dir] {
			t.Errorf("%s: spool %q", s.target, s.stream.dir)
		}
		seen[s.stream.dir] = true
	}
}
