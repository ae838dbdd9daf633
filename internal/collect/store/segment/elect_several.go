package segment

import (
	"math/bits"
	"slices"
)

// Most flows have one row in an hour, which is canonical whatever else there is. So the election first looks at flow identifiers alone, and only rows of
// flows with several are candidates: their other columns are read in a second look, which many hours do not need.

// keyRows bounds the identifiers in memory, 8 bytes each and up to 33 with what finds equal ones; more are looked at in several passes over the files, each
// for a part of the flows.
const keyRows = 1 << 21

// keyRow is what the first look reads of a row: a struct of its own, as rows of all columns are much memory to go through.
type keyRow struct {
	TEnd    int64  `parquet:"t_end"`
	FlowKey uint64 `parquet:"flow_key"`
	SrcPort uint16 `parquet:"src_port"`
	DstPort uint16 `parquet:"dst_port"`
	Marks   uint16 `parquet:"marks"`
}

func (w *keyRow) flowID() uint64 { return w.FlowKey ^ portsOf(uint64(w.SrcPort), uint64(w.DstPort)) }

// equalFinder finds the numbers that occur more than once. It is used for one list after the other and keeps its memory.
type equalFinder struct {
	seen, again []uint64 // bitmaps by hash: numbers whose bit in again is not set are alone
	keys, spare []sortKey
}

// find returns the places of numbers that occur more than once, and how many these are.
func (f *equalFinder) find(all []uint64) (several bitmap, n int) {
	several = newBitmap(int64(len(all)))
	words := 1 << bits.Len(uint(len(all)/8)) // 8 to 16 bits for each: one number in ten or so is looked at in vain
	f.seen, f.again = slices.Grow(f.seen[:0], words)[:words], slices.Grow(f.again[:0], words)[:words]
	clear(f.seen)
	clear(f.again)
	shift := 64 - bits.Len(uint(words-1)) - 6 // of a hash, to the number of a bit
	for _, v := range all {
		at := v * hashMul >> shift
		bit := uint64(1) << (at & 63)
		f.again[at>>6] |= f.seen[at>>6] & bit
		f.seen[at>>6] |= bit
	}
	f.keys = f.keys[:0]
	for i, v := range all {
		if at := v * hashMul >> shift; f.again[at>>6]>>(at&63)&1 != 0 {
			f.keys = append(f.keys, sortKey{v, int32(i)})
		}
	}
	f.spare = slices.Grow(f.spare[:0], len(f.keys))[:len(f.keys)]
	keys := sortKeys(f.keys, f.spare)
	for i := 0; i < len(keys); {
		end := i + 1
		for end < len(keys) && keys[end].n == keys[i].n {
			end++
		}
		if end > i+1 {
			for _, k := range keys[i:end] {
				several.put(int(k.index), true)
			}
			n += end - i
		}
		i = end
	}
	return several, n
}

// any reports whether one of the numbers from one to another is in the set.
func (b bitmap) any(from, to int) bool {
	for ; from < to && from&63 != 0; from++ {
		if b.has(from) {
			return true
		}
	}
	for ; from+64 <= to; from += 64 {
		if b[from>>6] != 0 {
			return true
		}
	}
	for ; from < to; from++ {
		if b.has(from) {
			return true
		}
	}
	return false
}
