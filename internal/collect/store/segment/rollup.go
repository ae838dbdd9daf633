package segment

// rollup is one row of a roll-up: what the canonical rows of an hour between two workloads at one service add up to. The columns
// are those of store.View's Rollup. As with row, a new one goes to the end.
type rollup struct {
	Segment       uint64   `parquet:"segment,dict"`
	Src           [16]byte `parquet:"src,uuid,dict"`
	Dst           [16]byte `parquet:"dst,uuid,dict"`
	Bucket        int64    `parquet:"bucket,timestamp(millisecond:local),dict"`
	Fabric        string   `parquet:"fabric,dict"`
	Tenant        string   `parquet:"tenant,dict"`
	SrcTenant     string   `parquet:"src_tenant,dict"`
	DstTenant     string   `parquet:"dst_tenant,dict"`
	SrcVM         string   `parquet:"src_vm,dict"`
	SrcVMID       string   `parquet:"src_vm_id,dict"`
	SrcHost       string   `parquet:"src_host,dict"`
	DstVM         string   `parquet:"dst_vm,dict"`
	DstVMID       string   `parquet:"dst_vm_id,dict"`
	DstHost       string   `parquet:"dst_host,dict"`
	App           string   `parquet:"app,dict"`
	Proto         uint8    `parquet:"proto,dict"`
	ServicePort   uint16   `parquet:"service_port,dict"`
	Client        uint8    `parquet:"client,dict"`
	Packets       uint64   `parquet:"packets"`
	Octets        uint64   `parquet:"octets"`
	L2Header      uint16   `parquet:"l2_header,dict"` // as in row
	L2Other       uint64   `parquet:"l2_other,dict"`
	Rows          uint64   `parquet:"rows,dict"`
	Flows         uint32   `parquet:"flows,dict"`
	FirstSeen     int64    `parquet:"first_seen,timestamp(millisecond:local)"`
	LastSeen      int64    `parquet:"last_seen,timestamp(millisecond:local)"`
	Marks         uint16   `parquet:"marks,dict"`
	TCPFlags      uint16   `parquet:"tcp_flags,dict"`
	PortVotes     int64    `parquet:"port_votes,dict"`
	Variance      float64  `parquet:"variance,dict"`
	SampledRows   uint32   `parquet:"sampled_rows,dict"`
	AmbiguousRows uint32   `parquet:"ambiguous_rows,dict"`
	MinLen        uint16   `parquet:"min_len,dict"`
	MaxLen        uint16   `parquet:"max_len,dict"`
	Fragments     uint64   `parquet:"fragments,dict"`
	Retransmits   uint64   `parquet:"retransmits,dict"`
	ZeroWindows   uint64   `parquet:"zero_windows,dict"`
	RTTN          uint32   `parquet:"rtt_n,dict"`
	RTTSum        uint64   `parquet:"rtt_sum,dict"`
	RTTMax        uint32   `parquet:"rtt_max,dict"`
	OuterSrc      [16]byte `parquet:"outer_src,uuid,dict"`
	OuterDst      [16]byte `parquet:"outer_dst,uuid,dict"`
	SeenBy        string   `parquet:"seen_by,dict"`
	OtherRows     uint64   `parquet:"other_rows,dict"`
	Duplicates    uint64   `parquet:"duplicates,dict"`
	SeenOther     string   `parquet:"seen_other,dict"`
}
