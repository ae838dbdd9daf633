package serve

import (
	"cmp"
	"context"
	"slices"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/identity"
	"crosstap/internal/serve/agent"
	"crosstap/internal/serve/api"
)

const (
	topologyWait = 5 * time.Second // for platforms that nobody has read yet
	isNow        = time.Minute     // a range that ends so late shows what is there now
)

// topology tells what was attached to what at a moment. What is there now the platforms know best; of the past, and of what no platform
// tells, the inventory with its history.
func (s *Server) topology(ctx context.Context, at time.Time) api.Topology {
	var now []*platform.Snapshot
	if line := s.controls.line; line != nil && time.Since(at) < isNow {
		ctx, cancel := context.WithTimeout(ctx, topologyWait)
		defer cancel()
		var err error
		if now, err = line.Inventory(ctx); err != nil {
			s.cfg.Log.Warn("topology without the platforms", "err", err)
		}
	}
	var agents []agent.Agent
	if s.agents.hub != nil {
		agents = s.agents.hub.Agents()
	}
	inv := s.contents()
	return newTopology(&inv, now, agents, at)
}

// drawer gathers a topology.
type drawer struct {
	doc     api.Topology
	hosts   map[[2]string]*api.TopologyHost // by platform and name
	tenants tenantIndex
	known   map[string]bool // adapters that a platform has told, by MAC
}

func newTopology(inv *identity.Inventory, now []*platform.Snapshot, agents []agent.Agent, at time.Time) api.Topology {
	d := &drawer{
		doc:   api.Topology{Sources: []string{}, Hosts: []api.TopologyHost{}, Rows: []api.TopologyPort{}},
		hosts: map[[2]string]*api.TopologyHost{}, tenants: newTenantIndex(inv), known: map[string]bool{},
	}
	for _, s := range now {
		d.platform(s)
	}
	d.inventory(inv, at.UnixNano()-1) // the last moment of the range
	d.agents(agents)
	for _, h := range d.hosts {
		d.doc.Hosts = append(d.doc.Hosts, *h)
	}
	slices.SortFunc(d.doc.Hosts, func(x, y api.TopologyHost) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Platform, y.Platform))
	})
	slices.SortFunc(d.doc.Rows, func(x, y api.TopologyPort) int {
		return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.Platform, y.Platform), cmp.Compare(x.Switch, y.Switch), cmp.Compare(x.Port, y.Port),
			cmp.Compare(x.VM, y.VM), cmp.Compare(x.MAC, y.MAC))
	})
	return d.doc
}

// host is the host of that name on a platform; "" is what the inventory alone tells, unless a platform has told of it.
func (d *drawer) host(platform, name string) *api.TopologyHost {
	if platform == "" {
		for key, h := range d.hosts {
			if key[1] == name {
				return h
			}
		}
	}
	key := [2]string{platform, name}
	h := d.hosts[key]
	if h == nil {
		h = &api.TopologyHost{Name: name, Platform: platform, VTEPs: []string{}, Observers: []api.TopologyObserver{}}
		d.hosts[key] = h
	}
	return h
}

// platform draws what a platform has.
func (d *drawer) platform(s *platform.Snapshot) {
	d.doc.Sources = append(d.doc.Sources, s.Platform)
	for _, h := range s.Hosts {
		if ofAgent(s.Switches[h.ID]) {
			continue // only those of machines that nobody else tells
		}
		into := d.host(s.Platform, h.Name)
		into.VTEPs, into.Down = addrTexts(h.VTEPs), h.Down || s.Lost != nil
	}
	taps := tapsOf(s)
	for _, p := range s.Ports {
		row := api.TopologyPort{
			Platform: s.Platform, Port: p.Name, Kind: string(p.Kind), Group: p.Group, Segment: segmentText(p.Segment), Fabric: cmp.Or(p.Fabric, identity.DefaultFabric),
			MAC: macText(p.MAC), Addrs: addrTexts(p.Addrs), VLAN: int(p.VLAN), Up: &p.Up, Taps: taps[p.ID],
		}
		if ofAgent(s.Switches[p.Switch]) && (p.VM == "" || d.known[row.MAC]) {
			continue // another platform has told it
		}
		if row.Taps == nil {
			row.Taps = []string{}
		}
		if h := s.Hosts[p.Host]; h != nil {
			row.Host = h.Name
		}
		d.host(s.Platform, row.Host)
		if sw := s.Switches[p.Switch]; sw != nil {
			row.Switch, row.SwitchKind = sw.Name, string(sw.Kind)
		}
		if octets := p.RxBytes + p.TxBytes; octets > 0 {
			row.Octets = &octets
		}
		v := identity.VNIC{Segment: p.Segment, Fabric: p.Fabric}
		if vm := s.VMs[p.VM]; vm != nil {
			row.VM, row.VMID, v.Tenant = vm.Name, vm.ID, vm.Tenant
			d.known[row.MAC] = row.MAC != ""
		}
		row.Tenant = d.tenants.of(&v)
		d.doc.Rows = append(d.doc.Rows, row)
	}
}

// ofAgent reports whether a switch is the interfaces of an agent; it has the ID of its host.
func ofAgent(sw *platform.Switch) bool { return sw != nil && sw.Kind == platform.SwitchAgent }

// tapsOf names what copies from each port: policies, and foreign objects in parentheses.
func tapsOf(s *platform.Snapshot) map[string][]string {
	out := map[string][]string{}
	for _, o := range platform.Sorted(s.Objects) {
		name := o.Mark.Policy
		if o.Mark.IsZero() {
			name = "(" + o.Name + ")"
		}
		for _, src := range o.Sources {
			if !slices.Contains(out[src.Port], name) {
				out[src.Port] = append(out[src.Port], name)
			}
		}
	}
	return out
}

// inventory draws what the inventory knew at a moment, as far as no platform tells it.
func (d *drawer) inventory(inv *identity.Inventory, atNS int64) {
	if len(inv.VNICs)+len(inv.Hosts) == 0 {
		return
	}
	told := false // anything that no platform tells
	for i := range inv.Hosts {
		if h := &inv.Hosts[i]; h.Contains(atNS) {
			into := d.host("", h.Name)
			told = told || into.Platform == ""
			for _, v := range addrTexts(h.VTEPs) {
				if !slices.Contains(into.VTEPs, v) {
					into.VTEPs = append(into.VTEPs, v)
				}
			}
		}
	}
	for i := range inv.Observers {
		if o := &inv.Observers[i]; o.Contains(atNS) && o.Host != "" {
			into := d.host("", o.Host)
			told = true
			into.Observers = append(into.Observers, api.TopologyObserver{Name: o.Name, Role: o.Role.String()})
		}
	}
	for i := range inv.VNICs {
		v := &inv.VNICs[i]
		if mac := macText(v.MAC); !v.Contains(atNS) || mac != "" && d.known[mac] {
			continue
		}
		told = true
		d.doc.Rows = append(d.doc.Rows, api.TopologyPort{
			Host: v.Host, Platform: d.host("", v.Host).Platform, Port: v.Port, Kind: string(platform.PortVM), VM: v.VM, VMID: v.VMID, Tenant: d.tenants.of(v),
			Segment: segmentText(v.Segment), Fabric: cmp.Or(v.Fabric, identity.DefaultFabric), MAC: macText(v.MAC), Addrs: addrTexts(v.Addrs), Taps: []string{},
		})
	}
	if told {
		d.doc.Sources = append(d.doc.Sources, fromInventory)
	}
}

// agents notes the taps of agents at the ports that they copy from: those of a host, and the adapters of machines that they run in.
func (d *drawer) agents(list []agent.Agent) {
	for i := range list {
		a := &list[i]
		macs := map[string]string{} // of interfaces by name
		for _, link := range a.Interfaces {
			macs[link.Name] = link.MAC
		}
		for _, spec := range a.Given {
			tap := cmp.Or(platform.ParseMark(spec.Labels[platform.MarkKey]).Policy, spec.Name)
			for _, name := range spec.Source.Interfaces {
				for k := range d.doc.Rows {
					r := &d.doc.Rows[k]
					at := r.Port == name && (r.Host == a.Name || r.Host == a.Host) || r.MAC != "" && r.MAC == macs[name]
					if at && !slices.Contains(r.Taps, tap) {
						r.Taps = append(r.Taps, tap)
					}
				}
			}
		}
	}
}
