// Package report answers questions about stored flows. The same answer, field for field, goes to the
// API, the command line and the console.
package report

import (
	"context"
	"time"

	"crosstap/internal/collect/report/filter"
)

// SchemaVersion is the version of the JSON documents below.
const SchemaVersion = 1

// Query is one question. Times are half open: Since <= t_end < Until.
type Query struct {
	Since, Until time.Time
	Filter       string        // flow filter expression, "" for everything
	Sort         string        // JSON name of a column, with "-" before it for descending; "" for the report's own order
	Limit        int           // rows at most, 0 for the report's own limit
	By           []string      // series: columns to split by, at most four; irregular: kinds to look for
	Step         time.Duration // series: bucket width, 0 for one that fits
	Metric       string        // series, top: what to count, see Metrics; "" for octets
	Resolution   string        // "" or "auto", "raw", "1h": what answers; reports that can use roll-ups only
	Previous     bool          // series: also the period of equal length before
	Per          []string      // top: columns of which each value has its own list
	Period       time.Duration // top: a list for each period, 0 for one over all
	Having       string        // top: a condition on the sums
	MTU          int           // networks: bytes that the underlay carries, 0 for 1500
	Name         string        // VM page and things: name, id or address
	Expand       []string      // map: groups that are shown by their members
	Focus        string        // map: a node; only what is Hops away from it stays
	Hops         int           // map: 0 for 1
	BaseSince    time.Time     // map, VM page, irregular: the period to compare with; zero for none (VM page: the one before)
	BaseUntil    time.Time
}

// Gap is a stretch of time in which flows may be missing, and why.
type Gap struct {
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Scope       string    `json:"scope"` // "collector", "exporter" or "store"
	Who         string    `json:"who"`   // name of the observer or exporter, "" for the collector
	Reason      string    `json:"reason"`
	LostRecords uint64    `json:"lost_records"` // 0 when not countable
}

// Completeness goes with every answer: what may be missing from it.
type Completeness struct {
	Ratio          *float64 `json:"ratio"`           // received records ÷ (received + lost); null when no exporter counts
	LostRecords    uint64   `json:"lost_records"`    // by sequence numbers, in the time range
	DroppedRecords uint64   `json:"dropped_records"` // received but not stored
	SampledRows    uint64   `json:"sampled_rows"`    // rows whose counters are estimates
	AmbiguousRows  uint64   `json:"ambiguous_rows"`  // rows that fitted two segments or flows

	// Where one observer fills a gap of another one, rows at the ends of the gap count whole or not at all. These are what may be counted twice or left out, whatever
	// the filter, in the settled hours that the time range touches.
	UncertainRows    uint64 `json:"uncertain_rows"`
	UncertainPackets uint64 `json:"uncertain_packets"`
	UncertainOctets  uint64 `json:"uncertain_octets"`

	Gaps []Gap `json:"gaps"`
}

// Total is the sum over all rows of an answer, also those beyond the limit.
type Total struct {
	Rows    uint64  `json:"rows"`
	Octets  uint64  `json:"octets"`
	Packets uint64  `json:"packets"`
	Flows   *uint64 `json:"flows"` // nil when the answer does not count them
}

// sums are what a total is made of.
type sums struct{ Rows, Octets, Packets, Flows uint64 }

// told is the total of an answer. Rows without any flow were not asked for theirs.
func (s sums) told() Total {
	t := Total{Rows: s.Rows, Octets: s.Octets, Packets: s.Packets}
	if s.Flows > 0 || s.Rows == 0 {
		t.Flows = &s.Flows
	}
	return t
}

// Meta stands beside the rows of every answer.
type Meta struct {
	Schema       int          `json:"schema"`
	Report       string       `json:"report"`
	Since        time.Time    `json:"since"`
	Until        time.Time    `json:"until"`
	Filter       string       `json:"filter"`
	Sort         string       `json:"sort"`
	Limit        int          `json:"limit"`
	Total        Total        `json:"total"`
	DataFrom     *time.Time   `json:"data_from"`  // oldest stored t_end, null for an empty store
	DataUntil    *time.Time   `json:"data_until"` // newest stored t_end
	Resolution   string       `json:"resolution"` // "raw" or the roll-up that answered
	Notes        []string     `json:"notes"`      // what a reader of the figures must know
	Completeness Completeness `json:"completeness"`
	// Empty names the cause of an answer without rows and what to do; null when there are rows.
	Empty *Empty `json:"empty"`
}

// Empty explains an answer without rows.
type Empty struct {
	Cause  string `json:"cause"` // no_exporter, exporter_silent, template_missing, filter_excludes, before_first_data, not_yet_stored
	Text   string `json:"text"`
	Action string `json:"action"`
}

// Ends names the two ends of a pair. Source is the side that opened the conversation, as far as
// known (see Guess).
type Ends struct {
	Segment  string `json:"segment"` // such as "vxlan:5001", "" when not known
	VNI      uint32 `json:"vni"`     // the segment's number, 0 when not known
	Fabric   string `json:"fabric"`
	Tenant   string `json:"tenant"`
	SrcVTEP  string `json:"src_vtep"`
	SrcHost  string `json:"src_host"`
	SrcVM    string `json:"src_vm"`    // the name it had last
	SrcVMID  string `json:"src_vm_id"` // stable id, "" when not known
	SrcAddr  string `json:"src_addr"`
	DstAddr  string `json:"dst_addr"`
	DstVM    string `json:"dst_vm"`
	DstVMID  string `json:"dst_vm_id"`
	DstHost  string `json:"dst_host"`
	DstVTEP  string `json:"dst_vtep"`
	SameHost bool   `json:"same_host"` // both ends on one host: no wire ever carried it
}

// Counts are the figures of a pair: forward is source to destination.
type Counts struct {
	OctetsFwd   uint64    `json:"octets_fwd"`
	OctetsRev   uint64    `json:"octets_rev"`
	PacketsFwd  uint64    `json:"packets_fwd"`
	PacketsRev  uint64    `json:"packets_rev"`
	Octets      uint64    `json:"octets"`       // both ways
	OctetsError uint64    `json:"octets_error"` // half width of the 95 % interval of Octets; 0 when counted
	Packets     uint64    `json:"packets"`
	Flows       uint64    `json:"flows"` // distinct 5-tuples, both directions as one
	Share       float64   `json:"share"` // of the answer's total octets, 0 to 1
	FirstSeen   time.Time `json:"first_seen"`
	LastSeen    time.Time `json:"last_seen"`
	SeenBy      []string  `json:"seen_by"`    // names of all observers, canonical first
	Duplicates  uint64    `json:"duplicates"` // packets that other observers saw again, not counted
	Marks       []string  `json:"marks"`      // sampled, assumed, ambiguous, truncated, fragments, guess, gap
}

// Pair is a row of "Pairs with Tenants".
type Pair struct {
	Ends
	Counts
	Conversations uint64   `json:"conversations"`
	Apps          []string `json:"apps"`
	Spark         []uint64 `json:"spark"` // octets in 24 equal parts of the time range
}

// Conversation is a row of "Tenant Conversations".
type Conversation struct {
	Ends
	Counts
	Proto    string `json:"proto"` // tcp, udp, icmp, …
	SrcPort  uint16 `json:"src_port"`
	DstPort  uint16 `json:"dst_port"`
	App      string `json:"app"`
	TCPFlags string `json:"tcp_flags"` // union of both ways, such as "SAPF"
}

// Flow is one stored row: what one observer said of one flow over one interval.
type Flow struct {
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	Received  time.Time `json:"received"`
	Exporter  string    `json:"exporter"`
	Domain    uint32    `json:"domain"`
	Observer  string    `json:"observer"`
	Role      string    `json:"role"`
	Direction string    `json:"direction"` // ingress, egress or ""
	Canonical bool      `json:"canonical"`
	Segment   string    `json:"segment"`
	VNI       uint32    `json:"vni"`
	Fabric    string    `json:"fabric"`
	Tenant    string    `json:"tenant"`
	SrcVTEP   string    `json:"src_vtep"`
	DstVTEP   string    `json:"dst_vtep"`
	SrcHost   string    `json:"src_host"`
	DstHost   string    `json:"dst_host"`
	SrcVM     string    `json:"src_vm"`
	DstVM     string    `json:"dst_vm"`
	SrcVMID   string    `json:"src_vm_id"`
	DstVMID   string    `json:"dst_vm_id"`
	SrcAddr   string    `json:"src_addr"`
	DstAddr   string    `json:"dst_addr"`
	SrcPort   uint16    `json:"src_port"`
	DstPort   uint16    `json:"dst_port"`
	Proto     string    `json:"proto"`
	App       string    `json:"app"`
	SrcMAC    string    `json:"src_mac"`
	DstMAC    string    `json:"dst_mac"`
	VLAN      uint16    `json:"vlan"`
	EtherType uint16    `json:"ethertype"`
	ToS       uint8     `json:"tos"`
	MinTTL    uint8     `json:"min_ttl"`
	MaxTTL    uint8     `json:"max_ttl"`
	TCPFlags  string    `json:"tcp_flags"`
	ICMP      string    `json:"icmp"` // "8/0", "" for other protocols
	InIf      uint32    `json:"in_if"`
	OutIf     uint32    `json:"out_if"`
	Packets   uint64    `json:"packets"`
	Octets    uint64    `json:"octets"`
	L2Octets  uint64    `json:"l2_octets"`
	Sampling  uint32    `json:"sampling"`
	EndReason string    `json:"end_reason"`
	FlowID    string    `json:"flow_id"` // 16 hexadecimal digits
	Marks     []string  `json:"marks"`
	InIfName  string    `json:"in_if_name"`
	OutIfName string    `json:"out_if_name"`
	VRF       string    `json:"vrf"`

	SrcTenant   string `json:"src_tenant"`
	DstTenant   string `json:"dst_tenant"`
	AppHow      string `json:"app_how"`  // such as "tls"; "port" is a guess
	AppName     string `json:"app_name"` // the name that the payload told
	MinLen      uint16 `json:"min_len"`  // IP total length, bytes; 0 where the observer does not say
	MaxLen      uint16 `json:"max_len"`
	RTTUS       uint32 `json:"rtt_us"`
	Retransmits uint32 `json:"retransmits"`
	ZeroWindows uint32 `json:"zero_windows"`
	Fragments   uint32 `json:"fragments"`
	InnerVLAN   uint16 `json:"inner_vlan"`
	SrcVIF      uint16 `json:"src_vif"`
	DstVIF      uint16 `json:"dst_vif"`
	MPLS        uint32 `json:"mpls"`

	Extra []string `json:"extra"` // elements without a column as name=value, "4242/1=0x05" without a name
}

// Pairs is the answer of "Pairs with Tenants".
type Pairs struct {
	Meta Meta   `json:"meta"`
	Rows []Pair `json:"rows"`
}

// Conversations is the answer of "Tenant Conversations".
type Conversations struct {
	Meta Meta           `json:"meta"`
	Rows []Conversation `json:"rows"`
}

// Flows is the answer of "Flows": stored rows, newest first.
type Flows struct {
	Meta Meta   `json:"meta"`
	Rows []Flow `json:"rows"`
}

// Line is one line of a time series. Values are per second, one for each of the answer's times;
// octets are given as bits per second.
type Line struct {
	Key    []string  `json:"key" nullable:"false"` // one value for each of By; ["other"] for the rest
	Values []float64 `json:"values" nullable:"false"`
	Total  uint64    `json:"total"` // octets, packets or flows over the range
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Avg    float64   `json:"avg"`
	P95    float64   `json:"p95"`
	Last   float64   `json:"last"`
	// Of the period of equal length before, when it was asked for: values in the same buckets, counted from its start.
	Previous      []float64 `json:"previous,omitempty"`
	PreviousTotal *uint64   `json:"previous_total,omitempty"`

	rest bool // what no other line has
}

// Series is the answer of a time series. Times are the buckets' starts.
type Series struct {
	Meta   Meta        `json:"meta"`
	By     []string    `json:"by"`
	Metric string      `json:"metric"`
	Unit   string      `json:"unit"` // "bit/s", "packet/s" or "flow/s"
	StepMS int64       `json:"step_ms"`
	Times  []time.Time `json:"times"`
	Lines  []Line      `json:"lines"`

	PreviousSince *time.Time `json:"previous_since,omitempty"`
	PreviousUntil *time.Time `json:"previous_until,omitempty"`
}

// Link is one link of the VTEP–VNI–VTEP Sankey diagram.
type Link struct {
	SrcVTEP string `json:"src_vtep"` // with the host's name when known: "10.0.0.1 (h1)"; "same host" for traffic that never left one
	Segment string `json:"segment"`
	Tenant  string `json:"tenant"`
	DstVTEP string `json:"dst_vtep"`
	Octets  uint64 `json:"octets"`
	Packets uint64 `json:"packets"`
}

// Sankey is the answer for the Sankey diagram, greatest first.
type Sankey struct {
	Meta  Meta   `json:"meta"`
	Links []Link `json:"links"`
}

// ObserverRow says what one observer has reported in the time range.
type ObserverRow struct {
	Observer    string    `json:"observer"`
	Role        string    `json:"role"`
	Host        string    `json:"host"`
	Exporter    string    `json:"exporter"`
	Domain      uint32    `json:"domain"`
	Rows        uint64    `json:"rows"`
	Octets      uint64    `json:"octets"`    // all its rows
	Canonical   uint64    `json:"canonical"` // octets of its canonical rows
	LastSeen    time.Time `json:"last_seen"`
	LostRecords uint64    `json:"lost_records"`
}

// Overview is the answer of the first page.
type Overview struct {
	Meta           Meta           `json:"meta"`
	Pairs          uint64         `json:"pairs"`
	NewPairs       uint64         `json:"new_pairs"` // first seen in the last 24 h, and not in the range before
	Tenants        uint64         `json:"tenants"`
	Segments       uint64         `json:"segments"`
	VMs            uint64         `json:"vms"`
	BitsPerSecond  float64        `json:"bits_per_second"` // over the last minute of the range
	SameHostRatio  *float64       `json:"same_host_ratio"` // share of octets that never left its host; null without octets
	UnknownRatio   *float64       `json:"unknown_ratio"`   // share of octets with an end that inventory does not know
	CoverageRatio  *float64       `json:"coverage_ratio"`  // null: the vNIC counters are not known
	CoverageReason string         `json:"coverage_reason"`
	Observers      []ObserverRow  `json:"observers"`
	TopPairs       []Pair         `json:"top_pairs"`
	TopSegments    []SegmentTotal `json:"top_segments"`
}

// SegmentTotal is the traffic of one segment.
type SegmentTotal struct {
	Segment string `json:"segment"`
	VNI     uint32 `json:"vni"`
	Tenant  string `json:"tenant"`
	Octets  uint64 `json:"octets"`
	Packets uint64 `json:"packets"`
}

// Reporter answers questions: the embedded store does it here, a client does it from afar.
type Reporter interface {
	Pairs(context.Context, Query) (Pairs, error)
	Conversations(context.Context, Query) (Conversations, error)
	Flows(context.Context, Query) (Flows, error)
	Series(context.Context, Query) (Series, error)
	Sankey(context.Context, Query) (Sankey, error)
	Overview(context.Context, Query) (Overview, error)
	Networks(context.Context, Query) (Networks, error)
	Top(context.Context, Query) (Top, error)
	Things(ctx context.Context, kind string, q Query) (Things, error)
	VM(context.Context, Query) (VMPage, error)
	Map(context.Context, Query) (Map, error)
	AllowList(context.Context, Query) (AllowList, error)
	Observers(context.Context, Query) (Observers, error)
	Carriers(context.Context, Query) (Carriers, error)
	Carried(context.Context, Query) (Carriers, error)
	Coverage(context.Context, Query) (Coverage, error)
	Irregular(context.Context, Query) (Irregular, error)
}

// FilterError says where in a filter expression the mistake is.
type FilterError = filter.Error
