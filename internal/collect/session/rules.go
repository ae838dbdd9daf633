package session

import (
	"fmt"
	"net/netip"
	"strconv"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
)

// Rule is what an operator says of exporters that do not say it themselves.
type Rule struct {
	Exporters []netip.Prefix // addresses; the longest prefix that fits decides
	Domain    *uint32        // observation domain, for NetFlow v5 engine type × 256 + engine id; nil for all

	Sampling uint32 // one packet in so many is counted, where the exporter does not tell; 0 for not known
	Assume   uint32 // the same, as a guess: records carry a mark
	Scaled   bool   // the counters are already multiplied by Sampling: never multiply

	PortIDs    bool              // interface numbers hold the switch in their upper 7 of 16 bits, the port in the lower 9 (ESX "-p", Open vSwitch)
	Switches   map[uint32]Switch // by engine id
	Interfaces map[uint32]string // names by number, where the exporter does not tell
}

// Switch is a virtual switch that tells its flows apart by engine id.
type Switch struct {
	Name  string
	Ports map[uint32]string
}

// Validate reports the first mistake.
func (r *Rule) Validate() error {
	if len(r.Exporters) == 0 {
		return fmt.Errorf("session: a rule names no exporter")
	}
	for _, p := range r.Exporters {
		if !p.IsValid() {
			return fmt.Errorf("session: a rule names an invalid network")
		}
	}
	if r.Sampling != 0 && r.Assume != 0 {
		return fmt.Errorf("session: rule for %v: sampling %d and assumed %d: give one of them", r.Exporters[0], r.Sampling, r.Assume)
	}
	if r.Scaled && r.Sampling < 2 {
		return fmt.Errorf("session: rule for %v: counters that are already multiplied need the sampling they are multiplied by", r.Exporters[0])
	}
	for id := range r.Switches {
		if id > 255 {
			return fmt.Errorf("session: rule for %v: engine id %d: want 0 to 255", r.Exporters[0], id)
		}
	}
	return nil
}

// ruleOf returns the rule for an exporter's domain, nil for none.
func ruleOf(rules []Rule, addr flow.Addr, domain uint32) *Rule {
	a := addr.Netip()
	var found *Rule
	best := -1
	for i := range rules {
		r := &rules[i]
		if r.Domain != nil && *r.Domain != domain {
			continue
		}
		for _, p := range r.Exporters {
			score := 2 * p.Bits()
			if r.Domain != nil {
				score++
			}
			if p.Contains(a) && score > best {
				found, best = r, score
			}
		}
	}
	return found
}

// noPort is the interface number that stands for "several ports" or "none" in NetFlow v5.
const noPort = 0xffff

// port names an interface as the rule says, "" when it says nothing. engine is the engine id of NetFlow v5.
func (r *Rule) port(p flowproto.Protocol, engine, number uint32) string {
	if name := r.Interfaces[number]; name != "" {
		return name
	}
	if p != flowproto.NetFlow5 || number == noPort || number == 0 {
		return ""
	}
	if r.PortIDs {
		sw, port := number>>9&0x7f, number&0x1ff
		s := r.Switches[sw]
		if s.Name == "" {
			s.Name = "switch " + strconv.Itoa(int(sw))
		}
		return s.Name + " " + s.port(port)
	}
	if s, ok := r.Switches[engine]; ok {
		return s.Name + " " + s.port(number)
	}
	return ""
}

func (s Switch) port(number uint32) string {
	if name := s.Ports[number]; name != "" {
		return name
	}
	return "port " + strconv.Itoa(int(number))
}

// Sampled is what a platform says of an exporter's sampling.
type Sampled struct {
	Rate   uint32 // one packet in so many
	Scaled bool   // the exporter multiplies its counters itself
}

// Platform tells the sampling that a platform has configured for an exporter; ok is false when it does not know it.
type Platform func(exporter flow.Addr, domain uint32) (s Sampled, ok bool)
