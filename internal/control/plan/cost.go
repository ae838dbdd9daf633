package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
)

// Cost is what a tap will cost.
type Cost struct {
	Known  bool    `json:"known"`           // false: no flows are stored of these machines
	Rate   Rate    `json:"rate"`            // of the packets copied
	Mirror float64 `json:"mirror_bps"`      // with outer headers, all destinations, average
	Peak   float64 `json:"mirror_peak_bps"` // in the busiest minute
	CPU    float64 `json:"cpu"`             // of one core, of the busiest host, average
	Budget float64 `json:"budget_bps,omitempty"`
	Sample int     `json:"sample,omitempty"` // that the budget has forced
	Slice  int     `json:"slice,omitempty"`
}

// Seconds of a core for each copy of an Open vSwitch in user space, from the difference that each way makes to a packet's 1.92 µs: to a
// port 0.4 µs, through a filter into a tunnel 1.44 µs, exports of flows of one packet in 64 0.16 µs.
const (
	cpuPort   = 0.40e-6
	cpuTunnel = 1.44e-6
	cpuExport = 0.16e-6
)

// cpuAgent is an agent's work for each packet: to capture and meter one takes a fifth of what a copy into a tunnel takes.
const cpuAgent = 0.3e-6

func (m *maker) warnf(format string, args ...any) { m.warn(fmt.Sprintf(format, args...)) }

func (m *maker) warn(text string) {
	if !slices.Contains(m.doc.Warnings, text) {
		m.doc.Warnings = append(m.doc.Warnings, text)
	}
}

// budget prices the tap, and reports false when it costs more than it may.
func (m *maker) budget() bool {
	c := &m.doc.Cost
	c.Budget = m.tap.Budget.MirrorBPS
	if m.in.Rates == nil || !m.price() {
		if c.Budget > 0 {
			m.warn("the rate of these machines is not known: no flows of them are stored; the budget cannot be checked")
		}
		return true
	}
	if limit := m.tap.Budget.CPU; limit > 0 && c.CPU > limit && !m.over("CPU", "%.1f %% of a core, the budget is %.1f %%", 100*c.CPU, 100*limit) {
		return false
	}
	if c.Budget == 0 || c.Mirror <= c.Budget {
		return true
	}
	switch m.tap.Budget.OnExceed {
	case "sample":
		return m.sample()
	case "slice":
		return m.slice()
	}
	return m.over("mirror", "%s of copies, the budget is %s", bps(c.Mirror), bps(c.Budget))
}

// over warns or refuses, as the budget says.
func (m *maker) over(what, format string, args ...any) bool {
	text := what + ": " + fmt.Sprintf(format, args...)
	if m.tap.Budget.OnExceed == "warn" {
		m.warn(text)
		return true
	}
	m.refuse(m.tap, nil, platform.ReasonBudget, m.cheaper(), "%s", text)
	return false
}

// cheaper says how the tap could cost less: only what all of its switches can do.
func (m *maker) cheaper() string {
	ways := []string{"filter"}
	for _, w := range []struct {
		name string
		can  func(platform.Capability) bool
	}{{"slice", func(c platform.Capability) bool { return c.Slice }}, {"sample", func(c platform.Capability) bool { return c.Sample }}} {
		if m.allCan(w.can) {
			ways = append(ways, w.name)
		}
	}
	if len(ways) == 1 {
		ways = append(ways, "use method: agent, which slices and samples")
	}
	return strings.Join(ways, ", ") + ", raise the budget, or write onExceed: warn"
}

// allCan reports whether all switches of the tap can do something.
func (m *maker) allCan(f func(platform.Capability) bool) bool {
	return !slices.ContainsFunc(m.groups, func(g *group) bool { return !f(g.can()) })
}

// price fills in the cost; false when nothing is known. What machines of two switches say to each other is in the rates of both, and is copied
// once: so all are asked for together too, and each switch has its part of that.
func (m *maker) price() bool {
	c := &m.doc.Cost
	if len(m.groups) > maxAsked {
		return m.priceAll()
	}
	rates, sum := make([]Rate, len(m.groups)), Rate{}
	for i, g := range m.groups {
		r, ok := m.expect(g.places)
		if !ok {
			continue
		}
		c.Known = true
		rates[i] = r
		sum.BPS, sum.Peak, sum.PPS, sum.Of = sum.BPS+r.BPS, sum.Peak+r.Peak, sum.PPS+r.PPS, r.Of
	}
	c.Rate = sum
	if len(m.groups) > 1 && !m.twice {
		if all, ok := m.expect(m.chosen); ok {
			c.Rate = Rate{BPS: min(sum.BPS, all.BPS), Peak: min(sum.Peak, all.Peak), PPS: min(sum.PPS, all.PPS), Of: sum.Of}
		}
	}
	for i, g := range m.groups {
		r := rates[i]
		r.BPS, r.Peak, r.PPS = r.BPS*ratio(c.Rate.BPS, sum.BPS), r.Peak*ratio(c.Rate.Peak, sum.Peak), r.PPS*ratio(c.Rate.PPS, sum.PPS)
		if r.PPS > 0 {
			c.CPU = max(c.CPU, m.priceAt(g, r))
		}
	}
	return c.Known
}

// expect asks for the rate of the machines of some places.
func (m *maker) expect(places []*place) (Rate, bool) {
	vms, macs := []string{}, []flow.MAC{}
	for _, p := range places {
		vms, macs = append(vms, p.vmName()), append(macs, p.Port.MAC)
	}
	return m.in.Rates.Expect(vms, macs, m.tap.Direction, m.tap.Filter)
}

// maxAsked is for how many switches rates are asked one by one.
const maxAsked = 16

// priceAll prices many switches by one question: each has an equal part.
func (m *maker) priceAll() bool {
	c := &m.doc.Cost
	r, ok := m.expect(m.chosen)
	if !ok {
		return false
	}
	c.Known, c.Rate = true, r
	n := float64(len(m.groups))
	r.BPS, r.Peak, r.PPS = r.BPS/n, r.Peak/n, r.PPS/n
	for _, g := range m.groups {
		c.CPU = max(c.CPU, m.priceAt(g, r))
	}
	return true
}

// priceAt adds the copies of one switch, and returns the part of a core that they take.
func (m *maker) priceAt(g *group, r Rate) (cpu float64) {
	agents := 0
	for _, s := range m.made[g.key.platform] {
		if s.Host != g.key.host || s.Switch != g.key.sw || s.Mark.Policy != m.tap.Name {
			continue
		}
		if s.Method == platform.MethodAgent && agents > 0 {
			break // the first session of an agent stands for all: the rate is that of the whole group
		}
		if s.Method == platform.MethodAgent {
			cpu, agents = cpu+r.PPS*cpuAgent, agents+1
		} else if s.Flows != nil {
			cpu += r.PPS * cpuExport
		}
		sample := float64(max(s.Sample, 1))
		for _, o := range s.Outputs {
			if flowsTo(o.URL) {
				continue
			}
			m.doc.Cost.Mirror += copied(r.BPS, r.PPS, s.Slice, o) / sample
			m.doc.Cost.Peak += copied(r.Peak, r.PPS*ratio(r.Peak, r.BPS), s.Slice, o) / sample
			if o.Encap != "" {
				cpu += r.PPS * cpuTunnel / sample
			} else {
				cpu += r.PPS * cpuPort / sample
			}
		}
	}
	return cpu
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 1
	}
	return a / b
}

// copied is the rate of copies in bits each second: cut, and with their outer headers.
func copied(bps, pps float64, slice int, o platform.Output) float64 {
	if slice > 0 {
		bps = min(bps, 8*float64(slice)*pps)
	}
	return bps + 8*pps*float64(o.Overhead())
}

// sample makes the tap fit its budget by copying fewer packets.
func (m *maker) sample() bool {
	n := int(math.Ceil(m.doc.Cost.Mirror / m.doc.Cost.Budget))
	for _, g := range m.groups {
		if !g.can().Sample {
			return m.over("mirror", "%s of copies, the budget is %s, and switch %s cannot sample", bps(m.doc.Cost.Mirror), bps(m.doc.Cost.Budget), g.places[0].switchName())
		}
	}
	m.doc.Cost.Sample = n
	m.doc.Cost.Mirror, m.doc.Cost.Peak = m.doc.Cost.Mirror/float64(n), m.doc.Cost.Peak/float64(n)
	m.again(func(s *platform.Session) { s.Sample = max(s.Sample, 1) * n })
	m.warnf("one packet in %d is copied, to keep to the budget of %s", n, bps(m.doc.Cost.Budget))
	return true
}

// slice makes the tap fit its budget by copying less of each packet.
func (m *maker) slice() bool {
	c := &m.doc.Cost
	const least = 64 // headers
	per := c.Budget / 8 / max(c.Rate.PPS, 1)
	overhead := (c.Mirror - c.Rate.BPS) / 8 / max(c.Rate.PPS, 1)
	size := int(per - max(overhead, 0))
	for _, g := range m.groups {
		if !g.can().Slice {
			return m.over("mirror", "%s of copies, the budget is %s, and switch %s cannot cut them", bps(c.Mirror), bps(c.Budget), g.places[0].switchName())
		}
		if size < least {
			return m.over("mirror", "%s of copies, the budget is %s, and headers alone do not fit", bps(c.Mirror), bps(c.Budget))
		}
	}
	c.Slice, c.Mirror, c.Peak = size, c.Budget, c.Budget*ratio(c.Rate.Peak, c.Rate.BPS)
	m.again(func(s *platform.Session) { s.Slice = size })
	m.warnf("copies are cut to %d bytes, to keep to the budget of %s", size, bps(c.Budget))
	return true
}

// again changes the tap's sessions.
func (m *maker) again(change func(*platform.Session)) {
	for _, list := range m.made {
		for i := range list {
			change(&list[i])
			list[i].Mark.Digest = Digest(&list[i])
		}
	}
}

// bps writes a rate as people do.
func bps(v float64) string {
	for _, u := range []struct {
		at   float64
		name string
	}{{1e9, "Gbit/s"}, {1e6, "Mbit/s"}, {1e3, "kbit/s"}} {
		if v >= u.at {
			return fmt.Sprintf("%.3g %s", v/u.at, u.name)
		}
	}
	return fmt.Sprintf("%.0f bit/s", v)
}

// MTU is what tunnels do to the longest packets.
type MTU struct {
	Host        string `json:"host"`
	Destination string `json:"destination"`
	Longest     int    `json:"longest"`  // bytes of the longest copy at the IP layer of the underlay
	Path        int    `json:"path_mtu"` // bytes
	Fits        int    `json:"fits"`     // bytes of the longest packet of a machine whose copy fits
}

const defaultMTU = 1500

// mtu compares copies with the paths that they take.
func (m *maker) mtu() {
	for _, g := range m.groups {
		longest := 0
		for _, p := range g.places {
			longest = max(longest, p.Port.MTU)
		}
		if longest == 0 && g.places[0].Switch != nil {
			longest = g.places[0].Switch.MTU
		}
		if longest == 0 {
			longest = defaultMTU
		}
		m.mtuAt(g, longest)
	}
}

func (m *maker) mtuAt(g *group, longest int) {
	const ethernet = 14
	for _, name := range m.tap.Destinations {
		d := m.in.Set.Destination(name)
		if d == nil || d.Output.Encap == "" || d.Output.Encap == platform.EncapVLAN { // a tag stands outside of the MTU
			continue
		}
		path, ok := m.pathMTU(g, d.Output.Addr)
		if !ok {
			continue
		}
		if d.MTU > 0 {
			path = d.MTU
		}
		size := longest
		slice := m.tap.Slice
		if m.doc.Cost.Slice > 0 {
			slice = m.doc.Cost.Slice
		}
		if slice > 0 {
			size = min(size, slice-ethernet)
		}
		e := MTU{Host: g.places[0].hostName(), Destination: d.Name, Longest: size + d.Output.Overhead(), Path: path, Fits: path - d.Output.Overhead()}
		if e.Longest <= e.Path {
			continue
		}
		if len(m.doc.MTU) < maxNames {
			m.doc.MTU = append(m.doc.MTU, e)
		}
		if !m.tap.Allows(policy.AllowTruncation) {
			m.warnf("destination %s: copies of packets longer than %d bytes do not fit the path's MTU of %d and are fragmented or lost: use %s, or a path with an MTU of %d",
				d.Name, e.Fits, e.Path, m.shorter(g, e.Fits+ethernet), e.Longest)
		}
	}
}

// shorter says how the copies of a group become short enough.
func (m *maker) shorter(g *group, size int) string {
	if g.can().Slice {
		return fmt.Sprintf("slice: %d", size)
	}
	return fmt.Sprintf("method: agent with slice: %d (switch %s cannot cut)", size, g.places[0].switchName())
}

// underlay returns the smallest MTU of a host's uplinks, or the usual one.
func (m *maker) underlay(g *group) int {
	if least := m.uplink[groupKey{g.key.platform, g.key.host, ""}]; least > 0 {
		return least
	}
	return defaultMTU
}
