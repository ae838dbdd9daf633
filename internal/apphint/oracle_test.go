package apphint

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/testkit"
)

// TestOpenSSL takes ClientHellos from openssl, as one packet and in small ones.
func TestOpenSSL(t *testing.T) {
	openssl := testkit.Tool(t, "openssl")
	f := func(want string, args ...string) {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		cmd := exec.Command(openssl, append([]string{"s_client", "-connect", l.Addr().String()}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		b := make([]byte, recordLen, 4096)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		b = b[:recordLen+int(binary.BigEndian.Uint16(b[3:]))]
		if _, err := io.ReadFull(c, b[recordLen:]); err != nil {
			t.Fatal(err)
		}
		if got := text(New().Look(tcpTo(4433, string(b)), nil)); got != want {
			t.Errorf("%v: %s, want %s", args, got, want)
		}
		in, part := New(), new(Part)
		var last Hint
		for at := 0; at < len(b); at += 100 {
			p := tcpTo(4433, string(b[at:min(at+100, len(b))]))
			p.Seq = 0xffffff00 + uint32(at)
			last = in.Look(p, part)
		}
		if got := text(last); got != want {
			t.Errorf("%v in pieces: %s, want %s", args, got, want)
		}
	}
	f("https tls shop.example", "-servername", "Shop.Example", "-alpn", "h2,http/1.1")
	f("tls tls mail.example", "-servername", "mail.example")
	f("tls tls ", "-noservername")
	f("dns-tls tls r.example", "-servername", "r.example", "-alpn", "dot", "-tls1_2")
	f("https tls s.example", "-servername", "s.example", "-alpn", "h2", "-split_send_frag", "512", "-groups", "X25519:P-256:P-521:P-384")
}

// TestTsharkQUIC lets tshark decrypt the packets of the other tests, but for version 2, which releases before 4.2 do not know.
func TestTsharkQUIC(t *testing.T) {
	tshark := testkit.Tool(t, "tshark")
	msg := hello("quic.example", 300, "h3")
	packets := [][]byte{
		sample(0),
		[]byte(initialOf("original", cryptoFrame(200, msg[200:])+cryptoFrame(0, msg[:100])+cryptoFrame(100, msg[100:200]), 0)),
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(le.AppendUint32(b, 262144), 228) // bare IPv4
	var want []string
	for i, p := range packets {
		ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, byte(i), 10, 0, 0, 9, 0x9c, 0x40, 1, 0xbb, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(p)))
		binary.BigEndian.PutUint16(ip[24:], uint16(8+len(p)))
		ip = append(ip, p...)
		b = le.AppendUint32(le.AppendUint32(b, uint32(i)), 0)
		b = append(le.AppendUint32(le.AppendUint32(b, uint32(len(ip))), uint32(len(ip))), ip...)
		want = append(want, string(New().Look(udpTo(443, string(p)), nil).Name))
	}
	path := filepath.Join(t.TempDir(), "quic.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-n", "-r", path, "-T", "fields", "-e", "tls.handshake.extensions_server_name").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(bytes.TrimSpace(out))); strings.Join(got, " ") != strings.Join(want, " ") || len(got) != 2 {
		t.Errorf("tshark reads %q, we %q", got, want)
	}
}
