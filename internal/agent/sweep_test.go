//go:build linux

package agent

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/agentapi"
)

// TestSweep has an agent remove what killed processes left at its start and again later: one that is started at once finds their lease running.
func TestSweep(t *testing.T) {
	was := sweepInterval
	sweepInterval = 10 * time.Millisecond
	defer func() { sweepInterval = was }()
	s := newSite(t)
	var calls atomic.Int32
	stop := s.run(Config{Token: s.token(agentapi.RoleAgent), Sweep: func() ([]string, error) {
		calls.Add(1)
		return []string{"a program at eth0"}, errors.New("interface eth1: busy")
	}})
	for end := time.Now().Add(patience); calls.Load() < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("swept %d times", calls.Load())
		}
	}
	stop()
}
