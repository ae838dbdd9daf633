package answer

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/collect/report"
)

// narrow are the columns of tables that show rows by their JSON names; wide tables have them all.
var narrow = map[string][]string{
	"networks":  {"segment", "tenant", "vteps", "hosts", "vms", "pairs", "octets", "octets_same_host", "max_packet", "needed_mtu", "mtu_risk", "last_seen"},
	"vms":       {"name", "tenants", "segments", "addrs", "hosts", "octets_sent", "octets_received", "peers", "last_seen"},
	"hosts":     {"name", "tenants", "segments", "octets_sent", "octets_received", "peers", "last_seen"},
	"vteps":     {"name", "segments", "hosts", "octets_sent", "octets_received", "peers", "last_seen"},
	"tenants":   {"name", "segments", "octets_sent", "octets_received", "peers", "last_seen"},
	"apps":      {"name", "tenants", "segments", "octets_sent", "octets_received", "peers", "last_seen"},
	"underlay":  {"src_vtep", "dst_vtep", "outer_src_port", "match", "conversations", "segments", "overlay_octets", "overlay_packets", "underlay_octets", "underlay_packets", "lost", "seen_by"},
	"coverage":  {"host", "vm", "counted_octets", "observed_octets", "ratio", "missing_octets", "reasons"},
	"irregular": {"kind", "score", "text", "segment", "tenant", "octets", "octets_before", "first_seen", "last_seen"},
	"allow":     {"segment", "tenant", "src_vm", "src_addr", "dst_vm", "dst_addr", "proto", "port", "app", "octets", "guess", "last_seen"},
}

// narrowOf gives the columns for an answer, nil for all.
func narrowOf(v any) []string {
	switch a := v.(type) {
	case *report.Networks:
		return narrow["networks"]
	case *report.Things:
		return narrow[a.Kind]
	case *report.Carriers:
		return narrow["underlay"]
	case *report.Coverage:
		return narrow["coverage"]
	case *report.AllowList:
		return narrow["allow"]
	case *report.Irregular:
		return narrow["irregular"]
	case *report.Top:
		return topColumns(a)
	}
	return nil
}

// topColumns are the keys and the figures that say something.
func topColumns(t *report.Top) []string {
	var out []string
	if t.PeriodMS > 0 {
		out = append(out, "period")
	}
	out = append(append(out, t.Per...), t.By...)
	both := len(t.Rows) > 0 && t.Rows[0].OctetsSent != nil
	if both {
		out = append(out, "octets_sent", "octets_received")
	}
	out = append(out, "octets", "packets")
	switch t.Metric {
	case "flows", "l2_octets", "retransmits", "zero_windows", "fragments", "rows":
		out = append(out, t.Metric)
	case "rtt":
		out = append(out, "rtt_p50_us", "rtt_p95_us", "rtt_p99_us", "rtt_max_us")
	}
	return append(out, "share", "last_seen")
}

// namedEdges are the edges of a map with machines' names in place of their identifiers.
func namedEdges(m *report.Map) []report.MapEdge {
	names := map[string]string{}
	for _, n := range m.Nodes {
		if n.Kind == "member" && n.Label != "" {
			names[n.ID] = strings.Join(append(n.Group[:len(n.Group):len(n.Group)], n.Label), "/")
		}
	}
	out := append([]report.MapEdge{}, m.Edges...)
	for i := range out {
		out[i].Src, out[i].Dst = cmp.Or(names[out[i].Src], out[i].Src), cmp.Or(names[out[i].Dst], out[i].Dst)
	}
	return out
}

var edgeFields = []field[report.MapEdge]{
	{title: "CLIENTS", text: func(r *report.MapEdge, _ *Options) string { return r.Src }},
	{title: "SERVERS", text: func(r *report.MapEdge, _ *Options) string { return r.Dst }},
	{title: "SERVICES", text: func(r *report.MapEdge, o *Options) string {
		if o.Wide {
			return services(r, len(r.Services))
		}
		return services(r, 3)
	}},
	{title: "BYTES →", right: true, text: func(r *report.MapEdge, _ *Options) string { return Bytes(r.OctetsFwd) }},
	{title: "← BYTES", right: true, text: func(r *report.MapEdge, _ *Options) string { return Bytes(r.OctetsRev) }},
	{title: "PACKETS", right: true, wide: true, text: func(r *report.MapEdge, _ *Options) string { return Count(r.Packets) }},
	{title: "LINKS", right: true, text: func(r *report.MapEdge, _ *Options) string { return Count(r.Links) }},
	{title: "NEW", right: true, text: func(r *report.MapEdge, _ *Options) string { return Count(r.NewLinks) }},
	{title: "GONE", right: true, text: func(r *report.MapEdge, _ *Options) string { return Count(r.GoneLinks) }},
	{title: "STATE", text: func(r *report.MapEdge, _ *Options) string { return r.State }},
	{title: "TENANTS", text: func(r *report.MapEdge, _ *Options) string {
		if r.CrossTenant {
			return "cross"
		}
		return ""
	}},
	{title: "LAST SEEN", wide: true, text: func(r *report.MapEdge, o *Options) string { return o.clock(r.LastSeen) }},
}

var lineFields = func(s *report.Series) []field[report.Line] {
	rate := func(f float64) string {
		if s.Unit == "bit/s" {
			return Bits(f)
		}
		return strconv.FormatFloat(f, 'g', 4, 64) + " " + strings.Replace(s.Unit, "/s", "s/s", 1)
	}
	total := func(n uint64) string {
		if s.Unit == "bit/s" {
			return Bytes(n)
		}
		return Count(n)
	}
	out := []field[report.Line]{{title: strings.ToUpper(strings.Join(s.By, ", ")), text: func(l *report.Line, _ *Options) string { return strings.Join(l.Key, ", ") }}}
	for _, c := range []struct {
		title string
		of    func(*report.Line) float64
	}{{"MIN", func(l *report.Line) float64 { return l.Min }}, {"MAX", func(l *report.Line) float64 { return l.Max }}, {"LAST", func(l *report.Line) float64 { return l.Last }},
		{"AVERAGE", func(l *report.Line) float64 { return l.Avg }}, {"P95", func(l *report.Line) float64 { return l.P95 }}} {
		out = append(out, field[report.Line]{title: c.title, right: true, text: func(l *report.Line, _ *Options) string { return rate(c.of(l)) }})
	}
	out = append(out, field[report.Line]{title: "TOTAL", right: true, text: func(l *report.Line, _ *Options) string { return total(l.Total) }})
	if s.PreviousSince != nil {
		out = append(out, field[report.Line]{title: "BEFORE", right: true, text: func(l *report.Line, _ *Options) string {
			if l.PreviousTotal == nil {
				return ""
			}
			return total(*l.PreviousTotal)
		}})
	}
	return out
}

var peerFields = []field[report.Peer]{
	{title: "PEER", text: func(r *report.Peer, o *Options) string { return end(r.Name, r.Addr, o) }},
	{title: "SEGMENT", text: func(r *report.Peer, _ *Options) string { return r.Segment }},
	{title: "TENANT", text: func(r *report.Peer, _ *Options) string { return r.Tenant }},
	{title: "HOST", text: func(r *report.Peer, _ *Options) string {
		if r.SameHost {
			return "same host"
		}
		return r.Host
	}},
	{title: "SENT", right: true, text: func(r *report.Peer, _ *Options) string { return Bytes(r.OctetsSent) }},
	{title: "RECEIVED", right: true, text: func(r *report.Peer, _ *Options) string { return Bytes(r.OctetsReceived) }},
	{title: "BEFORE", right: true, text: func(r *report.Peer, _ *Options) string { return Bytes(r.OctetsBefore) }},
	{title: "", text: func(r *report.Peer, _ *Options) string { return r.State }},
	{title: "LAST SEEN", wide: true, text: func(r *report.Peer, o *Options) string { return o.clock(r.LastSeen) }},
}

var serviceFields = []field[report.Service]{
	{title: "PROTO", text: func(r *report.Service, _ *Options) string { return r.Proto }},
	{title: "PORT", right: true, text: func(r *report.Service, _ *Options) string { return strconv.Itoa(int(r.Port)) }},
	{title: "APP", text: func(r *report.Service, _ *Options) string { return r.App }},
	{title: "PEERS", right: true, text: func(r *report.Service, _ *Options) string { return Count(r.Peers) }},
	{title: "BYTES", right: true, text: func(r *report.Service, _ *Options) string { return Bytes(r.Octets) }},
	{title: "BEFORE", right: true, text: func(r *report.Service, _ *Options) string { return Bytes(r.OctetsBefore) }},
	{title: "", text: func(r *report.Service, _ *Options) string { return r.State }},
}

var placeFields = []field[report.Placement]{
	{title: "HOST", text: func(r *report.Placement, _ *Options) string { return r.Host }},
	{title: "SEGMENT", text: func(r *report.Placement, _ *Options) string { return r.Segment }},
	{title: "ADDRESS", text: func(r *report.Placement, _ *Options) string { return r.Addr }},
	{title: "NAME", text: func(r *report.Placement, _ *Options) string { return r.Name }},
	{title: "FIRST SEEN", text: func(r *report.Placement, o *Options) string { return o.clock(r.FirstSeen) }},
	{title: "LAST SEEN", text: func(r *report.Placement, o *Options) string { return o.clock(r.LastSeen) }},
}

var changeFields = []field[report.Change]{
	{title: "AT", text: func(r *report.Change, o *Options) string { return o.clock(r.At) }},
	{title: "CHANGE", text: func(r *report.Change, _ *Options) string { return strings.ReplaceAll(r.Kind, "_", " ") }},
	{title: "", text: func(r *report.Change, _ *Options) string { return r.Text }},
}

// vmPage writes the page of a machine in sections.
func vmPage(w io.Writer, p *report.VMPage, o *Options) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name, strings.Map(printable, fmt.Sprintf(format, args...)))
	}
	approx := func(s report.Side) string {
		if s.OctetsError > 0 {
			return "~" + Bytes(s.Octets)
		}
		return Bytes(s.Octets)
	}
	line("Machine", "%s", strings.TrimSpace(p.Name+" "+p.ID))
	line("Tenant", "%s", strings.Join(p.Tenants, ", "))
	line("Segments", "%s", strings.Join(p.Segments, ", "))
	line("Addresses", "%s", strings.Join(p.Addrs, ", "))
	line("Host", "%s", p.Host)
	line("Sent", "%s, %s packets (before: %s)", approx(p.Sent), Count(p.Sent.Packets), approx(p.SentBefore))
	line("Received", "%s, %s packets (before: %s)", approx(p.Received), Count(p.Received.Packets), approx(p.ReceivedBefore))
	line("East-west", "%s, of it %s inside its host; north-south %s", Bytes(p.EastWest), Bytes(p.SameHost), Bytes(p.NorthSouth))
	line("TCP", "%s, %s", Plural(p.Retransmits, "retransmission"), Plural(p.ZeroWindows, "closed window"))
	line("By "+Span(time.Duration(p.StepMS)*time.Millisecond), "%s", bars(p))
	for _, section := range []func() error{
		func() error { return part(w, "Peers", p.Peers, peerFields, o) },
		func() error { return part(w, "Serves", p.Served, serviceFields, o) },
		func() error { return part(w, "Uses", p.Used, serviceFields, o) },
		func() error { return part(w, "Places", p.Places, placeFields, o) },
		func() error { return part(w, "Changes", p.Changes, changeFields, o) },
	} {
		if err := section(); err != nil {
			return err
		}
	}
	return nil
}

func part[T any](w io.Writer, title string, rows []T, fields []field[T], o *Options) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n%s\n", title)
	return write(w, rows, fields, o)
}

// bars draws what was sent and received in each step.
func bars(p *report.VMPage) string {
	const heights = "▁▂▃▄▅▆▇█"
	var most uint64
	for i := range p.SentSeries {
		most = max(most, p.SentSeries[i]+p.ReceivedSeries[i])
	}
	var b strings.Builder
	for i := range p.SentSeries {
		n := p.SentSeries[i] + p.ReceivedSeries[i]
		if n == 0 {
			b.WriteByte(' ')
			continue
		}
		h := int(float64(n) / float64(most) * 7.999)
		b.WriteString(string([]rune(heights)[h]))
	}
	return b.String()
}

var sightFields = []field[report.Sight]{
	{title: "  WAY", text: func(r *report.Sight, _ *Options) string { return "  " + r.Way }},
	{title: "OBSERVER", text: func(r *report.Sight, _ *Options) string { return r.Observer }},
	{title: "ROLE", text: func(r *report.Sight, _ *Options) string { return r.Role }},
	{title: "HOST", text: func(r *report.Sight, _ *Options) string { return r.Host }},
	{title: "PACKETS", right: true, text: func(r *report.Sight, _ *Options) string { return Count(r.Packets) }},
	{title: "BYTES", right: true, text: func(r *report.Sight, _ *Options) string { return Bytes(r.Octets) }},
	{title: "LOST", right: true, text: func(r *report.Sight, _ *Options) string {
		if r.LostRatio == nil {
			return ""
		}
		return fmt.Sprintf("%d (%s)", r.Lost, Percent(*r.LostRatio))
	}},
	{title: "RETRANSMITS", right: true, wide: true, text: func(r *report.Sight, _ *Options) string { return Count(r.Retransmits) }},
	{title: "COUNTED", text: func(r *report.Sight, _ *Options) string { return yes(r.Canonical) }},
}

// sights writes each conversation with what every observer saw under it.
func sights(w io.Writer, a *report.Observers, o *Options) error {
	for i := range a.Rows {
		r := &a.Rows[i]
		head := fmt.Sprintf("%s  %s > %s  %s %s  %s", r.Segment, socket(r.SrcVM, r.SrcAddr, r.SrcPort, o), socket(r.DstVM, r.DstAddr, r.DstPort, o), r.Proto, r.App, Bytes(r.Octets))
		if r.Loss != "" {
			head += "  lost: " + r.Loss
		}
		if _, err := fmt.Fprintln(w, strings.Map(printable, head)); err != nil {
			return err
		}
		if err := write(w, r.Sights, sightFields, o); err != nil {
			return err
		}
	}
	return nil
}
