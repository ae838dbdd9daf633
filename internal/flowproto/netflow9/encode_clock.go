package netflow9

import (
	"math"
	"time"
)

// clock makes the times of datagrams. The format counts milliseconds of an uptime of 32 bits, which lasts for 49.7 days, from a
// header that tells the time of day in whole seconds. So that a collector finds every time to the millisecond, a
// datagram's header stands for a whole second, and the uptime is never allowed to wrap: long before, its zero moves on.
type clock struct {
	bootMS int64 // when the uptime was zero, ms since the Unix epoch
	open   bool  // times of the datagram in the making rely on bootMS
	newest int64 // ms of the newest packet in the datagram in the making
}

const (
	dayMS = 24 * 3600 * 1000
	// lifeMS is the uptime at which the zero moves on: half of what there is, so that there is always room for packets
	// before and after.
	lifeMS = math.MaxUint32 / 2
)

// fits reports whether the datagram in the making can tell times from start to end, both ms since the epoch, when it is finished
// now. For a datagram that tells nothing yet it moves the zero so that it does.
func (c *clock) fits(start, end int64, now time.Time) bool {
	wall := c.wall(end, now)
	if start >= c.bootMS && wall >= c.bootMS && wall-c.bootMS < lifeMS+lifeMS/2 {
		return true
	}
	if c.open {
		return false
	}
	c.bootMS = min(start, wall-dayMS)
	if wall-c.bootMS > math.MaxUint32-dayMS {
		c.bootMS = wall - lifeMS // the start is out of reach
	}
	return true
}

// wall returns the time that the header tells: the whole second that is not before any packet. A capture that is older than the
// uptime can tell has its own clock: that of its newest packet.
func (c *clock) wall(end int64, now time.Time) int64 {
	newest, ms := max(c.newest, end), now.UnixMilli()
	if newest > ms || ms-newest > lifeMS/2 {
		ms = newest
	}
	return (ms + 999) / 1000 * 1000
}

// uptime returns a time as the uptime of the datagram in the making. A time before the zero becomes it.
func (c *clock) uptime(ms int64) uint32 { return uint32(min(max(ms-c.bootMS, 0), math.MaxUint32)) }

// take notes that the datagram in the making tells a record that ends at end.
func (c *clock) take(end int64) { c.open, c.newest = true, max(c.newest, end) }

// finish returns uptime and time of the header, and starts a new datagram.
func (c *clock) finish(now time.Time) (uptimeMS, unix uint32) {
	if c.newest == 0 {
		c.newest = now.UnixMilli() - 1
		c.fits(c.newest, c.newest, now)
	}
	wall := c.wall(0, now)
	up := c.uptime(wall)
	c.open, c.newest = false, 0
	return up, uint32(wall / 1000)
}
