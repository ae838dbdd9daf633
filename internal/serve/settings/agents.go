package settings

import (
	"errors"
	"fmt"
	"time"
)

// checkAgents finds mistakes in what is said of agents.
func (s *Settings) checkAgents() error {
	if (s.AgentsCert == "") != (s.AgentsKey == "") {
		return errors.New("agents-cert and agents-key belong together: one of them is missing")
	}
	if s.AgentsLease < 10*time.Second || s.AgentsLease > 30*24*time.Hour {
		return fmt.Errorf("agents-lease: %v: expected 10s to 720h", s.AgentsLease)
	}
	if s.Agents == "" {
		return nil
	}
	if err := checkAddress(s.Agents); err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	return nil
}
