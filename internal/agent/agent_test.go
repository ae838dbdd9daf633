//go:build linux

package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
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
	a, b := cable(t)
	s := newSite(t)
	state := t.TempDir()
	token := s.token(agentapi.RoleAgent)
	s.run(Config{Token: token, State: state})
	sp := spec(b, "null:")
	sp.Lease = tapspec.Duration(3 * time.Second)
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
