package kernel

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// paceBurst is what may leave at once after a while of silence: so long at the full rate, and at least eight of the longest packets.
const (
	paceBurst      = 20 * time.Millisecond
	paceBurstLeast = 8 * maxFits // bits
)

// pace bounds the rate of what leaves: a moment of the monotonic clock in a map, up to which what has left takes at the full rate (the
// virtual scheduling algorithm of ITU-T I.371). A packet may leave while that moment is not further away than the burst.
type pace struct {
	m    *ebpf.Map
	bits uint64 // each second
}

func newPace(bits uint64) (*pace, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_pace", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("rate: %w", permission(err))
	}
	return &pace{m, bits}, nil
}

func (p *pace) close() {
	if p != nil {
		_ = p.m.Close()
	}
}

// burst returns how far the moment may be away, in nanoseconds.
func (p *pace) burst() int64 {
	least := int64(float64(paceBurstLeast) / float64(p.bits) * 1e9)
	return max(int64(paceBurst), least)
}

// paceShift is the shift of the time that a byte takes.
const paceShift = 16

// perByte returns the time that a byte takes, in parts of a nanosecond.
func (p *pace) perByte() int64 { return int64(8e9 * (1 << paceShift) / float64(p.bits)) }

// paceTries bounds how often a processor looks again when another one was faster. After that the packet leaves uncounted.
const paceTries = 4

// take goes on at over when the packet, which is extra bytes longer on its way than it is now, is above the rate. R0 to R5 and R7 are lost.
func (p *pace) take(c *code, extra int, over string) {
	taken := c.name("taken")
	c.add(
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R4, asm.R0),
		asm.LoadMem(asm.R5, regCtx, skbLen, asm.Word),
		asm.Add.Imm(asm.R5, int32(extra)),
		asm.LoadImm(asm.R3, p.perByte(), asm.DWord),
		asm.Mul.Reg(asm.R5, asm.R3),
		asm.RSh.Imm(asm.R5, paceShift),
		asm.LoadMapValue(asm.R7, p.m.FD(), 0),
	)
	for range paceTries {
		later := c.name("later")
		c.add(
			asm.LoadMem(asm.R0, asm.R7, 0, asm.DWord),
			asm.Mov.Reg(asm.R2, asm.R0),
			asm.JGE.Reg(asm.R2, asm.R4, later),
			asm.Mov.Reg(asm.R2, asm.R4),
		)
		c.at(later)
		c.add(
			asm.Mov.Reg(asm.R3, asm.R2), asm.Sub.Reg(asm.R3, asm.R4),
			asm.LoadImm(asm.R1, p.burst(), asm.DWord),
			asm.JGT.Reg(asm.R3, asm.R1, over),
			asm.Add.Reg(asm.R2, asm.R5),
			asm.Mov.Reg(asm.R1, asm.R0),
			compareExchange(asm.R7, asm.R2),
			asm.JEq.Reg(asm.R0, asm.R1, taken),
		)
	}
	c.at(taken)
}

// compareExchange writes src to the 64 bits that dst points to when they are what R0 holds, and leaves the old value in R0.
func compareExchange(dst, src asm.Register) asm.Instruction {
	i := asm.CmpXchg.Mem(dst, src, asm.DWord, 0)
	i.Constant = 0xf1 // BPF_CMPXCHG, which cilium/ebpf 0.22 forgets to encode
	return i
}
