package netnetflow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"crosstap/internal/tap/export"
)

// Found is what Check finds of a switch.
type Found struct {
	Kind  string // bridge or ovs
	Name  string
	ID    int
	Ports []string // what will be captured, with the number in records
	Dark  []string // what cannot be, with the reason
}

// Check finds the switches and numbers them as Run would, and changes nothing.
func (m *Meter) Check(ctx context.Context) (all []Found, err error) {
	defer m.finder.start(ctx)()
	m.ids.trial = true
	for _, name := range m.cfg.Switches {
		sw, err := m.finder.find(ctx, name)
		if err != nil {
			return all, err
		}
		id, err := m.ids.of(sw.key(), m.cfg.PortIDs)
		if err != nil {
			return all, err
		}
		l, err := m.newLine(sw.key(), id)
		if err != nil {
			return all, err
		}
		f := Found{Kind: sw.kind, Name: name, ID: id}
		slices.SortFunc(sw.ports, func(a, b port) int { return strings.Compare(a.name, b.name) })
		for _, p := range sw.ports {
			if number, why := l.number(p); why != "" {
				f.Dark = append(f.Dark, fmt.Sprintf("%s (%d): %s", p.name, p.no, why))
			} else {
				f.Ports = append(f.Ports, fmt.Sprintf("%s %d", p.name, number))
			}
		}
		all = append(all, f)
	}
	return all, nil
}

const reachTime = 3 * time.Second

// Reach tries the way to a collector, without sending anything: its name, and a route. fatal says that waiting will not help: there
// is no such name.
func Reach(ctx context.Context, t export.Target) (fatal bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(t.Host, fmt.Sprint(t.Port)))
	if err == nil {
		return false, c.Close()
	}
	var name *net.DNSError
	return errors.As(err, &name) && name.IsNotFound, fmt.Errorf("net-netflow: collector %s: %w", t.Host, err)
}
