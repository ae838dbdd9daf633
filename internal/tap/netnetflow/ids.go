package netnetflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ids gives numbers to switches, and keeps them in a file: a switch has the same number after a restart.
type ids struct {
	path   string
	chosen map[string]int
	trial  bool // nothing is written
}

func newIDs(path string, chosen map[string]int) *ids { return &ids{path: path, chosen: chosen} }

// stored is the file.
type stored struct {
	Switches map[string]int `json:"switches"` // by kind and name, such as "bridge:br0"
}

// of returns the number of a switch: the chosen one, that of the file, or the least that no other has.
func (s *ids) of(key switchKey, portIDs bool) (int, error) {
	most, why := maxEngine, "engine type and id of NetFlow have 8 bits"
	if portIDs {
		most, why = MaxSwitchID, "port ids (-p) have 7 bits for it"
	}
	id, err := s.look(key, most)
	if err != nil {
		return 0, fmt.Errorf("net-netflow: number of switch %s: %w", key.name, err)
	}
	if id > most {
		return 0, fmt.Errorf("net-netflow: switch %s has number %d: %s, so it must be 1 to %d: choose one with --switch-id %s=N",
			key.name, id, why, most, key.name)
	}
	return id, nil
}

// look returns the number of a switch and keeps it, unless it is more than most.
func (s *ids) look(key switchKey, most int) (int, error) {
	if s.trial {
		id, _, err := s.choose(key, most)
		return id, err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return 0, err
	}
	unlock, err := lock(s.path + ".lock")
	if err != nil {
		return 0, err
	}
	defer unlock()
	id, all, err := s.choose(key, most)
	if err != nil || id > most || all.Switches[key.String()] == id {
		return id, err
	}
	all.Switches[key.String()] = id
	return id, s.write(all)
}

// choose returns the number of a switch, and what the file says.
func (s *ids) choose(key switchKey, most int) (int, stored, error) {
	all, err := s.read()
	if err != nil {
		return 0, all, err
	}
	taken := map[int]string{}
	for k, n := range all.Switches {
		if k != key.String() {
			taken[n] = k
		}
	}
	if n, ok := s.chosen[key.name]; ok {
		if other, ok := taken[n]; ok {
			return 0, all, fmt.Errorf("%d is that of %s (%s)", n, other, s.path)
		}
		return n, all, nil
	}
	if id, ok := all.Switches[key.String()]; ok {
		return id, all, nil
	}
	id := 1
	for taken[id] != "" {
		id++
	}
	return id, all, nil
}

func (s *ids) read() (all stored, err error) {
	b, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return all, err
	default:
		if err := json.Unmarshal(b, &all); err != nil {
			return all, fmt.Errorf("%s: %w: mend or remove the file", s.path, err)
		}
	}
	if all.Switches == nil {
		all.Switches = map[string]int{}
	}
	return all, nil
}

// write replaces the file whole.
func (s *ids) write(all stored) error {
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".net-netflow-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), s.path)
}

// lock waits for a lock on a file that stays.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
