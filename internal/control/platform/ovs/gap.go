package ovs

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"crosstap/internal/control/platform"
)

// gapFor is how long after it came a port's first copies are about its coming.
const gapFor = time.Minute

// OnGap implements platform.Gapper.
func (p *Platform) OnGap(f func(platform.Gap)) {
	p.gapMu.Lock()
	defer p.gapMu.Unlock()
	p.onGap = f
}

// arrivals notes which ports have come since the update before; first says that there was none.
func (p *Platform) arrivals(before map[string]bool, u *platform.Update, first bool) map[string]bool {
	now := map[string]bool{}
	p.gapMu.Lock()
	defer p.gapMu.Unlock()
	if p.came == nil {
		p.came = map[string]time.Time{}
	}
	for i := range u.Ports {
		port := &u.Ports[i]
		now[port.ID] = true
		if !first && !before[port.ID] && port.Kind == platform.PortVM {
			p.came[port.ID] = time.Now()
		}
	}
	for id, at := range p.came {
		if !now[id] || time.Since(at) > gapFor {
			delete(p.came, id)
		}
	}
	return now
}

// gaps tells what passed the ports that a mirror has begun to copy and that have just come.
func (p *Platform) gaps(ctx context.Context, s *platform.Step, before, after json.RawMessage) {
	old, now := read[mirrorSpec](before), read[mirrorSpec](after)
	copied := slices.Concat(old.Src, old.Dst)
	fresh := slices.Concat(now.Src, now.Dst)
	slices.Sort(fresh)
	for _, port := range slices.Compact(fresh) {
		p.gapMu.Lock()
		at, came := p.came[port]
		tell := p.onGap
		delete(p.came, port)
		p.gapMu.Unlock()
		if !came || tell == nil || slices.Contains(copied, port) {
			continue
		}
		g := platform.Gap{Platform: p.cfg.Name, Policy: s.Policy, Port: port, At: time.Now(), After: time.Since(at), Packets: p.passed(ctx, now.Bridge, port)}
		p.log.Info("a machine that has come is copied", "port", port, "after", g.After, "packets_missed", g.Packets)
		tell(g)
	}
}

// passed returns how many packets have passed a port so far, -1 when the switch does not tell.
func (p *Platform) passed(ctx context.Context, bridge, port string) int64 {
	if !p.hasOpenFlow() || p.cfg.networked() { // a tenants' bridge is not made to listen
		return -1
	}
	d, err := p.read(ctx, false)
	if err != nil {
		return -1
	}
	c, err := p.openflow(ctx, bridge)
	if err != nil {
		return -1
	}
	defer c.Close()
	in, out, err := c.PortPackets(ctx, d.ofports(bridge)[port])
	if err != nil {
		return -1
	}
	return int64(in + out)
}
