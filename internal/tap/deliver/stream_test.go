package deliver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
)

// authority makes certificates in a folder: ca.pem, and NAME.pem with NAME.key for each name.
func authority(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, kind string, der []byte) {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range append([]string{"ca"}, names...) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		}
		if name == "expired" {
			c.NotAfter = time.Now().Add(-time.Minute)
		}
		if ca == nil {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
			ca, caKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		must(t, err)
		write(name+".pem", "CERTIFICATE", der)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		write(name+".key", "PRIVATE KEY", pkcs8)
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stream returns an opened stream to a port of this host with the certificates in dir.
func stream(t *testing.T, port int, dir, more string) *Stream {
	t.Helper()
	target, err := ParseStream(fmt.Sprintf("tls://127.0.0.1:%d?ca=%[2]s/ca.pem&cert=%[2]s/tap.pem&key=%[2]s/tap.key%s", port, dir, more))
	must(t, err)
	s, err := NewStream(StreamConfig{Target: target, File: FileConfig{Program: "crosstap test", Interface: func(uint32) string { return "vnet0" }}})
	must(t, err)
	must(t, s.Open(context.Background()))
	return s
}

// numbered are n frames that tell which they are.
func numbered(n, size int) (all []frame.Frame) {
	for i := range n {
		b := make([]byte, size)
		copy(b, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		all = append(all, frame.Frame{Data: b, OrigLen: size, Link: frame.LinkEthernet, Point: uint32(i % 2), TimeNS: 1772366400_000000000 + int64(i), Dir: frame.Ingress})
	}
	return all
}

// feed runs a sink with frames in batches of 100, with a pause after each.
func feed(t *testing.T, s interface {
	Run(context.Context, <-chan frame.Batch) error
	Book() *ledger.Book
}, frames []frame.Frame, pause time.Duration,
) ledger.Statement {
	t.Helper()
	in, done := make(chan frame.Batch), make(chan error, 1)
	go func() { done <- s.Run(context.Background(), in) }()
	for part := range slices.Chunk(frames, 100) {
		in <- frame.Batch{Frames: part}
		time.Sleep(pause)
	}
	close(in)
	if err := <-done; err != nil {
		t.Error(err)
	}
	st := s.Book().Read()
	if err := st.Balance(); err != nil || st.Held != 0 {
		t.Errorf("%+v: %v", st, err)
	}
	return st
}

// tsharkFrames returns what tshark reads in a capture: each frame's bytes as hex, in order.
func tsharkFrames(t *testing.T, path string) (all []string) {
	t.Helper()
	out, err := exec.Command(testkit.Tool(t, "tshark"), "-r", path, "-n", "-T", "fields", "-e", "eth.dst", "-e", "eth.src", "-e", "eth.type", "-e", "data.data", "-e", "frame.interface_name").Output()
	must(t, err)
	for l := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(l), "\t")
		if f[4] != "vnet0" {
			t.Errorf("interface %q", f[4])
		}
		all = append(all, strings.NewReplacer(":", "", "0x", "").Replace(f[0]+f[1]+f[2]+f[3]))
	}
	return all
}

// TestStreamToOpenSSL streams to OpenSSL with certificates both ways; tshark reads what it wrote.
func TestStreamToOpenSSL(t *testing.T) {
	openssl, dir := testkit.Tool(t, "openssl"), authority(t, "tool", "tap")
	got := filepath.Join(dir, "got.pcapng")
	out, err := os.Create(got)
	must(t, err)
	defer out.Close()
	finishWithin(t, patience)
	port := testkit.Port(t)
	c := exec.Command(openssl, "s_server", "-quiet", "-accept", fmt.Sprint(port), "-cert", dir+"/tool.pem", "-key", dir+"/tool.key", "-CAfile", dir+"/ca.pem", "-Verify", "1", "-verify_return_error", "-naccept", "2")
	c.Stdout = out
	in, err := c.StdinPipe() // open, or the server takes its end for a command
	must(t, err)
	defer in.Close()
	must(t, c.Start())
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	waitPort(t, port)
	s := stream(t, port, dir, "")
	frames := numbered(3000, 200)
	st := feed(t, s, frames, 0)
	if st.Out != 3000 {
		t.Errorf("%+v", st)
	}
	want := make([]string, len(frames))
	for i := range frames {
		want[i] = hex.EncodeToString(frames[i].Data)
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if info, err := out.Stat(); err == nil && info.Size() > 3000*(200+36) {
			break
		}
	}
	if diff := cmp.Diff(want, tsharkFrames(t, got)); diff != "" {
		t.Errorf("(-sent, +tshark)\n%.2000s", diff)
	}
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// finishWithin sets how long streams may take at their end.
func finishWithin(t *testing.T, d time.Duration) {
	old := finishLimit
	finishLimit = d
	t.Cleanup(func() { finishLimit = old })
}

// waitPort returns when something listens on a port, by the kernel's own list: a connection would be one of the two that are accepted.
func waitPort(t *testing.T, port int) {
	t.Helper()
	want := fmt.Sprintf(":%04X 00000000:0000 0A", port)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, name := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
			b, _ := os.ReadFile(name)
			if strings.Contains(string(b), want) || strings.Contains(string(b), fmt.Sprintf(":%04X 00000000000000000000000000000000:0000 0A", port)) {
				return
			}
		}
	}
	t.Fatalf("nothing listens on port %d", port)
}

// receiver is a TLS server that demands a certificate.
type receiver struct {
	net.Listener
	port int
}

// unread is how many bytes the receiver's host takes before the receiver reads them.
const unread = 16 << 10

func listenTLS(t *testing.T, dir string) receiver {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(dir+"/tool.pem", dir+"/tool.key")
	must(t, err)
	ca, err := os.ReadFile(dir + "/ca.pem")
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	// A small buffer: what the receiver's host has and the receiver never reads is little.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, unread/2) })
	}}
	plain, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	l := tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	t.Cleanup(func() { l.Close() })
	return receiver{l, l.Addr().(*net.TCPAddr).Port}
}

// TestStreamReconnects breaks connections; each begins with a section of its own, and what no connection brought is counted.
func TestStreamReconnects(t *testing.T) {
	finishWithin(t, patience)
	dir := authority(t, "tool", "tap")
	l := listenTLS(t, dir)
	const keep = 100_000 // bytes of each connection but the last
	parts := make(chan []byte, 100)
	go func() {
		defer close(parts)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b []byte
			if n > 0 && n < 3 { // the first one is the pre-flight's
				b = make([]byte, keep)
				k, _ := io.ReadFull(c, b)
				b = b[:k]
				_ = c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			} else {
				b, _ = io.ReadAll(c)
			}
			c.Close()
			parts <- b
		}
	}()
	s := stream(t, l.port, dir, "")
	frames := numbered(2500, 300)
	st := feed(t, s, frames, 40*time.Millisecond)
	l.Close()
	received, sections := 0, 0
	for b := range parts {
		if len(b) == 0 {
			continue
		}
		sections++
		path := filepath.Join(t.TempDir(), "part.pcapng")
		n := wholeBlocks(b)
		must(t, os.WriteFile(path, b[:n], 0o600))
		received += len(tsharkFrames(t, path))
	}
	const accepted = 2 * unread / 300 // frames that the host of a receiver that went away had taken, of two connections
	if sections != 3 || uint64(received) > st.In || uint64(received)+st.Dropped[StreamLost].N+accepted < st.Out {
		t.Errorf("%d sections, %d frames received; %+v", sections, received, st)
	}
	if st.Out+st.Dropped[StreamLost].N != 2500 || st.Dropped[StreamLost].N == 0 {
		t.Errorf("%+v", st)
	}
}

// wholeBlocks returns the bytes of the complete blocks at the start of b.
func wholeBlocks(b []byte) (n int) {
	for len(b)-n >= 12 {
		size := int(b[n+4]) | int(b[n+5])<<8 | int(b[n+6])<<16
		if size < 12 || n+size > len(b) {
			break
		}
		n += size
	}
	return n
}

// TestStreamSheds fills the queue of a receiver that does not read: what does not fit is dropped, nobody waits, and the next frame that does
// arrive tells how many are missing.
func TestStreamSheds(t *testing.T) {
	dir := authority(t, "tool", "tap")
	l := listenTLS(t, dir)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			raw, _ := c.(*tls.Conn).NetConn().(*net.TCPConn).SyscallConn()
			_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
			defer c.Close()
		}
	}()
	s := stream(t, l.port, dir, "&queue=1MiB")
	finishWithin(t, 200*time.Millisecond)
	frames := numbered(12_000, 1400)
	st := feed(t, s, frames, 0)
	if st.Dropped[StreamFull].N < 1000 || st.Dropped[StreamAway].N+st.Dropped[StreamLost].N == 0 {
		t.Errorf("%+v", st)
	}
}

// TestStreamRefused names what is wrong with certificates.
func TestStreamRefused(t *testing.T) {
	dir, other := authority(t, "tool", "tap"), authority(t, "tap")
	l := listenTLS(t, dir)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	f := func(options, want string) {
		t.Helper()
		target, err := ParseStream(fmt.Sprintf("tls://127.0.0.1:%d?%s", l.port, options))
		must(t, err)
		s, err := NewStream(StreamConfig{Target: target, Patient: true})
		if err == nil {
			err = s.Open(context.Background())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", options, err, want)
		}
	}
	f("ca="+dir+"/ca.pem", "certificate required")
	f("ca="+dir+"/ca.pem&cert="+other+"/tap.pem&key="+other+"/tap.key", "unknown certificate authority")
	f("ca="+other+"/ca.pem&cert="+dir+"/tap.pem&key="+dir+"/tap.key", "certificate signed by unknown authority")
	f("ca="+dir+"/none.pem", "no such file")
}
