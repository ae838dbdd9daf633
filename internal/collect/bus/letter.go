package bus

import (
	"strconv"

	"crosstap/internal/collect/message"
	"crosstap/internal/flow"
)

// Records become letters.

// letter is a message on its way. Each attempt to send it has the same identifier.
type letter struct {
	kind         string
	id           string
	data         []byte
	raw          int64 // bytes that wait
	n            int   // records
	fromNS, toNS int64
}

// Records compress to a quarter or less; a message that turns out too long is cut in two. maxRaw bounds what is compressed at once.
const (
	packing = 3
	maxRaw  = 16 << 20
)

func (f *Feed) addLocked(r *flow.Record) {
	if len(f.ends) == 0 {
		f.from, f.to = r.StartNS, r.EndNS
	}
	before := len(f.open)
	f.open, f.scratch = message.AppendBatchFlow(f.open, f.scratch, r)
	f.ends = append(f.ends, int32(len(f.open)))
	f.from, f.to = min(f.from, r.StartNS), max(f.to, r.EndNS)
	f.waiting += int64(len(f.open) - before)
	f.held++
	f.book.Hold(1)
	if len(f.ends) >= f.cfg.Batch || len(f.open) >= min(packing*f.mostLocked(), maxRaw) {
		f.sealLocked()
	}
}

// mostLocked is how long a message may be, beside its headers.
func (f *Feed) mostLocked() int {
	if f.payload == 0 { // the server says it once it is connected
		f.payload = int(f.nc.MaxPayload())
	}
	if f.payload > 1024 {
		return f.payload - 1024
	}
	return 1<<20 - 1024 // what servers take that are not told otherwise
}

// sealLocked makes letters of what is open.
func (f *Feed) sealLocked() {
	if len(f.ends) == 0 {
		return
	}
	f.letterLocked(f.open, f.ends, f.mostLocked())
	f.open, f.ends = nil, f.ends[:0]
}

// letterLocked compresses records into a letter, or into two when one would be longer than the server takes.
func (f *Feed) letterLocked(raw []byte, ends []int32, most int) {
	data := f.zip.EncodeAll(raw, make([]byte, 0, len(raw)/3))
	if len(data) > most {
		if len(ends) == 1 {
			f.waiting, f.held = f.waiting-int64(len(raw)), f.held-1
			f.book.Hold(-1)
			f.book.Drop(feedLarge, 1)
			f.shed.Add(feedLarge, f.from, f.to, 1)
			return
		}
		half := len(ends) / 2
		cut := ends[half-1]
		rest := make([]int32, 0, len(ends)-half)
		for _, e := range ends[half:] {
			rest = append(rest, e-cut)
		}
		f.letterLocked(raw[:cut], ends[:half], most)
		f.letterLocked(raw[cut:], rest, most)
		return
	}
	f.queueLocked(&letter{kind: kindFlows, data: data, raw: int64(len(raw)), n: len(ends), fromNS: f.from, toNS: f.to})
}

// queueLocked gives a letter its identifier and wakes who posts it.
func (f *Feed) queueLocked(l *letter) {
	f.n++
	l.id = f.run + "-" + strconv.FormatUint(f.n, 10)
	f.queue = append(f.queue, l)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
