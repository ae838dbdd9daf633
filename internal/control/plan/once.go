package plan

import (
	"maps"
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
	"crosstap/internal/tapspec"
)

// Each packet is copied once (design.md, section 4). Of the chosen ports S, a packet is copied where it comes in from a port of S, and
// where it goes out to a port of S when it comes from outside S. The second needs a switch that leaves out what comes from the ports of
// S on other switches, by their MAC addresses.

// maxExcept bounds the addresses that one session leaves out: each is an entry in a switch's table. The filter of an agent's tap is a text that
// every agent is given: it has fewer.
const (
	maxExcept      = 4096
	maxExceptAgent = 512
)

// room is how many addresses the switch of a group may leave out.
func (g *group) room() int {
	if g.places[0].ofAgent() {
		return maxExceptAgent
	}
	return maxExcept
}

// senders are the chosen ports that may send to a segment.
type senders struct {
	macs    map[flow.MAC]groupKey // of those whose address is one port's alone
	twins   map[flow.MAC]bool     // addresses that several ports have
	unknown []*place              // ports without a known address
}

// once works out what each session leaves out. It reports false when exactly once cannot be kept and the tap does not allow less.
func (m *maker) once() bool {
	m.except, m.within = map[groupKey][]flow.MAC{}, map[groupKey]bool{}
	if m.tap.Direction != platform.Both || m.flows() || m.tap.Method == platform.MethodPromiscuous || m.alone() {
		return true // records of one flow are merged by the collector; promiscuous ports see what passes their host
	}
	bySegment := m.senders()
	for _, g := range m.groups {
		if !m.onceAt(g, bySegment) {
			return false
		}
	}
	return true
}

// flows reports whether the tap makes flow records alone.
func (m *maker) flows() bool {
	if m.tap.Method == platform.MethodFlowsOnly {
		return true
	}
	for _, name := range m.tap.Destinations {
		if d := m.in.Set.Destination(name); d == nil || !flowsTo(d.URL) {
			return false
		}
	}
	return len(m.tap.Destinations) > 0
}

// flowsTo reports whether a destination takes flow records.
func flowsTo(url string) bool {
	to := tapspec.To{URL: url}
	return url != "" && !to.Frames()
}

// alone reports whether all chosen ports are on one switch that copies a packet once whichever ends of it are chosen.
func (m *maker) alone() bool { return len(m.groups) == 1 && m.groups[0].can().OncePerPair }

// senders sorts the chosen ports by segment; segment 0 has those whose segment is not known.
func (m *maker) senders() map[flow.Segment]*senders {
	out := map[flow.Segment]*senders{}
	for _, p := range m.chosen {
		s := out[p.Port.Segment]
		if s == nil {
			s = &senders{macs: map[flow.MAC]groupKey{}, twins: map[flow.MAC]bool{}}
			out[p.Port.Segment] = s
		}
		switch _, twice := s.macs[p.Port.MAC]; {
		case p.Port.MAC == 0:
			s.unknown = append(s.unknown, p)
		case twice:
			s.twins[p.Port.MAC] = true
		default:
			s.macs[p.Port.MAC] = p.key
		}
	}
	return out
}

// onceAt works out the exceptions of one switch.
func (m *maker) onceAt(g *group, bySegment map[flow.Segment]*senders) bool {
	segments := map[flow.Segment]bool{0: true}
	for _, p := range g.places {
		segments[p.Port.Segment] = true
	}
	if segments[0] && hasZero(g) { // it may be in any
		for s := range bySegment {
			segments[s] = true
		}
	}
	except, total := map[flow.MAC]bool{}, 0
	for s := range segments {
		in := bySegment[s]
		if in == nil {
			continue
		}
		total += len(in.macs)
		for _, p := range in.unknown {
			if p.key != g.key && !m.lacking(p, platform.ReasonNoMAC, "tell it (external_ids:attached-mac), or write direction: ingress or allow: [copied-twice]",
				"the MAC address of port %s is not known: what it sends to tapped machines on other switches would be copied twice", p.Port.Name) {
				return false
			}
		}
	}
	if total > g.room()+len(g.places) {
		return m.many(g, total)
	}
	for s := range segments {
		if in := bySegment[s]; in != nil {
			for mac, key := range in.macs {
				if key != g.key || !g.can().OncePerPair || in.twins[mac] {
					except[mac] = true
				}
			}
		}
	}
	if g.can().OncePerPair || len(g.places) == 1 && !g.can().ExceptMACs {
		for _, p := range g.places {
			delete(except, p.Port.MAC) // its own packets must pass; one port alone never gets them
		}
	}
	if len(except) == 0 {
		return true
	}
	if !g.can().ExceptMACs {
		m.twice = true
		return m.lacking(g.places[0], platform.ReasonCapability, "select machines of one switch, direction: ingress, or allow: [copied-twice] and a tool that removes duplicates",
			"switch %s cannot leave out what is copied at other switches: what tapped machines say to each other would be copied twice", g.places[0].switchName())
	}
	m.except[g.key] = slices.Sorted(maps.Keys(except))
	return true
}

func hasZero(g *group) bool {
	return slices.ContainsFunc(g.places, func(p *place) bool { return p.Port.Segment == 0 })
}

// many handles more senders than a switch can leave out: when every machine of the segments is tapped, ingress sees all of them.
func (m *maker) many(g *group, total int) bool {
	if m.whole == nil {
		whole := m.everything()
		m.whole = &whole
	}
	if *m.whole {
		m.within[g.key] = true
		m.warn("everything is tapped where it enters a switch; what machines receive from outside all known machines is not seen")
		return true
	}
	m.refuse(m.tap, g.places[0], platform.ReasonLimit, "select whole segments, direction: ingress, or fewer machines",
		"switch %s would have to leave out %d senders, the limit is %d", g.places[0].switchName(), total, g.room())
	return false
}

// everything reports whether all machines in the segments of the chosen ports are chosen.
func (m *maker) everything() bool {
	segments := map[flow.Segment]bool{}
	for _, p := range m.chosen {
		segments[p.Port.Segment] = true
	}
	there := 0
	for i := range m.places {
		p := &m.places[i]
		if p.Port.Kind == platform.PortVM && segments[p.Port.Segment] && p.Port.Owner == "" && !p.shadow {
			there++
		}
	}
	return there == len(m.chosen)
}

// lacking notes that exactly once cannot be kept: as a warning when the tap allows it, as a refusal otherwise.
func (m *maker) lacking(p *place, reason platform.Reason, fix, format string, args ...any) bool {
	if m.tap.Allows(policy.AllowTwice) {
		m.twice = true
		m.warnf(format, args...)
		return true
	}
	m.refuse(m.tap, p, reason, fix, format, args...)
	return false
}
