package deliver

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"crosstap/internal/flow"
)

// line is a record as JSON shows it. The names are those of the flows report, and of the store's columns for what that does not show.
type line struct {
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	Domain    uint32    `json:"domain"`
	Point     uint64    `json:"point"`
	Observer  string    `json:"observer"`
	Role      string    `json:"role"`
	Direction string    `json:"direction"`
	Segment   string    `json:"segment"`
	VNI       uint32    `json:"vni"`
	SrcVTEP   string    `json:"src_vtep"`
	DstVTEP   string    `json:"dst_vtep"`
	SrcAddr   string    `json:"src_addr"`
	DstAddr   string    `json:"dst_addr"`
	SrcPort   uint16    `json:"src_port"`
	DstPort   uint16    `json:"dst_port"`
	Proto     string    `json:"proto"`
	SrcMAC    string    `json:"src_mac"`
	DstMAC    string    `json:"dst_mac"`
	VLAN      uint16    `json:"vlan"`
	EtherType uint16    `json:"ethertype"`
	ToS       uint8     `json:"tos"`
	MinTTL    uint8     `json:"min_ttl"`
	MaxTTL    uint8     `json:"max_ttl"`
	TCPFlags  string    `json:"tcp_flags"`
	ICMP      string    `json:"icmp"`
	InIf      uint32    `json:"in_if"`
	OutIf     uint32    `json:"out_if"`
	Packets   uint64    `json:"packets"`
	Octets    uint64    `json:"octets"`
	L2Octets  uint64    `json:"l2_octets"`
	Sampling  uint32    `json:"sampling"`
	EndReason string    `json:"end_reason"`
	Marks     []string  `json:"marks"`

	App          string `json:"app"`
	AppHow       string `json:"app_how"` // such as "tls"; "port" is a guess
	AppName      string `json:"app_name"`
	Client       string `json:"client"`  // which end opened the conversation: src, dst or ""
	Reverse      bool   `json:"reverse"` // the other direction of the line before it (biflow)
	MinLen       uint16 `json:"min_len"`
	MaxLen       uint16 `json:"max_len"`
	Fragments    uint32 `json:"fragments"`
	FirstFlags   string `json:"first_tcp_flags"`
	RTTUS        uint32 `json:"rtt_us"`
	Retransmits  uint32 `json:"retransmits"`
	ZeroWindows  uint32 `json:"zero_windows"`
	InnerVLAN    uint16 `json:"inner_vlan"`
	MPLS         uint32 `json:"mpls"`
	SrcVIF       uint16 `json:"src_vif"`
	DstVIF       uint16 `json:"dst_vif"`
	OuterSrcPort uint16 `json:"outer_src_port"`
	OuterDstPort uint16 `json:"outer_dst_port"`
	OuterProto   string `json:"outer_proto"`
	InIfName     string `json:"in_if_name"`
	OutIfName    string `json:"out_if_name"`
}

// AppendJSON appends r as one JSON object.
func AppendJSON(b []byte, r *flow.Record) []byte {
	doc, err := json.Marshal(newLine(r))
	if err != nil { // a year that RFC 3339 cannot write
		return strconv.AppendQuote(b, fmt.Sprint("record: ", err))
	}
	return append(b, doc...)
}

func newLine(r *flow.Record) line {
	return line{
		Start: time.Unix(0, r.StartNS).UTC(), End: time.Unix(0, r.EndNS).UTC(),
		Domain: r.Domain, Point: r.Point, Observer: r.Observer, Role: r.Role.String(), Direction: flow.DirectionText(r.Direction),
		Segment: segment(r.Segment), VNI: r.Segment.Number(), SrcVTEP: r.Tunnel.Src.String(), DstVTEP: r.Tunnel.Dst.String(),
		SrcAddr: r.Src.String(), DstAddr: r.Dst.String(), SrcPort: r.SrcPort, DstPort: r.DstPort, Proto: flow.ProtoText(r.Proto),
		SrcMAC: r.SrcMAC.String(), DstMAC: r.DstMAC.String(), VLAN: r.VLAN, EtherType: r.EtherType,
		ToS: r.ToS, MinTTL: r.MinTTL, MaxTTL: r.MaxTTL, TCPFlags: flow.TCPFlagText(r.TCPFlags), ICMP: icmp(r),
		InIf: r.InIf, OutIf: r.OutIf, Packets: r.Packets, Octets: r.Octets, L2Octets: r.L2Octets, Sampling: max(r.Sampling, 1),
		EndReason: endReason(r.EndReason), Marks: marks(r.Marks),
		App: r.App, AppHow: r.AppHow.String(), AppName: r.AppName, Client: client(r.Client), Reverse: r.Is(flow.MarkReverse),
		MinLen: r.MinLen, MaxLen: r.MaxLen, Fragments: r.Fragments, FirstFlags: flow.TCPFlagText(uint16(r.FirstTCPFlags)),
		RTTUS: r.RTTUS, Retransmits: r.Retransmits, ZeroWindows: r.ZeroWindows,
		InnerVLAN: r.InnerVLAN, MPLS: r.MPLS, SrcVIF: r.SrcVIF, DstVIF: r.DstVIF,
		OuterSrcPort: r.Tunnel.SrcPort, OuterDstPort: r.Tunnel.DstPort, OuterProto: outerProto(&r.Tunnel),
		InIfName: r.InIfName, OutIfName: r.OutIfName,
	}
}

func client(c flow.Client) string {
	switch c {
	case flow.ClientSrc:
		return "src"
	case flow.ClientDst:
		return "dst"
	}
	return ""
}

func outerProto(t *flow.Tunnel) string {
	if t.Proto == 0 {
		return ""
	}
	return flow.ProtoText(t.Proto)
}

func segment(s flow.Segment) string {
	if s == 0 {
		return ""
	}
	return s.Kind().String() + ":" + strconv.FormatUint(uint64(s.Number()), 10)
}

func icmp(r *flow.Record) string {
	if r.Proto != 1 && r.Proto != 58 {
		return ""
	}
	return strconv.Itoa(int(r.ICMPTypeCode>>8)) + "/" + strconv.Itoa(int(r.ICMPTypeCode&0xff))
}

func endReason(e flow.EndReason) string {
	names := [...]string{"", "idle", "active", "detected", "forced", "resource"}
	if int(e) < len(names) {
		return names[e]
	}
	return strconv.Itoa(int(e))
}

func marks(m flow.Mark) []string {
	out := []string{}
	for _, x := range []struct {
		bit  flow.Mark
		name string
	}{
		{flow.MarkSampled, "sampled"}, {flow.MarkAssumed, "assumed"}, {flow.MarkAmbiguous, "ambiguous"},
		{flow.MarkTruncated, "truncated"}, {flow.MarkFragments, "fragments"}, {flow.MarkGuess, "guess"}, {flow.MarkGap, "gap"},
	} {
		if m&x.bit != 0 {
			out = append(out, x.name)
		}
	}
	return out
}
