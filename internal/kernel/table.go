package kernel

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// tables are what flows are counted in: the lines near at hand, and behind them a table for each IP version. All of them are there twice, and programs
// use the one half while user space empties the other.
type tables struct {
	near *near
	far  [2]*table // of IPv4 and of IPv6
}

func newTables(flows int) (t *tables, err error) {
	t = &tables{}
	flows = min(flows, tableFlows)
	cpus, err := statLines()
	if err == nil {
		t.near, err = newNear(nearBits(flows, cpus))
	}
	if err == nil {
		t.far[0], err = newTable(key4Len, flows)
	}
	if err == nil {
		t.far[1], err = newTable(key6Len, max(flows/4, 1))
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tables) close() {
	if t.near != nil {
		t.near.close()
	}
	for _, x := range t.far {
		if x != nil {
			x.close()
		}
	}
}

// drain gives the programs the other half and empties the one that they used: f gets each flow's key, and the value of one processor at a time that
// saw packets of it. No packet is missed and none is counted twice.
func (t *tables) drain(f func(key, value []byte)) error {
	half := t.near.change()
	if err := t.far[0].wait(); err != nil {
		return fmt.Errorf("change the flow table: %w", err)
	}
	spilled := t.near.drain(half, f)
	for i, x := range t.far {
		if spilled&[...]uint32{spilledV4, spilledV6}[i] == 0 {
			continue
		}
		if err := x.drain(half, f); err != nil {
			return fmt.Errorf("read the flow table: %w", err)
		}
	}
	return nil
}

// table is the table behind the lines of one IP version: a map of two maps.
type table struct {
	outer  *ebpf.Map
	inner  [2]*ebpf.Map
	keyLen int
	cpus   int
	keys   []byte
	values []byte
}

// manyCPUs is from when on the memory of flows is not set aside: every processor has a value of its own.
const manyCPUs = 16

// batchFlows is the number of flows that are read at a time.
const batchFlows = 2048

func newTable(keyLen, flows int) (t *table, err error) {
	t = &table{keyLen: keyLen}
	if t.cpus, err = ebpf.PossibleCPU(); err != nil {
		return nil, fmt.Errorf("number of processors: %w", err)
	}
	spec := &ebpf.MapSpec{Name: "xt_flows", Type: ebpf.PerCPUHash, KeySize: uint32(keyLen), ValueSize: valLen, MaxEntries: uint32(flows)}
	if runtime.NumCPU() > manyCPUs {
		spec.Flags |= unix.BPF_F_NO_PREALLOC
	}
	defer func() {
		if err != nil {
			t.close()
			t, err = nil, fmt.Errorf("flow table of %d flows: %w", flows, permission(err))
		}
	}()
	for i := range t.inner {
		if t.inner[i], err = ebpf.NewMap(spec); err != nil {
			return t, err
		}
	}
	t.outer, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "xt_tables", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: uint32(len(t.inner)), InnerMap: spec,
	})
	for i, m := range t.inner {
		if err == nil {
			err = t.outer.Put(uint32(i), uint32(m.FD()))
		}
	}
	t.keys = make([]byte, batchFlows*keyLen)
	t.values = make([]byte, batchFlows*valLen*t.cpus)
	return t, err
}

func (t *table) close() {
	for _, m := range []*ebpf.Map{t.outer, t.inner[0], t.inner[1]} {
		if m != nil {
			_ = m.Close()
		}
	}
}

// wait returns when all programs have ended that ran when it was called: the kernel waits for them after a change of a map of maps, also for one that
// changes nothing.
func (t *table) wait() error { return t.outer.Put(uint32(0), uint32(t.inner[0].FD())) }

// drain empties one of the two maps, which no program uses.
func (t *table) drain(half uint32, f func(key, value []byte)) error {
	var at ebpf.MapBatchCursor
	for {
		n, err := t.batch(t.inner[half], &at)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range n {
			key := t.keys[i*t.keyLen : (i+1)*t.keyLen]
			for cpu := range t.cpus {
				f(key, t.values[(i*t.cpus+cpu)*valLen:][:valLen])
			}
		}
		if err != nil {
			return nil
		}
	}
}

// batch reads flows and removes them from the map.
func (t *table) batch(m *ebpf.Map, at *ebpf.MapBatchCursor) (int, error) {
	if t.keyLen == key4Len {
		return m.BatchLookupAndDelete(at, asKeys[[key4Len]byte](t.keys), asKeys[[valLen]byte](t.values), nil)
	}
	return m.BatchLookupAndDelete(at, asKeys[[key6Len]byte](t.keys), asKeys[[valLen]byte](t.values), nil)
}
