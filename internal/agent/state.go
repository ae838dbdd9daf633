package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/tapspec"
)

// state is what outlives the process.
type state struct {
	Instance string         `json:"instance"`
	Revision string         `json:"revision"`
	Taps     []tapspec.Spec `json:"taps"`
	Payload  bool           `json:"payload"`
	Lease    time.Duration  `json:"lease_ns"`
	Contact  time.Time      `json:"contact"`
}

const stateFile = "agent.json"

// loadState reads what an earlier process has kept. A damaged file is set aside: the server has all of it.
func loadState(dir string) (s state, err error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("agent: state: %w", err)
	}
	if json.Unmarshal(b, &s) != nil {
		return state{}, os.Rename(path, path+".damaged")
	}
	return s, nil
}

// save puts the state in the place of the one before, whole or not at all.
func (s *state) save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("agent: state: %w", err)
	}
	path := filepath.Join(dir, stateFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("agent: state: %w", err)
	}
	return nil
}

// lockState keeps a second agent out of the folder.
func lockState(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent: state: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("agent: state %s: another agent uses it: give each its own --state", dir)
	}
	return f, nil
}
