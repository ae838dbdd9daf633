package ovs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/openflow"
)

// meter counts what passes the ports of a tenants' bridge that come into a mirror, and what of it is copied, from before the mirror copies
// them. Its owner closes it; nil does nothing.
type meter struct {
	p      *Platform
	conn   *openflow.Conn // to the tenants' bridge; nil when it does not answer, and why
	why    string
	ports  map[string]uint32
	mirror mirrorSpec
	feed   feedContent
	fresh  []string
	before map[string]openflow.PortCount // when copies were asked for
	copies *copies                       // nil when nobody counts them, and blind
	blind  string
}

// Close ends the counting.
func (m *meter) Close() {
	if m == nil {
		return
	}
	if m.copies != nil && m.copies.end != nil {
		m.copies.end()
	}
	if m.conn != nil {
		_ = m.conn.Close()
	}
}

// meter connects to a tenants' bridge to ask it what passes some of its ports, and nothing else: at its socket beside the database, or where
// its operator lets it listen (a Controller row of its own with a target such as pssl:6654). Statistics in the database are no use: they are
// some seconds old. was and mirror are what there is of the mirror, and what it shall be.
func (p *Platform) meter(ctx context.Context, d *db, was, mirror mirrorSpec, fresh []string) *meter {
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	m := &meter{p: p, ports: d.ofports(mirror.Bridge), mirror: mirror, fresh: fresh, before: map[string]openflow.PortCount{}}
	var err error
	if p.hasOpenFlow() && !p.cfg.networked() {
		m.conn, err = p.openflow(ctx, mirror.Bridge)
	} else {
		m.conn, err = p.listener(ctx, d, mirror.Bridge)
	}
	if err != nil {
		m.why = steady(err)
		return m
	}
	if m.copies, err = p.copies(ctx, d, m, was); err != nil {
		m.blind = steady(err)
		p.log.Debug("copies are not counted", "mirror", mirror.Name, "why", m.blind)
	}
	for _, port := range fresh {
		m.before[port], _ = m.passed(ctx, port)
	}
	return m
}

// passed returns what has passed a port so far.
func (m *meter) passed(ctx context.Context, port string) (openflow.PortCount, error) {
	if m.conn == nil {
		return openflow.PortCount{}, errors.New(m.why)
	}
	n, known := m.ports[port]
	if !known {
		return openflow.PortCount{}, fmt.Errorf("the switch has given port %s no number", port)
	}
	return m.conn.PortCounts(ctx, n)
}

// selected counts those of a port's packets that the mirror copies, in one direction or both.
func (m *meter) selected(port string, c openflow.PortCount, dir platform.Direction) (n int64) {
	if dir&platform.Ingress != 0 && slices.Contains(m.mirror.Src, port) {
		n += int64(c.In)
	}
	if dir&platform.Egress != 0 && slices.Contains(m.mirror.Dst, port) {
		n += int64(c.Out)
	}
	return n
}

// whole reports whether every packet that passes a port in the directions of the mirror is to be copied, and nothing else is.
func (m *meter) whole(port string) bool {
	other := func(name string) bool { return name != port }
	return !slices.ContainsFunc(m.mirror.Src, other) && !slices.ContainsFunc(m.mirror.Dst, other) && len(m.mirror.VLANs)+len(m.feed.Except) == 0
}

// missed fills in what has passed a port that was not copied, now that copies have begun.
func (m *meter) missed(ctx context.Context, g *platform.Gap) {
	after, err := m.passed(ctx, g.Port)
	if err != nil {
		g.Packets, g.Why = -1, err.Error()
		return
	}
	before, all := m.before[g.Port], m.whole(g.Port)
	g.Packets = m.selected(g.Port, after, platform.Both)
	g.Least = min(m.selected(g.Port, before, platform.Ingress), g.Packets)
	if all {
		g.Least = min(m.selected(g.Port, before, platform.Both), g.Packets)
	}
	if m.copies != nil && !g.Exact() {
		m.narrow(ctx, g, after)
	}
	switch {
	case g.Packets > 0 && m.feed.Filter != "":
		g.Least, g.Why = 0, "how many of them the filter would have let through is not known"
	case g.Exact():
		g.Why = ""
	case !all && m.selected(g.Port, after, platform.Egress) > 0:
		g.Why = "some of what went to the machine may have been copied where it came from"
	default:
		g.Why = cmp.Or(m.blind, g.Why, "packets followed each other without a pause that would have told how many of them were copied")
	}
}

// narrow says what the counted copies tell of it.
func (m *meter) narrow(ctx context.Context, g *platform.Gap, after openflow.PortCount) {
	c := m.copies
	least, most, err := platform.Missed(ctx, func(ctx context.Context) (int64, int64, error) {
		passed, err := m.passed(ctx, g.Port)
		if err != nil {
			return 0, 0, err
		}
		copied, err := c.count(ctx)
		return m.selected(g.Port, passed, c.of), copied, err
	})
	if err != nil {
		g.Why = steady(err)
		return
	}
	if c.of != platform.Both { // what goes to the machine is between nothing and all of it
		most += m.selected(g.Port, after, platform.Both&^c.of)
	}
	switch {
	case c.shared: // others' packets may have gone the same way before the copies began
		g.Least = min(max(g.Least, least), g.Packets)
	case least >= g.Least && most <= g.Packets:
		g.Least, g.Packets = least, most
	default: // one of the counters is not what it should be: what both allow
		g.Least, g.Packets, g.Why = min(g.Least, least), max(g.Packets, most), "the counters of the port and of the copies contradict each other"
	}
}
