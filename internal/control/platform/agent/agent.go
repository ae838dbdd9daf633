// Package agent is the platform of the agents of one server: the tap lines of hosts and machines that take their taps from it. An agent's
// interfaces are ports of a switch of its own; a session becomes one tap specification, with its mark as a label.
//
// An agent that is away gets its taps when it comes back. The lease of a session is the agent's to keep: it ends the tap by itself when
// the server has been silent for so long.
package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/control/platform"
	"crosstap/internal/route"
	"crosstap/internal/tapspec"
)

// Kind is the word for this room, and Name that of the one platform that it has.
const (
	Kind = "agent"
	Name = "agents"
)

// Agent is what is known of one agent.
type Agent struct {
	Name, Host, System, Software string

	Online     bool
	Away       bool // silent for longer than its lease, or it has never come: none of its taps runs
	Payload    bool // it may copy payload
	Current    bool // its last report is of what it was given last
	Interfaces []agentapi.Interface
	Routing    *route.Table // nil when it is not known
	Given      []tapspec.Spec
	Taps       []agentapi.Tap // as it reported them
	Reported   time.Time      // when it did; zero for never
}

// Desk knows the agents, and gives them taps. It is safe for concurrent use.
type Desk interface {
	Agents() []Agent
	Agent(name string) (Agent, bool)
	// Edit changes what an agent is given: change gets that and returns what it shall be, and whether that is something else. Nobody else
	// changes it meanwhile. Errors wrap those of package platform: ErrGone for an agent that is not known, ErrDenied for payload.
	Edit(name string, change func([]tapspec.Spec) (taps []tapspec.Spec, changed bool, err error)) error
	// Changes returns a channel that is closed at the next change of an agent or of what it is given.
	Changes() <-chan struct{}
}

// Platform is all agents of a desk.
type Platform struct {
	desk    Desk
	confirm time.Duration
	path    func(*tapspec.Spec) string
}

var (
	_ platform.Platform    = (*Platform)(nil)
	_ platform.Independent = (*Platform)(nil)
)

// Config of a platform.
type Config struct {
	Desk Desk
	// Confirm is how long Apply waits for an agent that is online to report that a tap captures; 0 for half a minute.
	Confirm time.Duration
	// Path says which way a tap's packets take on a host that has all of them, and why; "" when there is nothing to choose. It may be nil.
	Path func(*tapspec.Spec) string
}

const confirmFor = 30 * time.Second

// New returns a platform without side effects.
func New(c Config) (*Platform, error) {
	if c.Desk == nil {
		return nil, errors.New("agents: no desk")
	}
	if c.Confirm == 0 {
		c.Confirm = confirmFor
	}
	if c.Path == nil {
		c.Path = func(*tapspec.Spec) string { return "" }
	}
	return &Platform{desk: c.Desk, confirm: c.Confirm, path: c.Path}, nil
}

// Name implements platform.Platform.
func (p *Platform) Name() string { return Name }

// Kind implements platform.Platform.
func (p *Platform) Kind() string { return Kind }

// Independent implements platform.Independent.
func (p *Platform) Independent() {}

// Read implements platform.Platform.
func (p *Platform) Read(context.Context) (*platform.Snapshot, error) { return p.see(), nil }

// see is the present inventory.
func (p *Platform) see() *platform.Snapshot {
	s := platform.NewSnapshot(Name)
	s.AtNS = time.Now().UnixNano()
	for _, a := range p.desk.Agents() {
		add(s, &a)
	}
	return s
}

// How the inventory is followed.
const (
	regularly = 2 * time.Second       // for what no change tells: who has become silent, and what agents report
	rest      = 50 * time.Millisecond // between two looks
)

// Watch implements platform.Platform.
func (p *Platform) Watch(ctx context.Context, update func(platform.Update)) error {
	tick := time.NewTicker(regularly)
	defer tick.Stop()
	var last *platform.Snapshot
	for {
		changes := p.desk.Changes()
		now := p.see()
		if u := platform.Difference(last, now, false); !u.Empty() {
			update(u)
		}
		last = now
		if pause(ctx, rest) != nil {
			return nil
		}
		select {
		case <-changes:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// pause waits, or returns why ctx has ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Counters implements platform.Platform: what agents have reported of their taps.
func (p *Platform) Counters(_ context.Context, owner string) (map[string]platform.Counter, error) {
	out := map[string]platform.Counter{}
	for _, a := range p.desk.Agents() {
		for i := range a.Given {
			m := markOf(&a.Given[i])
			if m.Owner != owner {
				continue
			}
			for j := range a.Taps {
				if a.Taps[j].Name == a.Given[i].Name {
					out[m.Key()] = count(&a.Taps[j], a.Reported)
				}
			}
		}
	}
	return out, nil
}

// count adds up what a tap has sent. Every destination gets every copy: the one that got most stands for all. Of a tap that makes flow
// records alone the packets are those that it metered.
func count(t *agentapi.Tap, at time.Time) platform.Counter {
	c := platform.Counter{At: at}
	for _, to := range t.To {
		if to.Unit == "frames" || to.Unit == "packets" {
			c.Packets = max(c.Packets, to.Sent)
		}
		c.Drops += to.Shed + to.Errors
	}
	if c.Packets > 0 {
		return c
	}
	for _, b := range t.Books {
		if b.Stage == "meter" {
			c.Packets = b.In
		}
	}
	return c
}

// unknown is the error of an agent that the desk does not know.
func unknown(name string) error { return fmt.Errorf("agent %s: %w", name, platform.ErrGone) }
