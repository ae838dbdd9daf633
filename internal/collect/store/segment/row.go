package segment

// row is one stored record. The tags are the schema of a segment file: addresses are UUID (16 bytes
// in network order, IPv4 mapped), never BLOB; zero and "" mean "not known"; a change of the
// meaning of a column needs a new schemaVersion. A new column goes to the end: files say how many of them they have.
type row struct {
	Segment      uint64   `parquet:"segment,dict"`
	Src          [16]byte `parquet:"src,uuid,dict"`
	Dst          [16]byte `parquet:"dst,uuid,dict"`
	TEnd         int64    `parquet:"t_end,timestamp(millisecond:local)"`
	SpanMS       int64    `parquet:"span_ms"` // t_end - t_start
	LagMS        int64    `parquet:"lag_ms"`  // t_recv - t_end
	Exporter     [16]byte `parquet:"exporter,uuid,dict"`
	Domain       uint32   `parquet:"domain,dict"`
	Point        uint64   `parquet:"point,dict"`
	InIf         uint32   `parquet:"in_if,dict"`
	OutIf        uint32   `parquet:"out_if,dict"`
	Sampling     uint32   `parquet:"sampling,dict"`
	Direction    uint8    `parquet:"direction,dict"`
	Role         uint8    `parquet:"role,dict"`
	EndReason    uint8    `parquet:"end_reason,dict"`
	Client       uint8    `parquet:"client,dict"`
	Marks        uint16   `parquet:"marks,dict"`
	Proto        uint8    `parquet:"proto,dict"`
	ToS          uint8    `parquet:"tos,dict"`
	MinTTL       uint8    `parquet:"min_ttl,dict"`
	MaxTTL       uint8    `parquet:"max_ttl,dict"`
	TCPFlags     uint16   `parquet:"tcp_flags,dict"`
	ICMP         uint16   `parquet:"icmp,dict"`
	SrcPort      uint16   `parquet:"src_port"`
	DstPort      uint16   `parquet:"dst_port"`
	EtherType    uint16   `parquet:"ethertype,dict"`
	VLAN         uint16   `parquet:"vlan,dict"`
	SrcMAC       uint64   `parquet:"src_mac,dict"`
	DstMAC       uint64   `parquet:"dst_mac,dict"`
	OuterSrc     [16]byte `parquet:"outer_src,uuid,dict"`
	OuterDst     [16]byte `parquet:"outer_dst,uuid,dict"`
	OuterSrcPort uint16   `parquet:"outer_src_port"`
	OuterDstPort uint16   `parquet:"outer_dst_port,dict"`
	OuterProto   uint8    `parquet:"outer_proto,dict"`
	TunnelType   uint8    `parquet:"tunnel_type,dict"`
	Packets      uint64   `parquet:"packets,dict"`
	Octets       uint64   `parquet:"octets"`
	L2Header     uint16   `parquet:"l2_header,dict"` // l2_octets is octets + l2_header × packets,
	L2Other      uint64   `parquet:"l2_other,dict"`  // or this when l2_header is l2Other
	FlowKey      uint64   `parquet:"flow_key"`       // flow_id with the ports taken out: nearly constant between two machines
	ObserverID   uint64   `parquet:"observer_id,dict"`
	Fabric       string   `parquet:"fabric,dict"`
	Observer     string   `parquet:"observer,dict"`
	ObserverHost string   `parquet:"observer_host,dict"`
	Tenant       string   `parquet:"tenant,dict"`
	SrcVM        string   `parquet:"src_vm,dict"`
	DstVM        string   `parquet:"dst_vm,dict"`
	SrcHost      string   `parquet:"src_host,dict"`
	DstHost      string   `parquet:"dst_host,dict"`
	App          string   `parquet:"app,dict"`
	SrcVMID      string   `parquet:"src_vm_id,dict"`
	DstVMID      string   `parquet:"dst_vm_id,dict"`
	MinLen       uint16   `parquet:"min_len,dict"`
	MaxLen       uint16   `parquet:"max_len,dict"`
	InnerVLAN    uint16   `parquet:"inner_vlan,dict"`
	SrcVIF       uint16   `parquet:"src_vif,dict"`
	DstVIF       uint16   `parquet:"dst_vif,dict"`
	MPLS         uint32   `parquet:"mpls,dict"`
	Fragments    uint32   `parquet:"fragments,dict"`
	RTTUS        uint32   `parquet:"rtt_us,dict"`
	Retransmits  uint32   `parquet:"retransmits,dict"`
	ZeroWindows  uint32   `parquet:"zero_windows,dict"`
	AppHow       uint8    `parquet:"app_how,dict"`
	AppName      string   `parquet:"app_name,dict"`
	Extra        string   `parquet:"extra,dict"`
	SrcTenant    string   `parquet:"src_tenant,dict"`
	DstTenant    string   `parquet:"dst_tenant,dict"`
	InIfName     string   `parquet:"in_if_name,dict"`
	OutIfName    string   `parquet:"out_if_name,dict"`
	VRF          string   `parquet:"vrf,dict"`
}

// l2Other is the header length of rows whose layer-2 octets are no whole number of headers more than their octets.
const l2Other = 1<<16 - 1

// setL2 sets the layer-2 octets; octets and packets must be set.
func (w *row) setL2(l2 uint64) { w.L2Header, w.L2Other = splitL2(l2, w.Octets, w.Packets) }

// splitL2 gives l2_header and l2_other.
func splitL2(l2, octets, packets uint64) (header uint16, other uint64) {
	switch {
	case l2 == octets:
		return 0, 0
	case packets == 0 || l2 < octets:
		return l2Other, l2
	}
	if n := (l2 - octets) / packets; n < l2Other && n*packets == l2-octets {
		return uint16(n), 0
	}
	return l2Other, l2
}

func (w *row) l2Octets() uint64 {
	if w.L2Header == l2Other {
		return w.L2Other
	}
	return w.Octets + uint64(w.L2Header)*w.Packets
}

// ports are what flow identifiers hold of the ports, in the place that package enrich gives them.
func (w *row) ports() uint64 { return portsOf(uint64(w.SrcPort), uint64(w.DstPort)) }

func portsOf(src, dst uint64) uint64 { return src<<48 | dst<<32 }

func (w *row) flowID() uint64 { return w.FlowKey ^ w.ports() }

func (w *row) tStart() int64 { return w.TEnd - w.SpanMS }

// floorMS gives whole milliseconds, also before 1970.
func floorMS(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}
