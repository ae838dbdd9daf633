package session

import "time"

const (
	clockWindow = 5 * time.Minute        // the estimate looks back one to two windows
	clockTrust  = time.Second            // an error below it may come from the whole seconds of export times
	clockStep   = 500 * time.Millisecond // the correction follows the estimate in steps of at least this
)

// clock estimates how far our clock is ahead of an exporter's: the least difference between receipt and
// export over a window. Export times are whole seconds, cut off, and datagrams take their time: both make
// single differences too large, never too small.
type clock struct {
	known     bool
	windowNS  int64 // when the window under way began
	least     int64 // in the window under way
	before    int64 // in the window before
	hasBefore bool
	appliedNS int64
}

// see takes in one difference. A receive time that runs backwards (a capture read again) begins anew.
func (c *clock) see(recvNS, difference int64) {
	age := recvNS - c.windowNS
	switch {
	case !c.known || age < -int64(clockWindow):
		*c = clock{known: true, windowNS: recvNS, least: difference, appliedNS: c.appliedNS}
	case age >= 2*int64(clockWindow):
		c.windowNS, c.least, c.hasBefore = recvNS, difference, false
	case age >= int64(clockWindow):
		c.before, c.hasBefore = c.least, true
		c.windowNS, c.least = recvNS, difference
	default:
		c.least = min(c.least, difference)
	}
}

// read returns the estimate; ok is false before the first datagram.
func (c *clock) read() (ns int64, ok bool) {
	if c.hasBefore {
		return min(c.least, c.before), true
	}
	return c.least, c.known
}

// shift returns what to add to the exporter's times.
func (c *clock) shift() int64 {
	ns, _ := c.read()
	if ns < int64(clockTrust) && ns > -int64(clockTrust) {
		ns = 0
	}
	if d := ns - c.appliedNS; ns == 0 || d >= int64(clockStep) || d <= -int64(clockStep) {
		c.appliedNS = ns
	}
	return c.appliedNS
}
