package dissect

import (
	"fmt"
	"slices"
	"strings"
)

// Config says what a dissector cannot know from the bytes alone. A tunnel over UDP is read on these destination
// ports only. A nil list means the usual ports, an empty one none.
type Config struct {
	VXLANPorts    []uint16 // 4789 and 8472
	VXLANGPEPorts []uint16 // 4790
	GenevePorts   []uint16 // 6081
	GTPUPorts     []uint16 // 2152
	MPLSPorts     []uint16 // 6635
	TZSPPorts     []uint16 // 37008
	GREPorts      []uint16 // 4754 (RFC 8086)

	// NVGRE reads the key of a GRE packet that carries Ethernet as VSID and flow identifier
	// (RFC 7637) and not as one 32-bit key (RFC 2890). The bytes do not tell.
	NVGRE bool
}

// DefaultConfig returns the usual ports in full.
func DefaultConfig() Config {
	return Config{
		VXLANPorts:    []uint16{4789, 8472},
		VXLANGPEPorts: []uint16{4790},
		GenevePorts:   []uint16{6081},
		GTPUPorts:     []uint16{2152},
		MPLSPorts:     []uint16{6635},
		TZSPPorts:     []uint16{37008},
		GREPorts:      []uint16{4754},
	}
}

// Validate reports a port that is 0 or that two encapsulations claim.
func (c Config) Validate() error {
	seen := map[uint16]Kind{}
	for _, t := range c.tunnels() {
		for _, port := range t.ports {
			if port == 0 {
				return fmt.Errorf("dissect: %s port 0: ports are 1 to 65535", t.kind)
			}
			if k, ok := seen[port]; ok && k != t.kind {
				return fmt.Errorf("dissect: port %d: named for %s and for %s; keep one", port, k, t.kind)
			}
			seen[port] = t.kind
		}
	}
	return nil
}

// tunnelPorts are the ports of one encapsulation.
type tunnelPorts struct {
	kind  Kind
	ports []uint16
}

func (c Config) tunnels() (all []tunnelPorts) {
	for _, l := range c.lists() {
		all = append(all, tunnelPorts{l.kind, *l.ports})
	}
	return all
}

// portList is where the ports of one encapsulation stand.
type portList struct {
	kind  Kind
	ports *[]uint16
}

func (c *Config) lists() []portList {
	return []portList{
		{KindVXLAN, &c.VXLANPorts}, {KindVXLANGPE, &c.VXLANGPEPorts}, {KindGeneve, &c.GenevePorts},
		{KindGTPU, &c.GTPUPorts}, {KindMPLS, &c.MPLSPorts}, {KindTZSP, &c.TZSPPorts}, {KindGRE, &c.GREPorts},
	}
}

// Add names a port of an encapsulation over UDP: vxlan, vxlan-gpe, geneve, gtp, mpls, tzsp or gre. The first one takes the place of the usual ones.
func (c *Config) Add(name string, port uint16) error {
	var names []string
	for _, l := range c.lists() {
		if l.kind.String() == name {
			*l.ports = append(*l.ports, port)
			return nil
		}
		names = append(names, l.kind.String())
	}
	return fmt.Errorf("dissect: tunnel %q: want %s", name, strings.Join(names, ", "))
}

// Ports returns the ports of all encapsulations, the usual ones where none are named.
func (c Config) Ports() (all []uint16) {
	usual := DefaultConfig().tunnels()
	for i, t := range c.tunnels() {
		if t.ports == nil {
			t = usual[i]
		}
		all = append(all, t.ports...)
	}
	return all
}

// portTable finds the encapsulation of a UDP destination port: a table without collisions, indexed by
// the port's low bits. Port 0 stands for a free slot.
type portTable struct {
	slots []portSlot
	mask  uint16
}

type portSlot struct {
	port uint16
	kind Kind
}

// newPortTable lists the named ports first, so that none of the usual ones takes a port that is named
// for something else.
func newPortTable(c Config) portTable {
	var all []portSlot
	add := func(ts []tunnelPorts) {
		for _, t := range ts {
			for _, port := range t.ports {
				taken := slices.ContainsFunc(all, func(s portSlot) bool { return s.port == port })
				if port != 0 && !taken {
					all = append(all, portSlot{port, t.kind})
				}
			}
		}
	}
	named, usual := c.tunnels(), DefaultConfig().tunnels()
	usual = slices.DeleteFunc(usual, func(t tunnelPorts) bool {
		return slices.ContainsFunc(named, func(n tunnelPorts) bool { return n.kind == t.kind && n.ports != nil })
	})
	add(named)
	add(usual)
	for size := 64; ; size *= 2 {
		if t, ok := fill(all, size); ok {
			return t
		}
	}
}

// fill puts the ports in a table of size slots; with 65536 of them it always succeeds.
func fill(all []portSlot, size int) (portTable, bool) {
	t := portTable{slots: make([]portSlot, size), mask: uint16(size - 1)}
	for _, s := range all {
		at := &t.slots[s.port&t.mask]
		if at.port != 0 {
			return portTable{}, false
		}
		*at = s
	}
	return t, true
}

// Tunnel reports whether a UDP destination port stands for an encapsulation.
func (d *Dissector) Tunnel(port uint16) bool { return d.ports.kind(port) != KindNone }

// kind returns the encapsulation of a destination port, KindNone for most.
func (t *portTable) kind(port uint16) Kind {
	if s := t.slots[port&t.mask]; s.port == port {
		return s.kind
	}
	return KindNone
}
