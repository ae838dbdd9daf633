package export

import (
	"fmt"
)

// spill puts what is in memory on the disk, where there is a spool: before all that is there, since it is older.
func (w *stream) spill() {
	if w.spool == nil || len(w.mem) == 0 {
		return
	}
	n := 0
	for n < len(w.mem) && w.mem[n].behind.n == 0 {
		n++
	}
	w.spool.rewind()
	if err := w.spillFirst(w.mem[:n]); err != nil {
		w.s.note(fmt.Errorf("export: spool: %w", err))
	}
	w.mem, w.bytes, w.sent = w.mem[:0], 0, 0
}

// spillFirst puts messages before all others, and drops what does not fit.
func (w *stream) spillFirst(all []packet) (err error) {
	if len(all) == 0 {
		return nil
	}
	before := w.spool.records
	if len(w.spool.files) > 0 && !w.spool.empty() {
		err = w.spool.putFirst(all)
		w.spool.rewind()
	} else {
		for _, p := range all {
			if err = w.spool.put(p.msg, p.records); err != nil {
				break
			}
		}
	}
	stored := w.spool.records - before
	for _, p := range all {
		if uint64(p.records) <= stored {
			stored -= uint64(p.records)
			continue
		}
		w.lose(DropSpool, p)
	}
	return err
}

// lose takes a message out of the books.
func (w *stream) lose(reason int, p packet) {
	w.s.book.Hold(-p.records)
	w.s.book.Drop(reason, p.records)
	w.s.flows.Add(uint64(p.records))
}

// status fills in what is known of the connection.
func (w *stream) status(st *Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st.Connected, st.Connections, st.Repeated, st.Waiting = w.up, w.made, w.again, len(w.mem)
	if w.spool != nil {
		st.SpoolMessages, st.SpoolBytes, st.SpoolRecords = uint64(w.spool.waiting), w.spool.bytes, w.spool.records
	}
}
