//go:build linux

package agent

import (
	"context"
	"crypto/tls"
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
	"crosstap/internal/tap/testns"
	"crosstap/internal/tapspec"
	"crosstap/internal/testkit"
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
	s := &site{t: t, dir: t.TempDir(), addr: "127.0.0.1:0"}
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
	if testing.Verbose() {
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

// TestUpgrade changes a tap's spec while packets come: each is metered once, as the interface's own counter says.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	a, b := cable(t)
	s := newSite(t)
	s.run(Config{Token: s.token(agentapi.RoleAgent)})
	sp := spec(b, "null:")
	if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
		t.Fatal(err)
	}
	s.wait("running", tapIs(agentapi.StateRunning, sp))
	before := rxPackets(t, b)
	stop := traffic(t, a)
	for i := range 4 {
		sp.Meter.Active = tapspec.Duration(time.Duration(i+20) * time.Second)
		if i == 2 {
			sp.Source.Ring = 8 << 20
		}
		if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
			t.Fatal(err)
		}
		got := s.wait("upgraded", tapIs(agentapi.StateRunning, sp))
		if got.Taps[0].Gap != 0 {
			t.Errorf("a gap of %s", got.Taps[0].Gap)
		}
	}
	sent := stop()
	if n := rxPackets(t, b) - before; n != sent {
		t.Fatalf("%d packets came, %d were sent", n, sent)
	}
	got := s.wait("all metered", func(a server.Agent) bool { return book(a, "meter").Out >= uint64(sent) })
	time.Sleep(300 * time.Millisecond) // for any that would be too much
	got, _ = s.hub.Agent("h1")
	handover := book(got, "handover")
	if n := book(got, "meter").Out; n != uint64(sent) {
		t.Errorf("%d packets metered, %d sent; %+v", n, sent, handover)
	}
	if handover.Dropped[0].N == 0 || handover.Dropped[1].N == 0 {
		t.Errorf("no two taps captured at the same time: %+v", handover)
	}
	if err := book(got, "capture").Balance(); err != nil {
		t.Error(err)
	}
}

// TestServerLoss takes the server away: the tap goes on, and the agent comes back. When the lease ends first, the tap ends.
func TestServerLoss(t *testing.T) {
	t.Parallel()
	a, b := cable(t)
	s := newSite(t)
	state := t.TempDir()
	token := s.token(agentapi.RoleAgent)
	s.run(Config{Token: token, State: state})
	sp := spec(b, "null:")
	sp.Lease = tapspec.Duration(patience)
	if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
		t.Fatal(err)
	}
	s.wait("running", tapIs(agentapi.StateRunning, sp))
	stop := traffic(t, a)
	s.halt()
	time.Sleep(500 * time.Millisecond) // within the lease
	s.start()
	got := s.wait("back", tapIs(agentapi.StateRunning, sp))
	sent := stop()
	got = s.wait("all metered", func(a server.Agent) bool { return book(a, "meter").Out == uint64(sent) })
	if handed := book(got, "handover"); len(handed.Dropped) < 2 || handed.Dropped[1].N != 0 {
		t.Errorf("the tap was made anew: %+v", handed)
	}
	sp.Lease = tapspec.Duration(time.Second)
	if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
		t.Fatal(err)
	}
	s.wait("a short lease", tapIs(agentapi.StateRunning, sp))
	s.halt()
	for end := time.Now().Add(patience); packetSockets(t, b) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the tap goes on without a lease")
		}
	}
	s.start()
	s.wait("running again", tapIs(agentapi.StateRunning, sp))
}

// packetSockets counts the packet sockets of a namespace.
func packetSockets(t *testing.T, s *testns.Space) (n int) {
	t.Helper()
	err := s.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/packet")
		n = strings.Count(string(b), "\n") - 1
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestResume starts an agent again while the server is away: its taps run again within their lease.
func TestResume(t *testing.T) {
	t.Parallel()
	_, b := cable(t)
	s := newSite(t)
	state := t.TempDir()
	token := s.token(agentapi.RoleAgent)
	stop := s.run(Config{Token: token, State: state})
	sp := spec(b, "null:")
	if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
		t.Fatal(err)
	}
	s.wait("running", tapIs(agentapi.StateRunning, sp))
	s.halt()
	stop()
	if n := packetSockets(t, b); n != 0 {
		t.Fatalf("%d sockets of an agent that has ended", n)
	}
	s.run(Config{Token: token, State: state})
	for end := time.Now().Add(patience); packetSockets(t, b) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the tap does not run again")
		}
	}
	s.start()
	s.wait("known again", tapIs(agentapi.StateRunning, sp))
}

// TestRefusals asks for what an agent does not do.
func TestRefusals(t *testing.T) {
	t.Parallel()
	_, b := cable(t)
	s := newSite(t)
	s.run(Config{Token: s.token(agentapi.RoleAgent)})
	s.wait("registered", func(a server.Agent) bool { return a.State == server.Online && len(a.Interfaces) > 0 })
	if err := s.hub.Put("h1", []tapspec.Spec{spec(b, "vxlan://10.9.9.9?vni=1")}); err == nil || !strings.Contains(err.Error(), "copies payload") {
		t.Errorf("payload: %v", err)
	}
	refused := func(sp tapspec.Spec, want string) {
		t.Helper()
		if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
			t.Fatal(err)
		}
		a := s.wait("refused", func(a server.Agent) bool {
			return len(a.Taps) == 1 && a.Taps[0].State != agentapi.StateRunning && strings.Contains(a.Taps[0].Error, want)
		})
		if a.Taps[0].State == "" {
			t.Errorf("%+v", a.Taps)
		}
	}
	refused(spec(b, "flows:-"), "no standard output")
	headers := spec(b, "pcapng:x.pcapng")
	headers.Source.Snap = 160
	refused(headers, "writes no files")
	refused(spec(b, "ipfix+tcp://127.0.0.1:1?spool_dir=/tmp/x"), "spool_dir")
	bad := spec(b, "null:")
	bad.Filter = "tcp prot 80"
	refused(bad, "filter")
	gone := spec(b, "null:")
	gone.Source.Interfaces = []string{"b7"}
	refused(gone, `"b7"`)
	good := spec(b, "null:")
	if err := s.hub.Put("h1", []tapspec.Spec{good}); err != nil {
		t.Fatal(err)
	}
	s.wait("running after all", tapIs(agentapi.StateRunning, good))
}

// TestWhoComesIn tries tokens and servers that do not belong together.
func TestWhoComesIn(t *testing.T) {
	t.Parallel()
	s, other := newSite(t), newSite(t)
	f := func(token agentapi.Token, want string) {
		t.Helper()
		c, err := newClient("https://"+s.addr, token, Config{}.TLS)
		if err != nil {
			t.Fatal(err)
		}
		var w agentapi.Welcome
		_, err = c.call(context.Background(), "POST", "register", nil, agentapi.Registration{Version: 1, Name: "h2", Instance: "x"}, &w, patience)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	good := s.token(agentapi.RoleAgent)
	f(good, "")
	f(s.token(agentapi.RoleOperator), "has role operator")
	f(other.token(agentapi.RoleAgent), "not of the server")
	wrong := good
	wrong.Secret = "x" + wrong.Secret[1:]
	f(wrong, "revoked")
	if err := s.tokens.Revoke(good.ID); err != nil {
		t.Fatal(err)
	}
	f(good, "revoked")
	bare := good
	bare.Pin = ""
	f(bare, "certificate")
	if _, err := newClient("http://192.0.2.1", good, Config{}.TLS); err == nil {
		t.Error("a token in the clear")
	}
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
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

// TestKill kills an agent while an application talks across the interface that it taps: the application loses nothing, nothing is left at the
// interface, and what had been metered and could not be sent is sent by the next process.
func TestKill(t *testing.T) {
	t.Parallel()
	a, b := cable(t)
	a.Sh("ip addr add 10.0.0.1/24 dev a0")
	b.Sh("ip addr add 10.0.0.2/24 dev b0")
	s := newSite(t)
	state, token := t.TempDir(), s.token(agentapi.RoleAgent)
	collector := newCollector(t)
	sp := spec(b, "ipfix+tcp://"+collector.addr)
	sp.Meter.Idle, sp.Meter.Active = tapspec.Duration(200*time.Millisecond), tapspec.Duration(200*time.Millisecond)
	cmd := s.spawn(token, state)
	if err := s.hub.Put("h1", []tapspec.Spec{sp}); err != nil {
		t.Fatal(err)
	}
	s.wait("running", tapIs(agentapi.StateRunning, sp))
	a.Stream(b, "10.0.0.2", make([]byte, 1<<20))
	s.wait("all sent", func(x server.Agent) bool {
		e := book(x, "export")
		return e.Out > 0 && e.Held == 0 && book(x, "flow_cache").Held == 0
	})
	collector.halt()
	a.Stream(b, "10.0.0.2", make([]byte, 1<<20)) // its flows wait on the disk
	s.wait("waiting", func(x server.Agent) bool { return book(x, "export").Held >= 1 && book(x, "flow_cache").Held == 0 })
	for end := time.Now().Add(patience); !spooled(state); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is on the disk")
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); a.Stream(b, "10.0.0.2", make([]byte, 32<<20)) }() // fails the test when a byte is lost
	time.Sleep(20 * time.Millisecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	<-done
	for end := time.Now().Add(patience); packetSockets(t, b) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a socket is left")
		}
	}
	before := collector.records()
	collector.start()
	s.spawn(token, state)
	s.wait("running again", tapIs(agentapi.StateRunning, sp))
	for end := time.Now().Add(patience); collector.records() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d records before, %d after: what waited is lost", before, collector.records())
		}
	}
}

// spooled reports whether messages wait on the disk.
func spooled(state string) bool {
	files, _ := filepath.Glob(filepath.Join(state, "spool", "*", "*.ipfix"))
	for _, name := range files {
		if st, err := os.Stat(name); err == nil && st.Size() > 0 {
			return true
		}
	}
	return false
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
	c := &collector{t: t, addr: "127.0.0.1:0"}
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
