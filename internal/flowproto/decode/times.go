package decode

import (
	"math"

	"crosstap/internal/flow"
)

// times are the elements that say when. Later rows of a template win over earlier ones.
var times = map[key]entry{
	{0, 150}: {set: func(r *flow.Record, _ *context, b []byte) { r.StartNS = int64(up32(b)) * 1e9 }},
	{0, 151}: {set: func(r *flow.Record, _ *context, b []byte) { r.EndNS = int64(up32(b)) * 1e9 }},
	{0, 152}: {set: func(r *flow.Record, _ *context, b []byte) { r.StartNS = msNS(be(b)) }, exact: func(r *flow.Record, _ *context, b []byte) { r.StartNS = msNS(be64(b)) }},
	{0, 153}: {set: func(r *flow.Record, _ *context, b []byte) { r.EndNS = msNS(be(b)) }, exact: func(r *flow.Record, _ *context, b []byte) { r.EndNS = msNS(be64(b)) }},
	{0, 154}: {set: func(r *flow.Record, _ *context, b []byte) { r.StartNS = ntpNS(be64(b)) }, only: 8},
	{0, 155}: {set: func(r *flow.Record, _ *context, b []byte) { r.EndNS = ntpNS(be64(b)) }, only: 8},
	{0, 156}: {set: func(r *flow.Record, _ *context, b []byte) { r.StartNS = ntpNS(be64(b)) }, only: 8},
	{0, 157}: {set: func(r *flow.Record, _ *context, b []byte) { r.EndNS = ntpNS(be64(b)) }, only: 8},
	{0, 158}: {set: func(r *flow.Record, c *context, b []byte) { r.StartNS = c.exportNS - int64(up32(b))*1e3 }},
	{0, 159}: {set: func(r *flow.Record, c *context, b []byte) { r.EndNS = c.exportNS - int64(up32(b))*1e3 }},

	{0, 21}:  {set: func(_ *flow.Record, c *context, b []byte) { c.endUp = up32(b) }, after: afterUptime},
	{0, 22}:  {set: func(_ *flow.Record, c *context, b []byte) { c.startUp = up32(b) }, after: afterUptime},
	{0, 160}: {set: func(_ *flow.Record, c *context, b []byte) { c.bootNS = msNS(be(b)) }, after: afterUptime},
	{0, 161}: {set: func(_ *flow.Record, c *context, b []byte) { c.durationNS = int64(up32(b)) * 1e6 }, after: afterDuration},
	{0, 162}: {set: func(_ *flow.Record, c *context, b []byte) { c.durationNS = int64(up32(b)) * 1e3 }, after: afterDuration},
	{0, 258}: {set: func(_ *flow.Record, c *context, b []byte) { c.seenNS = msNS(be(b)) }, after: afterSeen},
	{0, 322}: {set: func(_ *flow.Record, c *context, b []byte) { c.seenNS = int64(up32(b)) * 1e9 }, after: afterSeen},
	{0, 323}: {set: func(_ *flow.Record, c *context, b []byte) { c.seenNS = msNS(be(b)) }, after: afterSeen},
	{0, 324}: {set: func(_ *flow.Record, c *context, b []byte) { c.seenNS = ntpNS(be64(b)) }, after: afterSeen, only: 8},
	{0, 325}: {set: func(_ *flow.Record, c *context, b []byte) { c.seenNS = ntpNS(be64(b)) }, after: afterSeen, only: 8},
}

// settleTimes fills in what a record does not say itself: start and end from the uptimes, the
// duration, the time of observation, at last the time of export.
func (c *context) settleTimes(r *flow.Record, a after) {
	if a&afterUptime != 0 {
		c.settleUptime(r)
	}
	if a&afterSeen != 0 && r.StartNS == 0 && r.EndNS == 0 {
		r.StartNS, r.EndNS = c.seenNS, c.seenNS
	}
	if r.EndNS == 0 {
		r.EndNS = c.exportNS
		if r.StartNS != 0 && a&afterDuration != 0 {
			r.EndNS = later(r.StartNS, c.durationNS)
		}
	}
	if r.StartNS == 0 {
		r.StartNS = r.EndNS - c.durationNS
	}
}

// settleUptime turns milliseconds since the exporter started into times. An exporter that does not say when it
// started is taken to have exported the record as it ended.
func (c *context) settleUptime(r *flow.Record) {
	if c.startUp == 0 && c.endUp == 0 {
		return
	}
	if c.uptime {
		if r.StartNS == 0 {
			r.StartNS = c.ago(c.startUp)
		}
		if r.EndNS == 0 {
			r.EndNS = c.ago(c.endUp)
		}
		if r.StartNS > r.EndNS && c.uptimeMS-c.endUp < 1<<31 {
			r.StartNS -= wrapNS // a flow that has lasted for more than half of it
		}
		return
	}
	if c.bootNS == 0 {
		c.bootNS = c.exportNS - int64(c.endUp)*1e6
	}
	if r.StartNS == 0 && c.startUp != 0 {
		r.StartNS = later(c.bootNS, int64(c.startUp)*1e6)
	}
	if r.EndNS == 0 && c.endUp != 0 {
		r.EndNS = later(c.bootNS, int64(c.endUp)*1e6)
	}
}

// ago turns an uptime into a time by the uptime and the clock in the message's header. Uptimes wrap after 49.7 days: the
// nearer of the two times that an uptime may mean is taken.
func (c *context) ago(up uint32) int64 { return c.exportNS - int64(int32(c.uptimeMS-up))*1e6 }

// wrapNS is how long an uptime lasts.
const wrapNS = 1 << 32 * 1e6

// later returns t + d, or the greatest time when that is too far.
func later(t, d int64) int64 {
	if d > 0 && t > math.MaxInt64-d {
		return math.MaxInt64
	}
	return t + d
}
