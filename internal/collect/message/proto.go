package message

import (
	"encoding/binary"
	"math/bits"

	"crosstap/internal/flow"
)

// Wire types of Protocol Buffers.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
)

// writer appends fields. Those with the default value of proto3, zero and empty, are left out.
type writer []byte

func (w *writer) varint(field int, v uint64) {
	if v != 0 {
		*w = binary.AppendUvarint(binary.AppendUvarint(*w, uint64(field)<<3|wireVarint), v)
	}
}

func (w *writer) fixed(field int, v uint64) {
	if v != 0 {
		*w = binary.LittleEndian.AppendUint64(binary.AppendUvarint(*w, uint64(field)<<3|wireFixed64), v)
	}
}

func (w *writer) text(field int, s string) {
	if s != "" {
		*w = append(w.length(field, len(s)), s...)
	}
}

// length begins a field of n bytes.
func (w *writer) length(field, n int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(*w, uint64(field)<<3|wireBytes), uint64(n))
}

// addr appends 4 or 16 bytes.
func (w *writer) addr(field int, a *flow.Addr) {
	switch {
	case a.IsZero():
	case a.Is4():
		*w = append(w.length(field, 4), a[12:]...)
	default:
		*w = append(w.length(field, 16), a[:]...)
	}
}

// AppendFlow appends r as a Flow of docs/formats/flow.proto.
func AppendFlow(b []byte, r *flow.Record) []byte {
	w := (*writer)(&b)
	w.fixed(1, uint64(r.StartNS))
	w.fixed(2, uint64(r.EndNS))
	w.fixed(3, uint64(r.RecvNS))
	w.observation(r)
	w.network(r)
	w.packet(r)
	w.counters(r)
	w.names(r)
	return b
}

func (w *writer) observation(r *flow.Record) {
	w.addr(4, &r.Exporter)
	w.varint(5, uint64(r.Domain))
	w.varint(6, r.Point)
	w.text(7, r.Observer)
	w.text(8, r.ObserverHost)
	w.varint(9, uint64(r.Role))
	if r.Direction <= 1 {
		w.varint(10, uint64(r.Direction)+1)
	}
	if r.Is(flow.MarkCanonical) {
		w.varint(11, 1)
	}
	w.marks(12, r.Marks&^flow.MarkCanonical)
	w.fixed(13, r.FlowID)
	w.fixed(14, r.ObserverID)
}

// marks appends a packed list: the number of a mark in the file is the number of its bit.
func (w *writer) marks(field int, m flow.Mark) {
	if m == 0 {
		return
	}
	*w = w.length(field, bits.OnesCount16(uint16(m))) // one byte each
	for ; m != 0; m &= m - 1 {
		*w = append(*w, byte(bits.TrailingZeros16(uint16(m))))
	}
}

var segmentKinds = map[flow.SegmentKind]uint64{
	flow.KindVXLAN: 1, flow.KindNVGRE: 2, flow.KindVLAN: 3, flow.KindGeneve: 4, flow.KindGRE: 5,
}

func (w *writer) network(r *flow.Record) {
	if r.Segment != 0 {
		kind, ok := segmentKinds[r.Segment.Kind()]
		if !ok {
			kind = 6
		}
		w.varint(15, kind)
		w.varint(16, uint64(r.Segment.Number()))
		if !ok || r.Segment != flow.NewSegment(r.Segment.Kind(), r.Segment.Number()) {
			w.fixed(74, uint64(r.Segment))
		}
	}
	w.text(17, r.Fabric)
	w.text(18, r.Tenant)
	w.text(19, r.SrcTenant)
	w.text(20, r.DstTenant)
	w.addr(21, &r.Tunnel.Src)
	w.addr(22, &r.Tunnel.Dst)
	w.varint(23, uint64(r.Tunnel.SrcPort))
	w.varint(24, uint64(r.Tunnel.DstPort))
	w.varint(25, uint64(r.Tunnel.Proto))
	w.varint(26, uint64(r.Tunnel.Type))
}

func (w *writer) packet(r *flow.Record) {
	w.addr(27, &r.Src)
	w.addr(28, &r.Dst)
	w.varint(29, uint64(r.SrcPort))
	w.varint(30, uint64(r.DstPort))
	w.varint(31, uint64(r.Proto))
	w.varint(32, uint64(r.ToS))
	w.varint(33, uint64(r.MinTTL))
	w.varint(34, uint64(r.MaxTTL))
	w.varint(35, uint64(r.TCPFlags))
	w.varint(36, uint64(r.ICMPTypeCode>>8))
	w.varint(37, uint64(r.ICMPTypeCode&0xff))
	w.varint(38, uint64(r.EtherType))
	w.varint(39, uint64(r.VLAN))
	w.varint(40, uint64(r.InnerVLAN))
	w.varint(41, uint64(r.SrcMAC))
	w.varint(42, uint64(r.DstMAC))
	w.varint(43, uint64(r.InIf))
	w.varint(44, uint64(r.OutIf))
	w.text(45, r.InIfName)
	w.text(46, r.OutIfName)
	w.text(47, r.VRF)
}

func (w *writer) counters(r *flow.Record) {
	w.varint(48, r.Packets)
	w.varint(49, r.Octets)
	w.varint(50, r.L2Octets)
	w.varint(51, uint64(max(r.Sampling, 1)))
	if r.EndReason <= flow.EndResource {
		w.varint(52, uint64(r.EndReason))
	}
	w.varint(53, uint64(r.Client))
	w.varint(54, uint64(r.MinLen))
	w.varint(55, uint64(r.MaxLen))
	w.varint(56, uint64(r.MPLS))
	w.varint(57, uint64(r.Fragments))
	w.varint(58, uint64(r.RTTUS))
	w.varint(59, uint64(r.Retransmits))
	w.varint(60, uint64(r.ZeroWindows))
}

func (w *writer) names(r *flow.Record) {
	w.text(61, r.SrcVM)
	w.text(62, r.DstVM)
	w.text(63, r.SrcVMID)
	w.text(64, r.DstVMID)
	w.text(65, r.SrcHost)
	w.text(66, r.DstHost)
	w.text(67, r.App)
	w.varint(68, uint64(r.AppHow))
	w.text(69, r.AppName)
	w.text(70, r.Extra)
	w.varint(71, uint64(r.SrcVIF))
	w.varint(72, uint64(r.DstVIF))
	w.varint(73, uint64(r.FirstTCPFlags))
}

// AppendBatchFlow appends r as one more Flow of a FlowBatch. room is for its use and is returned.
func AppendBatchFlow(b, room []byte, r *flow.Record) (batch, reuse []byte) {
	room = AppendFlow(room[:0], r)
	return append((*writer)(&b).length(1, len(room)), room...), room
}
