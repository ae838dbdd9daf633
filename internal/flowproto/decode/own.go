package decode

import (
	"bytes"
	"encoding/hex"
	"math"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/ie"
)

// qof is the enterprise number of QoF, a flow meter of ETH Zürich.
const qof = 35566

// more are the elements of what the packets told beside their addresses, as our exporter sends them; others send some of
// them too. 347, 349 and 350 come twice: the source's, then the destination's.
var more = map[key]entry{
	{0, 25}:  {set: func(r *flow.Record, _ *context, b []byte) { r.MinLen = up16(b) }},
	{0, 26}:  {set: func(r *flow.Record, _ *context, b []byte) { r.MaxLen = up16(b) }},
	{0, 70}:  {set: func(r *flow.Record, _ *context, b []byte) { r.MPLS = uint32(be(b)) >> 4 }, only: 3},
	{0, 95}:  {set: setApplicationID, after: afterApp},
	{0, 245}: {set: func(r *flow.Record, _ *context, b []byte) { r.InnerVLAN = up16(b) & 0xfff }},
	{0, 347}: {set: setVIF, after: afterTwice},
	{0, 349}: {set: setMachineID, after: afterTwice},
	{0, 350}: {set: setMachine, after: afterTwice},
	{0, 460}: {set: setAppName(flow.AppHTTP), after: afterTwice},

	{ie.VMware, 958}:  {set: func(r *flow.Record, _ *context, b []byte) { r.RTTUS = up32(b) }},
	{ie.VMware, 959}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Retransmits = up32(b) }},
	{qof, 1045}:       {set: func(r *flow.Record, _ *context, b []byte) { r.ZeroWindows = up32(b) }},
	{ie.Ntop, 80}:     {set: func(r *flow.Record, _ *context, b []byte) { r.Fragments = up32(b) }},
	{ie.Ntop, 188}:    {set: setAppName(flow.AppTLS), after: afterTwice},
	{ie.Ntop, 205}:    {set: setAppName(flow.AppDNS), after: afterTwice},
	{ie.CERT, 171}:    {set: setAppName(flow.AppSSH), after: afterTwice},
	{ie.Reverse, 25}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.minLen = up16(b) }, after: afterBiflow},
	{ie.Reverse, 26}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.maxLen = up16(b) }, after: afterBiflow},
	{ie.Reverse, 52}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.minTTL = b[len(b)-1] }, after: afterBiflow},
	{ie.Reverse, 53}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.maxTTL = b[len(b)-1] }, after: afterBiflow},
	{ie.Reverse, 136}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.reason = b[len(b)-1] }, after: afterBiflow},
	{ie.Reverse, 152}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.startNS = msNS(be(b)) }, after: afterBiflow},
	{ie.Reverse, 153}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.endNS = msNS(be(b)) }, after: afterBiflow},
	{ie.Ntop, 81}:     {set: func(_ *flow.Record, c *context, b []byte) { c.back.fragments = up32(b) }, after: afterBiflow},

	{qof, 1025 | CERTReverse}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.retransmits = up32(b) }, after: afterBiflow},
	{qof, 1045 | CERTReverse}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.zeroWindows = up32(b) }, after: afterBiflow},
}

// setApplicationID takes the exporter's number of the application. In four bytes it may be one of our own exporter's, which say how
// the application is known.
func setApplicationID(r *flow.Record, c *context, b []byte) {
	c.appID = b
	switch {
	case AllZero(b):
	case len(b) == 4:
		r.AppHow = about.HowOf(uint32(be(b)))
	default:
		r.AppHow = flow.AppExporter
	}
}

// up16 reads an integer that a record keeps in 16 bits; a larger one becomes the largest.
func up16(b []byte) uint16 { return uint16(min(be(b), math.MaxUint16)) }

// setVIF takes the 12 bits of a VN-Tag; identifiers of other kinds are not numbers.
func setVIF(r *flow.Record, c *context, b []byte) {
	switch second := c.second(0); {
	case len(b) != 2:
	case second:
		r.DstVIF = be16(b)
	default:
		r.SrcVIF = be16(b)
	}
}

func setMachineID(_ *flow.Record, c *context, b []byte) { c.texts[c.end(1)] = b }
func setMachine(_ *flow.Record, c *context, b []byte)   { c.texts[2+c.end(2)] = b }

// end is 0 for the first time that an element is there, 1 after.
func (c *context) end(i int) int {
	if c.second(i) {
		return 1
	}
	return 0
}

// setTexts keeps the names that only the session can make strings of.
func (s *Decoder) setTexts(r *flow.Record) {
	t := &s.ctx.texts
	r.SrcVMID, r.DstVMID = s.machineID(t[0]), s.machineID(t[1])
	for i, to := range [...]*string{2: &r.SrcVM, 3: &r.DstVM, 4: &r.AppName} {
		if to != nil && len(t[i]) > 0 {
			*to = s.intern(t[i])
		}
	}
}

// second reports whether an element that comes twice was there before.
func (c *context) second(i int) bool {
	c.twice[i]++
	return c.twice[i] > 1
}

// machineID reads the 16 bytes of a UUID, or text, which may have a zero behind it.
func (s *Decoder) machineID(b []byte) string {
	if len(b) != 16 {
		if b = bytes.TrimSuffix(b, []byte{0}); len(b) == 0 {
			return ""
		}
		return s.intern(b)
	}
	var out [36]byte
	hex.Encode(out[:8], b[:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:], b[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return s.intern(out[:])
}

// setAppName keeps the name that a payload told, and how it is known where nothing better says that.
func setAppName(how flow.AppHow) setter {
	return func(r *flow.Record, c *context, b []byte) {
		if len(b) > 0 {
			c.texts[4] = b
			r.AppHow = max(r.AppHow, how)
		}
	}
}
