package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/route"
	"crosstap/internal/tapspec"
)

// Config says what a hub is.
type Config struct {
	Dir      string        // where it keeps what agents are given
	Lease    time.Duration // how long an agent goes on without us
	Interval time.Duration // between reports
	Wait     time.Duration // how long a question for taps waits
	Tokens   Tokens
	Log      *slog.Logger
}

// DefaultConfig has agents report every two seconds and go on for five minutes.
func DefaultConfig() Config {
	return Config{Lease: 5 * time.Minute, Interval: 2 * time.Second, Wait: 30 * time.Second}
}

// Hub knows all agents. It is safe for concurrent use.
type Hub struct {
	cfg Config

	saving sync.Mutex // held by who saves what several have edited; before mu

	mu      sync.Mutex
	agents  map[string]*entry
	changes chan struct{} // closed, and made anew, when something changes
	edited  uint64        // edits in memory
	saved   uint64        // of those, how many are in the file
}

// entry is what is known of one agent, or of one that is expected.
type entry struct {
	Registration *agentapi.Registration `json:"registration"` // nil before the first
	Token        string                 `json:"token"`        // that it came with
	Payload      bool                   `json:"payload"`      // its role and its host allow it
	Seen         time.Time              `json:"seen"`
	Taps         []tapspec.Spec         `json:"taps"` // what it was given

	report *agentapi.Report
}

// maxAgents bounds how many agents one server knows.
const maxAgents = 20000

// New returns a hub with what an earlier one has kept.
func New(c Config) (*Hub, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hub{cfg: c, agents: map[string]*entry{}, changes: make(chan struct{})}
	b, err := os.ReadFile(h.path())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return h, nil
	case err != nil:
		return nil, fmt.Errorf("agents: %w", err)
	}
	if err := json.Unmarshal(b, &h.agents); err != nil {
		return nil, fmt.Errorf("agents: %s: %w", h.path(), err)
	}
	return h, nil
}

// HubPath is where a server keeps what agents are given.
func HubPath(data string) string { return filepath.Join(data, "agents", hubFile) }

const hubFile = "agents.json"

func (h *Hub) path() string { return filepath.Join(h.cfg.Dir, hubFile) }

// save writes what must outlive the server. The caller holds mu.
func (h *Hub) save() error {
	b, err := json.Marshal(h.agents)
	if err == nil {
		if err = folder(h.cfg.Dir); err == nil {
			err = replace(h.path(), b)
		}
	}
	if err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	return nil
}

// changed wakes everybody who waits. The caller holds mu.
func (h *Hub) changed() {
	close(h.changes)
	h.changes = make(chan struct{})
}

// Changes returns a channel that is closed at the next change of an agent, its interfaces or its taps.
func (h *Hub) Changes() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changes
}

// Put gives an agent the taps that it shall run, instead of those it was given before. An agent that is not known yet gets them when it
// comes.
func (h *Hub) Put(name string, taps []tapspec.Spec) error {
	if err := checkAgentName(name); err != nil {
		return err
	}
	if err := tapspec.Validate(taps); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.agents[name]
	if e == nil {
		if len(h.agents) >= maxAgents {
			return fmt.Errorf("agents: there are %d already", maxAgents)
		}
		e = &entry{}
	}
	if e.Registration != nil && !e.Payload {
		for i := range taps {
			if taps[i].Payload() {
				return &PayloadError{Agent: name, Tap: taps[i].Name}
			}
		}
	}
	old := e.Taps
	e.Taps = slices.Clone(taps)
	h.agents[name] = e
	if err := h.save(); err != nil {
		e.Taps = old
		return err
	}
	h.changed()
	return nil
}

// PayloadError says that a tap would copy payload where that is not allowed.
type PayloadError struct{ Agent, Tap string }

func (e *PayloadError) Error() string {
	return fmt.Sprintf("agents: %s: tap %q copies payload, and the agent may not: give it a token of role %s, or keep headers alone with snap: %d",
		e.Agent, e.Tap, agentapi.RolePayload, tapspec.HeaderBytes)
}

// Taps returns what an agent was given.
func (h *Hub) Taps(name string) ([]tapspec.Spec, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.agents[name]
	if e == nil {
		return nil, false
	}
	return slices.Clone(e.Taps), true
}

// Forget removes an agent that does not come any more, with what it was given.
func (h *Hub) Forget(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.agents[name]
	switch {
	case e == nil:
		return fmt.Errorf("agents: there is no %q", name)
	case h.state(e) == Online:
		return fmt.Errorf("agents: %s is online: stop it first", name)
	}
	delete(h.agents, name)
	h.changed()
	return h.save()
}

// orders are the taps that an agent may run, and those it may not. The caller holds mu.
func (e *entry) orders() (o agentapi.Orders, refused []tapspec.Spec) {
	o.Taps = []tapspec.Spec{}
	var digest strings.Builder
	for _, s := range e.Taps {
		if s.Payload() && !e.Payload {
			refused = append(refused, s)
			continue
		}
		o.Taps = append(o.Taps, s)
		digest.WriteString(s.Name + " " + s.Digest() + "\n")
	}
	o.Revision = hash(digest.String())[:16]
	return o, refused
}

// States of an agent.
const (
	Online   = "online"
	Lost     = "lost"     // silent, and within its lease: it goes on
	Offline  = "offline"  // silent for longer: its taps have ended
	Expected = "expected" // it was given taps and never came
)

func (h *Hub) state(e *entry) string {
	switch silent := time.Since(e.Seen); {
	case e.Registration == nil:
		return Expected
	case silent < max(3*h.cfg.Interval, h.cfg.Interval+10*time.Second):
		return Online
	case silent < h.cfg.Lease:
		return Lost
	}
	return Offline
}

// Agent is what is known of an agent.
type Agent struct {
	Name       string               `json:"name"`
	State      string               `json:"state"`
	Seen       *time.Time           `json:"last_seen"`
	Started    *time.Time           `json:"started_at"`
	Host       string               `json:"host"`
	System     string               `json:"system"`
	Software   string               `json:"software"`
	Payload    bool                 `json:"payload"`
	Current    bool                 `json:"current"` // it runs what it was given last
	CPU        float64              `json:"cpu"`
	Resident   int64                `json:"resident_bytes"`
	Budget     string               `json:"budget"`
	Interfaces []agentapi.Interface `json:"interfaces"`
	Given      []tapspec.Spec       `json:"given"`
	Taps       []agentapi.Tap       `json:"taps"`
	Findings   []string             `json:"findings"`

	Routing *route.Table `json:"-"` // of its host, for plans; nil when it is not known
}

// Agents returns all agents by name.
func (h *Hub) Agents() []Agent {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []Agent{}
	for name, e := range h.agents {
		out = append(out, h.agent(name, e))
	}
	slices.SortFunc(out, func(a, b Agent) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Agent returns one agent.
func (h *Hub) Agent(name string) (Agent, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.agents[name]
	if e == nil {
		return Agent{}, false
	}
	return h.agent(name, e), true
}

func (h *Hub) agent(name string, e *entry) Agent {
	a := Agent{Name: name, State: h.state(e), Payload: e.Payload, Interfaces: []agentapi.Interface{}, Given: slices.Clone(e.Taps), Taps: []agentapi.Tap{}, Findings: []string{}}
	if a.Given == nil {
		a.Given = []tapspec.Spec{}
	}
	orders, refused := e.orders()
	for _, s := range refused {
		a.Findings = append(a.Findings, (&PayloadError{name, s.Name}).Error())
	}
	if r := e.Registration; r != nil {
		seen := e.Seen.UTC()
		a.Seen, a.Host, a.System, a.Software, a.Budget = &seen, r.Host, r.System, r.Software, r.Budget
		a.Interfaces, a.Routing = append(a.Interfaces, r.Interfaces...), r.Routing
	}
	if r := e.report; r != nil {
		started := r.Started.UTC()
		a.Started, a.CPU, a.Resident, a.Current = &started, r.CPU, r.Resident, r.Revision == orders.Revision
		a.Taps = append(a.Taps, r.Taps...)
		a.Findings = append(a.Findings, r.Findings...)
	}
	return a
}

func checkAgentName(name string) error {
	if name == "" || len(name) > 128 {
		return fmt.Errorf("agents: a name of %d bytes: want 1 to 128", len(name))
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)) {
			return fmt.Errorf("agents: %q in the name %q: want letters, digits, dots, - and _", r, name)
		}
	}
	return nil
}
