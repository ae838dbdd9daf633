//go:build linux

package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/agentapi"
	"crosstap/internal/ledger"
	server "crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// site is a server and what agents need to find it.
type site struct {
	t      *testing.T
	dir    string
	hub    *server.Hub
	tokens *server.TokenFile
	auth   *server.Authority
	addr   string
	halt   func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), addr: fmt.Sprintf("127.0.0.1:%d", testkit.Port(t))}
	var err error
	if s.tokens, err = server.OpenTokens(server.TokenPath(s.dir)); err != nil {
		t.Fatal(err)
	}
	if s.auth, err = server.OpenAuthority(server.AuthorityPath(s.dir)); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() { s.halt() })
	return s
}

// start starts the server, at the same address as before.
func (s *site) start() {
	s.t.Helper()
	c := server.DefaultConfig()
	c.Dir, c.Tokens, c.Interval, c.Wait, c.Lease = filepath.Join(s.dir, "agents"), s.tokens, 100*time.Millisecond, 2*time.Second, 30*time.Second
	var err error
	if s.hub, err = server.New(c); err != nil {
		s.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.hub.Serve(ctx, ln, s.auth.TLS([]string{"127.0.0.1"})) }()
	var once sync.Once
	s.halt = func() { once.Do(func() { cancel(); <-done }) }
}

// token makes one with the server's pin.
func (s *site) token(role string) agentapi.Token {
	s.t.Helper()
	token, err := s.tokens.Create(server.Grant{Role: role}, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	token.Pin = s.auth.Pin()
	return token
}

// run starts an agent that ends with the test, or when stop is called.
func (s *site) run(c Config) (stop func()) {
	s.t.Helper()
	c.Server = "https://" + s.addr
	if c.Name == "" {
		c.Name = "h1"
	}
	if c.State == "" {
		c.State = s.t.TempDir()
	}
	if testing.Verbose() && c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	a, err := New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				s.t.Error(err)
			}
		})
	}
	s.t.Cleanup(stop)
	return stop
}

// wait waits until the agent is as wanted.
func (s *site) wait(what string, ok func(server.Agent) bool) server.Agent {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		a, there := s.hub.Agent("h1")
		if there && ok(a) {
			return a
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s: %+v", what, a)
		}
	}
}

// tapIs reports whether the only tap is in a state, with what the spec says.
func tapIs(state string, spec tapspec.Spec) func(server.Agent) bool {
	return func(a server.Agent) bool {
		return len(a.Taps) == 1 && a.Taps[0].State == state && (state != agentapi.StateRunning || a.Taps[0].Digest == spec.Digest())
	}
}

// cable is two namespaces with a veth pair between them: a0 in the first, b0 in the second.
func cable(t *testing.T) (a, b *testns.Space) {
	a, b = testns.New(t), testns.New(t)
	for _, s := range []*testns.Space{a, b} {
		s.Sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
	}
	a.Sh("ip link add a0 type veth peer name b0 netns NS; ip link set a0 up", b)
	b.Sh("ip link set b0 up")
	a.Up("a0")
	b.Up("b0")
	return a, b
}

// traffic sends UDP packets of several conversations until stop is called, which returns how many.
func traffic(t *testing.T, s *testns.Space) (stop func() int) {
	t.Helper()
	fd := -1
	err := s.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		i, err := net.InterfaceByName("a0")
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	quit, sent := make(chan struct{}), make(chan int)
	go func() {
		defer unix.Close(fd)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for {
			for range 8 { // about 4,000 in a second, in bursts
				if _, err := unix.Write(fd, udp(n)); err == nil {
					n++
				}
			}
			select {
			case <-tick.C:
			case <-quit:
				sent <- n
				return
			}
		}
	}()
	var once sync.Once
	n := 0
	stop = func() int { once.Do(func() { close(quit); n = <-sent }); return n }
	t.Cleanup(func() { stop() })
	return stop
}

func udp(n int) []byte {
	b := []byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x00\x50\x00\x01\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02")
	b = append(b, 0x10, byte(n%7), 0, 53, 0, 60, 0, 0)
	return append(b, make([]byte, 52)...)
}

// book returns the books of a stage of the agent's only tap.
func book(a server.Agent, stage string) (s ledger.Statement) {
	if len(a.Taps) == 1 {
		for _, b := range a.Taps[0].Books {
			if b.Stage == stage {
				return b
			}
		}
	}
	return s
}

// metered reports whether every packet that came was metered once, but for those that a ring had no room for on a machine that is busy with other
// things: they are in the books.
func metered(a server.Agent, came int) bool {
	lost := uint64(0)
	for _, d := range book(a, "capture").Dropped {
		lost += d.N
	}
	n := book(a, "meter").Out
	return n <= uint64(came) && n+lost >= uint64(came)
}

func spec(ns *testns.Space, to ...string) tapspec.Spec {
	s := tapspec.Spec{Name: "web", Source: tapspec.Source{Interfaces: []string{"b0"}, NetNS: ns.Path(), IngressOnly: true, Ring: 4 << 20}, Meter: tapspec.Meter{Workers: 1}}
	for _, u := range to {
		s.To = append(s.To, tapspec.To{URL: u})
	}
	return s
}

// rxPackets is what the interface itself has counted.
func rxPackets(t *testing.T, s *testns.Space) (n int) {
	t.Helper()
	err := s.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		for line := range strings.Lines(string(b)) {
			if name, rest, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "b0" {
				_, _ = fmt.Sscan(strings.Fields(rest)[1], &n)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMain runs an agent in a process of its own for tests that kill it.
func TestMain(m *testing.M) {
	if text := os.Getenv("CROSSTAP_TEST_AGENT"); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

// childConfig is what a process is told.
type childConfig struct{ Server, Token, State string }

func child(text string) int {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return 2
	}
	token, err := agentapi.ParseToken(c.Token)
	if err != nil {
		return 2
	}
	a, err := New(Config{Server: c.Server, Token: token, State: c.State, Name: "h1"})
	if err != nil {
		return 2
	}
	if err := a.Run(context.Background()); err != nil {
		return 1
	}
	return 0
}

// spawn starts an agent in a process of its own.
func (s *site) spawn(token agentapi.Token, state string) *exec.Cmd {
	s.t.Helper()
	text, _ := json.Marshal(childConfig{"https://" + s.addr, token.String(), state})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CROSSTAP_TEST_AGENT="+string(text))
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	release := testkit.Guard(s.t, cmd.Process.Pid)
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		release()
	})
	return cmd
}

// collector is an IPFIX collector over TCP that counts data records.
type collector struct {
	t     *testing.T
	addr  string
	mu    sync.Mutex
	n     int
	ln    net.Listener
	conns []net.Conn
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t, addr: fmt.Sprintf("127.0.0.1:%d", testkit.Port(t))}
	c.start()
	t.Cleanup(c.halt)
	return c
}

func (c *collector) start() {
	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.ln, c.addr = ln, ln.Addr().String()
	c.mu.Unlock()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
			go c.read(conn)
		}
	}()
}

// read counts the records by the sequence numbers of messages (RFC 7011, section 3.1): that of the last one is the number before it.
func (c *collector) read(conn net.Conn) {
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		body := make([]byte, int(binary.BigEndian.Uint16(head[2:]))-len(head))
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		c.mu.Lock()
		for len(body) >= 4 {
			n := int(binary.BigEndian.Uint16(body[2:]))
			if n < 4 || n > len(body) {
				break
			}
			if id := binary.BigEndian.Uint16(body); id >= 256 {
				c.n++ // a set with records
			}
			body = body[n:]
		}
		c.mu.Unlock()
	}
}

func (c *collector) records() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *collector) halt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ln.Close()
	for _, x := range c.conns {
		x.Close()
	}
	c.conns = nil
}
