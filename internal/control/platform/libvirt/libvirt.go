// Package libvirt is the platform of a hypervisor that is reached through its libvirt daemon alone, most often over ssh: its machines,
// their adapters, bridges and addresses, followed by events. libvirt has no way to copy packets, so every session is refused with the
// way out: the platform linux through ssh, which taps the kernel there and asks its libvirt, or an agent on the host.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	rpc "crosstap/internal/libvirt"
)

// Kind is the word for this room.
const Kind = "libvirt"

// noSwitch is the switch of adapters that are in no bridge.
const noSwitch = "host"

// Config says which daemon a Platform is.
type Config struct {
	Name     string // of the platform
	Source   rpc.Source
	Host     string                  // name of the host; "" for what libvirt says
	Segments map[string]flow.Segment // bridge, bridge/VLAN or network → segment
}

// Platform is one libvirt daemon.
type Platform struct{ cfg Config }

var _ platform.Platform = (*Platform)(nil)

// New returns a platform. It opens nothing.
func New(c Config) (*Platform, error) {
	switch {
	case c.Name == "":
		return nil, errors.New("libvirt: a platform needs a name")
	case c.Source.URI == nil:
		return nil, fmt.Errorf("libvirt: %s: no URI", c.Name)
	}
	return &Platform{cfg: c}, nil
}

// Name implements platform.Platform.
func (p *Platform) Name() string { return p.cfg.Name }

// Kind implements platform.Platform.
func (p *Platform) Kind() string { return Kind }

// Watch implements platform.Platform.
func (p *Platform) Watch(ctx context.Context, update func(platform.Update)) error {
	return p.cfg.Source.Watch(ctx, func(s *rpc.State, err error) {
		now := time.Now().UnixNano()
		if s == nil {
			update(platform.Update{AtNS: now, Lost: err})
			return
		}
		update(whole(p.snapshot(s, now)))
	}, nil)
}

// whole tells all of a snapshot: a daemon's machines are few, and who follows them compares.
func whole(s *platform.Snapshot) platform.Update {
	return platform.Update{
		AtNS: s.AtNS, Whole: true, Hosts: values(s.Hosts), Switches: values(s.Switches), VMs: values(s.VMs), Ports: values(s.Ports),
	}
}

func values[T any](records map[string]*T) []T {
	out := make([]T, 0, len(records))
	for _, r := range platform.Sorted(records) {
		out = append(out, *r)
	}
	return out
}

// Read implements platform.Platform.
func (p *Platform) Read(ctx context.Context) (*platform.Snapshot, error) {
	s, err := p.cfg.Source.Read(ctx)
	if err != nil {
		return nil, err
	}
	return p.snapshot(s, time.Now().UnixNano()), nil
}

// snapshot makes records of what the daemon says.
func (p *Platform) snapshot(s *rpc.State, atNS int64) *platform.Snapshot {
	out := platform.NewSnapshot(p.cfg.Name)
	out.AtNS = atNS
	host := p.cfg.Host
	if host == "" {
		host = s.Host
	}
	out.Hosts[host] = &platform.Host{ID: host, Name: host, Version: "libvirt " + s.Version}
	for i := range s.Guests {
		g := &s.Guests[i]
		out.VMs[g.UUID] = &platform.VM{ID: g.UUID, Name: g.Name, Host: host, Off: g.Off}
		for j := range g.Adapters {
			if a := &g.Adapters[j]; a.Device != "" && !g.Off {
				p.port(out, host, g, a)
			}
		}
	}
	return out
}

func (p *Platform) port(out *platform.Snapshot, host string, g *rpc.Guest, a *rpc.Adapter) {
	sw := &platform.Switch{ID: a.Bridge, Name: a.Bridge, Kind: platform.SwitchLinux, Hosts: []string{host}}
	switch {
	case a.Bridge == "":
		sw.ID, sw.Name, sw.Kind = noSwitch, "interfaces of "+host, platform.SwitchNone
	case a.OVS:
		sw.Kind = platform.SwitchOVS
	}
	if out.Switches[sw.ID] == nil {
		out.Switches[sw.ID] = sw
	}
	port := &platform.Port{
		ID: a.Device, Name: a.Device, Kind: platform.PortVM, Host: host, Switch: sw.ID, Group: a.Network, VM: g.UUID, NIC: a.Name, Up: true, MTU: a.MTU,
	}
	if a.Group != "" {
		port.Group += "/" + a.Group
	}
	if m, err := net.ParseMAC(a.MAC); err == nil && len(m) == 6 {
		port.MAC = flow.MACFrom(m)
	}
	for _, x := range a.Addrs {
		port.Addrs = append(port.Addrs, flow.FromNetip(x))
	}
	switch {
	case len(a.VLANs) == 1:
		port.VLAN = a.VLANs[0]
		port.Segment = flow.NewSegment(flow.KindVLAN, uint32(port.VLAN))
	case len(a.VLANs) > 1:
		port.Trunk = a.VLANs
	}
	for _, where := range []string{a.Network, sw.ID, fmt.Sprintf("%s/%d", sw.ID, port.VLAN)} {
		if s := p.cfg.Segments[where]; s != 0 {
			port.Segment = s
		}
	}
	out.Ports[port.ID] = port
}

// Steps implements platform.Platform: there is nothing that libvirt could do.
func (p *Platform) Steps(now *platform.Snapshot, want platform.Want) (steps []platform.Step, refused []platform.Refusal) {
	for _, s := range want.Sessions {
		refused = append(refused, platform.Refusal{
			Policy: s.Mark.Policy, Host: s.Host, Switch: s.Switch, Reason: platform.ReasonCapability,
			Message: "libvirt cannot copy packets, and the kernel of this host is not reached from here",
			Fix:     "name its kernel instead (linux=ssh://USER@HOST, with crosstap or crosstap-agent there), or run crosstap agent on the host",
		})
	}
	return nil, refused
}

// Apply implements platform.Platform.
func (p *Platform) Apply(context.Context, platform.Step) error {
	return fmt.Errorf("libvirt: %s: %w: libvirt cannot copy packets", p.cfg.Name, platform.ErrDenied)
}

// Undo implements platform.Platform. Nothing was ever done.
func (p *Platform) Undo(context.Context, platform.Step) error { return nil }

// Counters implements platform.Platform.
func (p *Platform) Counters(context.Context, string) (map[string]platform.Counter, error) {
	return map[string]platform.Counter{}, nil
}
