package kernel

import (
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Counters of a program. Each frame is counted under exactly one of those up to statLast, so that their sum is what was seen, at
// any moment.
const (
	statFiltered = iota
	statSampled
	statLost
	statTooBig
	statOut
	statUp     // handed to user space for what the program cannot do itself
	statLast   = statUp
	statLapsed = statTooBig // at interfaces, where nothing is too big: let pass because the lease had ended
	statFull   = 6          // of those handed to user space, for want of room in the flow table
	statBytes  = statFull   // at the wrappers of a budget, which have no table: of packets to the tool
	statTurn   = 7          // frames since the last one of the sample
	statOver   = statTurn   // at wrappers, which draw no sample: above the rate
	statSlots  = 8          // one cache line

	statSegments = statFull // at the interfaces of mirrors: of the super-frames that went through the device
)

// counts are the sums over all processors.
type counts [statSlots]uint64

func (c *counts) seen() (n uint64) {
	for _, v := range c[:statLast+1] {
		n += v
	}
	return n
}

// stats are counters of which every processor has its own line.
type stats struct {
	m    *ebpf.Map
	cpus int    // a power of two
	at   uint32 // where the first line begins in the map's value
}

// statLines returns the number of lines: a power of two that is enough for all processors.
func statLines() (int, error) {
	n, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, fmt.Errorf("number of processors: %w", err)
	}
	return 1 << bits.Len(uint(n-1)), nil
}

func newStats() (*stats, error) {
	n, err := statLines()
	if err != nil {
		return nil, err
	}
	s := &stats{cpus: n}
	s.m, err = ebpf.NewMap(&ebpf.MapSpec{Name: "xt_stats", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(s.cpus * statSlots * 8), MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	return s, nil
}

func (s *stats) close() { _ = s.m.Close() }

// line leaves the address of the processor's counters in R1. R0 and R2 to R5 are lost.
func (s *stats) line(c *code) {
	c.add(
		asm.FnGetSmpProcessorId.Call(),
		asm.And.Imm(asm.R0, int32(s.cpus-1)),
		asm.LSh.Imm(asm.R0, 6),
		asm.LoadMapValue(asm.R1, s.m.FD(), s.at),
		asm.Add.Reg(asm.R1, asm.R0),
	)
}

// count adds one to a counter. R0 to R5 are lost.
func (s *stats) count(c *code, slot int16) {
	s.line(c)
	c.add(
		asm.LoadMem(asm.R2, asm.R1, slot*8, asm.DWord),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, slot*8, asm.R2, asm.DWord),
	)
}

// read returns the sums. Each counter is read once; a frame is in one of them.
func (s *stats) read() (c counts, err error) {
	all := make([]uint64, s.cpus*statSlots)
	if err := s.m.Lookup(uint32(0), all); err != nil {
		return c, fmt.Errorf("counters: %w", err)
	}
	for i, v := range all {
		c[i%statSlots] += v
	}
	return c, nil
}
