package kernel

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// table is the flow table of one IP version: two maps, of which the programs use one while user space empties the other. The one in
// use stands in outer.
type table struct {
	outer  *ebpf.Map
	inner  [2]*ebpf.Map
	now    int // the one in use
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
		Name: "xt_tables", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: spec,
	})
	if err != nil {
		return t, err
	}
	t.keys = make([]byte, batchFlows*keyLen)
	t.values = make([]byte, batchFlows*valLen*t.cpus)
	return t, t.outer.Put(uint32(0), uint32(t.inner[0].FD()))
}

func (t *table) close() {
	for _, m := range []*ebpf.Map{t.outer, t.inner[0], t.inner[1]} {
		if m != nil {
			_ = m.Close()
		}
	}
}

// drain gives the programs the other map and empties the one that they used: f gets each flow's key, and the value of one processor at
// a time that saw packets of it. The kernel waits, before it returns from the change, for programs that still use the old map:
// no packet is missed and none is counted twice.
func (t *table) drain(f func(key, value []byte)) error {
	full := t.inner[t.now]
	t.now ^= 1
	if err := t.outer.Put(uint32(0), uint32(t.inner[t.now].FD())); err != nil {
		return fmt.Errorf("change the flow table: %w", err)
	}
	var at ebpf.MapBatchCursor
	for {
		n, err := t.batch(full, &at)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read the flow table: %w", err)
		}
		for i := range n {
			key := t.keys[i*t.keyLen : (i+1)*t.keyLen]
			for cpu := range t.cpus {
				v := t.values[(i*t.cpus+cpu)*valLen:][:valLen]
				f(key, v)
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
