package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/collect/bus"
	"crosstap/internal/collect/store/clickhouse"
	"crosstap/internal/nearest"
)

// Roles of a server.
const (
	RoleAll       = "all"       // collects, stores and answers
	RoleCollector = "collector" // collects for writers
	RoleWriter    = "writer"    // stores what collectors sent, and answers
)

var roles = []string{RoleAll, RoleCollector, RoleWriter}

// Line is the stream between collectors and writers. Without Bus it has no server: then it is the one of BusListen.
func (s Settings) Line() (c bus.LineConfig, err error) {
	if s.Bus != "" {
		c, err = bus.ParseLine(s.Bus)
	}
	c.MaxBytes = s.BusSize
	return c, err
}

// checkRole finds what does not fit together.
func (s Settings) checkRole() error {
	if !slices.Contains(roles, s.Role) {
		return fmt.Errorf("role: %q: expected one of %s%s", s.Role, strings.Join(roles, ", "), nearest.Behind(s.Role, roles))
	}
	if s.Store != "" {
		if _, err := clickhouse.ParseURL(s.Store); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if s.KeepSize != 0 {
			return errors.New("keep-size: it is for a store directory; ClickHouse deletes by age, give keep")
		}
	}
	if _, err := s.Line(); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	if s.BusListen != "" {
		if err := checkAddress(s.BusListen); err != nil {
			return fmt.Errorf("bus-listen: %w", err)
		}
	}
	if s.BusSize < 1<<20 {
		return fmt.Errorf("bus-size: %s: expected at least 1MiB", sizeText(s.BusSize))
	}
	switch given := s.Bus != "" || s.BusListen != ""; {
	case s.Role == RoleAll && given:
		return errors.New("bus: a server that collects and stores needs none; give role collector or writer")
	case s.Role != RoleAll && !given:
		return fmt.Errorf("role: a %s needs a bus; give bus, or bus-listen for one of its own", s.Role)
	case s.Role == RoleCollector && s.Store != "":
		return errors.New("store: a collector has none; give it to the writers")
	}
	return nil
}
