package netnetflow

import (
	"slices"
	"sync"

	"crosstap/internal/flow"
)

// places knows the ports of a switch by the numbers that frames carry, and at which port a MAC address was last seen as a source:
// where the switch sends the answers. It is safe for concurrent use.
type places struct {
	mu    sync.RWMutex
	ports []place
	macs  map[flow.MAC]int // index into ports
}

// place is a port with what records say of it.
type place struct {
	name   string
	no     uint32
	number uint32 // of the interface in records
}

// maxMACs bounds the table; a switch that learns more begins anew.
const maxMACs = 1 << 16

func newPlaces() *places { return &places{macs: map[flow.MAC]int{}} }

// index returns the number of a port in frames, the same whenever the port comes back.
func (p *places) index(port port, number uint32) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	want := place{port.name, port.no, number}
	i := slices.Index(p.ports, want)
	if i < 0 {
		i = len(p.ports)
		p.ports = append(p.ports, want)
	}
	return uint32(i)
}

// at returns the port with that number in frames.
func (p *places) at(index uint32) place {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if int(index) >= len(p.ports) {
		return place{}
	}
	return p.ports[index]
}

// learn takes note of the port where a source was seen.
func (p *places) learn(mac flow.MAC, index uint32) {
	if mac == 0 || mac.Group() {
		return
	}
	p.mu.RLock()
	at, known := p.macs[mac]
	p.mu.RUnlock()
	if known && at == int(index) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !known && len(p.macs) >= maxMACs {
		clear(p.macs)
	}
	p.macs[mac] = int(index)
}

// leave forgets what was learned at a port that is gone.
func (p *places) leave(index uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for mac, at := range p.macs {
		if at == int(index) {
			delete(p.macs, mac)
		}
	}
}

// forget forgets what was learned at all ports.
func (p *places) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.macs)
}

// towards returns the port that frames to a MAC address leave by; false when it is not known or not one.
func (p *places) towards(mac flow.MAC) (place, bool) {
	if mac.Group() {
		return place{}, false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	i, ok := p.macs[mac]
	if !ok {
		return place{}, false
	}
	return p.ports[i], true
}
