package meter

const (
	wheelSlots = 1 << 10
	wheelMask  = wheelSlots - 1
)

// wheel finds the flows whose time has come. A flow stands in the slot of the earliest moment at which it may
// have to end; when that moment comes it is looked at again, so that packets never move flows.
// Moments beyond the horizon stand in the farthest slot.
type wheel struct {
	tickNS int64
	tick   int64              // slots up to this one are done
	heads  [wheelSlots]uint32 // number + 1 of the first flow, 0 for none
}

// ticks returns the number of the first tick that is not before a moment.
func (w *wheel) ticks(ns int64) int64 { return (ns + w.tickNS - 1) / w.tickNS }

// put puts a flow into the slot for a moment.
func (w *wheel) put(c *cache, number uint32, ns int64) {
	t := min(max(w.ticks(ns), w.tick+1), w.tick+wheelMask)
	slot := uint32(t & wheelMask)
	e := c.at(number)
	head := w.heads[slot]
	e.slot, e.prev, e.next = uint16(slot), 0, head
	if head != 0 {
		c.at(head - 1).prev = number + 1
	}
	w.heads[slot] = number + 1
}

// take removes a flow from its slot.
func (w *wheel) take(c *cache, number uint32) {
	e := c.at(number)
	if e.prev != 0 {
		c.at(e.prev - 1).next = e.next
	} else {
		w.heads[e.slot] = e.next
	}
	if e.next != 0 {
		c.at(e.next - 1).prev = e.prev
	}
}
