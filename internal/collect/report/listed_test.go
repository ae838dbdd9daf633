package report_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
)

// allQueries reports whether all questions are asked, not a sample of each kind.
func allQueries() bool { return os.Getenv("CROSSTAP_ALL_QUERIES") != "" }

// listedRecords are random records as a collector stores them: an unknown client is only left where the ports are equal.
func listedRecords() []flow.Record { return listedRecordsOf(11, 250) }

func listedRecordsOf(seed uint64, n int) []flow.Record {
	recs := lab(seed, n)
	for i := range recs {
		r := &recs[i]
		if r.Client == flow.ClientUnknown && r.SrcPort != r.DstPort {
			r.Client = flow.ClientSrc
			if r.SrcPort < r.DstPort {
				r.Client = flow.ClientDst
			}
		}
		r.MaxLen, r.Retransmits, r.Fragments = uint16(r.Octets/r.Packets), uint32(r.Packets%3), uint32(r.Octets%2)
	}
	return recs
}

// facts are the canonical rows of a range with what is known filled in, and whether each goes from the server to the client.
type facts struct {
	rows  []flow.Record
	turns []bool
	all   []flow.Record // of the period before too, for pages
}

func turnOf(r *flow.Record) bool {
	switch {
	case r.Client == flow.ClientSrc:
		return false
	case r.Client == flow.ClientDst:
		return true
	case r.SrcPort != r.DstPort:
		return r.SrcPort < r.DstPort
	}
	return swapped(r)
}

func factsOf(recs []flow.Record, q report.Query) facts {
	var f facts
	in := logical(recs, q, nil, endsIn(q))
	f.all = recs
	old := map[pairKey]bool{}
	if strings.HasPrefix(q.Filter, "new") {
		before := report.Query{Since: t0.Add(-time.Hour), Until: q.Until.Add(-20 * time.Minute)}
		for _, r := range logical(recs, before, nil, endsIn(before)) {
			if canon(&r) {
				old[workloads(r)] = true
			}
		}
	}
	for _, r := range in {
		client := r
		if turnOf(&r) {
			client = turned(r)
		}
		keep, known := map[string]bool{"": true, "vni = 5001": r.Segment.Number() == 5001, "dst.port = 5432": client.DstPort == 5432,
			"src.vm like \"web%\" and not tenant = red": strings.HasPrefix(client.SrcVM, "web") && r.Tenant != "red", "new within 20m": !old[workloads(r)]}[q.Filter]
		if !known {
			panic("the oracle does not know " + q.Filter)
		}
		if canon(&r) && keep {
			f.rows, f.turns = append(f.rows, r), append(f.turns, turnOf(&r))
		}
	}
	return f
}

// workloads is the key of a pair, whichever way a row goes.
func workloads(r flow.Record) pairKey {
	k := pairKey{fabric: r.Fabric, seg: r.Segment, a: r.Src, b: r.Dst, aWho: who(r.SrcVM, r.SrcVMID), bWho: who(r.DstVM, r.DstVMID)}
	if cmp.Or(slices.Compare(k.a[:], k.b[:]), strings.Compare(k.aWho, k.bWho)) > 0 {
		k.a, k.b, k.aWho, k.bWho = k.b, k.a, k.bWho, k.aWho
	}
	return k
}

// each calls see with each fact as from the client to the server.
func (f facts) each(see func(r flow.Record, turn bool)) {
	for i, r := range f.rows {
		if f.turns[i] {
			r = turned(r)
		}
		see(r, f.turns[i])
	}
}

// sorted gives lines in order: what does not depend on an order is compared without.
func sorted(m map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+" = "+m[k])
	}
	return out
}

func shownTop(a report.Top) any {
	out := map[string]string{}
	for _, row := range a.Rows {
		sent := uint64(0)
		if row.OctetsSent != nil {
			sent = *row.OctetsSent
		}
		out[strings.Join(row.Key, "|")] = fmt.Sprint(row.Octets, sent, row.Packets, row.Rows, row.Retransmits, row.Fragments, row.L2Octets, row.FirstSeen, row.LastSeen)
	}
	return sorted(out)
}

// tally adds up rows.
type tally struct {
	octets, sent, packets, rows, retransmits, fragments, l2 uint64
	first, last                                             int64
}

func (t *tally) add(r *flow.Record, sends bool) {
	if t.rows == 0 || r.StartNS < t.first {
		t.first = r.StartNS
	}
	t.last = max(t.last, r.EndNS)
	t.octets, t.packets, t.rows, t.l2 = t.octets+r.Octets, t.packets+r.Packets, t.rows+1, t.l2+r.L2Octets
	t.retransmits, t.fragments = t.retransmits+uint64(r.Retransmits), t.fragments+uint64(r.Fragments)
	if sends {
		t.sent += r.Octets
	}
}

func at(ns int64) time.Time { return time.UnixMilli(ms(ns)).UTC() }

func wantTop(f facts, q report.Query) any {
	sums := map[string]*tally{}
	add := func(key string, r *flow.Record, sends bool) {
		if sums[key] == nil {
			sums[key] = &tally{}
		}
		sums[key].add(r, sends)
	}
	f.each(func(r flow.Record, turn bool) {
		switch q.By[0] {
		case "src.vm":
			add(fmt.Sprintf("%s|%d", r.SrcVM, r.DstPort), &r, false)
		case "tenant":
			add(r.Tenant+"|"+r.App, &r, false)
		case "vm":
			add(r.SrcVM, &r, !turn)
			if r.SrcVM != r.DstVM {
				add(r.DstVM, &r, turn)
			} else if turn {
				sums[r.SrcVM].sent += r.Octets // who sent stands for both
			}
		}
	})
	out := map[string]string{}
	for k, t := range sums {
		out[k] = fmt.Sprint(t.octets, t.sent, t.packets, t.rows, t.retransmits, t.fragments, t.l2, at(t.first), at(t.last))
	}
	return sorted(out)
}

func shownThings(a report.Things) any {
	out := map[string]string{}
	for _, row := range a.Rows {
		out[row.Fabric+" "+cmp.Or(row.ID, row.Name)] = fmt.Sprint(row.Tenants, row.Segments, row.Hosts, row.OctetsSent, row.OctetsReceived, row.PacketsSent, row.PacketsReceived, row.Peers, row.FirstSeen, row.LastSeen)
	}
	return sorted(out)
}

func wantThings(kind string) func(f facts, q report.Query) any {
	return func(f facts, _ report.Query) any {
		type thing struct {
			sent, received           tally
			tenants, segments, hosts map[string]bool
			segs                     map[flow.Segment]bool
			peers                    map[string]bool
		}
		things := map[string]*thing{}
		end := func(r flow.Record, sends bool) { // r as from the thing
			key := map[string]string{"vms": who(r.SrcVM, r.SrcVMID), "hosts": r.SrcHost, "apps": r.App}[kind]
			if key == "" {
				return
			}
			t := things[r.Fabric+" "+key]
			if t == nil {
				t = &thing{tenants: map[string]bool{}, segments: map[string]bool{}, hosts: map[string]bool{}, peers: map[string]bool{}, segs: map[flow.Segment]bool{}}
				things[r.Fabric+" "+key] = t
			}
			if sends {
				t.sent.add(&r, true)
			} else {
				t.received.add(&r, false)
			}
			if r.Tenant != "" {
				t.tenants[r.Tenant] = true
			}
			if r.SrcHost != "" {
				t.hosts[r.SrcHost] = true
			}
			if r.Segment != 0 {
				t.segs[r.Segment] = true
			}
			t.peers[fmt.Sprint(r.Fabric, r.Segment, r.Dst, who(r.DstVM, r.DstVMID))] = true
		}
		for i, r := range f.rows {
			if kind == "apps" { // the client's side
				if f.turns[i] {
					end(turned(r), false)
				} else {
					end(r, true)
				}
				continue
			}
			end(r, true)
			end(turned(r), false)
		}
		out := map[string]string{}
		for k, t := range things {
			segments := []string{}
			for _, s := range slices.Sorted(maps.Keys(t.segs)) {
				segments = append(segments, segText(s))
			}
			first := t.sent.first
			if t.sent.rows == 0 || t.received.rows > 0 && t.received.first < first {
				first = t.received.first
			}
			out[k] = fmt.Sprint(slices.Sorted(maps.Keys(t.tenants)), segments, slices.Sorted(maps.Keys(t.hosts)), t.sent.octets, t.received.octets, t.sent.packets, t.received.packets, len(t.peers),
				at(first), at(max(t.sent.last, t.received.last)))
		}
		return sorted(out)
	}
}

func shownNetworks(a report.Networks) any {
	out := map[string]string{}
	for _, n := range a.Rows {
		out[n.Fabric+" "+n.Segment] = fmt.Sprint(n.VMs, n.UnknownAddrs, n.Pairs, n.Octets, n.Packets, n.OctetsSameHost, n.MaxPacket, n.Fragments, n.Hosts, n.FirstSeen, n.LastSeen)
	}
	return sorted(out)
}

func wantNetworks(f facts, _ report.Query) any {
	type network struct {
		tally
		vms, unknown, hosts map[string]bool
		pairs               map[pairKey]bool
		same, longest       uint64
	}
	networks := map[string]*network{}
	for _, r := range f.rows {
		key := r.Fabric + " " + segText(r.Segment)
		n := networks[key]
		if n == nil {
			n = &network{vms: map[string]bool{}, unknown: map[string]bool{}, hosts: map[string]bool{}, pairs: map[pairKey]bool{}}
			networks[key] = n
		}
		n.add(&r, false)
		n.pairs[workloads(r)] = true
		n.longest = max(n.longest, uint64(r.MaxLen))
		if r.SrcHost == r.DstHost && r.SrcHost != "" {
			n.same += r.Octets
		}
		for _, e := range []flow.Record{r, turned(r)} {
			if w := who(e.SrcVM, e.SrcVMID); w != "" {
				n.vms[w] = true
			} else {
				n.unknown[e.Src.String()] = true
			}
			if e.SrcHost != "" {
				n.hosts[e.SrcHost] = true
			}
		}
	}
	out := map[string]string{}
	for k, n := range networks {
		out[k] = fmt.Sprint(len(n.vms), len(n.unknown), len(n.pairs), n.octets, n.packets, n.same, n.longest, n.fragments, slices.Sorted(maps.Keys(n.hosts)), at(n.first), at(n.last))
	}
	return sorted(out)
}

func shownAllow(a report.AllowList) any {
	out := map[string]string{}
	for _, n := range a.Rows {
		out[fmt.Sprint(n.Fabric, n.Segment, n.Tenant, n.SrcAddr, n.DstAddr, n.Proto, n.Port)] = fmt.Sprint(n.Octets, n.Packets, n.FirstSeen, n.LastSeen)
	}
	return sorted(out)
}

func wantAllow(f facts, _ report.Query) any {
	sums := map[string]*tally{}
	f.each(func(r flow.Record, _ bool) {
		key := fmt.Sprint(r.Fabric, segText(r.Segment), r.Tenant, r.Src.String(), r.Dst.String(), map[uint8]string{6: "tcp", 17: "udp", 1: "icmp"}[r.Proto], r.DstPort)
		if sums[key] == nil {
			sums[key] = &tally{}
		}
		sums[key].add(&r, false)
	})
	out := map[string]string{}
	for k, t := range sums {
		out[k] = fmt.Sprint(t.octets, t.packets, at(t.first), at(t.last))
	}
	return sorted(out)
}

func shownMap(a report.Map) any {
	out := map[string]string{}
	for _, e := range a.Edges {
		out[e.Src+" > "+e.Dst] = fmt.Sprint(e.OctetsFwd, e.OctetsRev, e.Packets, e.ServicesTotal, e.FirstSeen, e.LastSeen)
	}
	for _, n := range a.Nodes {
		out[n.ID] = fmt.Sprint(n.Members)
	}
	return sorted(out)
}

func wantMap(f facts, _ report.Query) any {
	type edge struct {
		tally
		rev      uint64
		services map[string]bool
	}
	edges, members := map[string]*edge{}, map[string]map[string]bool{}
	group := func(tenant, vm string) string {
		tier := strings.TrimRight(vm, "-0123456789")
		return cmp.Or(tenant, "~") + "/" + cmp.Or(tier, "~")
	}
	f.each(func(r flow.Record, turn bool) {
		c, s := group(r.Tenant, r.SrcVM), group(r.Tenant, r.DstVM)
		for id, w := range map[string][]string{c: {who(r.SrcVM, r.SrcVMID)}, s: {who(r.DstVM, r.DstVMID)}} {
			if members[id] == nil {
				members[id] = map[string]bool{}
			}
			members[id][w[0]] = true
		}
		members[c][who(r.SrcVM, r.SrcVMID)] = true
		e := edges[c+" > "+s]
		if e == nil {
			e = &edge{services: map[string]bool{}}
			edges[c+" > "+s] = e
		}
		e.add(&r, false)
		if turn {
			e.rev += r.Octets
		}
		e.services[fmt.Sprint(r.Proto, r.DstPort)] = true
	})
	out := map[string]string{}
	for k, e := range edges {
		out[k] = fmt.Sprint(e.octets-e.rev, e.rev, e.packets, len(e.services), at(e.first), at(e.last))
	}
	for k, m := range members {
		out[k] = fmt.Sprint(len(m))
	}
	return sorted(out)
}

func shownVM(a report.VMPage) any {
	out := map[string]string{"sent": fmt.Sprint(a.Sent.Octets, a.Sent.Packets), "received": fmt.Sprint(a.Received.Octets, a.Received.Packets), "east-west": fmt.Sprint(a.EastWest), "same host": fmt.Sprint(a.SameHost)}
	var sent, received uint64
	for i := range a.SentSeries {
		sent, received = sent+a.SentSeries[i], received+a.ReceivedSeries[i]
	}
	out["bars"] = fmt.Sprint(sent, received)
	for _, p := range a.Peers {
		out["peer "+p.Segment+p.Addr+cmp.Or(p.ID, p.Name)] = fmt.Sprint(p.OctetsSent, p.OctetsReceived, p.Packets, p.OctetsBefore, p.State)
	}
	for side, list := range map[string][]report.Service{"serves": a.Served, "uses": a.Used} {
		for _, s := range list {
			out[fmt.Sprint(side, s.Proto, s.Port)] = fmt.Sprint(s.Octets, s.Packets, s.OctetsBefore, s.State)
		}
	}
	return sorted(out)
}

func wantVM(f facts, q report.Query) any {
	type line struct{ sent, received, packets, before, now, was uint64 }
	lines := map[string]*line{}
	var sent, received tally
	var eastWest, same uint64
	see := func(rows facts, cur bool) {
		for i, r := range rows.rows {
			for _, sends := range []bool{true, false} {
				turn := rows.turns[i]
				if !sends {
					r, turn = turned(r), !turn
				}
				if r.SrcVM != q.Name || r.Fabric != "default" {
					continue
				}
				side := "uses"
				if turn {
					side = "serves"
				}
				port := r.DstPort
				if turn {
					port = r.SrcPort
				}
				for _, key := range []string{"peer " + segText(r.Segment) + r.Dst.String() + who(r.DstVM, r.DstVMID), fmt.Sprint(side, map[uint8]string{6: "tcp", 17: "udp", 1: "icmp"}[r.Proto], port)} {
					l := lines[key]
					if l == nil {
						l = &line{}
						lines[key] = l
					}
					switch {
					case !cur:
						l.before, l.was = l.before+r.Octets, l.was+1
					case sends:
						l.sent, l.packets, l.now = l.sent+r.Octets, l.packets+r.Packets, l.now+1
					default:
						l.received, l.packets, l.now = l.received+r.Octets, l.packets+r.Packets, l.now+1
					}
				}
				if !cur {
					continue
				}
				if sends {
					sent.add(&r, true)
				} else {
					received.add(&r, false)
				}
				if r.DstVM != "" || r.DstVMID != "" {
					eastWest += r.Octets
				}
				if r.SrcHost == r.DstHost && r.SrcHost != "" {
					same += r.Octets
				}
			}
		}
	}
	see(f, true)
	before := q
	before.Since, before.Until = q.Since.Add(q.Since.Sub(q.Until)), q.Since
	see(factsOf(f.all, before), false)
	out := map[string]string{"sent": fmt.Sprint(sent.octets, sent.packets), "received": fmt.Sprint(received.octets, received.packets), "east-west": fmt.Sprint(eastWest), "same host": fmt.Sprint(same),
		"bars": fmt.Sprint(sent.octets, received.octets)}
	for k, l := range lines {
		state := ""
		switch {
		case l.now > 0 && l.was == 0:
			state = "new"
		case l.now == 0:
			state = "gone"
		}
		switch {
		case !strings.HasPrefix(k, "peer "):
			out[k] = fmt.Sprint(l.sent+l.received, l.packets, l.before, state)
		case l.now > 0:
			out[k] = fmt.Sprint(l.sent, l.received, l.packets, l.before, state)
		}
	}
	return sorted(out)
}
