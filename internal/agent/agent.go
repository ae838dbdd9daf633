// Package agent is the far end of the tap wing: the tap line of one host, which takes its taps from a server. It asks the server over
// HTTP, and tells it every few seconds how the taps are. While the server is silent the taps go on until their lease ends; their flows
// wait on the disk.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/agentapi"
	"crosstap/internal/pki"
	"crosstap/internal/route/linuxroute"
	"crosstap/internal/tap"
	"crosstap/internal/tap/governor"
	"crosstap/internal/tapspec"
)

// Config says what an agent is.
type Config struct {
	Server string
	Token  agentapi.Token
	TLS    pki.Client // for servers with a certificate of others; the token's pin is enough for its own

	Name      string // of the agent; "" for the host's
	State     string // folder of what outlives the process: its taps, and flows that wait
	Files     string // the only folder that taps may write capture files to; "" for none
	NoPayload bool   // whatever the server says
	Budget    tapspec.Budget
	Lease     time.Duration // how long taps go on without the server; 0 for what the server says
	Software  string
	Keeper    []string                 // command that runs kernel.Keep, for inline pairs and filters of tc; nil for none
	Ready     func()                   // called once, when the agent runs
	Sweep     func() ([]string, error) // removes what an agent that was killed has left in the kernel, and says what
	Limits    func() []string          // what bounds this process, for the report
	Log       *slog.Logger
}

// Agent is an agent, made but not running.
type Agent struct {
	cfg      Config
	client   *client
	governor *tap.Governor
	manager  *manager
	started  time.Time
	routes   linuxroute.Reader
	unswept  string // why interfaces could not be swept, when that was told

	mu       sync.Mutex
	state    state
	welcome  agentapi.Welcome
	contact  time.Time // with the server
	revision string    // of the orders that are followed
	trouble  string    // why the server was not reached, "" when it was
	told     string    // the digest of the inventory that the server has
	last     usage
	lastAt   time.Time
}

// New returns an agent. It opens nothing.
func New(c Config) (*Agent, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	host, err := os.Hostname()
	if c.Name == "" {
		if c.Name = host; err != nil {
			return nil, fmt.Errorf("agent: host name: %w; give --name", err)
		}
	}
	if c.State == "" {
		return nil, errors.New("agent: a folder for its state is needed: give --state")
	}
	cl, err := newClient(c.Server, c.Token, c.TLS)
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: c, client: cl, governor: tap.NewGovernor(governor.DefaultConfig(), c.Budget, c.Log)}
	a.manager = newManager(a.governor, rules{files: c.Files, spool: filepath.Join(c.State, "spool"), host: host, program: "crosstap " + c.Software, keeper: c.Keeper}, c.Log)
	return a, nil
}

// Run runs the agent until stop ends; then its taps are drained.
func (a *Agent) Run(stop context.Context) error {
	a.started = time.Now()
	if err := os.MkdirAll(a.cfg.State, 0o700); err != nil {
		return fmt.Errorf("agent: state: %w", err)
	}
	lock, err := lockState(a.cfg.State)
	if err != nil {
		return err
	}
	defer lock.Close()
	if a.state, err = loadState(a.cfg.State); err != nil {
		return err
	}
	if a.state.Instance == "" {
		a.state.Instance = instance()
		if err := a.state.save(a.cfg.State); err != nil {
			return err
		}
	}
	a.sweep()
	a.contact = a.state.Contact
	a.last, a.lastAt = readUsage(), time.Now()
	ctx, cancel := context.WithCancel(stop)
	defer cancel()
	a.resume(ctx)
	if a.cfg.Ready != nil {
		a.cfg.Ready()
	}
	var g errgroup.Group
	done := make(chan struct{})
	g.Go(func() error { a.governor.Run(done); return nil })
	g.Go(func() error { a.manager.run(ctx); return nil })
	g.Go(func() error { a.ask(ctx); return nil })
	g.Go(func() error { a.tell(ctx); return nil })
	g.Go(func() error { a.watchLease(ctx); return nil })
	g.Go(func() error { a.sweepNowAndThen(ctx); return nil })
	<-ctx.Done()
	a.cfg.Log.Info("stopping")
	a.manager.stop()
	a.farewell(context.WithoutCancel(stop))
	close(done)
	return g.Wait()
}

func instance() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// resume starts the taps that an earlier process has left, as long as their lease lasts.
func (a *Agent) resume(ctx context.Context) {
	if len(a.state.Taps) == 0 {
		return
	}
	if left := a.leaseLeft(time.Now()); left <= 0 {
		a.cfg.Log.Warn("the lease has ended while the agent was not running: no taps until the server answers", "since", a.state.Contact)
		return
	}
	a.cfg.Log.Info("taps of an earlier process go on", "taps", len(a.state.Taps))
	a.mu.Lock()
	a.revision, a.welcome = a.state.Revision, agentapi.Welcome{Payload: a.state.Payload, Lease: tapspec.Duration(a.state.Lease)}
	a.mu.Unlock()
	a.manager.want(a.state.Taps, a.state.Payload)
}

const (
	firstWait   = 250 * time.Millisecond
	longestWait = 10 * time.Second
)

// ask registers, and asks for taps, for ever.
func (a *Agent) ask(ctx context.Context) {
	wait := firstWait
	for ctx.Err() == nil {
		err := a.register(ctx)
		for err == nil && ctx.Err() == nil {
			wait = firstWait
			err = a.fetch(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errUnregistered) {
			continue
		}
		sleep(ctx, wait/2+mathrand.N(wait))
		wait = a.missed(err, wait)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (a *Agent) register(ctx context.Context) error {
	seen := a.inventory()
	in := agentapi.Registration{
		Version: agentapi.Version, Name: a.cfg.Name, Instance: a.state.Instance, Host: a.manager.rules.host, Software: a.cfg.Software, System: systemName(),
		Payload: !a.cfg.NoPayload, Budget: a.cfg.Budget.String(), Interfaces: seen.Interfaces,
		Routing: seen.Routing,
	}
	var out agentapi.Welcome
	if _, err := a.client.call(ctx, "POST", "register", nil, in, &out, requestTimeout); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	a.mu.Lock()
	changed := a.welcome.Payload != out.Payload
	a.welcome, a.told = out, seen.digest()
	if changed {
		a.revision = "" // taps that were refused may be allowed now, and the other way round
	}
	a.mu.Unlock()
	a.heard()
	a.cfg.Log.Info("registered", "server", a.client.base.Host, "name", out.Name, "payload", out.Payload, "lease", time.Duration(out.Lease))
	return nil
}

// fetch waits at the server for taps, and follows them.
func (a *Agent) fetch(ctx context.Context) error {
	a.mu.Lock()
	q := url.Values{"name": {a.cfg.Name}, "instance": {a.state.Instance}, "have": {a.revision}}
	wait, payload := time.Duration(a.welcome.Wait), a.welcome.Payload && !a.cfg.NoPayload
	a.mu.Unlock()
	var o agentapi.Orders
	news, err := a.client.call(ctx, "GET", "taps", q, nil, &o, wait+requestTimeout)
	if err != nil {
		return err
	}
	a.heard()
	if !news {
		return nil
	}
	a.cfg.Log.Info("new taps", "taps", len(o.Taps), "revision", o.Revision)
	a.manager.want(o.Taps, payload)
	a.mu.Lock()
	a.revision = o.Revision
	a.mu.Unlock()
	return a.remember(o, payload)
}

// remember keeps the orders for the next process.
func (a *Agent) remember(o agentapi.Orders, payload bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Taps, a.state.Revision, a.state.Payload, a.state.Lease, a.state.Contact = o.Taps, o.Revision, payload, a.lease(), a.contact
	if err := a.state.save(a.cfg.State); err != nil {
		a.cfg.Log.Error("taps would not outlive this process", "error", err)
	}
	return nil
}

// tell reports every few seconds.
func (a *Agent) tell(ctx context.Context) {
	for ctx.Err() == nil {
		a.mu.Lock()
		wait := time.Duration(a.welcome.Interval)
		a.mu.Unlock()
		if wait <= 0 {
			wait = time.Second
		}
		sleep(ctx, wait)
		if ctx.Err() == nil {
			a.report(ctx)
		}
	}
}

// report tells the server how everything is. Orders are asked for elsewhere: what goes wrong here is tried again there.
func (a *Agent) report(ctx context.Context) {
	a.mu.Lock()
	registered := a.welcome.Name != ""
	a.mu.Unlock()
	if !registered {
		return
	}
	r := a.Report()
	var out agentapi.Receipt
	if _, err := a.client.call(ctx, "POST", "report", nil, r, &out, requestTimeout); err != nil {
		if r.Interfaces != nil {
			a.mu.Lock()
			a.told = "" // the next report has them again
			a.mu.Unlock()
		}
		a.denied(err)
		return
	}
	a.heard()
	a.touch()
}

// denied tells that the server takes reports no longer, as when the token was revoked: the question for taps may wait half a minute for as much.
func (a *Agent) denied(err error) {
	a.mu.Lock()
	known := a.trouble != ""
	a.mu.Unlock()
	if errors.Is(err, errRefused) && !known {
		a.missed(fmt.Errorf("report: %w", err), firstWait)
	}
}

// Report says how the agent and its taps are.
func (a *Agent) Report() agentapi.Report {
	taps := a.manager.report()
	a.mu.Lock()
	defer a.mu.Unlock()
	now, u := time.Now(), readUsage()
	r := agentapi.Report{
		Name: a.cfg.Name, Instance: a.state.Instance, Revision: a.revision, Time: now.UTC(), Started: a.started.UTC(),
		Resident: u.resident, Taps: taps,
	}
	if took := now.Sub(a.lastAt).Seconds(); took > 0 {
		r.CPU = (u.cpu - a.last.cpu).Seconds() / took
	}
	a.last, a.lastAt = u, now
	if seen := a.inventory(); seen.digest() != a.told {
		r.Interfaces, r.Routing, a.told = seen.Interfaces, seen.Routing, seen.digest()
	}
	if a.cfg.Limits != nil {
		r.Findings = a.cfg.Limits()
	}
	r.Findings = append(r.Findings, failing(taps)...)
	return r
}

// failing names the destinations that take nothing at present.
func failing(taps []agentapi.Tap) (all []string) {
	for i := range taps {
		for k := range taps[i].To {
			if d := &taps[i].To[k]; d.Failing() {
				to, _, _ := strings.Cut(d.URL, "?")
				all = append(all, fmt.Sprintf("tap %s: %s takes nothing: %s", taps[i].Name, to, d.Error))
			}
		}
	}
	return all
}

// Taps says how the taps are.
func (a *Agent) Taps() []agentapi.Tap { return a.manager.report() }

// farewell tells the server the last figures of the taps.
func (a *Agent) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	a.report(ctx)
}
