package plan

import (
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// Copies says how many copies of a unicast packet a tool gets.
type Copies struct {
	Once  bool   `json:"once"`            // one of each that is to be seen
	Same  int    `json:"same_switch"`     // between tapped machines of one switch
	Other int    `json:"other_switch"`    // between tapped machines of two switches
	Out   int    `json:"to_outside"`      // from a tapped machine to any other
	In    int    `json:"from_outside"`    // from any other to a tapped machine
	About string `json:"about,omitempty"` // when it is not once
}

// Predict returns how many copies the sessions make of a packet from one port to another; either may be nil for somewhere else. can
// gives the capability of a switch by its ID.
func Predict(sessions []platform.Session, from, to *platform.Port, can func(sw string) platform.Capability) (n int) {
	for i := range sessions {
		s := &sessions[i]
		in, out := has(s, from, platform.Ingress), has(s, to, platform.Egress)
		if out && from != nil && from.MAC != 0 && excepts(s, from.MAC) {
			out = false
		}
		switch {
		case in && out && can(s.Switch).OncePerPair:
			n++
		default:
			n += count(in) + count(out)
		}
	}
	return n
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func has(s *platform.Session, p *platform.Port, d platform.Direction) bool {
	if p == nil || p.Switch != s.Switch || s.Host != "" && p.Host != s.Host {
		return false
	}
	i, ok := slices.BinarySearchFunc(s.Sources, p.ID, func(a platform.Source, id string) int {
		switch {
		case a.Port < id:
			return -1
		case a.Port > id:
			return 1
		}
		return 0
	})
	return ok && s.Sources[i].Dir&d != 0
}

func excepts(s *platform.Session, m flow.MAC) bool {
	_, ok := slices.BinarySearch(s.ExceptFrom, m)
	return ok
}

// copies predicts with pairs of the chosen ports.
func (m *maker) copies() Copies {
	can := map[string]platform.Capability{}
	for _, g := range m.groups {
		can[g.key.sw] = g.can()
	}
	// Of several destinations each gets its own copy: one of them is looked at.
	var sessions []platform.Session
	for _, g := range m.groups[:min(len(m.groups), 2)] {
		for _, s := range m.made[g.key.platform] {
			if s.Switch == g.key.sw && s.Method == platform.MethodAgent { // one for each interface
				sessions = append(sessions, s)
				continue
			}
			if s.Switch == g.key.sw && !slices.ContainsFunc(sessions, func(o platform.Session) bool { return o.Host == s.Host && o.Switch == s.Switch }) {
				sessions = append(sessions, s)
			}
		}
	}
	look := func(from, to *place) int {
		var f, t *platform.Port
		if from != nil {
			f = from.Port
		}
		if to != nil {
			t = to.Port
		}
		return Predict(sessions, f, t, func(sw string) platform.Capability { return can[sw] })
	}
	first := m.groups[0].places
	c := Copies{Out: look(first[0], nil), In: look(nil, first[0])}
	if len(first) > 1 {
		c.Same = look(first[0], first[1])
	}
	if len(m.groups) > 1 {
		c.Other = look(first[0], m.groups[1].places[0])
	}
	c.Once = max(c.Same, c.Other, c.Out, c.In) <= 1 && !m.twice
	if !c.Once {
		c.About = "what tapped machines on different switches say to each other is copied at both: let the tool or groom: [dedup] remove one"
	}
	return c
}
