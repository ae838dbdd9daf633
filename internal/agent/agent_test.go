//go:build linux

package agent

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/route"
	server "crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
	"crosstap/internal/testns"
)

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
	came := rxPackets(t, b) - before // a busy system may have no room for some
	if came > sent || came < sent/2 {
		t.Fatalf("%d packets came, %d were sent", came, sent)
	}
	s.wait("all metered", func(a server.Agent) bool { return metered(a, came) })
	time.Sleep(300 * time.Millisecond) // for any that would be too much
	got, _ := s.hub.Agent("h1")
	handover := book(got, "handover")
	if !metered(got, came) {
		t.Errorf("%d packets metered, %d came; %+v, %+v", book(got, "meter").Out, came, handover, book(got, "capture"))
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
	before := rxPackets(t, b)
	stop := traffic(t, a)
	s.halt()
	time.Sleep(500 * time.Millisecond) // within the lease
	s.start()
	s.wait("back", tapIs(agentapi.StateRunning, sp))
	stop()
	came := rxPackets(t, b) - before
	got := s.wait("all metered", func(a server.Agent) bool { return metered(a, came) })
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
	wrong.Secret = good.Secret[1:] + good.Secret[:1]
	if wrong.Secret == good.Secret { // all its letters alike
		t.Fatal("no secret at all")
	}
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

// TestRevoked takes the token of a running agent back: its log says so at the next report.
func TestRevoked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token(agentapi.RoleAgent)
	said := make(lines, 64)
	s.run(Config{Token: token, Log: slog.New(slog.NewTextHandler(said, nil))})
	s.wait("registered", func(a server.Agent) bool { return a.State == server.Online && a.CPU > 0 })
	if err := s.tokens.Revoke(token.ID); err != nil {
		t.Fatal(err)
	}
	for end := time.After(patience); ; {
		select {
		case line := <-said:
			if strings.Contains(line, "report: refused: ") && strings.Contains(line, "revoked") {
				return
			}
		case <-end:
			t.Fatal("the log does not tell of the revoked token")
		}
	}
}

// lines hands on what is written to it; what nobody reads in time is lost.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
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
	files, _ := filepath.Glob(filepath.Join(state, "spool", "*", "*", "*.ipfix"))
	for _, name := range files {
		if st, err := os.Stat(name); err == nil && st.Size() > 0 {
			return true
		}
	}
	return false
}

// TestInventory wants a server to know the interfaces and routes of an agent's host, also when the report that tells of a change is lost.
func TestInventory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, err := New(Config{Server: "https://" + s.addr, Name: "h1", Token: s.token(agentapi.RoleAgent), State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a.state.Instance = "one"
	if err := a.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	known, _ := s.hub.Agent("h1")
	if here := a.inventory(); len(known.Interfaces) != len(here.Interfaces) || (known.Routing == nil) != (here.Routing == nil) {
		t.Errorf("%+v, %+v; want %+v", known.Interfaces, known.Routing, here)
	} else if here.Routing != nil { // there are no rules beside
		if way, ok := known.Routing.Way(netip.MustParseAddr("127.0.0.1")); !ok || way.Kind != route.Local {
			t.Errorf("127.0.0.1 by %+v", way)
		}
	}
	a.told = "what was there before"
	s.halt()
	a.report(t.Context())
	if a.told != "" {
		t.Error("a report that is lost counts as told")
	}
	s.start()
	a.report(t.Context())
	if seen := a.inventory(); a.told != seen.digest() {
		t.Error("the inventory is not told")
	}
}
