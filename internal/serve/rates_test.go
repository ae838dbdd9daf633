package serve

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/control/platform"
)

// told is a store that has seen 6,000 packets of 1,000 bytes in the last ten minutes, most of them in one.
type told struct {
	report.Reporter
	filter string
}

func (r *told) Top(_ context.Context, q report.Query) (report.Top, error) {
	r.filter = q.Filter
	var t report.Top
	t.Rows = append(t.Rows, report.TopRow{})
	t.Rows[0].L2Octets, t.Rows[0].Packets = 6_000_000, 6000
	return t, nil
}

func (r *told) Series(_ context.Context, q report.Query) (report.Series, error) {
	s := report.Series{Lines: []report.Line{{Max: 1e6}}}
	for at := q.Since; at.Before(q.Until); at = at.Add(q.Step) {
		s.Times = append(s.Times, at)
		value := 0.0
		if q.Until.Sub(at) <= 10*time.Minute {
			value = 1
		}
		s.Lines[0].Values = append(s.Lines[0].Values, value)
	}
	return s, nil
}

func TestExpectedRates(t *testing.T) {
	store := &told{}
	f := func(vms int, dir platform.Direction, packets, filter, of string, bps, peak float64) {
		t.Helper()
		var names []string
		for i := range vms {
			names = append(names, fmt.Sprintf("vm%03d", i))
		}
		r, ok := newRates(store).Expect(names, nil, dir, packets)
		near := func(got, want float64) bool { return got > 0.99*want && got < 1.01*want }
		if !ok || !strings.HasPrefix(store.filter, filter) || r.Of != of || !near(r.BPS, bps) || !near(r.Peak, peak) || !near(r.PPS, bps/8000) {
			t.Errorf("%s: %+v, %v", store.filter, r, ok)
		}
	}
	// 48 Mbit in ten minutes
	f(2, platform.Both, "", `vm in ("vm000", "vm001")`, "flows of the last 10 min", 80e3, 1e6)
	f(1, platform.Ingress, "udp port 53", `src.vm in ("vm000") and (udp port 53)`, "flows of the last 10 min", 80e3, 1e6)
	f(1, platform.Egress, "", `dst.vm in ("vm000")`, "flows of the last 10 min", 80e3, 1e6)
	f(400, platform.Both, "", `vm in ("vm000", "vm001", `, "flows of the last 10 min, of 200 of 400 machines", 160e3, 2e6)
	if r, ok := newRates(store).Expect([]string{"a"}, nil, platform.Both, "tcp[20] = 5"); ok {
		t.Errorf("a filter that flows cannot tell: %+v", r)
	}
}

// spoken is a store that has seen what machines have sent: by machine, all of it and DNS. The adapters of some are counted.
type spoken struct {
	report.Reporter
	all, dns map[string]uint64
	metered  map[string]float64
	asked    int
}

func (r *spoken) Top(_ context.Context, q report.Query) (t report.Top, err error) {
	r.asked++
	from := r.all
	if q.Filter != "" {
		from = r.dns
	}
	for vm, n := range from {
		t.Rows = append(t.Rows, report.TopRow{Key: []string{vm}, L2Octets: n, FirstSeen: q.Until.Add(-3 * time.Hour)})
	}
	return t, nil
}

func (r *spoken) Coverage(context.Context, report.Query) (c report.Coverage, err error) {
	var n uint64
	for vm, ratio := range r.metered {
		c.Counted, c.Rows = &n, append(c.Rows, report.CoverageRow{VM: vm, Ratio: &ratio})
	}
	return c, nil
}

func TestPassing(t *testing.T) {
	store := &spoken{
		all:     map[string]uint64{"a": 1000, "b": 1000, "c": 1000, "d": 0, "e": 1000, "": 5000},
		dns:     map[string]uint64{"a": 250, "c": 1000, "e": 1000},
		metered: map[string]float64{"b": 0.75, "e": 1.5},
	}
	r := newRates(store)
	p := r.Passing(platform.Ingress, "udp port 53")
	f := func(vm string, least, most float64) {
		t.Helper()
		if w, ok := p.VMs[vm]; !ok || w.Least != least || w.Most != most {
			t.Errorf("%s: %+v", vm, w)
		}
	}
	f("a", 0.25, 0.25)
	f("b", 0, 0.25) // of a quarter nobody knows
	f("c", 0, 1)    // all of it: perhaps nothing else is metered
	f("d", 0, 1)
	f("e", 1, 1) // its adapter has seen no more
	if len(p.VMs) != 5 || p.Of != "flows of the last 3 h" || p.Why != "" {
		t.Errorf("%+v", p)
	}
	if r.Passing(platform.Ingress, "udp port 53"); store.asked != 2 {
		t.Errorf("asked %d times", store.asked)
	}
	none := func(store *spoken, filter, why string) {
		t.Helper()
		if p := newRates(store).Passing(platform.Egress, filter); p.Why != why || len(p.VMs) > 0 {
			t.Errorf("%s: %+v", filter, p)
		}
	}
	none(store, "tcp[20] = 5", "flows do not tell it")
	none(store, "vlan 10", "flows do not tell it")
	none(&spoken{}, "udp port 53", "no flows are stored of any machine")
}
