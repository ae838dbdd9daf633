package control_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/agent"
	"crosstap/internal/agentapi"
	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	agentplatform "crosstap/internal/control/platform/agent"
	server "crosstap/internal/serve/agent"
	"crosstap/internal/serve/desk"
	"crosstap/internal/state"
	"crosstap/internal/testkit"
)

// office is a server's hub of agents, which machines reach on their own loopback.
type office struct {
	lab    *lab
	hub    *server.Hub
	auth   *server.Authority
	tokens *server.TokenFile
}

// newOffice makes the agents a platform of the lab's control line.
func newOffice(l *lab) *office {
	l.t.Helper()
	o, dir := &office{lab: l}, l.t.TempDir()
	var err error
	o.tokens, err = server.OpenTokens(server.TokenPath(dir))
	must(l.t, err)
	o.auth, err = server.OpenAuthority(server.AuthorityPath(dir))
	must(l.t, err)
	c := server.DefaultConfig()
	c.Dir, c.Tokens, c.Interval, c.Wait, c.Lease = filepath.Join(dir, "agents"), o.tokens, 200*time.Millisecond, 2*time.Second, time.Minute
	o.hub, err = server.New(c)
	must(l.t, err)
	p, err := agentplatform.New(agentplatform.Config{Desk: desk.New(o.hub), Confirm: time.Minute})
	must(l.t, err)
	must(l.t, l.line.Own(p))
	return o
}

// hire starts an agent in a machine, in a process of its own, and waits until it is there.
func (o *office) hire(v *vm) {
	t := o.lab.t
	t.Helper()
	var ln net.Listener
	must(t, v.ns.Do(func() (err error) { ln, err = net.Listen("tcp4", "127.0.0.1:0"); return err }))
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- o.hub.Serve(ctx, ln, o.auth.TLS([]string{"127.0.0.1"})) }()
	token, err := o.tokens.Create(server.Grant{Role: agentapi.RolePayload}, 0)
	must(t, err)
	token.Pin = o.auth.Pin()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAgentProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "CROSSTAP_TEST_AGENT="+v.name, "CROSSTAP_TEST_SERVER=https://"+ln.Addr().String(), "CROSSTAP_TEST_TOKEN="+token.String(), "CROSSTAP_TEST_STATE="+t.TempDir())
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	must(t, v.ns.Do(cmd.Start))
	release := testkit.Guard(t, cmd.Process.Pid)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		cmd.Wait()                          //nolint:errcheck // told above
		release()
		cancel()
		<-served
	})
	testkit.Eventually(t, "an agent in "+v.name, func() bool {
		a, ok := o.hub.Agent(v.name)
		return ok && a.State == server.Online && slices.ContainsFunc(a.Interfaces, func(i agentapi.Interface) bool { return i.Name == "eth0" && i.Up })
	})
}

// TestAgentProcess is the process that hire starts.
func TestAgentProcess(t *testing.T) {
	name := os.Getenv("CROSSTAP_TEST_AGENT")
	if name == "" {
		t.Skip("it is started by other tests")
	}
	token, err := agentapi.ParseToken(os.Getenv("CROSSTAP_TEST_TOKEN"))
	must(t, err)
	a, err := agent.New(agent.Config{Server: os.Getenv("CROSSTAP_TEST_SERVER"), Token: token, Name: name, State: os.Getenv("CROSSTAP_TEST_STATE")})
	must(t, err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	must(t, a.Run(ctx))
}

// A policy on machines with agents in them: the agents copy, each packet once, and the switch is left alone; what an agent refuses is taken
// back; when the policy goes its taps end.
func TestAgents(t *testing.T) {
	l := newLab(t, 1)
	h := l.hosts[0]
	a, b, c, tool := h.vm("web-1", 1), h.vm("db-1", 2), h.vm("other", 3), h.vm("ids", 9)
	know(a, b, c, tool)
	l.learn(t, a, b, c, tool)
	var sink net.PacketConn
	must(t, tool.ns.Do(func() (err error) { sink, err = net.ListenPacket("udp4", tool.addr+":4789"); return err }))
	defer sink.Close()
	o := newOffice(l)
	o.hire(a)
	o.hire(b)

	const shop = `select: 'vm in (web-1, db-1)', destinations: [ids], filter: 'udp port 5000', `
	p := l.plan(destination("ids", "url: 'vxlan://10.1.0.9?vni=7001'") + tap("shop", shop+"method: agent"))
	if c := p.Taps[0].Copies; !c.Once || c.Same+c.Other != 1 || c.Out != 1 || c.In != 1 || p.Coverage.AfterMost <= p.Coverage.BeforeMost {
		t.Errorf("copies %+v, coverage %+v", c, p.Coverage)
	}
	far := l.plan(destination("far", "url: 'vxlan://198.51.100.9?vni=1'") + tap("far", "select: 'vm in (web-1, db-1)', destinations: [far], method: agent"))
	if want := " has no route to 198.51.100.9 (destination far): its copies are lost until it has one"; !strings.Contains(strings.Join(far.Taps[0].Warnings, "\n"), want) {
		t.Errorf("%q: none of a way that is not there", far.Taps[0].Warnings)
	}
	l.apply(destination("ids", "url: 'vxlan://10.1.0.9?vni=7001'") + tap("shop", shop+"method: agent"))
	try := func(what string, vni int) {
		t.Helper()
		got := listen(t, tool.ns, "udp dst port 4789")
		for _, pair := range [][2]*vm{{a, b}, {b, a}, {a, c}, {c, b}, {c, tool}} {
			pair[0].send(t, pair[1], 5000, 20)
			pair[0].send(t, pair[1], 5001, 5)
		}
		const want = "20× 10.1.0.1 10.1.0.2; 20× 10.1.0.1 10.1.0.3; 20× 10.1.0.2 10.1.0.1; 20× 10.1.0.3 10.1.0.2"
		if all := tally(got(is(want), fmt.Sprintf("vxlan.vni == %d && udp", vni), "ip.src", "ip.dst")); all != want {
			t.Errorf("%s: the tool got\n%s\nwant\n%s", what, all, want)
		}
	}
	try("method agent", 7001)
	if n := l.line.Counters(t.Context())[agentplatform.Name]; len(n) != 2 {
		t.Errorf("counters %+v", n)
	}
	if left := h.db.Vsctl("--no-headings --columns=name list mirror"); strings.Contains(left, "crosstap") {
		t.Errorf("the switch copies, too: %s", left)
	}

	// auto takes agents for what the switch cannot do: it grooms nothing
	out := l.apply(destination("ids", "url: 'vxlan://10.1.0.9?vni=7002'") + tap("shop", shop+"groom: [repair]"))
	if out.Steps != 2 {
		t.Errorf("%d steps", out.Steps)
	}
	try("method auto", 7002)

	// what an agent refuses is no tap, and is said; what others copy goes on
	p = l.plan(destination("files", "url: 'pcapng:/tmp/never.pcapng'") + tap("shop", shop+"method: agent") + tap("file", `select: 'vm = web-1', destinations: [files], method: agent`))
	res, err := l.line.Apply(t.Context(), p, control.Author{Who: "test", Action: "apply"})
	if err != nil || res.State == state.Done || !strings.Contains(fmt.Sprint(res.Platforms), "writes no files") {
		t.Errorf("%+v, %v", res, err)
	}
	l.remove("Tap", "file")
	try("after a refusal", 7002)

	// the lease goes with the tap, and a budget that the agent keeps to
	l.apply(destination("ids", "url: 'vxlan://10.1.0.9?vni=7002'") + tap("shop", shop+"method: agent, lease: 2m, ttl: 1h, budget: {cpu: 50%}"))
	for _, name := range []string{"web-1", "db-1"} {
		taps, _ := o.hub.Taps(name)
		if len(taps) != 1 || time.Duration(taps[0].Lease) != 2*time.Minute || taps[0].TTL <= 0 || taps[0].Budget.CPU != 0.5 {
			t.Errorf("%s was given %+v", name, taps)
		}
	}
	l.remove("Tap", "shop")
	for _, name := range []string{"web-1", "db-1"} {
		if taps, _ := o.hub.Taps(name); len(taps) > 0 {
			t.Errorf("%s still has %+v", name, taps)
		}
		testkit.Eventually(t, "no tap in "+name, func() bool { a, _ := o.hub.Agent(name); return a.Current && len(a.Taps) == 0 })
	}
}

// A machine whose agent goes on, and is meddled with: what others change is set right while the line runs.
func TestAgentDrift(t *testing.T) {
	l := newLab(t, 1)
	a := l.hosts[0].vm("web-1", 1)
	o := newOffice(l)
	o.hire(a)
	l.apply(destination("flows", "url: 'ipfix://10.99.0.9'") + tap("flows", `select: 'vm = web-1', method: agent, destinations: [flows]`))
	l.run()
	if err := o.hub.Put("web-1", nil); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	testkit.Eventually(t, "given again", func() bool { taps, _ := o.hub.Taps("web-1"); return len(taps) == 1 })
	t.Logf("set right after %v", time.Since(from).Round(time.Millisecond))
	if err := l.line.Own(ghost{}); err == nil {
		t.Error("two platforms of one name")
	}
}

// ghost is a platform that does nothing.
type ghost struct{ platform.Platform }

func (ghost) Name() string { return agentplatform.Name }
