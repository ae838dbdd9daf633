package kernel

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// near is the part of the flow tables that programs reach without calling the kernel: arrays, of which every processor has two halves. Programs use
// one half of each while user space, which has the memory mapped, empties the other. Lines of flows follow each other as they come, so that few
// flows lie on few pages; an index leads from a key to two lines at most. A flow for which neither is free goes to the tables behind.
type near struct {
	lines *ebpf.Map
	index *ebpf.Map
	state *ebpf.Map // which half is in use, and then a line for each half
	cpus  int       // a power of two
	bits  int       // 2^bits lines in a half, the first of which has no flow
	mem   mapped
	pairs mapped // of the index
	place mapped
}

// A line of the table: the key, from lineValue on the value, and the flow's pair in the index of its half.
const (
	lineLen   = 128
	lineValue = 64
	linePair  = lineValue + valLen // u32
)

// The index: in rows of one cache line pairs of lines' numbers, the one in the low half of 32 bits, the other above; 0 for none.
const (
	rowLen   = 64
	pairLen  = 4
	pairBits = 16 // of one number
	rowPairs = 4  // 2^4 in a row
)

// The state: the half in use, u32, and for each processor and half a line.
const (
	stateLen     = 64
	stateUsed    = 0 // u32, lines in use
	stateSpilled = 4 // u32, bits by IP version: flows went to the tables behind
)

// Bits of stateSpilled.
const (
	spilledV4 = 1 << iota
	spilledV6
)

const (
	nearBytes           = 16 << 20    // of all lines, at most
	nearLeast, nearMost = 6, pairBits // bits
)

// mapped is the memory of a map.
type mapped []byte

func (m mapped) u32(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&m[at])) }
func (m mapped) u64(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&m[at])) }

// nearBits returns the size of a half for so many flows.
func nearBits(flows, cpus int) int {
	n := bits.Len(uint(max(min(2*flows, nearBytes/(2*cpus*lineLen)), 1))) - 1
	return min(max(n, nearLeast), nearMost)
}

func newNear(bits int) (n *near, err error) {
	n = &near{bits: bits}
	if n.cpus, err = statLines(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.close()
			n, err = nil, fmt.Errorf("flow lines: %w", permission(err))
		}
	}()
	halves := 2 * n.cpus
	for _, x := range []struct {
		m           **ebpf.Map
		b           *mapped
		name        string
		size, count int
	}{
		{&n.lines, &n.mem, "xt_lines", lineLen, halves << n.bits},
		{&n.index, &n.pairs, "xt_index", rowLen, halves << (n.bits - 1 - rowPairs)},
		{&n.state, &n.place, "xt_state", stateLen + halves*stateLen, 1},
	} {
		if *x.m, *x.b, err = newMapped(x.name, x.size, x.count); err != nil {
			return n, err
		}
	}
	return n, nil
}

// newMapped makes an array of values, whose size is a multiple of 8, and maps it.
func newMapped(name string, size, count int) (*ebpf.Map, mapped, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(size), MaxEntries: uint32(count), Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		return nil, nil, err
	}
	b, err := unix.Mmap(m.FD(), 0, size*count, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = m.Close()
		return nil, nil, fmt.Errorf("map: %w", err)
	}
	return m, b, nil
}

func (n *near) close() {
	closeMapped([]*ebpf.Map{n.lines, n.index, n.state}, n.mem, n.pairs, n.place)
}

// closeMapped unmaps memory and closes maps, of which some may be missing.
func closeMapped(maps []*ebpf.Map, memory ...mapped) {
	for _, b := range memory {
		if b != nil {
			_ = unix.Munmap(b)
		}
	}
	for _, m := range maps {
		if m != nil {
			_ = m.Close()
		}
	}
}

// change gives the programs the other half, and returns the one that they used. Some still use it until the kernel has waited for them.
func (n *near) change() (was uint32) {
	half := n.place.u32(0)
	was = half.Load() & 1
	half.Store(was ^ 1)
	return was
}

// drain empties a half that no program uses: f gets each flow's key and the value of one processor. It returns which of the tables behind were
// used meanwhile.
func (n *near) drain(half uint32, f func(key, value []byte)) (spilled uint32) {
	for cpu := range n.cpus {
		of := 2*cpu + int(half)
		at := stateLen + of*stateLen
		used := min(int(n.place.u32(at+stateUsed).Swap(0)), 1<<n.bits-1)
		spilled |= n.place.u32(at + stateSpilled).Swap(0)
		lines, pairs := n.mem[of<<n.bits*lineLen:], n.pairs[of<<(n.bits-1)*pairLen:]
		for i := 1; i <= used; i++ {
			b := lines[i*lineLen:][:lineLen]
			f(b[:key6Len], b[lineValue:lineValue+valLen])
			pair := int(binary.NativeEndian.Uint32(b[linePair:])) & (1<<(n.bits-1) - 1)
			binary.NativeEndian.PutUint32(pairs[pair*pairLen:], 0)
		}
	}
	return spilled
}
