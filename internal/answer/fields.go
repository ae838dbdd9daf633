package answer

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/collect/report"
)

var pairFields = slices.Concat(
	endFields(func(r *report.Pair) *report.Ends { return &r.Ends }),
	[]field[report.Pair]{{title: "APP", text: func(r *report.Pair, o *Options) string { return some(r.Apps, o) }}},
	countFields(func(r *report.Pair) *report.Counts { return &r.Counts }),
	[]field[report.Pair]{{title: "CONVERSATIONS", right: true, wide: true, text: func(r *report.Pair, _ *Options) string { return Count(r.Conversations) }}},
)

var conversationFields = slices.Concat(
	endFields(func(r *report.Conversation) *report.Ends { return &r.Ends }),
	[]field[report.Conversation]{
		{title: "PROTO", text: func(r *report.Conversation, _ *Options) string { return r.Proto }},
		{title: "PORTS", text: func(r *report.Conversation, _ *Options) string { return ports(r.SrcPort, r.DstPort) }},
		{title: "APP", text: func(r *report.Conversation, _ *Options) string { return r.App }},
		{title: "FLAGS", text: func(r *report.Conversation, _ *Options) string { return r.TCPFlags }},
	},
	countFields(func(r *report.Conversation) *report.Counts { return &r.Counts }),
)

// endFields are the columns of the two ends, common to pairs and conversations.
func endFields[T any](of func(*T) *report.Ends) []field[T] {
	return []field[T]{
		{title: "VNI", right: true, text: func(r *T, o *Options) string { return network(of(r), o) }},
		{title: "TENANT", text: func(r *T, _ *Options) string { return of(r).Tenant }},
		{title: "SOURCE VTEP", text: func(r *T, o *Options) string { return vtep(of(r).SrcVTEP, of(r).SrcHost, o) }},
		{title: "SOURCE", text: func(r *T, o *Options) string { return end(of(r).SrcVM, of(r).SrcAddr, o) }},
		{title: "DESTINATION", text: func(r *T, o *Options) string { return end(of(r).DstVM, of(r).DstAddr, o) }},
		{title: "DEST VTEP", text: func(r *T, o *Options) string { return destVTEP(of(r), o) }},
	}
}

// countFields are the columns of the figures, common to pairs and conversations.
func countFields[T any](of func(*T) *report.Counts) []field[T] {
	return []field[T]{
		{title: "BYTES →", right: true, text: func(r *T, _ *Options) string { return estimate(of(r), Bytes(of(r).OctetsFwd)) }},
		{title: "← BYTES", right: true, text: func(r *T, _ *Options) string { return estimate(of(r), Bytes(of(r).OctetsRev)) }},
		{title: "PACKETS →", right: true, wide: true, text: func(r *T, _ *Options) string { return estimate(of(r), Count(of(r).PacketsFwd)) }},
		{title: "← PACKETS", right: true, wide: true, text: func(r *T, _ *Options) string { return estimate(of(r), Count(of(r).PacketsRev)) }},
		{title: "FLOWS", right: true, wide: true, text: func(r *T, _ *Options) string { return Count(of(r).Flows) }},
		{title: "SHARE", right: true, wide: true, text: func(r *T, _ *Options) string { return Percent(of(r).Share) }},
		{title: "FIRST SEEN", wide: true, text: func(r *T, o *Options) string { return o.clock(of(r).FirstSeen) }},
		{title: "LAST SEEN", wide: true, text: func(r *T, o *Options) string { return o.clock(of(r).LastSeen) }},
		{title: "SEEN BY", text: func(r *T, o *Options) string { return some(of(r).SeenBy, o) }},
		{title: "DUPLICATES", right: true, wide: true, text: func(r *T, _ *Options) string { return Count(of(r).Duplicates) }},
		{title: "MARKS", wide: true, text: func(r *T, _ *Options) string { return strings.Join(of(r).Marks, ", ") }},
	}
}

var flowFields = []field[report.Flow]{
	{title: "START", wide: true, text: func(r *report.Flow, o *Options) string { return o.clock(r.Start) }},
	{title: "END", text: func(r *report.Flow, o *Options) string { return o.clock(r.End) }},
	{title: "OBSERVER", text: func(r *report.Flow, _ *Options) string { return r.Observer }},
	{title: "ROLE", wide: true, text: func(r *report.Flow, _ *Options) string { return r.Role }},
	{title: "DIR", wide: true, text: func(r *report.Flow, _ *Options) string { return r.Direction }},
	{title: "VNI", right: true, text: func(r *report.Flow, o *Options) string {
		return network(&report.Ends{Segment: r.Segment, VNI: r.VNI}, o)
	}},
	{title: "TENANT", text: func(r *report.Flow, _ *Options) string { return r.Tenant }},
	{title: "SOURCE VTEP", wide: true, text: func(r *report.Flow, o *Options) string { return vtep(r.SrcVTEP, r.SrcHost, o) }},
	{title: "SOURCE", text: func(r *report.Flow, o *Options) string { return socket(r.SrcVM, r.SrcAddr, r.SrcPort, o) }},
	{title: "DESTINATION", text: func(r *report.Flow, o *Options) string { return socket(r.DstVM, r.DstAddr, r.DstPort, o) }},
	{title: "DEST VTEP", wide: true, text: func(r *report.Flow, o *Options) string { return vtep(r.DstVTEP, r.DstHost, o) }},
	{title: "PROTO", text: func(r *report.Flow, _ *Options) string { return strings.TrimSpace(r.Proto + " " + r.ICMP) }},
	{title: "APP", wide: true, text: func(r *report.Flow, _ *Options) string { return r.App }},
	{title: "FLAGS", text: func(r *report.Flow, _ *Options) string { return r.TCPFlags }},
	{title: "PACKETS", right: true, text: func(r *report.Flow, _ *Options) string { return Count(r.Packets) }},
	{title: "BYTES", right: true, text: func(r *report.Flow, _ *Options) string { return Bytes(r.Octets) }},
	{title: "IN", wide: true, text: func(r *report.Flow, _ *Options) string { return iface(r.InIfName, r.InIf) }},
	{title: "OUT", wide: true, text: func(r *report.Flow, _ *Options) string { return iface(r.OutIfName, r.OutIf) }},
	{title: "VRF", wide: true, text: func(r *report.Flow, _ *Options) string { return r.VRF }},
	{title: "SAMPLING", right: true, wide: true, text: func(r *report.Flow, _ *Options) string { return rate(r.Sampling) }},
	{title: "EXPORTER", wide: true, text: func(r *report.Flow, _ *Options) string { return r.Exporter }},
	{title: "DOMAIN", right: true, wide: true, text: func(r *report.Flow, _ *Options) string { return strconv.FormatUint(uint64(r.Domain), 10) }},
	{title: "ENDED", wide: true, text: func(r *report.Flow, _ *Options) string { return r.EndReason }},
	{title: "COUNTED", text: func(r *report.Flow, _ *Options) string { return yes(r.Canonical) }},
	{title: "MARKS", wide: true, text: func(r *report.Flow, _ *Options) string { return strings.Join(r.Marks, ", ") }},
	{title: "EXTRA", wide: true, text: func(r *report.Flow, _ *Options) string { return strings.Join(r.Extra, " ") }},
}

// iface gives an interface's name, else its number.
func iface(name string, number uint32) string {
	if name == "" && number != 0 {
		return strconv.FormatUint(uint64(number), 10)
	}
	return name
}

// network gives the number of a VXLAN segment alone and names every other kind ("vlan:100").
func network(e *report.Ends, o *Options) string {
	if number, isVXLAN := strings.CutPrefix(e.Segment, "vxlan:"); isVXLAN && !o.Wide {
		return number
	}
	return e.Segment
}

// vtep gives the address of a tunnel endpoint, in wide tables with its host.
func vtep(addr, host string, o *Options) string {
	switch {
	case addr == "" && !o.Numeric:
		return host
	case o.Wide && host != "" && !o.Numeric:
		return addr + " (" + host + ")"
	}
	return addr
}

func destVTEP(e *report.Ends, o *Options) string {
	if e.SameHost && !o.Wide {
		return "same host"
	}
	return vtep(e.DstVTEP, e.DstHost, o)
}

// end gives the name of a VM and its inner address, the address alone when there is no name.
func end(vm, addr string, o *Options) string {
	if vm == "" || o.Numeric {
		return addr
	}
	return vm + " " + addr
}

// socket gives one end of a flow with its port, by name in narrow tables.
func socket(vm, addr string, port uint16, o *Options) string {
	s := addr
	if port != 0 {
		s = net.JoinHostPort(addr, strconv.Itoa(int(port)))
	}
	if vm == "" || o.Numeric {
		return s
	}
	return vm + " " + s
}

func ports(src, dst uint16) string {
	if src == 0 && dst == 0 {
		return ""
	}
	return strconv.Itoa(int(src)) + " → " + strconv.Itoa(int(dst))
}

// some gives the first two of a list and how many more there are; all of them in wide tables.
func some(list []string, o *Options) string {
	if o.Wide || len(list) <= 2 {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:2], ", ") + " +" + strconv.Itoa(len(list)-2)
}

// estimate puts "~" before a figure that sampling made an estimate.
func estimate(c *report.Counts, text string) string {
	if c.OctetsError > 0 || slices.Contains(c.Marks, "sampled") {
		return "~" + text
	}
	return text
}

func rate(n uint32) string {
	if n <= 1 {
		return "1:1"
	}
	return "1:" + strconv.FormatUint(uint64(n), 10)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
