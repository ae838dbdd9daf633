package kernel

import (
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Lease is how long a program at a clsact qdisc goes on without its process.
const Lease = 5 * time.Second

var leaseLength = Lease // tests shorten it

// leaseName is the name of the map in which a program finds the end of its lease. Sweep knows our programs by it.
const leaseName = "xt_lease"

// lease is a moment of the monotonic clock in a map, after which the programs that look at it do nothing.
type lease struct {
	m      *ebpf.Map
	id     ebpf.MapID // of one that living has
	length time.Duration
}

// newLease returns the lease of a process that renews it as long as it lives, which Sweep knows.
func newLease() (*lease, error) {
	l, err := newLeaseOf(leaseName, leaseLength)
	if err != nil {
		return nil, err
	}
	if info, err := l.m.Info(); err == nil {
		l.id, _ = info.ID()
		living.Store(l.id, true)
	}
	return l, nil
}

func newLeaseOf(name string, length time.Duration) (*lease, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	l := &lease{m: m, length: length}
	return l, l.renew()
}

// living are the maps of leases of this process: they are not stale even when it was stopped for longer than they last.
var living sync.Map

// renew moves the end of the lease.
func (l *lease) renew() error {
	return l.m.Put(uint32(0), monotonic()+uint64(l.length))
}

func (l *lease) close() {
	living.Delete(l.id)
	_ = l.m.Put(uint32(0), uint64(0))
	_ = l.m.Close()
}

// look goes on at expired when the lease has ended. R0 to R5 are lost.
func (l *lease) look(c *code, expired string) {
	c.add(
		asm.FnKtimeGetCoarseNs.Call(), // of the last tick; the exact clock costs some forty times as much
		asm.LoadMapValue(asm.R1, l.m.FD(), 0),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.JGT.Reg(asm.R0, asm.R1, expired),
	)
}

// monotonic is the clock that programs read, in nanoseconds.
func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}
