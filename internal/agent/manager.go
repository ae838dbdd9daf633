package agent

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/tap"
	"crosstap/internal/tapspec"
)

// manager runs the taps that are wanted.
type manager struct {
	governor *tap.Governor
	rules    rules
	log      *slog.Logger
	wake     chan struct{}

	mu      sync.Mutex
	wanted  map[string]tapspec.Spec
	payload bool
	slots   map[string]*slot
	busy    sync.WaitGroup // changes under way
	stopped bool
}

func newManager(g *tap.Governor, r rules, log *slog.Logger) *manager {
	return &manager{governor: g, rules: r, log: log, wake: make(chan struct{}, 1), wanted: map[string]tapspec.Spec{}, slots: map[string]*slot{}}
}

// want says which taps shall run, and whether they may copy payload. Taps that are not named end.
func (m *manager) want(taps []tapspec.Spec, payload bool) {
	m.mu.Lock()
	m.wanted, m.payload = map[string]tapspec.Spec{}, payload
	for _, s := range taps {
		m.wanted[s.Name] = s
	}
	m.mu.Unlock()
	m.poke()
}

func (m *manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run makes what is wanted so until ctx ends.
func (m *manager) run(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		m.reconcile(ctx)
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-tick.C:
		}
	}
}

// reconcile begins the changes that are due. Each tap changes by itself: one that cannot start holds up no other.
func (m *manager) reconcile(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	for name, spec := range m.wanted {
		s := m.slots[name]
		if s == nil {
			s = &slot{m: m, name: name}
			m.slots[name] = s
		}
		if s.due(&spec, m.payload, time.Now()) {
			payload := m.payload
			m.busy.Go(func() { s.change(ctx, spec, payload); m.poke() })
		}
	}
	for name, s := range m.slots {
		if _, ok := m.wanted[name]; !ok && s.claim() {
			delete(m.slots, name)
			m.busy.Go(func() { s.end() })
		}
	}
}

// expire ends the taps whose lease is shorter than the server's silence, and returns their names.
func (m *manager) expire(silent, lease time.Duration) (names []string) {
	m.mu.Lock()
	for name, spec := range m.wanted {
		if silent > cmp.Or(time.Duration(spec.Lease), lease) {
			delete(m.wanted, name)
			names = append(names, name)
		}
	}
	m.mu.Unlock()
	if len(names) > 0 {
		m.poke()
	}
	slices.Sort(names)
	return names
}

// stop ends all taps; what they have captured is still delivered.
func (m *manager) stop() {
	m.mu.Lock()
	m.stopped = true
	m.mu.Unlock()
	m.busy.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var all sync.WaitGroup
	for _, s := range m.slots {
		all.Go(s.end)
	}
	all.Wait()
}

// report says how the taps are, in the order of their names.
func (m *manager) report() []agentapi.Tap {
	m.mu.Lock()
	slots := make([]*slot, 0, len(m.slots))
	for _, s := range m.slots {
		slots = append(slots, s)
	}
	m.mu.Unlock()
	out := make([]agentapi.Tap, 0, len(slots))
	for _, s := range slots {
		out = append(out, s.report())
	}
	slices.SortFunc(out, func(a, b agentapi.Tap) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
