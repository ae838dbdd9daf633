package decode

import (
	"crosstap/internal/flow"
	"crosstap/internal/ie"
)

// plan is a template compiled: runs of fields with fixed places, each but the last followed by one
// field of variable length.
type plan struct {
	runs   []run
	after  after
	outer  bool // 8/12 and their kin are the tunnel's header
	simple bool // nothing is left to settle when a record was run
	flow   bool // there are addresses: records stand for flows
	extra  []extra
	timed  bool // start and end both come from fields of their own
}

// run is a stretch of fixed fields.
type run struct {
	steps    []step
	size     int  // bytes of all the fixed fields, known or not
	variable bool // a variable-length field follows
	set      setter
}

// step is one field with a meaning to a record: its place in the run and what to do with it.
type step struct {
	set      setter
	off, end uint16
}

// compile makes the plan of a template's fields.
func compile(proto Protocol, fields []Field) plan {
	p := plan{outer: tenantInside(fields), runs: []run{{}}}
	has := make(map[key]bool, len(fields))
	for _, f := range fields {
		has[key{f.PEN, f.ID}] = true
	}
	for _, f := range fields {
		e, ok := p.entry(f, has)
		if !ok && keeps(f) {
			e, ok = entry{set: p.addExtra(f)}, true
		}
		last := &p.runs[len(p.runs)-1]
		if f.Len == ie.Variable {
			last.variable = true
			if ok {
				last.set, p.after = e.guarded(), p.after|e.after
			}
			p.runs = append(p.runs, run{})
			continue
		}
		if ok {
			if set := e.forLen(f); set != nil {
				last.steps = append(last.steps, step{set: set, off: uint16(last.size), end: uint16(last.size + int(f.Len))})
				p.after |= e.after
			}
		}
		last.size += int(f.Len)
	}
	if proto != IPFIX && portsForICMP(has) {
		p.after |= afterICMP
	}
	p.sortExtra()
	for _, id := range []uint16{8, 12, 27, 28} {
		p.flow = p.flow || has[key{0, id}]
	}
	p.timed = (has[key{0, 150}] || has[key{0, 152}]) && (has[key{0, 151}] || has[key{0, 153}])
	p.simple = p.timed && p.after == 0
	return p
}

// portsForICMP reports whether a template has nothing but the destination port for the type and code of ICMP. NetFlow
// puts them there, type in the high byte.
func portsForICMP(has map[key]bool) bool {
	for _, id := range []uint16{32, 139, 176, 177, 178, 179} {
		if has[key{0, id}] {
			return false
		}
	}
	return has[key{0, 4}] && has[key{0, 11}]
}

// tenantInside reports whether a template has the tenant's packet in VMware's elements and so the tunnel's
// header in IANA's. Where 893/894 stand it is the other way round.
func tenantInside(fields []Field) bool {
	tenant := false
	for _, f := range fields {
		if f.PEN != ie.VMware {
			continue
		}
		switch {
		case f.ID == 893 || f.ID == 894:
			return false
		case f.ID >= 880 && f.ID <= 887:
			tenant = true
		}
	}
	return tenant
}

// entry finds the row of a field in the tables.
func (p *plan) entry(f Field, has map[key]bool) (entry, bool) {
	k := key{f.PEN, f.ID}
	if p.outer {
		if e, ok := outer[k]; ok {
			return e, true
		}
	}
	if e, ok := instead(k, has); ok {
		return e, true
	}
	if e, ok := setters[k]; ok {
		return twoFamilies(k, e, has), true
	}
	if e, ok := times[k]; ok {
		return e, true
	}
	if e, ok := backwards[k]; ok {
		return e, true
	}
	e, ok := more[k]
	return e, ok
}

// forLen returns the setter for a field of fixed length, nil when the length cannot carry the value.
func (e entry) forLen(f Field) setter {
	switch {
	case e.after == afterNames, e.after == afterTwice, f.ID == 892 && f.PEN == ie.VMware:
		return e.set // strings and octets: any length, empty too
	case f.Len == 0, e.only != 0 && int(f.Len) != e.only:
		return nil
	}
	if el, ok := f.Element(); ok && e.exact != nil && el.Type.Len() == int(f.Len) {
		return e.exact
	}
	return e.set
}

// guarded returns the setter for a field whose length each record says.
func (e entry) guarded() setter {
	if e.after == afterNames || e.after == afterKey || e.after == afterTwice {
		return e.set
	}
	return func(r *flow.Record, c *context, b []byte) {
		if len(b) > 0 && (e.only == 0 || len(b) == e.only) {
			e.set(r, c, b)
		}
	}
}

// twoFamilies keeps an address that is all zero from hiding one of the other family: some templates hold both.
func twoFamilies(k key, e entry, has map[key]bool) entry {
	other, ok := otherFamily[k]
	if !ok || !has[other] {
		return e
	}
	set := e.set
	e.set = func(r *flow.Record, c *context, b []byte) {
		if !AllZero(b) {
			set(r, c, b)
		}
	}
	return e
}

var otherFamily = map[key]key{
	{0, 8}: {0, 27}, {0, 27}: {0, 8}, {0, 12}: {0, 28}, {0, 28}: {0, 12},
	{ie.VMware, 881}: {ie.VMware, 883}, {ie.VMware, 883}: {ie.VMware, 881},
	{ie.VMware, 882}: {ie.VMware, 884}, {ie.VMware, 884}: {ie.VMware, 882},
}

// instead gives counters a meaning where the template has no better ones: totals of a flow, which are not
// wanted beside deltas (Open vSwitch's are totals of the whole exporter), and the initiator's.
func instead(k key, has map[key]bool) (entry, bool) {
	if k.pen != ie.IANA {
		return entry{}, false
	}
	switch {
	case (k.id == 85 || k.id == 231) && !has[key{0, 1}]:
		return setters[key{0, 1}], true
	case (k.id == 86 || k.id == 298) && !has[key{0, 2}]:
		return setters[key{0, 2}], true
	case k.id == 23 && !has[key{0, 1}] && !has[key{0, 85}] && !has[key{0, 231}]:
		return setters[key{0, 1}], true
	case k.id == 24 && !has[key{0, 2}] && !has[key{0, 86}] && !has[key{0, 298}]:
		return setters[key{0, 2}], true
	case k.id == 353 && !has[key{0, 352}]:
		return setters[key{0, 352}], true
	}
	return entry{}, false
}

// CERTReverse is the bit that makes an element of CERT's the same of the other direction.
const CERTReverse = 1 << 14

// backwards are the counters of the other direction.
var backwards = map[key]entry{
	{0, 232}:         {set: func(_ *flow.Record, c *context, b []byte) { c.back.octets = be(b) }, after: afterBiflow},
	{0, 299}:         {set: func(_ *flow.Record, c *context, b []byte) { c.back.packets = be(b) }, after: afterBiflow},
	{ie.Reverse, 1}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.octets = be(b) }, after: afterBiflow},
	{ie.Reverse, 2}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.packets = be(b) }, after: afterBiflow},
	{ie.Reverse, 85}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.octets = be(b) }, after: afterBiflow},
	{ie.Reverse, 86}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.packets = be(b) }, after: afterBiflow},
	{ie.Reverse, 5}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.tos = b[len(b)-1] }, after: afterBiflow},
	{ie.Reverse, 6}:  {set: func(_ *flow.Record, c *context, b []byte) { c.back.flags = uint16(be(b)) & 0xfff }, after: afterBiflow},
	{ie.CERT, 14 | CERTReverse}: {set: func(_ *flow.Record, c *context, b []byte) {
		c.back.first = b[len(b)-1]
		c.back.flags |= uint16(c.back.first)
	}, after: afterBiflow},
	{ie.CERT, 15 | CERTReverse}: {set: func(_ *flow.Record, c *context, b []byte) { c.back.flags |= uint16(b[len(b)-1]) }, after: afterBiflow},
	{ie.Reverse, 352}:           {set: func(_ *flow.Record, c *context, b []byte) { c.back.l2 = be(b) }, after: afterBiflow},
}

// runRecord fills r from the record at the start of b. It returns the record's length, or false and the length it
// would need when b holds less.
func (p *plan) runRecord(r *flow.Record, c *context, b []byte) (int, bool) {
	n := 0
	for i := range p.runs {
		run := &p.runs[i]
		if n+run.size > len(b) {
			return n + run.size, false
		}
		fixed := b[n : n+run.size]
		for _, s := range run.steps {
			s.set(r, c, fixed[s.off:s.end])
		}
		n += run.size
		if !run.variable {
			continue
		}
		size, head := variableLen(b[n:])
		if n+head+size > len(b) {
			return n + head + size, false
		}
		n += head
		if run.set != nil {
			run.set(r, c, b[n:n+size])
		}
		n += size
	}
	if p.outer && r.Tunnel.Type == 0 {
		r.Tunnel.Type = TunnelType(r.Segment.Kind())
	}
	return n, true
}

// settle does what the record's end decides: tunnel and segment, sampling, times.
func (p *plan) settle(r *flow.Record, c *context) {
	if p.after&afterKey != 0 && c.keyLen > 0 && r.Segment == 0 {
		r.Segment = KeySegment(r.Tunnel, c.key)
	}
	if p.after&afterGRE != 0 && r.Segment == 0 && c.greKey != 0 {
		r.Segment = flow.NewSegment(flow.KindGRE, c.greKey)
	}
	if p.after&afterSampling != 0 {
		if c.interval > 0 && r.Sampling == 0 {
			r.Sampling = uint32(min((uint64(c.interval)+uint64(c.space))/uint64(c.interval), 1<<32-1))
		}
		if r.Sampling > 1 {
			r.Marks |= flow.MarkSampled
		}
	}
	if p.after&afterICMP != 0 && (r.Proto == 1 || r.Proto == 58) && r.SrcPort == 0 {
		r.ICMPTypeCode, r.DstPort = r.DstPort, 0
	}
	c.settleTimes(r, p.after)
}

// The values of tunnelType (VMware element 891).
const (
	TunnelVXLAN  = 1
	TunnelGRE    = 2
	TunnelGeneve = 7
)

// KeySegment names the segment of a tunnel key. An exporter that does not say the tunnel's type is
// judged by the outer header.
func KeySegment(t flow.Tunnel, number uint32) flow.Segment {
	switch {
	case t.Type == TunnelVXLAN:
		return flow.NewSegment(flow.KindVXLAN, number)
	case t.Type == TunnelGRE, t.Type == 0 && t.Proto == 47:
		return flow.NewSegment(flow.KindGRE, number)
	case t.Type == TunnelGeneve, t.Type == 0 && t.DstPort == 6081:
		return flow.NewSegment(flow.KindGeneve, number)
	case t.Type == 0:
		return flow.NewSegment(flow.KindVXLAN, number)
	}
	return 0
}

// TunnelType is the inverse of KeySegment's choice; 0 for kinds that no tunnel carries.
func TunnelType(k flow.SegmentKind) uint8 {
	switch k {
	case flow.KindVXLAN:
		return TunnelVXLAN
	case flow.KindNVGRE, flow.KindGRE:
		return TunnelGRE
	case flow.KindGeneve:
		return TunnelGeneve
	}
	return 0
}

// other returns the second half of a biflow: the same flow seen from its far end.
func (c *context) other(r *flow.Record) flow.Record {
	o := *r
	o.Src, o.Dst, o.SrcPort, o.DstPort, o.SrcMAC, o.DstMAC = r.Dst, r.Src, r.DstPort, r.SrcPort, r.DstMAC, r.SrcMAC
	o.Tunnel.Src, o.Tunnel.Dst = r.Tunnel.Dst, r.Tunnel.Src
	o.InIf, o.OutIf = r.OutIf, r.InIf
	o.Octets, o.Packets, o.L2Octets = c.back.octets, c.back.packets, c.back.l2
	o.TCPFlags, o.FirstTCPFlags, o.ToS = c.back.flags, c.back.first, c.back.tos
	o.MinTTL, o.MaxTTL, o.MinLen, o.MaxLen = c.back.minTTL, c.back.maxTTL, c.back.minLen, c.back.maxLen
	o.Fragments, o.Retransmits, o.ZeroWindows = c.back.fragments, c.back.retransmits, c.back.zeroWindows
	o.SrcVIF, o.DstVIF, o.SrcVM, o.DstVM, o.SrcVMID, o.DstVMID = r.DstVIF, r.SrcVIF, r.DstVM, r.SrcVM, r.DstVMID, r.SrcVMID
	if c.back.startNS != 0 && c.back.endNS != 0 {
		o.StartNS, o.EndNS = c.back.startNS, c.back.endNS
	}
	if c.back.reason != 0 {
		o.EndReason = flow.EndReason(c.back.reason)
	}
	o.Marks |= flow.MarkReverse
	switch r.Client {
	case flow.ClientSrc:
		o.Client = flow.ClientDst
	case flow.ClientDst:
		o.Client = flow.ClientSrc
	}
	if r.Direction <= 1 {
		o.Direction = 1 - r.Direction
	}
	return o
}
