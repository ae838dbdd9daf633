package ovs

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/openflow"
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

// arrived returns those of a mirror's ports that have just come and that it has not copied before, in their order.
func (p *Platform) arrived(before, after json.RawMessage) (out []string) {
	old, now := read[mirrorSpec](before), read[mirrorSpec](after)
	copied := slices.Concat(old.Src, old.Dst)
	p.gapMu.Lock()
	defer p.gapMu.Unlock()
	for _, port := range slices.Concat(now.Src, now.Dst) {
		if _, came := p.came[port]; came && p.onGap != nil && !slices.Contains(copied, port) {
			out = append(out, port)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gaps tells what passed the ports of a mirror that have just come before it began, at some time, to copy them. Nobody waits for the counting.
func (p *Platform) gaps(ctx context.Context, m *meter, began time.Time) {
	var all []platform.Gap
	for _, port := range m.fresh {
		p.gapMu.Lock()
		at := p.came[port]
		delete(p.came, port)
		p.gapMu.Unlock()
		all = append(all, platform.Gap{Platform: p.cfg.Name, Policy: m.policy, Port: port, At: began, After: began.Sub(at)})
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(p.life, stop)
	go func() {
		defer stop()
		defer m.Close()
		for _, g := range all {
			m.missed(ctx, &g)
			p.log.Info("a machine that has come is copied", "port", g.Port, "after", g.After, "packets_missed_at_most", g.Packets, "at_least", g.Least, "why", g.Why)
			p.gapMu.Lock()
			tell := p.onGap
			p.gapMu.Unlock()
			tell(g)
		}
	}()
}

// listener connects to a bridge that listens by itself.
func (p *Platform) listener(ctx context.Context, d *db, bridge string) (*openflow.Conn, error) {
	_, row, _ := d.find("Bridge", bridge)
	targets := strings.Fields(d.listening(row))
	err := fmt.Errorf("bridge %s takes no OpenFlow over the network, and the database counts packets some seconds late; to have gaps counted let it listen: %s",
		bridge, p.vsctl("--id=@c", "create", "controller", `target="pssl:6654"`, "--", "add", "bridge", bridge, "controller", "@c"))
	for _, t := range targets {
		scheme, at, passive := p.passive(t)
		if !passive || scheme == "ssl" && p.cfg.TLS == nil {
			continue
		}
		host, _, _ := net.SplitHostPort(at)
		var conf *tls.Config
		if scheme == "ssl" {
			conf = p.cfg.protect(host)
		}
		var c *openflow.Conn
		if c, err = openflow.Dial(ctx, "tcp", at, conf); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// passive reads the target of a Controller row that has the bridge listen (ovs-vswitchd.conf.db(5), Controller): ptcp:[PORT][:HOST], or pssl.
func (p *Platform) passive(target string) (scheme, address string, ok bool) {
	kind, rest, _ := strings.Cut(target, ":")
	if kind != "ptcp" && kind != "pssl" {
		return "", "", false
	}
	port, on, _ := strings.Cut(rest, ":")
	host := p.reachedAt()
	if a, err := netip.ParseAddr(strings.Trim(on, "[]")); err == nil && !a.IsUnspecified() {
		host = a.String()
	}
	return kind[1:], net.JoinHostPort(host, cmp.Or(port, flowPort)), host != ""
}

// reachedAt is where the switch is, as the database or our bridge is reached.
func (p *Platform) reachedAt() string {
	if p.cfg.networked() {
		host, _ := p.cfg.flowHost()
		return host
	}
	scheme, address, _ := strings.Cut(p.cfg.Address, ":")
	if scheme == "unix" {
		return "127.0.0.1"
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}
