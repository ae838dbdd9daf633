package enrich

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crosstap/internal/flow"
)

// obviousElection elects by looking through all canonical rows so far.
type obviousElection struct {
	holder    uint64
	canonical []flow.Record
}

func (o *obviousElection) elect(r *flow.Record) bool {
	if !o.decide(r) {
		return false
	}
	o.holder = r.ObserverID
	o.canonical = append(o.canonical, *r)
	return true
}

func (o *obviousElection) decide(r *flow.Record) bool {
	latest, others := int64(-1<<62), int64(-1<<62)
	var steps []int64 // distances of the ends of the holder's rows since it took over, the first one's length before
	for _, c := range o.canonical {
		if c.ObserverID != o.holder {
			others = max(others, c.EndNS)
		}
	}
	mine := int64(-1 << 62)
	for i, c := range o.canonical {
		latest = max(latest, c.EndNS)
		if c.ObserverID != o.holder {
			steps, mine = nil, -1<<62
			continue
		}
		if i == 0 || o.canonical[i-1].ObserverID != o.holder {
			steps, mine = []int64{c.EndNS - c.StartNS}, c.EndNS
		} else if c.EndNS > mine {
			steps, mine = append(steps, c.EndNS-mine), c.EndNS
		}
	}
	if len(o.canonical) == 0 {
		return true
	}
	if r.ObserverID == o.holder {
		return r.StartNS >= others
	}
	usual := steps[0]
	for _, s := range steps[1:] {
		usual = (3*usual + s) / 4
	}
	return r.StartNS >= mine+2*usual+graceNS
}

func TestElectionAgreesWithObvious(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		var slow obviousElection
		fast, f := newTable(16, 1), new(known)
		fast.batch = 1
		var kept []flow.Record
		for now := int64(0); now < 600; now += r.Int64N(12) {
			row := flow.Record{ObserverID: 1 + r.Uint64N(3), EndNS: (now - r.Int64N(40)) * int64(time.Second)}
			row.StartNS = row.EndNS - r.Int64N(60)*int64(time.Second)
			want, got := slow.elect(&row), fast.elect(f, &row)
			if got != want {
				t.Fatalf("row %d of observer %d from %v to %v: %v, want %v", len(kept), row.ObserverID, row.StartNS/1e9, row.EndNS/1e9, got, want)
			}
			if got {
				for _, k := range kept {
					if k.ObserverID != row.ObserverID && k.StartNS < row.EndNS && row.StartNS < k.EndNS {
						t.Fatalf("observers %d and %d are canonical at one time", k.ObserverID, row.ObserverID)
					}
				}
				kept = append(kept, row)
			}
		}
	}
}

// meterRows is what an observer with these timeouts exports of packets at the given times: rows and when each is sent.
func meterRows(packets []int64, idle, active, delay int64) (rows []flow.Record, sent []int64) {
	var cur flow.Record
	flush := func(at int64) {
		if cur.Packets > 0 {
			rows, sent = append(rows, cur), append(sent, at+delay)
		}
		cur = flow.Record{}
	}
	for _, p := range packets {
		if cur.Packets > 0 && p-cur.EndNS >= idle {
			flush(cur.EndNS + idle)
		}
		if cur.Packets > 0 && p-cur.StartNS >= active {
			flush(cur.StartNS + active)
		}
		if cur.Packets == 0 {
			cur.StartNS = p
		}
		cur.EndNS = p
		cur.Packets++
	}
	flush(cur.EndNS + idle)
	return rows, sent
}

// TestManyObserversCountOnce meters random flows by several observers with different timeouts and delays. However
// their rows interleave, what is canonical is never more than what was there, and all of it when no
// observer is lost and the flow does not pause.
func TestManyObserversCountOnce(t *testing.T) {
	second := int64(time.Second)
	r := rand.New(rand.NewPCG(7, 8))
	var total, counted uint64
	for round := range 400 {
		pauses := round%2 == 1
		var packets []int64
		for at := 1000 * second; at < 1300*second; {
			packets = append(packets, at)
			at += r.Int64N(second)
			if pauses && r.IntN(50) == 0 {
				at += r.Int64N(90 * second)
			}
		}
		type sending struct {
			at  int64
			row flow.Record
		}
		var all []sending
		for o := range 2 + r.IntN(3) {
			idle, active := (1+r.Int64N(30))*second, (1+r.Int64N(60))*second
			rows, sent := meterRows(packets, idle, active, r.Int64N(2*second))
			for i := range rows {
				row := rows[i]
				row.Exporter, row.Domain, row.RecvNS = addr("10.0.0.1"), uint32(o), sent[i]
				row.Src, row.Dst, row.SrcMAC, row.DstMAC, row.Segment, row.Proto = addr("10.1.0.1"), addr("10.1.0.2"), 1, 2, vxlan(1), 17
				all = append(all, sending{sent[i], row})
			}
		}
		slices.SortStableFunc(all, func(a, b sending) int { return cmp.Compare(a.at, b.at) })
		e := enricher(t, nil)
		sum := uint64(0)
		for _, s := range all {
			one := []flow.Record{s.row}
			e.Records(one)
			if one[0].Is(flow.MarkCanonical) {
				sum += one[0].Packets
			}
		}
		total, counted = total+uint64(len(packets)), counted+sum
		if sum > uint64(len(packets)) || !pauses && sum != uint64(len(packets)) {
			t.Fatalf("round %d: %d packets counted of %d", round, sum, len(packets))
		}
	}
	t.Logf("counted %d of %d packets (%.2f %%)", counted, total, 100*float64(counted)/float64(total))
	if counted*1000 < total*950 {
		t.Errorf("only %d of %d packets counted", counted, total)
	}
}

func TestRank(t *testing.T) {
	row := func(role flow.Role, direction uint8, sampling uint32) *flow.Record {
		return &flow.Record{Role: role, Direction: direction, Sampling: sampling}
	}
	order := []*flow.Record{
		row(flow.RoleVNIC, 0, 0), row(flow.RoleVNIC, 255, 1), row(flow.RoleVNIC, 1, 1), row(flow.RolePort, 0, 0), row(flow.RoleMirror, 1, 0),
		row(flow.RoleTunnel, 0, 0), row(flow.RoleUnderlay, 0, 0), row(flow.RoleUnknown, 0, 0), row(flow.RoleVNIC, 0, 2), row(flow.RoleUnknown, 1, 100),
	}
	for i := range order[1:] {
		if rankOf(order[i]) >= rankOf(order[i+1]) {
			t.Errorf("%+v is not before %+v", order[i], order[i+1])
		}
	}
}

// In the batch in which a flow is new the best observer wins, and an observer that begins later does not.
func TestFirstBatchGoesByRank(t *testing.T) {
	row := func(domain uint32, role flow.Role, start, end int64) flow.Record {
		return flow.Record{
			Exporter: addr("10.0.0.1"), Domain: domain, Role: role, StartNS: start * 1e9, EndNS: end * 1e9, RecvNS: end * 1e9,
			Src: addr("10.1.0.1"), Dst: addr("10.1.0.2"), Proto: 6, SrcPort: 4000, DstPort: 80, Packets: 1,
		}
	}
	f := func(want int, rows ...flow.Record) {
		t.Helper()
		e := enricher(t, nil)
		e.Records(rows)
		for i := range rows {
			if rows[i].Is(flow.MarkCanonical) != (i == want) {
				t.Errorf("row %d: canonical %v", i, i != want)
			}
		}
	}
	f(1, row(1, flow.RoleTunnel, 1000, 1010), row(2, flow.RolePort, 1001, 1010), row(3, flow.RoleMirror, 1000, 1010))
	f(0, row(1, flow.RoleTunnel, 1000, 1010), row(2, flow.RolePort, 1008, 1010))
	f(0, row(1, flow.RoleVNIC, 1000, 1010), row(2, flow.RolePort, 1000, 1010))
}

// A switch reports a broadcast once for each port it leaves by: one of them counts. A flow that enters or leaves by
// two ports is one flow of different packets: both count.
func TestCopiesOfOneSwitch(t *testing.T) {
	row := func(direction uint8, in, out uint32) flow.Record {
		r := rec(vxlan(1), 1, 2)
		r.Exporter, r.Direction, r.InIf, r.OutIf, r.Role = addr("10.0.0.1"), direction, in, out, flow.RolePort
		return r
	}
	group := func(r flow.Record) flow.Record { r.DstMAC = 0xffffffffffff; return r }
	f := func(want int, rows ...flow.Record) {
		t.Helper()
		e := enricher(t, nil)
		n := 0
		for i := range rows {
			e.Records(rows[i : i+1])
			if rows[i].Is(flow.MarkCanonical) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d canonical rows, want %d", n, want)
		}
	}
	f(1, group(row(1, 2, 10)), group(row(1, 2, 11)), group(row(1, 2, 12)))
	f(1, group(row(0, 2, 0)), group(row(1, 2, 11)))
	f(2, row(0, 2, 0), row(0, 3, 0))
	f(2, row(1, 2, 10), row(1, 2, 11))
	f(1, row(0, 2, 0), row(1, 2, 11))
}

// TestSampledAndUnsampledCountOnce: of a flow that one place meters whole and others by sample, all cutting their records at full minutes, a little
// before or a little after, no moment is counted by two of them, in whatever batches the records come.
func TestSampledAndUnsampledCountOnce(t *testing.T) {
	second := int64(time.Second)
	rnd := rand.New(rand.NewPCG(9, 10))
	for round := range 300 {
		var all []flow.Record
		for o := range uint32(3) {
			late := rnd.Int64N(4*second) - 2*second // where it cuts, beside the full minute
			for minute := range int64(12) {
				if rnd.IntN(8) == 0 {
					continue // lost on the way
				}
				r := rec(vxlan(1), 1, 2)
				r.Exporter, r.Domain, r.Packets = addr("10.0.0.1"), o, 60
				r.StartNS = 3600*second + minute*60*second + late
				r.EndNS = r.StartNS + 60*second - rnd.Int64N(3*second)/2
				r.RecvNS = r.EndNS + rnd.Int64N(4*second)
				if o > 0 {
					r.Sampling, r.Packets = 10, 6
				}
				all = append(all, r)
			}
		}
		slices.SortStableFunc(all, func(a, b flow.Record) int { return cmp.Compare(a.RecvNS, b.RecvNS) })
		e := enricher(t, nil)
		for rest := all; len(rest) > 0; {
			n := min(1+rnd.IntN(5), len(rest))
			e.Records(rest[:n])
			rest = rest[n:]
		}
		for i := range all {
			for k := range all[:i] {
				a, b := &all[i], &all[k]
				if a.Is(flow.MarkCanonical) && b.Is(flow.MarkCanonical) && a.ObserverID != b.ObserverID && a.StartNS < b.EndNS && b.StartNS < a.EndNS {
					t.Fatalf("round %d: observers %d and %d both count from %d to %d s", round, a.Domain, b.Domain, max(a.StartNS, b.StartNS)/second, min(a.EndNS, b.EndNS)/second)
				}
			}
		}
	}
}
