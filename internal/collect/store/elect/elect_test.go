package elect

import (
	"testing"

	"crosstap/internal/flow"
)

// TestFlow: each row is given as place and time; the result says which rows count.
func TestFlow(t *testing.T) {
	row := func(role flow.Role, direction uint8, sampling uint32, fromS, toS int64) Row {
		return Row{FlowID: 1, ObserverID: uint64(role), Role: uint8(role), Direction: direction, Sampling: sampling,
			TStart: fromS * 1000, TEnd: toS * 1000}
	}
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
		Flow(rows, func(c *Row, canonical bool) {
			got[c.At] = '0'
			if canonical {
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
	f("a worse one settled only a bit", "-1", settled(row(tunnel, 0, 1, 0, 10)), row(port, 0, 1, 5, 65))
}
