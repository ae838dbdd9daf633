package ovs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/openflow"
)

// meter counts what passes the ports of a tenants' bridge that come into a mirror, and what of it is copied, from before the mirror copies
// them. Its owner closes it; nil does nothing.
type meter struct {
	p      *Platform
	policy string
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

// settleFor is how long after the switch has confirmed copies it may still forward by what it has cached, without them: it looks at all of that
// twice a second (ovs-vswitchd.conf.db(5), max-revalidator).
const settleFor = time.Second

// missed fills in what has passed a port that was not copied, now that copies have begun or are about to.
func (m *meter) missed(ctx context.Context, g *platform.Gap) {
	before, all := m.before[g.Port], m.whole(g.Port)
	g.Least = m.selected(g.Port, before, platform.Ingress)
	if all {
		g.Least = m.selected(g.Port, before, platform.Both)
	}
	err := errors.New(m.blind)
	if m.copies != nil {
		err = m.counted(ctx, g)
	}
	if err != nil {
		err = m.uncounted(ctx, g, steady(err))
	}
	switch {
	case err != nil:
		g.Least, g.Packets, g.Why = 0, -1, err.Error()
	case g.Packets > 0 && m.feed.Filter != "":
		g.Least, g.Why = 0, "how many of them the filter would have let through is not known"
	case g.Exact():
		g.Why = ""
	case g.Why == "" && !all && len(m.mirror.Dst) > 0:
		g.Why = "some of what went to the machine may have been copied where it came from"
	case g.Why == "":
		g.Why = "packets followed each other without a pause that would have told how many of them were copied"
	}
}

// uncounted says what the counters of the port alone tell: nothing that passes is missed any more when the switch no longer forwards without
// copies. why is why there are no others.
func (m *meter) uncounted(ctx context.Context, g *platform.Gap, why string) error {
	select {
	case <-time.After(settleFor):
	case <-ctx.Done():
	}
	after, err := m.passed(ctx, g.Port)
	if g.Packets = m.selected(g.Port, after, platform.Both); g.Packets > 0 && (m.whole(g.Port) || m.selected(g.Port, after, platform.Egress) == 0) {
		g.Why = why
	}
	g.Least = min(g.Least, g.Packets)
	return err
}

// counted says what the counters of the port and of the copies tell.
func (m *meter) counted(ctx context.Context, g *platform.Gap) error {
	c := m.copies
	var after openflow.PortCount // when the switch had settled
	from := time.Now()
	least, most, err := platform.Missed(ctx, func(ctx context.Context) (int64, int64, error) {
		passed, err := m.passed(ctx, g.Port)
		if err != nil {
			return 0, 0, err
		}
		if time.Since(from) < settleFor || after == (openflow.PortCount{}) {
			after = passed
		}
		copied, err := c.count(ctx)
		return m.selected(g.Port, passed, c.of), copied, err
	})
	if err != nil {
		return err
	}
	switch most += m.selected(g.Port, after, platform.Both&^c.of); { // of what goes to the machine it is between nothing and all
	case c.shared:
		g.Least, g.Packets = max(g.Least, least), max(least, m.selected(g.Port, after, platform.Both))
		g.Why = "what else may have come to the tool's port before the copies began is counted like copies"
	case most < g.Least: // one of the counters is not what it should be
		g.Least, g.Packets, g.Why = least, g.Least, "the counters of the port and of the copies contradict each other"
	default:
		g.Least, g.Packets = max(g.Least, least), most
	}
	return nil
}
