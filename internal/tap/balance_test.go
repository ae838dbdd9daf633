package tap_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/tap"
	"crosstap/internal/tap/groom"
	"crosstap/internal/testkit"
)

// aTool listens for copies over UDP and notes which conversations they are of.
type aTool struct {
	t    *testing.T
	port int
	conn *net.UDPConn
	seen map[uint16]bool // by source port
}

func (a *aTool) open() {
	a.t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: a.port})
	if err != nil {
		a.t.Fatal(err)
	}
	a.conn, a.seen = conn, map[uint16]bool{}
	a.t.Cleanup(func() { _ = conn.Close() })
}

// read takes what has come.
func (a *aTool) read() {
	var b [2048]byte
	_ = a.conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	for {
		n, err := a.conn.Read(b[:])
		if err != nil {
			return
		}
		if n > 36 {
			a.seen[binary.BigEndian.Uint16(b[34:])] = true
		}
	}
}

// TestBalanceFollowsTools balances conversations over two tools, of which one goes away and returns.
func TestBalanceFollowsTools(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	a, b := &aTool{t: t, port: testkit.Port(t)}, &aTool{t: t, port: testkit.Port(t)}
	a.open()
	b.open()
	s := tap.DefaultSpec()
	steps, err := groom.Parse("balance=2")
	if err != nil {
		t.Fatal(err)
	}
	s.File, s.Groom = fifo, &steps
	for _, x := range []*aTool{a, b} {
		s.To = append(s.To, fmt.Sprintf("udp://127.0.0.1:%d?absent=pause", x.port))
	}
	line, err := tap.New(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- line.Run(ctx) }()

	const conversations = 64
	packets := manyConversations(conversations)
	if _, err := in.WriteString(pcapHead); err != nil {
		t.Fatal(err)
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !is(); {
			if time.Now().After(end) {
				t.Fatalf("%s: %d and %d conversations; %s", what, len(a.seen), len(b.seen), line.Summary(0))
			}
			if _, err := in.Write(packets); err != nil {
				t.Fatal(err)
			}
			a.read()
			b.read()
		}
	}
	until("both there", func() bool { return len(a.seen)+len(b.seen) == conversations })
	ofA, ofB := maps.Clone(a.seen), maps.Clone(b.seen)
	if len(ofA) == 0 || len(ofB) == 0 {
		t.Fatalf("%d and %d conversations", len(ofA), len(ofB))
	}
	_ = a.conn.Close()
	until("one gone", func() bool { return len(b.seen) == conversations })
	a.open()
	until("it is back", func() bool { return len(a.seen) == len(ofA) })
	if !maps.Equal(a.seen, ofA) {
		t.Errorf("%v came back, not %v", a.seen, ofA)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, st := range line.Statements() {
		if st.Balance() != nil || st.Held != 0 {
			t.Errorf("%+v: %v", st, st.Balance())
		}
	}
}

const pcapHead = "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00"

// manyConversations returns records of a pcap file: a UDP packet of each of n conversations.
func manyConversations(n int) (out []byte) {
	for i := range n {
		b := make([]byte, 16+60)
		binary.LittleEndian.PutUint32(b, 1700000000)
		b[8], b[12] = 60, 60
		p := b[16:]
		copy(p, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x00\x2e\x00\x00\x00\x00\x40\x11\x66\xbd\x0a\x00\x00\x01\x0a\x00\x00\x02")
		binary.BigEndian.PutUint16(p[34:], uint16(10000+i))
		copy(p[36:], "\x00\x35\x00\x1a\x00\x00")
		out = append(out, b...)
	}
	return out
}
