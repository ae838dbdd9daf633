package elect

import (
	"math"
	"math/rand/v2"
	"testing"

	"crosstap/internal/flow"
)

// TestFlow: each row is given as place and time; the result says which rows count.
func TestFlow(t *testing.T) {
	row := func(role flow.Role, direction uint8, sampling uint32, fromS, toS int64) Row {
		return Row{FlowID: 1, ObserverID: uint64(role), Role: uint8(role), Direction: direction, Sampling: sampling,
			TStart: fromS * 1000, TEnd: toS * 1000, Packets: uint64(max(toS-fromS, 1))}
	}
	packets := func(n uint64, c Row) Row { c.Packets = n; return c }
	settled := func(c Row) Row { c.File = -1; return c }
	f := func(name, want string, rows ...Row) {
		t.Helper()
		for i := range rows {
			rows[i].At = int32(i)
		}
		got := make([]byte, len(rows))
		for i := range rows {
			got[i] = '-' // settled
		}
		Flow(rows, func(c *Row, d Decision) {
			got[c.At] = '0'
			if d.Canonical {
				got[c.At] = '1'
			}
		})
		if string(got) != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	const vnic, port, mirror, tunnel, unknown = flow.RoleVNIC, flow.RolePort, flow.RoleMirror, flow.RoleTunnel, flow.RoleUnknown
	f("alone", "11", row(port, 0, 1, 0, 60), row(port, 0, 1, 60, 120))
	f("three observers", "001", row(mirror, 0, 1, 0, 60), row(tunnel, 0, 1, 1, 61), row(port, 0, 1, 0, 60))
	f("timers not aligned", "101010", row(port, 0, 1, 0, 60), row(tunnel, 0, 1, 20, 80), row(port, 0, 1, 60, 120), row(tunnel, 0, 1, 80, 140), row(port, 0, 1, 120, 180), row(tunnel, 0, 1, 140, 180))
	f("best one lost a row", "1011", row(port, 0, 1, 0, 60), row(tunnel, 0, 1, 0, 60), row(tunnel, 0, 1, 60, 120), row(port, 0, 1, 120, 180))
	f("best one stops", "101", row(port, 0, 1, 0, 60), row(tunnel, 0, 1, 0, 60), row(tunnel, 0, 1, 60, 120))
	f("unsampled before sampled", "01", row(vnic, 0, 100, 0, 60), row(tunnel, 0, 1, 0, 60))
	f("unknown role last", "01", row(unknown, 0, 1, 0, 60), row(tunnel, 0, 1, 0, 60))
	f("ingress before egress", "01", row(port, 1, 1, 0, 60), row(port, 0, 1, 0, 60))
	f("single packets", "10", row(port, 0, 1, 5, 5), row(tunnel, 0, 1, 5, 5))
	f("single packets far apart", "11", row(port, 0, 1, 5, 5), row(tunnel, 0, 1, 15, 15))
	f("the best one's short rows", "111", row(port, 0, 1, 0, 0), row(port, 0, 1, 0, 1), row(port, 0, 1, 1, 1))
	f("counted in the hour before", "-0", settled(row(port, 0, 1, 0, 60)), row(tunnel, 0, 1, 1, 61))
	f("its own rows in the hour before", "-1", settled(row(port, 0, 1, 0, 60)), row(port, 0, 1, 60, 61))
	f("the better one cuts where the flow pauses", "110", packets(50, row(vnic, 0, 1, 0, 5)), packets(50, row(vnic, 0, 1, 50, 55)), packets(100, row(port, 0, 1, 0, 60)))
	f("it lost the second half of the packets", "101", packets(49, row(vnic, 0, 1, 0, 5)), packets(49, row(port, 0, 1, 0, 5)), packets(101, row(port, 0, 1, 1, 60)))
	f("single packets between pauses", "1110", packets(1, row(vnic, 0, 1, 0, 0)), packets(1, row(vnic, 0, 1, 30, 30)), packets(1, row(vnic, 0, 1, 60, 60)), packets(3, row(port, 0, 1, 0, 60)))
	f("counted in the hour before, with pauses", "-0", settled(packets(60, row(port, 0, 1, 0, 10))), packets(100, row(tunnel, 0, 1, 1, 61)))
	f("a drop in the rate at a gap", "101", packets(1e6, row(port, 0, 1, 0, 60)), packets(1e6, row(tunnel, 0, 1, 0, 60)), packets(1e4, row(tunnel, 0, 1, 60, 120)))
	// What is left: at the ends of a gap whole rows count or do not, so that up to half of one is counted twice or left out.
	f("a gap of more than half a row", "101", row(port, 0, 1, 0, 140), row(tunnel, 0, 1, 0, 1), row(tunnel, 0, 1, 0, 300))
	f("a gap of less than half a row", "100", row(port, 0, 1, 0, 160), row(tunnel, 0, 1, 0, 1), row(tunnel, 0, 1, 0, 300))
	f("a worse one settled only a bit", "-1", settled(row(tunnel, 0, 1, 0, 10)), row(port, 0, 1, 5, 65))
}

// TestUncertain: the second observer's rows begin and end within gaps of the first one's.
func TestUncertain(t *testing.T) {
	row := func(role flow.Role, fromS, toS int64, packets uint64) Row {
		return Row{FlowID: 1, ObserverID: uint64(role), Role: uint8(role), TStart: fromS * 1000, TEnd: toS * 1000, Packets: packets, Octets: 1000 * packets}
	}
	f := func(name string, wantTwice, wantLost uint64, rows ...Row) {
		t.Helper()
		var twice, lost, octets uint64
		Flow(rows, func(c *Row, d Decision) {
			octets += d.Octets(c)
			if d.Canonical {
				twice += d.Uncertain
			} else {
				lost += d.Uncertain
			}
		})
		if twice != wantTwice || lost != wantLost || octets != 1000*(twice+lost) {
			t.Errorf("%s: %d packets counted twice, %d left out, %d octets of them; want %d and %d", name, twice, lost, octets, wantTwice, wantLost)
		}
	}
	const port, tunnel = flow.RolePort, flow.RoleTunnel
	f("one observer", 0, 0, row(port, 0, 60, 60), row(port, 90, 120, 30))
	f("two that see all", 0, 0, row(port, 0, 60, 60), row(port, 60, 120, 60), row(tunnel, 0, 40, 40), row(tunnel, 40, 100, 60), row(tunnel, 100, 120, 20))
	f("a gap between rows", 0, 0, row(port, 0, 60, 60), row(tunnel, 0, 60, 60), row(tunnel, 60, 120, 60), row(port, 120, 180, 60))
	f("a row that begins before the gap", 20, 0, row(port, 0, 60, 60), row(tunnel, 40, 100, 60))
	f("a row that mostly lies before the gap", 0, 20, row(port, 0, 60, 60), row(tunnel, 20, 80, 60))
	f("both ends", 40, 20, row(port, 0, 60, 60), row(port, 160, 220, 60), row(tunnel, 40, 100, 60), row(tunnel, 120, 180, 60), row(tunnel, 20, 80, 60))
	f("a pause is no gap", 0, 0, row(port, 0, 5, 50), row(port, 50, 55, 50), row(tunnel, 0, 60, 100))
	f("a row without packets", 0, 0, row(port, 0, 60, 60), row(tunnel, 40, 100, 0))
}

// TestCounter compares with adding up row by row.
func TestCounter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var rows []Row
		for i := range rnd.IntN(6) {
			from := rnd.Int64N(20)
			rows = append(rows, Row{ObserverID: uint64(i + 1), TStart: from, TEnd: from + rnd.Int64N(10)*rnd.Int64N(2), Packets: uint64(rnd.IntN(100))})
		}
		from := rnd.Int64N(20)
		one := Row{TStart: from, TEnd: from + 1 + rnd.Int64N(10)}
		want := 0.0
		for _, r := range rows {
			switch common := min(r.TEnd, one.TEnd) - max(r.TStart, one.TStart); {
			case r.TEnd == r.TStart && common >= 0:
				want += float64(r.Packets)
			case common > 0:
				want += float64(r.Packets) * float64(common) / float64(r.TEnd-r.TStart)
			}
		}
		v := countOf(rows, one.place())
		if got := v.by(one.TEnd, true) - v.by(one.TStart, false); math.Abs(got-want) > 1e-6 {
			t.Fatalf("%v of %v, want %v; %+v", got, one, want, rows)
		}
	}
}

func TestRank(t *testing.T) {
	at := RankOf(1000, 7, 0xabc, 5, 0)
	for i, later := range []Rank{RankOf(1001, 1, 0xabc, 5, 0), RankOf(1000, 8, 0xabc, 5, 0), RankOf(1000, 7, 0xabc, 5, 1), RankOf(1000, 7, 0xabc, 2, 0)} {
		if !later.After(at) || at.After(later) || at.After(at) {
			t.Errorf("%d: %+v is not later than %+v", i, later, at)
		}
	}
}
