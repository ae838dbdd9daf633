package report_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
)

var hour = report.Query{Since: t0, Until: t0.Add(time.Hour)}

// TestObserversLocateLoss: three observers of one way, of which the last missed packets.
func TestObserversLocateLoss(t *testing.T) {
	one := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(10 * time.Second).UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: 40000, DstPort: 443, FlowID: 1,
		Packets: 100, Octets: 10000, Client: flow.ClientSrc, SrcVM: "web-1", DstVM: "db-1", SrcHost: "h1", DstHost: "h2", Fabric: "default", Observer: "web-1 agent", ObserverHost: "h1", Role: flow.RoleVNIC, Marks: flow.MarkCanonical}
	tunnel, port, sampled := one, one, one
	tunnel.Observer, tunnel.Role, tunnel.ObserverID, tunnel.Marks, tunnel.Direction = "h1 tunnel", flow.RoleTunnel, 2, 0, 1
	port.Observer, port.Role, port.ObserverHost, port.ObserverID, port.Marks, port.Packets, port.Octets = "h2 port", flow.RolePort, "h2", 3, 0, 90, 9000
	sampled.Observer, sampled.Role, sampled.ObserverHost, sampled.ObserverID, sampled.Marks, sampled.Sampling, sampled.Packets = "core", flow.RoleUnderlay, "", 4, flow.MarkSampled, 10, 110
	back := one
	back.Src, back.Dst, back.SrcPort, back.DstPort, back.SrcVM, back.DstVM, back.SrcHost, back.DstHost, back.Client, back.FlowID = one.Dst, one.Src, 443, 40000, "db-1", "web-1", "h2", "h1", flow.ClientDst, 2
	got, err := stored(t, []flow.Record{port, tunnel, one, sampled, back}).Observers(t.Context(), hour)
	if err != nil || len(got.Rows) != 1 {
		t.Fatal(err, got.Rows)
	}
	var lines []string
	for _, s := range got.Rows[0].Sights {
		ratio := "-"
		if s.LostRatio != nil {
			ratio = fmt.Sprintf("%.3f", *s.LostRatio)
		}
		lines = append(lines, fmt.Sprint(s.Way, " ", s.Observer, " ", s.Side, " ", s.Packets, " ", s.Lost, " ", ratio))
	}
	compare(t, "sights", lines, []string{"fwd web-1 agent source 100 0 -", "fwd h1 tunnel egress source 100 0 -", "fwd core between 110 -10 -", "fwd h2 port ingress destination 90 20 -",
		"rev web-1 agent destination 100 0 -"})
	if got.Rows[0].Loss != "" { // within the error of sampling
		t.Error(got.Rows[0].Loss)
	}
	got, err = stored(t, []flow.Record{port, tunnel, one, back}).Observers(t.Context(), hour)
	if err != nil || len(got.Rows) != 1 || got.Rows[0].Loss != "10 of 100 packets between h1 tunnel egress and h2 port ingress" {
		t.Errorf("%v %+v", err, got.Rows)
	}
}

// TestCarriers: a pair, the outer flow that carried it and another one, both ways of asking.
func TestCarriers(t *testing.T) {
	v1, v2, v3 := mustAddr("10.200.0.1"), mustAddr("10.200.0.2"), mustAddr("10.200.0.3")
	inner := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(10 * time.Second).UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: 40000, DstPort: 443, FlowID: 1, Packets: 100, Octets: 10000,
		Client: flow.ClientSrc, SrcVM: "web-1", DstVM: "db-1", Fabric: "default", Segment: flow.NewSegment(flow.KindVXLAN, 5001), Tenant: "blue", Observer: "h1 tunnel", Role: flow.RoleTunnel, Marks: flow.MarkCanonical,
		Tunnel: flow.Tunnel{Src: v1, Dst: v2, SrcPort: 50123, DstPort: 4789, Proto: 17, Type: 1}}
	other := inner // another pair, whose outer ports nobody told
	other.FlowID, other.Dst, other.DstVM, other.Tunnel = 2, mustAddr("10.0.0.3"), "mq-1", flow.Tunnel{Src: v1, Dst: v3, Type: 1}
	outer := flow.Record{StartNS: inner.StartNS, EndNS: inner.EndNS, Proto: 17, Src: v1, Dst: v2, SrcPort: 50123, DstPort: 4789, FlowID: 11, Packets: 98, Octets: 14700, Fabric: "default", Observer: "leaf-1", Role: flow.RoleUnderlay,
		Marks: flow.MarkCanonical}
	another, third := outer, outer
	another.FlowID, another.SrcPort = 12, 50999
	third.FlowID, third.Dst, third.Packets, third.SrcPort = 13, v3, 100, 50777
	r := stored(t, []flow.Record{inner, other, outer, another, third})
	f := func(filter string, ask func(context.Context, report.Query) (report.Carriers, error), want ...string) {
		t.Helper()
		q := hour
		q.Filter = filter
		got, err := ask(t.Context(), q)
		if err != nil {
			t.Error(err)
			return
		}
		var lines []string
		for _, c := range got.Rows {
			lost := "-"
			if c.Lost != nil {
				lost = fmt.Sprint(*c.Lost)
			}
			lines = append(lines, fmt.Sprint(c.SrcVTEP, " ", c.DstVTEP, " ", c.OuterSrcPort, " ", c.Match, " ", c.Conversations, " ", c.OverlayPackets, " ", c.ExpectedOctets, " ", c.UnderlayPkts, " ", lost, " ", strings.Join(c.SeenBy, ","), " ",
				strings.Join(c.FlowIDs, ",")))
		}
		slices.Sort(lines)
		compare(t, filter, lines, want)
	}
	f("src.vm = web-1 and dst.vm = db-1", r.Carriers, "10.200.0.1 10.200.0.2 50123 port 1 100 15000 98 - leaf-1 000000000000000b")
	f("", r.Carriers, "10.200.0.1 10.200.0.2 50123 port 1 100 15000 98 2 leaf-1 000000000000000b", "10.200.0.1 10.200.0.3 0 vteps 1 100 15000 100 0 leaf-1 000000000000000d")
	f("dst.ip = 10.200.0.3", r.Carried, "10.200.0.1 10.200.0.3 0 vteps 1 100 15000 100 0 leaf-1 000000000000000d")
	f("port 50123", r.Carried, "10.200.0.1 10.200.0.2 50123 port 1 100 15000 98 2 leaf-1 000000000000000b")
	f("port 50999", r.Carried, "10.200.0.1 10.200.0.2 50999 none 0 0 0 98 - leaf-1 000000000000000c") // seen, with nothing known inside

	// Where no observer stands in the underlay, or nothing is in a tunnel, that is said, and not that something was left out.
	plain := inner
	plain.Tunnel = flow.Tunnel{}
	for _, c := range []struct {
		row  flow.Record
		ask  func(*report.Reports) func(context.Context, report.Query) (report.Carriers, error)
		want string
	}{
		{inner, func(r *report.Reports) func(context.Context, report.Query) (report.Carriers, error) { return r.Carried }, "no_underlay"},
		{plain, func(r *report.Reports) func(context.Context, report.Query) (report.Carriers, error) {
			return r.Carriers
		}, "no_tunnel"},
	} {
		got, err := c.ask(stored(t, []flow.Record{c.row}))(t.Context(), hour)
		if err != nil || got.Meta.Empty == nil || got.Meta.Empty.Cause != c.want {
			t.Errorf("%v %+v, want %s", err, got.Meta.Empty, c.want)
		}
	}

	// Geneve from the same port, and GRE, whose flow has no ports, between the same endpoints: each is carried by its own flow, once.
	geneve, gre := inner, inner
	geneve.FlowID, geneve.Segment, geneve.Packets, geneve.Tunnel = 3, flow.NewSegment(flow.KindGeneve, 5002), 50, flow.Tunnel{Src: v1, Dst: v2, SrcPort: 50123, DstPort: 6081, Type: 7} // as Open vSwitch tells it
	gre.FlowID, gre.Segment, gre.Packets, gre.Tunnel = 4, flow.NewSegment(flow.KindGRE, 5003), 20, flow.Tunnel{Src: v1, Dst: v2, Proto: 47, Type: 2}
	carries, greFlow := outer, outer
	carries.FlowID, carries.DstPort, carries.Packets = 14, 6081, 49
	greFlow.FlowID, greFlow.SrcPort, greFlow.DstPort, greFlow.Proto, greFlow.Packets = 15, 0, 0, 47, 20
	r = stored(t, []flow.Record{inner, geneve, gre, outer, another, carries, greFlow})
	f("", r.Carriers, "10.200.0.1 10.200.0.2 0 port 1 20 10840 20 0 leaf-1 000000000000000f", "10.200.0.1 10.200.0.2 50123 port 1 100 15000 98 2 leaf-1 000000000000000b",
		"10.200.0.1 10.200.0.2 50123 port 1 50 12500 49 1 leaf-1 000000000000000e")
}

// counters is a source of fixed counters.
type counters []report.Counted

func (counters) Source() string { return "sflow" }
func (c counters) Counters(context.Context, time.Time, time.Time) ([]report.Counted, error) {
	return c, nil
}

// TestCoverage: what has no counter is not known; what has one is compared, with the reasons that are known.
func TestCoverage(t *testing.T) {
	one := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(time.Second).UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: 40000, DstPort: 443, FlowID: 1, Packets: 10, Octets: 1000, L2Octets: 1140,
		Client: flow.ClientSrc, SrcVM: "web-1", DstVM: "db-1", SrcVMID: "id-1", SrcHost: "h1", DstHost: "h2", Fabric: "default", Marks: flow.MarkCanonical}
	r := stored(t, []flow.Record{one})
	got, err := r.Coverage(t.Context(), hour)
	if err != nil || got.Ratio != nil || got.Reason != "unknown: no vNIC counters from any source" || len(got.Rows) != 2 || got.Rows[0].Ratio != nil || got.Observed != 2280 {
		t.Errorf("%v %+v", err, got)
	}
	r.SetCounters(counters{{Host: "h1", VM: "web-1", OctetsSent: 1200, OctetsReceived: 1080, Port: "vnet1"}, {Host: "h3", VM: "mq-1", VMID: "id-9", OctetsSent: 50}})
	got, err = r.Coverage(t.Context(), hour)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, row := range got.Rows {
		counted, ratio := "-", "-"
		if row.Counted != nil {
			counted, ratio = fmt.Sprint(*row.Counted), fmt.Sprint(*row.Ratio)
		}
		lines = append(lines, fmt.Sprint(row.Host, " ", row.VM, " ", row.VMID, " ", counted, " ", row.Observed, " ", ratio, " ", strings.Join(row.Reasons, ",")))
	}
	compare(t, "rows", lines, []string{"h1 web-1 id-1 2280 1140 0.5 unknown", "h3 mq-1 id-9 50 0 0 no tap", "h2 db-1  - 1140 - unknown: no counter of this machine"})
	if got.Source != "sflow" || *got.Counted != 2330 || *got.Ratio != 1140.0/2330 || got.Reason != "of 2 of 3 machines or hosts; the others have no counter" {
		t.Errorf("%+v", got)
	}
	// What one machine has above its counter does not hide what another lacks.
	r.SetCounters(counters{{Host: "h1", VM: "web-1", OctetsSent: 1000}, {Host: "h2", VM: "db-1", OctetsSent: 1300}})
	if got, err := r.Coverage(t.Context(), hour); err != nil || *got.Ratio != 2140.0/2300 || *got.Rows[0].Ratio != 1140.0/1300 || *got.Rows[1].Ratio != 1.14 {
		t.Errorf("%v %+v", err, got)
	}
	r.SetCounters(counters{{Host: "h1", VM: "web-1", OctetsSent: 1200, OctetsReceived: 1080, Port: "vnet1"}, {Host: "h3", VM: "mq-1", VMID: "id-9", OctetsSent: 50}})
	// The first page says the same, and nothing of what counters cannot tell.
	shows := func(q report.Query, ratio *float64, reason string) {
		t.Helper()
		o, err := r.Overview(t.Context(), q)
		if err != nil || (ratio == nil) != (o.CoverageRatio == nil) || ratio != nil && *ratio != *o.CoverageRatio || o.CoverageReason != reason {
			t.Errorf("first page: %v, ratio %v, %q; want %v, %q", err, o.CoverageRatio, o.CoverageReason, ratio, reason)
		}
	}
	shows(hour, got.Ratio, got.Reason)
	filtered := hour
	filtered.Filter = "vm = web-1"
	shows(filtered, nil, "unknown: not with a filter, as counters tell no flows apart")
	r.SetCounters(counters{})
	shows(hour, nil, "unknown: no vNIC counters from sflow in the range")
	later := func(min, max int) report.Counted {
		return report.Counted{Host: "h1", VM: "web-1", OctetsSent: 1140, From: t0.Add(time.Duration(min) * time.Minute), To: t0.Add(time.Duration(max) * time.Minute)}
	}
	f := func(min, max int, observed uint64, notes ...string) {
		t.Helper()
		r.SetCounters(counters{later(min, max)})
		got, err := r.Coverage(t.Context(), hour)
		if err != nil || got.Observed != observed || *got.Counted != 1140 {
			t.Errorf("counted from minute %d to %d: %v %+v, want %d observed", min, max, err, got, observed)
		}
		compare(t, "notes", got.Meta.Notes, append([]string{}, notes...))
	}
	f(-10, 70, 2280)
	f(0, 59, 2280)
	f(30, 50, 0, "counters of the range are known from 2026-11-21T10:30:00Z to 2026-11-21T10:50:00Z: flows of that time are compared")
}

// TestCoverageOfLateCounters has the counters of a machine begin later than those of the other: each is compared with the flows of its own time.
func TestCoverageOfLateCounters(t *testing.T) {
	early := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(time.Second).UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: 40000, DstPort: 443, FlowID: 1, Packets: 10, Octets: 1000, L2Octets: 1140,
		Client: flow.ClientSrc, SrcVM: "web-1", DstVM: "db-1", SrcVMID: "id-1", SrcHost: "h1", DstHost: "h2", Fabric: "default", Marks: flow.MarkCanonical}
	late := early
	late.FlowID, late.SrcPort, late.StartNS, late.EndNS = 2, 40001, t0.Add(40*time.Minute).UnixNano(), t0.Add(41*time.Minute).UnixNano()
	r := stored(t, []flow.Record{early, late})
	of := func(host, vm string, octets uint64, from, to time.Duration) report.Counted {
		return report.Counted{Host: host, VM: vm, OctetsSent: octets, From: t0.Add(from), To: t0.Add(to)}
	}
	f := func(by string, want []string, counted ...report.Counted) {
		t.Helper()
		r.SetCounters(counters(counted))
		q := hour
		q.By = []string{by}
		got, err := r.Coverage(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, row := range got.Rows {
			lines = append(lines, fmt.Sprint(row.Host, " ", row.VM, " ", *row.Counted, " ", row.Observed, " ", *row.Ratio, " ", strings.Join(row.Reasons, ",")))
		}
		compare(t, "rows", lines, want)
	}
	f("vm", []string{"h1 web-1 2280 2280 1 ", "h2 db-1 1140 1140 1 "}, of("h1", "web-1", 2280, 0, time.Hour), of("h2", "db-1", 1140, 30*time.Minute, time.Hour))
	f("host", []string{"h1  2280 2280 1 ", "h2  1140 1140 1 "}, of("h1", "web-1", 2280, 0, time.Hour), of("h2", "db-1", 1140, 30*time.Minute, time.Hour))
	// It moved: the counters of both places are of the whole time together.
	f("vm", []string{"h1 web-1 2280 2280 1 ", "h2 db-1 2280 2280 1 "}, of("h1", "web-1", 2280, 0, time.Hour), of("h2", "db-1", 1140, 30*time.Minute, time.Hour), of("h1", "db-1", 1140, 0, 30*time.Minute))
	f("vm", []string{"h2 db-1 1140 0 0 no tap", "h1 web-1 2280 2280 1 "}, of("h1", "web-1", 2280, 0, time.Hour), of("h2", "db-1", 1140, 10*time.Minute, 30*time.Minute))
}

// TestCoverageOfManyTimes has the counters of more machines begin each at a time of its own than the store is asked for: the others' rows say so.
func TestCoverageOfManyTimes(t *testing.T) {
	const machines = 12
	var all []flow.Record
	var counted counters
	for i := range machines {
		all = append(all, flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(time.Second).UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: uint16(i + 1), DstPort: 443, FlowID: uint64(i + 1),
			Packets: 10, Octets: 1000, L2Octets: 1140, SrcVM: fmt.Sprintf("vm-%02d", i), SrcHost: "h1", Fabric: "default", Marks: flow.MarkCanonical})
		counted = append(counted, report.Counted{Host: "h1", VM: all[i].SrcVM, OctetsSent: 1140, From: t0.Add(time.Duration(i) * 3 * time.Minute), To: t0.Add(time.Hour)})
	}
	r := stored(t, all)
	r.SetCounters(counted)
	got, err := r.Coverage(t.Context(), hour)
	if err != nil || len(got.Rows) != machines {
		t.Fatal(err, got)
	}
	whole, own, told := 0, 0, 0
	for _, row := range got.Rows {
		switch {
		case slices.Contains(row.Reasons, "its counters are of a shorter time than the flows compared"):
			told++
		case row.Observed == 0:
			own++
		default:
			whole++
		}
	}
	if whole != 1 || own != 8 || told != 3 {
		t.Errorf("%d of the whole time, %d of their own, %d told: want 1, 8 and 3", whole, own, told)
	}
}

// TestTopByObserver: each observer counts what it saw, a flow that it saw in both directions once, and each has its own list.
func TestTopByObserver(t *testing.T) {
	one := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(time.Second).UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: 40000, DstPort: 443, FlowID: 1, Packets: 10, Octets: 1000, Client: flow.ClientSrc,
		SrcVM: "web-1", DstVM: "db-1", Fabric: "default", Observer: "h1 switch", Role: flow.RolePort, Marks: flow.MarkCanonical}
	out, far, small := one, one, one
	out.Direction, out.Marks, out.Octets, out.ObserverID = 1, 0, 900, 2
	far.Observer, far.Marks, far.ObserverID = "h2 switch", 0, 3
	small.FlowID, small.DstPort, small.Octets, small.SrcVM = 2, 53, 10, "mq-1"
	q := hour
	q.By, q.Per, q.Limit, q.Period = []string{"src.vm"}, []string{"observer"}, 1, 30*time.Minute
	got, err := stored(t, []flow.Record{one, out, far, small}).Top(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range got.Rows {
		lines = append(lines, fmt.Sprintf("%s %s %d %.3f", r.Period.Format("15:04"), strings.Join(r.Key, "|"), r.Octets, r.Share))
	}
	compare(t, "rows", lines, []string{"10:00 h1 switch|web-1 1000 0.990", "10:00 h2 switch|web-1 1000 1.000"})
	q.Having = "bytes < 500"
	if got, err = stored(t, []flow.Record{one, small}).Top(t.Context(), q); err != nil || len(got.Rows) != 1 || got.Rows[0].Key[1] != "mq-1" {
		t.Errorf("%v %+v", err, got.Rows)
	}
}

// TestMapBaseline: new, gone and steady edges; a focus; members of a group.
func TestMapBaseline(t *testing.T) {
	rec := func(minute int, src, dst string, port uint16, id uint64) flow.Record {
		at := t0.Add(time.Duration(minute) * time.Minute).UnixNano()
		return flow.Record{StartNS: at, EndNS: at, Proto: 6, Src: mustAddr("10.0.0." + fmt.Sprint(id)), Dst: mustAddr("10.0.1." + fmt.Sprint(id)), SrcPort: 40000, DstPort: port, FlowID: id, Packets: 1, Octets: 100 * id, Client: flow.ClientSrc,
			SrcVM: src, DstVM: dst, Fabric: "default", Tenant: "blue", Marks: flow.MarkCanonical}
	}
	r := stored(t, []flow.Record{rec(5, "web-1", "db-1", 5432, 1), rec(59, "web-1", "db-1", 5432, 1), rec(6, "web-1", "old-1", 80, 2), rec(58, "web-2", "mq-1", 5672, 3), rec(58, "mq-1", "db-1", 5432, 4)})
	q := report.Query{Since: t0.Add(30 * time.Minute), Until: t0.Add(time.Hour), BaseSince: t0, BaseUntil: t0.Add(30 * time.Minute)}
	f := func(q report.Query, want ...string) {
		t.Helper()
		got, err := r.Map(t.Context(), q)
		if err != nil {
			t.Error(err)
			return
		}
		var lines []string
		for _, e := range got.Edges {
			lines = append(lines, fmt.Sprint(e.Src, " > ", e.Dst, " ", e.State, " ", e.NewLinks, " ", e.GoneLinks))
		}
		slices.Sort(lines)
		compare(t, "edges", lines, want)
		for _, n := range got.Nodes {
			if n.X <= 0 || n.Y <= 0 || n.X > got.Width || n.Y > got.Height {
				t.Errorf("%s lies at %d, %d of %d × %d", n.ID, n.X, n.Y, got.Width, got.Height)
			}
		}
	}
	f(report.Query{Since: q.Since, Until: q.Until}, "blue/mq > blue/db active 0 0", "blue/web > blue/db active 0 0", "blue/web > blue/mq active 0 0")
	f(q, "blue/mq > blue/db new 1 0", "blue/web > blue/db active 0 0", "blue/web > blue/mq new 1 0", "blue/web > blue/old gone 0 1")
	q.Focus = "blue/mq"
	f(q, "blue/mq > blue/db new 1 0", "blue/web > blue/db active 0 0", "blue/web > blue/mq new 1 0")
	q.Focus, q.Expand = "", []string{"blue/web"}
	f(q, "blue/mq > blue/db new 1 0", "blue/web/web-1 > blue/db active 0 0", "blue/web/web-1 > blue/old gone 0 1", "blue/web/web-2 > blue/mq new 1 0")
	q.Focus = "blue/web" // its members
	f(q, "blue/mq > blue/db new 1 0", "blue/web/web-1 > blue/db active 0 0", "blue/web/web-1 > blue/old gone 0 1", "blue/web/web-2 > blue/mq new 1 0")
	for _, name := range []string{"web-2", "blue/web/web-2"} { // a member
		q.Focus = name
		f(q, "blue/web/web-2 > blue/mq new 1 0")
	}
	for name, hint := range map[string]string{
		"blue/mqq": `; did you mean "blue/mq"?`, "mq": `; did you mean "blue/mq"?`, "web-3": `; did you mean "web-1"?`, "elsewhere": "; machines are nodes when their group is expanded",
	} {
		q.Focus = name
		f(q)
		if got, err := r.Map(t.Context(), q); err != nil || !slices.Contains(got.Meta.Notes, `nothing named "`+name+`" talks in the range`+hint) || got.Meta.Empty != nil {
			t.Errorf("%v %+v", err, got.Meta)
		}
	}
	q.Focus, q.Expand = "", []string{"blue/web", "blue/mg"}
	if got, err := r.Map(t.Context(), q); err != nil || !slices.Contains(got.Meta.Notes, `no group "blue/mg" talks in the range; did you mean "blue/mq"?`) || strings.Contains(fmt.Sprint(got.Meta.Notes), `"blue/web"`) {
		t.Errorf("%v %+v", err, got.Meta.Notes)
	}
	q.Focus, q.Expand = "blue/mq", []string{"blue/web"}
	if got, err := r.Map(t.Context(), q); err != nil || got.Meta.Total.Rows != 2 {
		t.Errorf("%v %+v", err, got.Meta.Total)
	}
	q.Focus = ""
	cross := rec(10, "web-1", "db-1", 5432, 9)
	cross.SrcTenant, cross.DstTenant = "blue", "red"
	for _, resolution := range []string{"raw", "1h"} {
		across := hour
		across.Resolution, across.Filter = resolution, "src.tenant != dst.tenant"
		if got, err := stored(t, []flow.Record{cross}).Map(t.Context(), across); err != nil || len(got.Edges) != 1 || got.Edges[0].Dst != "red/db" || !got.Edges[0].CrossTenant {
			t.Errorf("%s: %v %+v", resolution, err, got.Edges)
		}
	}
	q.BaseUntil = t0.Add(40 * time.Minute)
	if _, err := r.Map(t.Context(), q); err == nil || !strings.HasPrefix(err.Error(), "query: base: the period to compare with reaches into the range") {
		t.Error(err)
	}
}

// TestVMByNameAndAddress: a machine is found by what is known of it; what several go by is a mistake.
func TestVMByNameAndAddress(t *testing.T) {
	one := flow.Record{StartNS: t0.UnixNano(), EndNS: t0.Add(time.Minute).UnixNano(), Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.9.9.9"), SrcPort: 40000, DstPort: 443, FlowID: 1, Packets: 1, Octets: 100, Client: flow.ClientSrc,
		SrcVM: "web-1", SrcVMID: "id-1", SrcHost: "h1", Fabric: "default", Marks: flow.MarkCanonical}
	moved, twin := one, one
	moved.EndNS, moved.SrcHost = t0.Add(50*time.Minute).UnixNano(), "h2"
	twin.SrcVMID, twin.Src, twin.FlowID = "id-2", mustAddr("10.0.0.7"), 2
	f := func(name, want string, recs ...flow.Record) report.VMPage {
		t.Helper()
		q := hour
		q.Name = name
		got, err := stored(t, recs).VM(t.Context(), q)
		text := fmt.Sprint(got.Name, " ", got.ID, " ", got.Host, " ", got.Sent.Octets, " ", got.Received.Octets)
		if err != nil {
			text = err.Error()
		}
		if !strings.HasPrefix(text, want) {
			t.Errorf("%s: %s, want %s", name, text, want)
		}
		return got
	}
	page := f("web-1", "web-1 id-1 h2 200 0", one, moved)
	if len(page.Changes) == 0 || !slices.ContainsFunc(page.Changes, func(c report.Change) bool { return c.Kind == "moved" && c.Text == "from h1 to h2" }) {
		t.Errorf("%+v", page.Changes)
	}
	f("id-1", "web-1 id-1 h2 200 0", one, moved)
	f("10.0.0.1", "web-1 id-1 h2 200 0", one, moved)
	f("10.9.9.9", "10.9.9.9   0 100", one)
	f("web-1", `query: name: 2 machines go by "web-1"; name one by its id: `, one, twin)
	if page := f("nobody", "   0 0", one); page.Meta.Empty == nil || page.Meta.Empty.Cause != "unknown_machine" {
		t.Errorf("%+v", page.Meta.Empty)
	}
}

// TestSeriesPrevious: the period before stands beside each line.
func TestSeriesPrevious(t *testing.T) {
	rec := func(minute int, tenant string, octets uint64) flow.Record {
		at := t0.Add(time.Duration(minute) * time.Minute).UnixNano()
		return flow.Record{StartNS: at, EndNS: at, Proto: 6, Src: mustAddr("10.0.0.1"), Dst: mustAddr("10.0.0.2"), SrcPort: 4, DstPort: 3, FlowID: uint64(minute + 1), Packets: 1, Octets: octets, Fabric: "default", Tenant: tenant, Marks: flow.MarkCanonical}
	}
	r := stored(t, []flow.Record{rec(5, "blue", 600), rec(35, "blue", 1200), rec(36, "red", 60), rec(6, "green", 60)})
	got, err := r.Series(t.Context(), report.Query{Since: t0.Add(30 * time.Minute), Until: t0.Add(time.Hour), By: []string{"tenant"}, Step: 10 * time.Minute, Previous: true})
	if err != nil || len(got.Lines) != 2 || *got.Lines[0].PreviousTotal != 600 || *got.Lines[1].PreviousTotal != 0 || got.Lines[0].Previous[0] != 8 || !got.PreviousSince.Equal(t0) {
		t.Errorf("%v %+v", err, got)
	}
}
