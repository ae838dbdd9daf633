package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"crosstap/internal/frame"
)

// Offsets in struct __sk_buff of what only pairs read.
const (
	skbIngressIfindex = 36
	skbGSOSegs        = 164
)

// Counters of a pair's programs. A super-frame is one frame and several segments; bytes are those of Ethernet, without tags that lie
// beside the frame.
const (
	pairFrames   = iota // redirected to the other interface; at the way out: from the other interface
	pairSegments        // wire segments of those
	pairBytes
	pairStopped // at the way in: dropped because the lease had ended; at the way out: frames of the host itself, held back
	pairAlone   // redirected although nobody had renewed the lease
)

// Names of maps by which pairs are known.
const (
	pairStatsName = "xt_pair"
	aliveName     = "xt_alive"
)

// pairIn is the program at the way in: every frame goes to the way out of the other interface.
func pairIn(s *stats, peer uint32, l *lease, closed bool) asm.Instructions {
	c := &code{}
	alone, ready := "alone", "ready"
	c.add(asm.Mov.Reg(regCtx, asm.R1))
	l.look(c, alone)
	c.add(asm.Ja.Label(ready))
	c.at(alone)
	if closed {
		s.count(c, pairStopped)
		c.result(actShot)
	} else {
		s.count(c, pairAlone)
	}
	c.at(ready)
	s.countFrame(c)
	c.add(asm.Mov.Imm(asm.R1, int32(peer)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
	return c.ins
}

// pairOut is the program at the way out: it counts what comes from the other interface, and lets nothing else leave. A wire does not
// speak by itself. It names the lease, for Sweep to know.
func pairOut(s *stats, peer uint32, l *lease) asm.Instructions {
	c := &code{}
	c.add(
		asm.LoadMapValue(asm.R0, l.m.FD(), 0),
		asm.Mov.Reg(regCtx, asm.R1),
		asm.LoadMem(asm.R1, regCtx, skbIngressIfindex, asm.Word),
		asm.JNE.Imm(asm.R1, int32(peer), "own"),
	)
	s.countFrame(c)
	c.result(actNext)
	c.at("own")
	s.count(c, pairStopped)
	c.result(actShot)
	return c.ins
}

// countFrame counts a frame, its segments and its bytes. R0 to R5 are lost.
func (s *stats) countFrame(c *code) {
	many := c.name("many")
	add := func(slot int16, what asm.Register) {
		c.add(asm.LoadMem(asm.R2, asm.R1, slot*8, asm.DWord), asm.Add.Reg(asm.R2, what), asm.StoreMem(asm.R1, slot*8, asm.R2, asm.DWord))
	}
	s.line(c)
	c.add(asm.Mov.Imm(asm.R3, 1))
	add(pairFrames, asm.R3)
	c.add(asm.LoadMem(asm.R3, regCtx, skbGSOSegs, asm.Word), asm.JNE.Imm(asm.R3, 0, many), asm.Mov.Imm(asm.R3, 1))
	c.at(many)
	add(pairSegments, asm.R3)
	c.add(asm.LoadMem(asm.R3, regCtx, skbLen, asm.Word))
	add(pairBytes, asm.R3)
}

// pairStats are the counters of a pair: for each interface those of its way in and of its way out. A pair that is taken over keeps them.
type pairStats struct {
	m    *ebpf.Map
	cpus int // a power of two
}

// newPairStats returns new counters, or those of a pair before when they fit.
func newPairStats(old *ebpf.Map) (*pairStats, error) {
	n, err := statLines()
	if err != nil {
		return nil, err
	}
	size := uint32(2 * 2 * n * statSlots * 8)
	if old != nil {
		if info, err := old.Info(); err == nil && info.ValueSize == size {
			return &pairStats{old, n}, nil
		}
		_ = old.Close()
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: pairStatsName, Type: ebpf.Array, KeySize: 4, ValueSize: size, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	return &pairStats{m, n}, nil
}

// place returns the number of a block. What leaves stands before what came: the kernel copies from the beginning on, so that what left is never
// read later than what came.
func (p *pairStats) place(side int, dir frame.Direction) int {
	if dir == frame.Egress {
		return side
	}
	return 2 + side
}

// block returns the counters of one program.
func (p *pairStats) block(side int, dir frame.Direction) *stats {
	return &stats{m: p.m, cpus: p.cpus, at: uint32(p.place(side, dir) * p.cpus * statSlots * 8)}
}

// pairReading is all that is counted of a pair at a moment.
type pairReading struct {
	side [2]struct {
		in, out counts
		refused uint64 // by the interface and its queue, of what was to leave
	}
}

func (p *pairStats) read() (r pairReading, err error) {
	all := make([]uint64, 2*2*p.cpus*statSlots)
	if err := p.m.Lookup(uint32(0), all); err != nil {
		return r, fmt.Errorf("counters: %w", err)
	}
	for i := range r.side {
		for _, x := range []struct {
			dir frame.Direction
			to  *counts
		}{{frame.Ingress, &r.side[i].in}, {frame.Egress, &r.side[i].out}} {
			from := p.place(i, x.dir) * p.cpus * statSlots
			for k, v := range all[from : from+p.cpus*statSlots] {
				x.to[k%statSlots] += v
			}
		}
	}
	return r, nil
}

// since returns what was counted after another reading.
func (r pairReading) since(was pairReading) pairReading {
	for i := range r.side {
		a, b := &r.side[i], &was.side[i]
		for k := range a.in {
			a.in[k] -= b.in[k]
			a.out[k] -= b.out[k]
		}
		a.refused -= min(b.refused, a.refused)
	}
	return r
}
