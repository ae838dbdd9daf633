package enrich

import (
	"testing"
	"time"

	"crosstap/internal/flow"
)

func TestLearnSegments(t *testing.T) {
	e := enricher(t, nil)
	minute := 0
	// f enriches one record of a flow of its own and wants the segment.
	f := func(seg flow.Segment, src, dst flow.MAC, want flow.Segment) {
		t.Helper()
		r := rec(seg, src, dst)
		r.SrcPort = uint16(minute)
		r.RecvNS = int64(minute) * int64(time.Minute)
		r.StartNS, r.EndNS = r.RecvNS, r.RecvNS
		minute++
		recs := []flow.Record{r}
		e.Records(recs)
		if recs[0].Segment != want {
			t.Errorf("minute %d: segment %x, want %x", minute-1, uint64(recs[0].Segment), uint64(want))
		}
	}
	const group = flow.MAC(0xffffffffffff)
	f(0, 1, 2, 0)
	f(vxlan(5001), 1, 2, vxlan(5001)) // a tunnel tells
	f(0, 2, 1, vxlan(5001))           // the way back of another flow
	f(0, 1, group, vxlan(5001))
	f(0, 1, 3, 0) // 3 may be anywhere
	f(0, 3, group, 0)
	f(vxlan(5001), 3, group, vxlan(5001))
	f(0, 1, 3, vxlan(5001))
	f(vxlan(5002), 3, 4, vxlan(5002)) // 3 is in two segments: a router
	f(0, 1, 3, 0)
	f(0, 3, 4, 0)
	f(0, 1, 2, vxlan(5001))
	minute += 20 // 3 has left 5001 long ago
	f(vxlan(5002), 3, 4, vxlan(5002))
	f(0, 3, 4, vxlan(5002))

	for i := range maxLearned + 10 {
		r := rec(vxlan(5001), flow.MAC(0x10000+2*i), flow.MAC(0x10001+2*i))
		e.known.learn(&r)
	}
	if n := len(e.known.macs); n > maxLearned {
		t.Errorf("%d addresses remembered", n)
	}
}
