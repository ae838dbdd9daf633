package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/netns"
)

// Shed says what programs leave out of the frames that match the filter, so that they cost less. The zero value is nothing.
type Shed struct {
	Off    bool // everything: the programs are detached
	Keep   int  // bytes of each copy beyond; 0 for none
	Sample int  // all but one conversation in so many; 0 and 1 for none
}

// orders tell programs what to leave out: a threshold for the numbers of conversations (0 for none), and the bytes of a copy that stay.
type orders struct{ m *ebpf.Map }

const (
	orderThreshold = 0
	orderKeep      = 4
	orderLen       = 8
)

// Counters beside those of a program, of what matched its filter.
const (
	govBytes = iota // as the frames had them
	govShed         // frames left out
)

func newOrders() (*orders, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "xt_orders", Type: ebpf.Array, KeySize: 4, ValueSize: orderLen, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("orders: %w", permission(err))
	}
	return &orders{m}, nil
}

// openOrders makes the orders of a line under a budget, unless it has them.
func (l *line) openOrders() (err error) {
	if !l.cfg.Govern || l.orders != nil {
		return nil
	}
	if l.orders, err = newOrders(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	return nil
}

// put gives an order. Programs see both words of it, or both of the one before.
func (o *orders) put(s Shed) error {
	var b [orderLen]byte
	if s.Sample > 1 {
		binary.NativeEndian.PutUint32(b[orderThreshold:], uint32((1<<32-1)/uint64(s.Sample)))
	}
	binary.NativeEndian.PutUint32(b[orderKeep:], uint32(s.Keep))
	return o.m.Put(uint32(0), b[:])
}

func (o *orders) close() {
	if o != nil {
		_ = o.m.Close()
	}
}

// load leaves one word of the order in dst. Nothing else is lost.
func (o *orders) load(c *code, dst asm.Register, word int16) {
	c.add(asm.LoadMapValue(dst, o.m.FD(), 0), asm.LoadMem(dst, dst, word, asm.Word))
}

// spread makes another number of a conversation's, so that what a budget leaves out does not go by what a sample takes.
const spread = 0x2c1b3c6d

// obey counts the bytes of a frame that matched, and goes on at aside when it is to be left out. What is no conversation's is never. R0 to R5,
// R7 and R8 are lost.
func (l *line) obey(c *code, k *hook, aside string) {
	if l.orders == nil {
		return
	}
	all := c.name("all")
	k.gov.line(c)
	c.add(
		asm.LoadMem(asm.R2, asm.R1, govBytes*8, asm.DWord),
		asm.LoadMem(asm.R3, regCtx, skbLen, asm.Word),
		asm.Add.Reg(asm.R2, asm.R3),
		asm.StoreMem(asm.R1, govBytes*8, asm.R2, asm.DWord),
	)
	l.orders.load(c, asm.R1, orderThreshold)
	c.add(asm.JEq.Imm(asm.R1, 0, all))
	conversation(c, k.link)
	c.add(
		asm.Mul.Imm32(asm.R8, spread),
		asm.Mov.Reg32(asm.R2, asm.R8), asm.RSh.Imm32(asm.R2, 15), asm.Xor.Reg32(asm.R8, asm.R2),
		asm.Mul.Imm32(asm.R8, golden),
	)
	l.orders.load(c, asm.R1, orderThreshold)
	c.add(asm.JEq.Imm(asm.R1, 0, all), asm.JGT.Reg(asm.R8, asm.R1, aside))
	c.at(all)
}

// SetShed has the programs leave frames out, or take them again, and returns from when on all frames are taken by it.
func (l *line) SetShed(s Shed) (from time.Time, err error) {
	l.change.Lock()
	defer l.change.Unlock()
	switch {
	case l.ended:
		return time.Now(), nil
	case l.orders == nil:
		return from, errors.New("kernel: no budget was asked for")
	}
	err = l.orders.put(s)
	switch {
	case s.Off && !l.off:
		l.off = true
		l.leaveAll()
	case !s.Off && l.off:
		l.off = false
		l.joinAll()
	}
	l.shed = s
	return time.Now(), err
}

// leaveAll detaches the programs of all points. The caller holds change.
func (l *line) leaveAll() {
	for point := range l.cfg.Interfaces {
		l.leave(uint32(point))
	}
}

// joinAll attaches programs to the interfaces that are there. The caller holds change.
func (l *line) joinAll() {
	now := l.present()
	for point, name := range l.cfg.Interfaces {
		if _, ok := now[name]; !ok {
			continue
		}
		if err := l.join(uint32(point)); err != nil {
			l.log.Warn("program not attached", "interface", name, "error", err)
		}
	}
}

// Tally is what programs under a budget have counted since they began.
type Tally struct {
	Seen    uint64 // frames at the hooks
	Matched uint64 // of them by the filter
	Bytes   uint64 // of those
	Passed  uint64 // of those not left out
}

// Tally returns the counts of all points. It is safe for concurrent use.
func (l *line) Tally() (t Tally) {
	all, gov := l.read(-1), l.readGov()
	t.Seen = all.seen() + gov[govShed]
	t.Matched = t.Seen - all[statFiltered]
	t.Bytes = gov[govBytes]
	t.Passed = t.Matched - gov[govShed]
	return t
}

// readGov returns the counters for the budget, of all hooks that are and were.
func (l *line) readGov() (sum counts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum = l.govPast
	for _, k := range l.hooks {
		if k.gov == nil {
			continue
		}
		if c, err := k.gov.read(); err == nil {
			sum.add(c)
		}
	}
	return sum
}

func (c *counts) add(o counts) {
	for i, v := range o {
		c[i] += v
	}
}

// Traffic returns the packets that the interfaces have counted themselves, whether programs saw them or not. It is safe for concurrent use.
func (l *line) Traffic() (packets uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.traffic == nil {
		_ = netns.Do(l.cfg.NetNS, func() (err error) {
			l.traffic, err = netlink.NewHandle(unix.NETLINK_ROUTE)
			return err
		})
	}
	if l.traffic == nil {
		return 0
	}
	for _, name := range l.cfg.Interfaces {
		x, err := l.traffic.LinkByName(name)
		if err != nil || x.Attrs().Statistics == nil {
			continue
		}
		packets += x.Attrs().Statistics.RxPackets
		if !l.cfg.IngressOnly {
			packets += x.Attrs().Statistics.TxPackets
		}
	}
	return packets
}
