// Package desk is the agents of a server in the words of the control line, which gives them taps.
package desk

import (
	"errors"
	"fmt"

	"crosstap/internal/control/platform"
	agentplatform "crosstap/internal/control/platform/agent"
	"crosstap/internal/serve/agent"
	"crosstap/internal/tapspec"
)

// Desk is a hub of agents. It is safe for concurrent use.
type Desk struct{ hub *agent.Hub }

var _ agentplatform.Desk = Desk{}

// New returns the desk of a hub.
func New(hub *agent.Hub) Desk { return Desk{hub} }

func (d Desk) told(a *agent.Agent) agentplatform.Agent {
	out := agentplatform.Agent{
		Name: a.Name, Host: a.Host, System: a.System, Software: a.Software, Payload: a.Payload, Current: a.Current, Interfaces: a.Interfaces, Routing: a.Routing, Given: a.Given, Taps: a.Taps,
		Online: a.State == agent.Online, Away: a.State == agent.Offline || a.State == agent.Expected,
	}
	out.Reported, _ = d.hub.Reported(a.Name)
	return out
}

// Agents implements agentplatform.Desk.
func (d Desk) Agents() []agentplatform.Agent {
	list := d.hub.Agents()
	out := make([]agentplatform.Agent, len(list))
	for i := range list {
		out[i] = d.told(&list[i])
	}
	return out
}

// Agent implements agentplatform.Desk.
func (d Desk) Agent(name string) (agentplatform.Agent, bool) {
	a, ok := d.hub.Agent(name)
	if !ok {
		return agentplatform.Agent{}, false
	}
	return d.told(&a), true
}

// Edit implements agentplatform.Desk.
func (d Desk) Edit(name string, change func([]tapspec.Spec) ([]tapspec.Spec, bool, error)) error {
	err := d.hub.Edit(name, change)
	var payload *agent.PayloadError
	switch {
	case errors.Is(err, agent.ErrUnknown):
		return fmt.Errorf("%w: %w", platform.ErrGone, err)
	case errors.As(err, &payload):
		return fmt.Errorf("%w: %w", platform.ErrDenied, err)
	}
	return err
}

// Changes implements agentplatform.Desk.
func (d Desk) Changes() <-chan struct{} { return d.hub.Changes() }
