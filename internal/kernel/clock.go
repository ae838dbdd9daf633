package kernel

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// clock relates the kernel's ticks, which cost a program next to nothing, to the monotonic clock.
type clock struct {
	readings    *ebpf.Map
	program     *ebpf.Program
	first, last reading
	tick        time.Duration
}

// reading is one moment by both clocks.
type reading struct{ Ticks, NS uint64 }

// ticks are the lengths that a tick can have: 1000, 300, 250 and 100 each second.
var ticks = []time.Duration{time.Millisecond, time.Second / 300, 4 * time.Millisecond, 10 * time.Millisecond}

// enoughTicks make the length of a tick certain.
const enoughTicks = 16

func newClock() (*clock, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_clock", Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("clock: %w", permission(err))
	}
	p, err := load("xt_clock", asm.Instructions{
		asm.LoadMapValue(asm.R6, m.FD(), 0),
		asm.FnJiffies64.Call(), asm.StoreMem(asm.R6, 0, asm.R0, asm.DWord),
		asm.FnKtimeGetNs.Call(), asm.StoreMem(asm.R6, 8, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0), asm.Return(),
	})
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("clock: %w", err)
	}
	c := &clock{readings: m, program: p}
	if err := c.read(); err != nil {
		c.close()
		return nil, err
	}
	c.first = c.last
	return c, nil
}

func (c *clock) close() {
	_ = c.program.Close()
	_ = c.readings.Close()
}

// read looks at both clocks, and finds out how long a tick is when that is not known.
func (c *clock) read() error {
	for {
		if _, err := c.program.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
			return fmt.Errorf("clock: %w", err)
		}
		if err := c.readings.Lookup(uint32(0), &c.last); err != nil {
			return fmt.Errorf("clock: %w", err)
		}
		if c.tick != 0 || c.first == (reading{}) {
			return nil
		}
		if n := c.last.Ticks - c.first.Ticks; n >= enoughTicks {
			c.tick = nearestTick(time.Duration((c.last.NS - c.first.NS) / n))
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// nearestTick returns the length that a measured one stands for.
func nearestTick(d time.Duration) time.Duration {
	best := ticks[0]
	for _, t := range ticks {
		if (t - d).Abs() < (best - d).Abs() {
			best = t
		}
	}
	return best
}

// ns returns the moment of a tick, in nanoseconds of the monotonic clock.
func (c *clock) ns(at uint64) uint64 {
	return c.last.NS - uint64(int64(c.last.Ticks-at)*int64(c.tick))
}
