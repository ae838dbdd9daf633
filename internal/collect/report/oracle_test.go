package report_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
)

// The oracle answers from records in memory, slowly and obviously.

// lab makes random records: two fabrics and three segments with the same addresses, VMs that move or are renamed, three observers of which one knows the VTEPs,
// one neither segment nor names, and one is sampled; both directions; a canonical row for each flow and interval.
func lab(seed uint64, n int) []flow.Record {
	rnd := rand.New(rand.NewPCG(seed, 1))
	start := t0.UnixMilli()
	var recs []flow.Record
	for range n {
		seg := rnd.IntN(3)
		a, b := rnd.IntN(4), rnd.IntN(4)
		sport, dport := uint16(30000+rnd.IntN(20)), []uint16{443, 5432, 53}[rnd.IntN(3)]
		from := start + rnd.Int64N(3_000_000)
		one := flow.Record{
			StartNS: from * 1e6, EndNS: (from + rnd.Int64N(60_000)*rnd.Int64N(2)) * 1e6, Proto: []uint8{6, 17, 1}[rnd.IntN(3)],
			SrcPort: sport, DstPort: dport, Client: flow.Client(rnd.IntN(3)), Packets: 1 + uint64(rnd.IntN(50)), TCPFlags: uint16(rnd.IntN(64)),
			Fabric: []string{"default", "default", "lab"}[seg], Segment: flow.NewSegment(flow.KindVXLAN, []uint32{5001, 5002, 5001}[seg]),
			Tenant: []string{"blue", "red", ""}[seg], App: map[uint16]string{443: "https", 5432: "postgres"}[dport],
		}
		if one.Proto == 1 {
			one.SrcPort, one.DstPort = 0, 0
		}
		one.Octets = one.Packets * uint64(60+rnd.IntN(1000))
		one.L2Octets = one.Octets + 14*one.Packets
		moved := from > start+1_500_000
		side := func(i int) (flow.Addr, string, string, string, flow.Addr) {
			addr := flow.V4([]byte{10, 0, 0, byte(i + 1)})
			if i == 3 {
				addr = flow.V6([]byte{0xfd, 15: 3})
			}
			host := 1 + i%2
			if moved && i == 2 {
				host = 2
			}
			vm := fmt.Sprintf("%s-%d", []string{"web", "db", "mq", ""}[i], seg)
			if i == 3 {
				vm = "" // unknown to the inventory
			}
			id := ""
			if i == 0 {
				id = fmt.Sprintf("id-%d", seg)
				if moved {
					vm = fmt.Sprintf("www-%d", seg) // renamed
				}
			}
			return addr, vm, id, fmt.Sprintf("h%d", host), flow.V4([]byte{10, 200, 0, byte(host)})
		}
		var vs, vd flow.Addr
		one.Src, one.SrcVM, one.SrcVMID, one.SrcHost, vs = side(a)
		one.Dst, one.DstVM, one.DstVMID, one.DstHost, vd = side(b)
		if rnd.IntN(2) == 0 { // the way back
			one.Src, one.Dst, one.SrcPort, one.DstPort, one.SrcVM, one.DstVM, one.SrcHost, one.DstHost = one.Dst, one.Src, one.DstPort, one.SrcPort, one.DstVM, one.SrcVM, one.DstHost, one.SrcHost
			one.SrcVMID, one.DstVMID = one.DstVMID, one.SrcVMID
			vs, vd = vd, vs
		}
		one.FlowID = hash(fmt.Sprint(one.Fabric, one.Segment, one.Proto, one.Src, one.Dst, one.SrcPort, one.DstPort))
		canonical := rnd.IntN(3)
		for o := range 3 {
			if o != canonical && rnd.IntN(3) == 0 {
				continue
			}
			r := one
			r.Observer, r.ObserverID, r.Domain = []string{"h1 mirror", "tunnel", ""}[o], uint64(o+1), uint32(o)
			r.Role, r.Exporter, r.ObserverHost = []flow.Role{flow.RoleMirror, flow.RoleTunnel, flow.RoleVNIC}[o], flow.V4([]byte{10, 201, 0, byte(o)}), "h1"
			r.RecvNS, r.Direction = r.EndNS+int64(o)*1e6, uint8(o%2)
			switch o {
			case 1:
				r.Tunnel = flow.Tunnel{Src: vs, Dst: vd}
				if one.SrcHost == one.DstHost {
					r.Tunnel = flow.Tunnel{}
				}
				r.Sampling, r.Marks = 10, flow.MarkSampled
			case 2:
				r.Segment, r.Tenant = 0, ""
				if r.SrcVMID == "" || moved { // the old name is not known for sure later
					r.SrcVM, r.SrcVMID = "", ""
				}
			}
			if o == canonical {
				r.Marks |= flow.MarkCanonical
			} else {
				r.Packets += uint64(o)
			}
			if rnd.IntN(20) == 0 {
				r.Marks |= flow.MarkAmbiguous
			}
			recs = append(recs, r)
		}
	}
	return recs
}

func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range []byte(s) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func ms(ns int64) int64 { return ns / 1e6 }

func canon(r *flow.Record) bool { return r.Is(flow.MarkCanonical) }

// known keeps the value of the row that ended last, of equal ones the greater.
type known[T any] struct {
	at int64
	v  T
	ok bool
}

func (k *known[T]) see(at int64, v T, zero bool, less func(a, b T) bool) {
	if !zero && (!k.ok || at > k.at || at == k.at && less(k.v, v)) {
		*k = known[T]{at, v, true}
	}
}

func lessText(a, b string) bool    { return a < b }
func lessAddr(a, b flow.Addr) bool { return bytes.Compare(a[:], b[:]) < 0 }

// vtep is a tunnel endpoint with the host that it was seen for.
type vtep struct {
	addr flow.Addr
	host string
}

func lessVTEP(a, b vtep) bool {
	return cmp.Or(bytes.Compare(a.addr[:], b.addr[:]), strings.Compare(a.host, b.host)) < 0
}

// byEnds makes a filter on one end: keep sees rows from the client to the server, whichever way they went.
func byEnds(keep func(*flow.Record) bool) func([]flow.Record) []flow.Record {
	return func(rows []flow.Record) []flow.Record {
		votes := map[pairKey]int{}
		for _, r := range rows {
			if canon(&r) {
				k, t := conversationOf(r)
				if vote := map[flow.Client]int{flow.ClientSrc: 1, flow.ClientDst: -1}[r.Client]; t {
					votes[k] -= vote
				} else {
					votes[k] += vote
				}
			}
		}
		var out []flow.Record
		for _, r := range rows {
			k, t := conversationOf(r)
			back := t // the lesser end is the client
			switch v := votes[k]; {
			case v != 0:
				back = v > 0 == t
				r.Client = map[bool]flow.Client{false: flow.ClientSrc, true: flow.ClientDst}[back]
			default:
				r.Client = flow.ClientUnknown
				if r.SrcPort != r.DstPort {
					back = r.SrcPort < r.DstPort
				}
			}
			seen := r
			if back {
				seen = turned(r)
			}
			if keep(&seen) {
				out = append(out, r)
			}
		}
		return out
	}
}

// conversationOf gives the key of the row's conversation, and whether it goes from the greater end to the lesser.
func conversationOf(r flow.Record) (pairKey, bool) {
	t := swapped(&r)
	if t {
		r = turned(r)
	}
	return pairKey{r.Fabric, r.Segment, r.Src, r.Dst, who(r.SrcVM, r.SrcVMID), who(r.DstVM, r.DstVMID), r.Proto, r.SrcPort, r.DstPort}, t
}

// named gives rows without a VM the name and id that the latest row of the flow has.
func named(all []flow.Record, of func(*flow.Record) (name, id *string)) {
	var k known[[2]string]
	for i := range all {
		name, id := of(&all[i])
		k.see(ms(all[i].EndNS), [2]string{*name, *id}, *name == "", func(a, b [2]string) bool { return a[0] < b[0] })
	}
	for i := range all {
		if name, id := of(&all[i]); *name == "" {
			*name, *id = k.v[0], k.v[1]
		}
	}
}

// who tells workloads with one address apart.
func who(name, id string) string { return cmp.Or(id, name) }

// logical fills in what other observers know and applies the filter.
func logical(recs []flow.Record, q report.Query, keep func(r *flow.Record, all []flow.Record) bool, inTime func(r *flow.Record) bool) []flow.Record {
	byFlow := map[uint64][]flow.Record{}
	for _, r := range recs {
		if inTime(&r) {
			byFlow[r.FlowID] = append(byFlow[r.FlowID], r)
		}
	}
	var out []flow.Record
	for _, id := range slices.Sorted(maps.Keys(byFlow)) {
		all := byFlow[id]
		var seg known[flow.Segment]
		var vs, vd known[vtep]
		text := func(get func(*flow.Record) *string) {
			var k known[string]
			for i := range all {
				k.see(ms(all[i].EndNS), *get(&all[i]), *get(&all[i]) == "", lessText)
			}
			for i := range all {
				if p := get(&all[i]); *p == "" {
					*p = k.v
				}
			}
		}
		text(func(r *flow.Record) *string { return &r.Tenant })
		named(all, func(r *flow.Record) (name, id *string) { return &r.SrcVM, &r.SrcVMID })
		named(all, func(r *flow.Record) (name, id *string) { return &r.DstVM, &r.DstVMID })
		text(func(r *flow.Record) *string { return &r.Fabric })
		text(func(r *flow.Record) *string { return &r.App })
		for i := range all {
			r := &all[i]
			seg.see(ms(r.EndNS), r.Segment, r.Segment == 0, func(a, b flow.Segment) bool { return a < b })
			vs.see(ms(r.EndNS), vtep{r.Tunnel.Src, r.SrcHost}, r.Tunnel.Src.IsZero(), lessVTEP)
			vd.see(ms(r.EndNS), vtep{r.Tunnel.Dst, r.DstHost}, r.Tunnel.Dst.IsZero(), lessVTEP)
		}
		for i := range all {
			r := &all[i]
			if r.Segment == 0 {
				r.Segment = seg.v
			}
			if r.Tunnel.Src.IsZero() && vs.v.host == r.SrcHost {
				r.Tunnel.Src = vs.v.addr
			}
			if r.Tunnel.Dst.IsZero() && vd.v.host == r.DstHost {
				r.Tunnel.Dst = vd.v.addr
			}
		}
		for i := range all {
			if keep == nil || keep(&all[i], all) {
				out = append(out, all[i])
			}
		}
	}
	return out
}

func endsIn(q report.Query) func(*flow.Record) bool {
	return func(r *flow.Record) bool {
		return ms(r.EndNS) >= q.Since.UnixMilli() && ms(r.EndNS) < q.Until.UnixMilli()
	}
}

// swapped puts the lesser end first.
func swapped(r *flow.Record) bool {
	return cmp.Or(bytes.Compare(r.Src[:], r.Dst[:]), strings.Compare(who(r.SrcVM, r.SrcVMID), who(r.DstVM, r.DstVMID)), cmp.Compare(r.SrcPort, r.DstPort)) > 0
}

// turned is the record as seen from the other end.
func turned(r flow.Record) flow.Record {
	r.Src, r.Dst, r.SrcVM, r.DstVM, r.SrcPort, r.DstPort, r.SrcHost, r.DstHost = r.Dst, r.Src, r.DstVM, r.SrcVM, r.DstPort, r.SrcPort, r.DstHost, r.SrcHost
	r.SrcVMID, r.DstVMID = r.DstVMID, r.SrcVMID
	r.Tunnel.Src, r.Tunnel.Dst = r.Tunnel.Dst, r.Tunnel.Src
	switch r.Client {
	case flow.ClientSrc:
		r.Client = flow.ClientDst
	case flow.ClientDst:
		r.Client = flow.ClientSrc
	case flow.ClientUnknown:
	}
	return r
}

// group is a pair or conversation: rows with the lesser end as source, and whether they were turned.
type group struct {
	rows   []flow.Record
	turned []bool
}

type pairKey struct {
	fabric       string
	seg          flow.Segment
	a, b         flow.Addr
	aWho, bWho   string
	proto        uint8
	aPort, bPort uint16
}

func groups(rows []flow.Record, conversations bool) map[pairKey]*group {
	out := map[pairKey]*group{}
	for _, r := range rows {
		t := swapped(&r)
		if t {
			r = turned(r)
		}
		k := pairKey{fabric: r.Fabric, seg: r.Segment, a: r.Src, b: r.Dst, aWho: who(r.SrcVM, r.SrcVMID), bWho: who(r.DstVM, r.DstVMID)}
		if conversations {
			k.proto, k.aPort, k.bPort = r.Proto, r.SrcPort, r.DstPort
		}
		if out[k] == nil {
			out[k] = &group{}
		}
		out[k].rows, out[k].turned = append(out[k].rows, r), append(out[k].turned, t)
	}
	for k, g := range out {
		if !slices.ContainsFunc(g.rows, func(r flow.Record) bool { return canon(&r) }) {
			delete(out, k)
		}
	}
	return out
}

func segText(s flow.Segment) string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", s.Kind(), s.Number())
}

// answer is what both kinds of rows share.
func (g *group) answer() (e report.Ends, c report.Counts, forward bool) {
	votes, ports := 0, 0
	for _, r := range g.rows {
		if canon(&r) {
			votes += map[flow.Client]int{flow.ClientSrc: 1, flow.ClientDst: -1}[r.Client]
			ports += cmp.Compare(r.SrcPort, r.DstPort)
		}
	}
	forward = votes > 0 || votes == 0 && ports >= 0
	var tenant, sh, dh, sn, dn known[string]
	var sv, dv known[flow.Addr]
	variance := new(big.Int)
	var marks flow.Mark
	tuples := map[string]bool{}
	first, last := int64(math.MaxInt64), int64(0)
	canonical, other := map[string]bool{}, map[string]bool{}
	for i, r := range g.rows {
		back := g.turned[i] == forward
		if !forward {
			r = turned(r)
		}
		at := ms(r.EndNS)
		tenant.see(at, r.Tenant, r.Tenant == "", lessText)
		sh.see(at, r.SrcHost, r.SrcHost == "", lessText)
		dh.see(at, r.DstHost, r.DstHost == "", lessText)
		sn.see(at, r.SrcVM, r.SrcVM == "", lessText)
		dn.see(at, r.DstVM, r.DstVM == "", lessText)
		sv.see(at, r.Tunnel.Src, r.Tunnel.Src.IsZero(), lessAddr)
		dv.see(at, r.Tunnel.Dst, r.Tunnel.Dst.IsZero(), lessAddr)
		first, last = min(first, ms(r.StartNS)), max(last, at)
		name := r.Observer
		if name == "" {
			name = fmt.Sprintf("\x1f%s/%d", r.Exporter, r.Domain)
		}
		if !canon(&r) {
			other[name] = true
			c.Duplicates += r.Packets
			continue
		}
		canonical[name] = true
		marks |= r.Marks
		tuples[fmt.Sprint(r.Proto, r.SrcPort, r.DstPort)] = true
		if r.Sampling > 1 {
			v := new(big.Int).SetUint64(r.Octets)
			v.Mul(v, v).Mul(v, big.NewInt(int64(r.Sampling-1))).Div(v, new(big.Int).SetUint64(max(r.Packets, 1)))
			variance.Add(variance, v)
		}
		if back {
			c.OctetsRev, c.PacketsRev = c.OctetsRev+r.Octets, c.PacketsRev+r.Packets
		} else {
			c.OctetsFwd, c.PacketsFwd = c.OctetsFwd+r.Octets, c.PacketsFwd+r.Packets
		}
		e.Fabric, e.Segment, e.VNI = r.Fabric, segText(r.Segment), r.Segment.Number()
		e.SrcVMID, e.SrcAddr, e.DstVMID, e.DstAddr = r.SrcVMID, r.Src.String(), r.DstVMID, r.Dst.String()
	}
	e.Tenant, e.SrcHost, e.DstHost, e.SrcVTEP, e.DstVTEP = tenant.v, sh.v, dh.v, sv.v.String(), dv.v.String()
	e.SrcVM, e.DstVM = sn.v, dn.v
	e.SameHost = e.SrcHost == e.DstHost && e.SrcHost != ""
	c.Octets, c.Packets, c.Flows = c.OctetsFwd+c.OctetsRev, c.PacketsFwd+c.PacketsRev, uint64(len(tuples))
	v, _ := new(big.Float).SetInt(variance).Float64()
	c.OctetsError = uint64(math.Round(1.959964 * math.Sqrt(v)))
	c.FirstSeen, c.LastSeen = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
	c.SeenBy = slices.Sorted(maps.Keys(canonical))
	for _, n := range slices.Sorted(maps.Keys(other)) {
		if !canonical[n] {
			c.SeenBy = append(c.SeenBy, n)
		}
	}
	for i := range c.SeenBy {
		c.SeenBy[i] = strings.TrimPrefix(c.SeenBy[i], "\x1f")
	}
	if votes == 0 && ports != 0 {
		marks |= flow.MarkGuess
	}
	c.Marks = []string{}
	for m, name := range map[flow.Mark]string{flow.MarkSampled: "sampled", flow.MarkAmbiguous: "ambiguous", flow.MarkGuess: "guess"} {
		if marks&m != 0 {
			c.Marks = append(c.Marks, name)
		}
	}
	slices.SortFunc(c.Marks, func(a, b string) int {
		order := []string{"sampled", "ambiguous", "guess"}
		return cmp.Compare(slices.Index(order, a), slices.Index(order, b))
	})
	return e, c, forward
}

// part is what falls into [lo, hi) of n spread evenly over a row's time: whole numbers.
func part(r *flow.Record, n, lo, hi int64) int64 {
	s, e := ms(r.StartNS), ms(r.EndNS)
	before := func(x int64) int64 {
		switch {
		case x > e:
			return n
		case x <= s:
			return 0
		}
		v := new(big.Int).Mul(big.NewInt(n), big.NewInt(x-s))
		return v.Div(v, big.NewInt(e-s)).Int64()
	}
	return before(hi) - before(lo)
}

// pairsOf answers Pairs without a limit, by octets.
func pairsOf(rows []flow.Record, q report.Query) []report.Pair {
	var out []report.Pair
	var total uint64
	for _, g := range groups(rows, false) {
		e, c, _ := g.answer()
		p := report.Pair{Ends: e, Counts: c, Conversations: c.Flows, Apps: []string{}, Spark: make([]uint64, 24)}
		since, span := q.Since.UnixMilli(), q.Until.Sub(q.Since).Milliseconds()
		for _, r := range g.rows {
			if r.App != "" && !slices.Contains(p.Apps, r.App) {
				p.Apps = append(p.Apps, r.App)
			}
			for i := range int64(24) {
				if canon(&r) {
					p.Spark[i] += uint64(part(&r, int64(r.Octets), since+span*i/24, since+span*(i+1)/24))
				}
			}
		}
		slices.Sort(p.Apps)
		total += p.Octets
		out = append(out, p)
	}
	for i := range out {
		out[i].Share = float64(out[i].Octets) / float64(total)
	}
	return out
}

func conversationsOf(rows []flow.Record) []report.Conversation {
	var out []report.Conversation
	var total uint64
	for k, g := range groups(rows, true) {
		e, c, forward := g.answer()
		v := report.Conversation{Ends: e, Counts: c, Proto: map[uint8]string{6: "tcp", 17: "udp", 1: "icmp"}[k.proto], SrcPort: k.aPort, DstPort: k.bPort}
		if !forward {
			v.SrcPort, v.DstPort = k.bPort, k.aPort
		}
		var flags uint16
		for _, r := range g.rows {
			flags |= r.TCPFlags
			v.App = max(v.App, r.App)
		}
		for _, f := range []struct {
			bit    uint16
			letter string
		}{{2, "S"}, {16, "A"}, {8, "P"}, {1, "F"}, {4, "R"}, {32, "U"}} {
			if flags&f.bit != 0 {
				v.TCPFlags += f.letter
			}
		}
		total += v.Octets
		out = append(out, v)
	}
	for i := range out {
		out[i].Share = float64(out[i].Octets) / float64(total)
	}
	return out
}
