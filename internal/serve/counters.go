package serve

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"crosstap/internal/collect/counter"
	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/control/plan"
	"crosstap/internal/identity"
)

// counters gives the coverage report what sFlow agents counted at virtual adapters, as it is stored: at ports of virtual switches that the inventory
// knows, and at machines that agents name themselves. Uplinks and other interfaces are left out.
type counters struct {
	stored  store.CountReader
	known   atomic.Pointer[counter.Adapters]                        // by the inventory of this process; nil without
	metered func(context.Context) (map[string]plan.Metering, error) // of machines by name; nil when there is no control line
}

// Source implements report.Counters.
func (c *counters) Source() string { return "sflow" }

// Counters implements report.Counters.
func (c *counters) Counters(ctx context.Context, since, until time.Time) ([]report.Counted, error) {
	rows, err := c.stored.Counts(ctx, since.UnixNano(), until.UnixNano())
	if err != nil {
		return nil, err
	}
	out := counted(rows, c.known.Load(), since.UnixNano(), until.UnixNano())
	if len(out) > 0 {
		reasons := c.reasons(ctx)
		for i := range out {
			out[i].Reason = cmp.Or(out[i].Reason, reasons[out[i].VM])
		}
	}
	return out, nil
}

// reasons says of machines, by name, of which taps make flow records why these are not of all.
func (c *counters) reasons(ctx context.Context) map[string]string {
	out := map[string]string{}
	if c.metered == nil {
		return out
	}
	taps, err := c.metered(ctx)
	if err != nil {
		return out // without the taps the reason is not known
	}
	for vm, m := range taps {
		switch {
		case m.Whole:
		case m.Filtered:
			out[vm] = report.ReasonFilter
		case m.Sampled:
			out[vm] = report.ReasonSampling
		}
	}
	return out
}

// machine is a virtual machine on a host, as a key.
type machine struct{ host, vm string }

// counted adds up what was counted at adapters in a time range. Whose they are is what the inventory says now, if it does, else what it said when they were
// counted, else what it said of that time later. A machine that is counted at its ports is not counted a second time at itself.
func counted(rows []store.Count, known *counter.Adapters, fromNS, toNS int64) []report.Counted {
	var out []report.Counted
	atPort := map[machine]bool{}
	for i := range rows {
		r := &rows[i]
		if r.Class != counter.Interface {
			continue
		}
		sum, ok := total(r.Cells, fromNS, toNS)
		if !ok {
			continue
		}
		o := owner(rows, i, known, sum.ToNS)
		if o.VM == "" && o.VMID == "" {
			continue
		}
		atPort[machine{o.Host, o.VM}] = true
		out = append(out, report.Counted{
			Fabric: o.Fabric, Host: o.Host, VM: o.VM, VMID: o.VMID, Port: r.Name, From: time.Unix(0, sum.FromNS), To: time.Unix(0, sum.ToNS),
			OctetsSent: sum.InOctets, OctetsReceived: sum.OutOctets, Reason: r.Owner.Reason, // the port's side
		})
	}
	for i := range rows {
		r := &rows[i]
		if r.Class != counter.Machine || r.Name == "" {
			continue
		}
		sum, ok := total(r.Cells, fromNS, toNS)
		if !ok {
			continue
		}
		host := r.Owner.Host
		if known != nil {
			host = cmp.Or(known.Host(counter.Key(r.CountKey), sum.ToNS), host)
		}
		if atPort[machine{host, r.Name}] {
			continue
		}
		out = append(out, report.Counted{
			Host: cmp.Or(host, r.Agent.String()), VM: r.Name, From: time.Unix(0, sum.FromNS), To: time.Unix(0, sum.ToNS),
			OctetsSent: sum.OutOctets, OctetsReceived: sum.InOctets, Reason: r.Owner.Reason,
		})
	}
	return out
}

// total adds up the parts of cells in a time range.
func total(cells []store.CountCell, fromNS, toNS int64) (sum store.CountCell, ok bool) {
	for _, c := range cells {
		part, in := c.Cut(fromNS, toNS)
		switch {
		case in && ok:
			sum.Add(part)
		case in:
			sum, ok = part, true
		}
	}
	return sum, ok
}

// owner is whose adapter a row counts at. Rows of one source stand side by side.
func owner(rows []store.Count, i int, known *counter.Adapters, atNS int64) store.Owner {
	r := &rows[i]
	if known != nil {
		if v := known.Adapter(known.Host(counter.Key(r.CountKey), atNS), r.Name, atNS); v != nil {
			return store.Owner{Fabric: v.Fabric, Host: v.Host, VM: v.VM, VMID: v.VMID}
		}
	}
	if r.Owner.VM != "" || r.Owner.VMID != "" {
		return r.Owner
	}
	first := i
	for first > 0 && rows[first-1].CountKey == r.CountKey {
		first--
	}
	for _, x := range rows[first:] {
		if x.CountKey != r.CountKey {
			break
		}
		if (x.Owner.VM != "" || x.Owner.VMID != "") && (identity.Span{FromNS: x.Owner.FromNS, ToNS: x.Owner.ToNS}).Contains(atNS) {
			return x.Owner
		}
	}
	return r.Owner
}
