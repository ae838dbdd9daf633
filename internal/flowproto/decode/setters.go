package decode

import (
	"encoding/binary"
	"math"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ie"
)

// setter puts the value of one field into a record. b has exactly the field's length. What only a look at the
// whole record can settle waits in c until the record's end.
type setter func(r *flow.Record, c *context, b []byte)

// context is what the fields of one record say beside flow.Record, and what the message says of all.
type context struct {
	exportNS   int64
	bootNS     int64 // systemInitTimeMilliseconds, 0 when not said
	uptime     bool  // the message's header tells the uptime
	uptimeMS   uint32
	startUp    uint32
	endUp      uint32
	durationNS int64
	seenNS     int64 // one time for the whole record: observation or collection time
	key        uint32
	keyLen     int
	greKey     uint32
	interval   uint32
	space      uint32
	observer   []byte // virtualObsID
	name       [2][]byte
	names      int
	twice      [3]uint8  // times that an element which comes twice was there
	texts      [5][]byte // identities and names of the machines at both ends, name of the application
	back       reverse
	app, appID []byte    // applicationName, applicationId
	extra      [][]byte  // values of the plan's kept fields
	lists      []listRef // of records
	section    section
}

// reverse is the other half of a biflow.
type reverse struct {
	octets, packets, l2 uint64
	flags               uint16
	first               uint8 // flags of the first packet
	tos                 uint8

	startNS, endNS                      int64
	minLen, maxLen                      uint16
	minTTL, maxTTL, reason              uint8
	fragments, retransmits, zeroWindows uint32
}

// entry is one row of the table of setters: what the element fills and what the whole record needs after.
type entry struct {
	set   setter
	exact setter // the same for the registry's own width, without looking at the length
	after after  // work at the record's end
	only  int    // the one length that is allowed, 0 for any from 1 to 8
}

// after is a set of things to settle at the end of a record.
type after uint16

const (
	afterUptime after = 1 << iota
	afterDuration
	afterSeen
	afterKey
	afterNames
	afterSampling
	afterBiflow
	afterGRE
	afterICMP
	afterExtra
	afterFrame
	afterLists
	afterApp
	afterTwice
)

// be reads a big-endian unsigned integer of one to eight bytes; of a longer one the last eight.
func be(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// up32 reads an integer that a record keeps in 32 bits; a larger one becomes the largest.
func up32(b []byte) uint32 { return uint32(min(be(b), math.MaxUint32)) }

// msNS turns milliseconds since the epoch into nanoseconds, clamped to what an int64 holds.
func msNS(ms uint64) int64 {
	if ms > math.MaxInt64/1_000_000 {
		return math.MaxInt64
	}
	return int64(ms) * 1e6
}

// ntpNS turns an NTP timestamp (RFC 5905, section 6: seconds since 1900 and a binary fraction) into
// nanoseconds since 1970. Numbers below 1970 belong to the era that begins in 2036.
func ntpNS(v uint64) int64 {
	const epoch = 2208988800
	s := int64(v>>32) - epoch
	if s < 0 {
		s += 1 << 32
	}
	return s*1e9 + int64((v&math.MaxUint32)*1e9>>32)
}

// segment reads layer2SegmentId. Some exporters leave the kind 0; then it is a VXLAN.
func segment(v uint64) flow.Segment {
	switch k := flow.SegmentKind(v >> 56); k {
	case flow.KindNone, flow.KindVXLAN:
		if v == 0 {
			return 0
		}
		return flow.NewSegment(flow.KindVXLAN, uint32(v&0xffffff))
	default:
		return flow.NewSegment(k, uint32(v))
	}
}

type key struct {
	pen uint32
	id  uint16
}

// setters are the elements that fill a record where the template has no outer header of its own: the
// addresses are the tenant's.
var setters = map[key]entry{
	{0, 1}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Octets = be(b) }, exact: func(r *flow.Record, _ *context, b []byte) { r.Octets = be64(b) }},
	{0, 2}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Packets = be(b) }, exact: func(r *flow.Record, _ *context, b []byte) { r.Packets = be64(b) }},
	{0, 4}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Proto = b[len(b)-1] }},
	{0, 5}:  {set: func(r *flow.Record, _ *context, b []byte) { r.ToS = b[len(b)-1] }},
	{0, 6}:  {set: func(r *flow.Record, _ *context, b []byte) { r.TCPFlags = uint16(be(b)) & 0xfff }},
	{0, 7}:  {set: func(r *flow.Record, _ *context, b []byte) { r.SrcPort = uint16(be(b)) }, exact: func(r *flow.Record, _ *context, b []byte) { r.SrcPort = be16(b) }},
	{0, 8}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Src = flow.V4(b) }, only: 4},
	{0, 10}: {set: func(r *flow.Record, _ *context, b []byte) { r.InIf = up32(b) }, exact: func(r *flow.Record, _ *context, b []byte) { r.InIf = be32(b) }},
	{0, 11}: {set: func(r *flow.Record, _ *context, b []byte) { r.DstPort = uint16(be(b)) }, exact: func(r *flow.Record, _ *context, b []byte) { r.DstPort = be16(b) }},
	{0, 12}: {set: func(r *flow.Record, _ *context, b []byte) { r.Dst = flow.V4(b) }, only: 4},
	{0, 14}: {set: func(r *flow.Record, _ *context, b []byte) { r.OutIf = up32(b) }, exact: func(r *flow.Record, _ *context, b []byte) { r.OutIf = be32(b) }},
	{0, 27}: {set: func(r *flow.Record, _ *context, b []byte) { r.Src = flow.V6(b) }, only: 16},
	{0, 28}: {set: func(r *flow.Record, _ *context, b []byte) { r.Dst = flow.V6(b) }, only: 16},
	{0, 32}: {set: func(r *flow.Record, _ *context, b []byte) { r.ICMPTypeCode = uint16(be(b)) }},
	{0, 34}: {set: func(r *flow.Record, _ *context, b []byte) { r.Sampling = up32(b) }, after: afterSampling},
	{0, 50}: {set: func(r *flow.Record, _ *context, b []byte) { r.Sampling = up32(b) }, after: afterSampling},
	{0, 52}: {set: func(r *flow.Record, _ *context, b []byte) { r.MinTTL = b[len(b)-1] }},
	{0, 53}: {set: func(r *flow.Record, _ *context, b []byte) { r.MaxTTL = b[len(b)-1] }},
	{0, 56}: {set: func(r *flow.Record, _ *context, b []byte) { r.SrcMAC = flow.MACFrom(b) }, only: 6},
	{0, 58}: {set: setVLAN},
	{0, 61}: {set: func(r *flow.Record, _ *context, b []byte) { r.Direction = b[len(b)-1] }},
	{0, 80}: {set: func(r *flow.Record, _ *context, b []byte) { r.DstMAC = flow.MACFrom(b) }, only: 6},
	{0, 82}: {set: setName, after: afterNames},

	{0, 96}:  {set: func(_ *flow.Record, c *context, b []byte) { c.app = b }, after: afterApp},
	{0, 103}: {set: func(_ *flow.Record, c *context, b []byte) { c.section.size = int(up32(b)) }},
	{0, 104}: {set: func(_ *flow.Record, c *context, b []byte) { c.section.link, c.section.data = frame.LinkEthernet, b }, after: afterFrame},
	{0, 130}: {set: func(r *flow.Record, _ *context, b []byte) { r.Exporter = flow.V4(b) }, only: 4},
	{0, 131}: {set: func(r *flow.Record, _ *context, b []byte) { r.Exporter = flow.V6(b) }, only: 16},
	{0, 136}: {set: func(r *flow.Record, _ *context, b []byte) { r.EndReason = flow.EndReason(b[len(b)-1]) }},
	{0, 138}: {set: func(r *flow.Record, _ *context, b []byte) { r.Point = be(b) }},
	{0, 139}: {set: func(r *flow.Record, _ *context, b []byte) { r.ICMPTypeCode = uint16(be(b)) }},
	{0, 149}: {set: func(r *flow.Record, _ *context, b []byte) { r.Domain = up32(b) }},
	{0, 176}: {set: setICMPType},
	{0, 177}: {set: setICMPCode},
	{0, 178}: {set: setICMPType},
	{0, 179}: {set: setICMPCode},
	{0, 180}: {set: func(r *flow.Record, _ *context, b []byte) { r.SrcPort = uint16(be(b)) }},
	{0, 181}: {set: func(r *flow.Record, _ *context, b []byte) { r.DstPort = uint16(be(b)) }},
	{0, 182}: {set: func(r *flow.Record, _ *context, b []byte) { r.SrcPort = uint16(be(b)) }},
	{0, 183}: {set: func(r *flow.Record, _ *context, b []byte) { r.DstPort = uint16(be(b)) }},
	{0, 192}: {set: func(r *flow.Record, _ *context, b []byte) { r.MinTTL, r.MaxTTL = b[len(b)-1], b[len(b)-1] }},
	{0, 195}: {set: func(r *flow.Record, _ *context, b []byte) { r.ToS = r.ToS&3 | b[len(b)-1]<<2 }},
	{0, 239}: {set: setClient},
	{0, 243}: {set: setVLAN},
	{0, 256}: {set: func(r *flow.Record, _ *context, b []byte) { r.EtherType = uint16(be(b)) }},
	{0, 296}: {set: func(_ *flow.Record, c *context, b []byte) { c.greKey = up32(b) }, after: afterGRE},
	{0, 292}: {set: func(_ *flow.Record, c *context, b []byte) { c.lists = append(c.lists, listRef{false, b}) }, after: afterLists},
	{0, 293}: {set: func(_ *flow.Record, c *context, b []byte) { c.lists = append(c.lists, listRef{true, b}) }, after: afterLists},
	{0, 305}: {set: func(_ *flow.Record, c *context, b []byte) { c.interval = up32(b) }, after: afterSampling},
	{0, 306}: {set: func(_ *flow.Record, c *context, b []byte) { c.space = up32(b) }, after: afterSampling},
	{0, 312}: {set: func(_ *flow.Record, c *context, b []byte) { c.section.size = int(up32(b)) }},
	{0, 313}: {set: func(_ *flow.Record, c *context, b []byte) { c.section.link, c.section.data = frame.LinkRaw, b }, after: afterFrame},
	{0, 315}: {set: func(_ *flow.Record, c *context, b []byte) { c.section.link, c.section.data = frame.LinkEthernet, b }, after: afterFrame},
	{0, 351}: {set: func(r *flow.Record, _ *context, b []byte) { r.Segment = segment(be(b)) }},
	{0, 408}: {set: func(_ *flow.Record, c *context, b []byte) { c.section.kind = int(up32(b)) }},
	{0, 352}: {set: func(r *flow.Record, _ *context, b []byte) { r.L2Octets = be(b) }},

	// YAF sends the flags of the first packet and of all others; both elements fill the union.
	{ie.CERT, 14}: {set: func(r *flow.Record, _ *context, b []byte) {
		r.FirstTCPFlags = b[len(b)-1]
		r.TCPFlags |= uint16(r.FirstTCPFlags)
	}},
	{ie.CERT, 15}: {set: func(r *flow.Record, _ *context, b []byte) { r.TCPFlags |= uint16(b[len(b)-1]) }},

	{ie.VMware, 880}: {set: func(r *flow.Record, _ *context, b []byte) { r.Proto = b[len(b)-1] }},
	{ie.VMware, 881}: {set: func(r *flow.Record, _ *context, b []byte) { r.Src = flow.V4(b) }, only: 4},
	{ie.VMware, 882}: {set: func(r *flow.Record, _ *context, b []byte) { r.Dst = flow.V4(b) }, only: 4},
	{ie.VMware, 883}: {set: func(r *flow.Record, _ *context, b []byte) { r.Src = flow.V6(b) }, only: 16},
	{ie.VMware, 884}: {set: func(r *flow.Record, _ *context, b []byte) { r.Dst = flow.V6(b) }, only: 16},
	{ie.VMware, 886}: {set: func(r *flow.Record, _ *context, b []byte) { r.SrcPort = uint16(be(b)) }},
	{ie.VMware, 887}: {set: func(r *flow.Record, _ *context, b []byte) { r.DstPort = uint16(be(b)) }},
	{ie.VMware, 891}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Type = b[len(b)-1] }},
	{ie.VMware, 892}: {set: func(_ *flow.Record, c *context, b []byte) { c.key, c.keyLen = up32(b), len(b) }, after: afterKey},
	{ie.VMware, 893}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Src = flow.V4(b) }, only: 4},
	{ie.VMware, 894}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Dst = flow.V4(b) }, only: 4},
	{ie.VMware, 895}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Proto = b[len(b)-1] }},
	{ie.VMware, 896}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.SrcPort = uint16(be(b)) }},
	{ie.VMware, 897}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.DstPort = uint16(be(b)) }},
	{ie.VMware, 898}: {set: func(_ *flow.Record, c *context, b []byte) { c.observer = b }, after: afterNames},
}

// outer are the elements that mean something else in a template which has the tenant's packet in
// VMware's own elements: there they are the tunnel's header.
var outer = map[key]entry{
	{0, 4}:   {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Proto = b[len(b)-1] }},
	{0, 7}:   {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.SrcPort = uint16(be(b)) }},
	{0, 8}:   {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Src = flow.V4(b) }, only: 4},
	{0, 11}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.DstPort = uint16(be(b)) }},
	{0, 12}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Dst = flow.V4(b) }, only: 4},
	{0, 27}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Src = flow.V6(b) }, only: 16},
	{0, 28}:  {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.Dst = flow.V6(b) }, only: 16},
	{0, 180}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.SrcPort = uint16(be(b)) }},
	{0, 181}: {set: func(r *flow.Record, _ *context, b []byte) { r.Tunnel.DstPort = uint16(be(b)) }},
}

func setVLAN(r *flow.Record, _ *context, b []byte) {
	if id := uint16(be(b)) & 0xfff; id != 0 {
		r.VLAN = id
	}
}

func setICMPType(r *flow.Record, _ *context, b []byte) {
	r.ICMPTypeCode = r.ICMPTypeCode&0xff | uint16(b[len(b)-1])<<8
}

func setICMPCode(r *flow.Record, _ *context, b []byte) {
	r.ICMPTypeCode = r.ICMPTypeCode&0xff00 | uint16(b[len(b)-1])
}

// setName keeps interfaceName. Open vSwitch sends it twice: the ingress port, then the egress port.
func setName(_ *flow.Record, c *context, b []byte) {
	if c.names < len(c.name) {
		c.name[c.names] = b
		c.names++
	}
}

// setClient reads biflowDirection (RFC 5103, section 6.3): 1 when the source of the record
// opened the conversation, 2 when its destination did.
func setClient(r *flow.Record, _ *context, b []byte) {
	switch b[len(b)-1] {
	case 1:
		r.Client = flow.ClientSrc
	case 2:
		r.Client = flow.ClientDst
	}
}
