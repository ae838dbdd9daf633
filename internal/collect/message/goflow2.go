package message

import "crosstap/internal/flow"

// AppendGoflow2 appends r as a FlowMessage of goflow2 (pb/flow.proto of its version 2). Its counters are what was counted: pass
// records whose counters are so. It has no place for the observer, the names, the segment, the tunnel's addresses and the logical
// flow; a tenant's packet stands in the place of the packet.
func AppendGoflow2(b []byte, r *flow.Record) []byte {
	w := (*writer)(&b)
	w.varint(1, goflow2IPFIX)
	w.varint(3, uint64(max(r.Sampling, 1)))
	w.addr(6, &r.Src)
	w.addr(7, &r.Dst)
	w.varint(9, r.Octets)
	w.varint(10, r.Packets)
	w.addr(11, &r.Exporter)
	w.varint(18, uint64(r.InIf))
	w.varint(19, uint64(r.OutIf))
	w.varint(20, uint64(r.Proto))
	w.varint(21, uint64(r.SrcPort))
	w.varint(22, uint64(r.DstPort))
	w.varint(23, uint64(r.ToS))
	w.varint(25, uint64(r.MinTTL))
	w.varint(26, uint64(r.TCPFlags))
	w.varint(27, uint64(r.SrcMAC))
	w.varint(28, uint64(r.DstMAC))
	w.varint(29, uint64(r.VLAN))
	w.varint(30, uint64(r.EtherType))
	w.varint(31, uint64(r.ICMPTypeCode>>8))
	w.varint(32, uint64(r.ICMPTypeCode&0xff))
	w.varint(33, uint64(r.VLAN))
	w.varint(70, uint64(r.Domain))
	w.varint(71, r.Point&(1<<32-1))
	if r.MPLS != 0 {
		n := writer{}
		n.varint(1, uint64(r.MPLS))
		*w = append(w.length(81, len(n)-1), n[1:]...) // packed, without the tag
	}
	w.varint(110, uint64(r.RecvNS))
	w.varint(111, uint64(r.StartNS))
	w.varint(112, uint64(r.EndNS))
	return b
}

// goflow2IPFIX is the type of the message. The protocol that a record came by is not kept with it.
const goflow2IPFIX = 4
