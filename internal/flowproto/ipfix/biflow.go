package ipfix

import (
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/encode"
	"crosstap/internal/ie"
)

// reversed makes the reverse element (RFC 5103, section 6.1) of one of IANA's columns.
func reversed(all []column) []column {
	out := make([]column, len(all))
	for i, c := range all {
		out[i] = column{Field: field(ie.Reverse, c.ID, c.Len), put: c.put, back: true}
	}
	return out
}

// backwards are the columns of the other direction: counters, times and what differs between the two.
func (s shape) backwards() []column {
	c := reversed(start[:5]) // times and counters
	c = append(c, reversed([]column{endReason})...)
	if s.net != 0 {
		c = append(c, reversed(network)...)
	}
	if s.transport == encode.TCP {
		c = append(c, reversed(flags[:1])...)
		c = append(c, column{Field: field(ie.CERT, 14|certReverse, 1), put: flags[1].put, back: true})
	}
	if s.rare {
		c = append(c, column{Field: field(ntop, 81, 4), put: layer2[4].put, back: true})
		if s.transport == encode.TCP {
			c = append(c,
				column{Field: field(qof, 1025|certReverse, 4), put: quality[1].put, back: true},
				column{Field: field(qof, 1045|certReverse, 4), put: quality[2].put, back: true})
		}
	}
	return c
}

// Paired reports whether a record and the one behind it are the two halves of a biflow that one record can tell: all but the
// source port of the tunnel is the mirror image.
func Paired(f, b *flow.Record) bool {
	return b.Is(flow.MarkReverse) && !f.Is(flow.MarkReverse) &&
		f.Src == b.Dst && f.Dst == b.Src && f.SrcPort == b.DstPort && f.DstPort == b.SrcPort && f.Proto == b.Proto &&
		f.SrcMAC == b.DstMAC && f.DstMAC == b.SrcMAC && f.Segment == b.Segment && f.VLAN == b.VLAN && f.EtherType == b.EtherType &&
		f.Tunnel.Src == b.Tunnel.Dst && f.Tunnel.Dst == b.Tunnel.Src && f.Tunnel.Type == b.Tunnel.Type &&
		f.Point == b.Point && f.Sampling == b.Sampling && f.ICMPTypeCode == b.ICMPTypeCode &&
		f.InIf == b.OutIf && f.OutIf == b.InIf && mirrored(f.Direction, b.Direction)
}

// mirrored reports whether two flowDirections are opposite, or neither is known.
func mirrored(a, b uint8) bool { return a > 1 && a == b || a <= 1 && b == 1-a }

// AddPair is Add for the two halves of a biflow, for which Paired holds: they become one record, which counts as one for
// emit.
func (e *Encoder) AddPair(f, b *flow.Record, now time.Time, emit func(msg []byte, records int) error) error {
	s, o := shapeOf(f, e.profile), shapeOf(b, e.profile)
	s.biflow, s.rare, s.vms = true, s.rare || o.rare, s.vms || o.vms
	e.pair, e.back = *f, b
	if f.RTTUS == 0 {
		e.pair.RTTUS = b.RTTUS
	}
	if f.AppHow < b.AppHow {
		e.pair.AppHow, e.pair.AppName, e.pair.App, s.name = b.AppHow, b.AppName, b.App, o.name
	}
	err := e.add(s, &e.pair, now, emit)
	e.back = nil
	return err
}
