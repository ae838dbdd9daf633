package serve

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"crosstap/internal/collect/counter"
	"crosstap/internal/collect/report"
	"crosstap/internal/control/plan"
	"crosstap/internal/identity"
)

// counters gives the coverage report what sFlow agents counted at virtual adapters: at ports of virtual switches that the inventory
// knows, and at machines that agents name themselves. Uplinks and other interfaces are left out.
type counters struct {
	table   *counter.Table
	known   atomic.Pointer[adapters]
	metered func(context.Context) (map[string]plan.Metering, error) // of machines by name; nil when there is no control line
}

// adapters are the inventory's virtual adapters by their port.
type adapters struct {
	book   identity.Book
	byPort map[string][]*identity.VNIC
}

// setInventory replaces the inventory.
func (c *counters) setInventory(book identity.Book, all []identity.VNIC) {
	k := &adapters{book: book, byPort: make(map[string][]*identity.VNIC, len(all))}
	for i := range all {
		if v := &all[i]; v.Port != "" {
			k.byPort[v.Port] = append(k.byPort[v.Port], v)
		}
	}
	c.known.Store(k)
}

// Source implements report.Counters.
func (c *counters) Source() string { return "sflow" }

// Counters implements report.Counters.
func (c *counters) Counters(ctx context.Context, since, until time.Time) ([]report.Counted, error) {
	k := c.known.Load()
	if k == nil {
		k = &adapters{}
	}
	out := k.counted(c.table.Read(since.UnixNano(), until.UnixNano()))
	if len(out) > 0 && c.metered != nil {
		if taps, err := c.metered(ctx); err == nil { // without the taps the reason is not known
			explain(out, taps)
		}
	}
	return out, nil
}

// explain says of machines of which taps make flow records why these are not of all.
func explain(counted []report.Counted, taps map[string]plan.Metering) {
	for i := range counted {
		switch m := taps[counted[i].VM]; {
		case m.Whole:
		case m.Filtered:
			counted[i].Reason = report.ReasonFilter
		case m.Sampled:
			counted[i].Reason = report.ReasonSampling
		}
	}
}

// storedCounters gives what a server has left in its data directory.
type storedCounters struct{ path string }

// Source implements report.Counters.
func (storedCounters) Source() string { return "sflow" }

// Counters implements report.Counters.
func (s storedCounters) Counters(ctx context.Context, since, until time.Time) ([]report.Counted, error) {
	c := &counters{table: counter.New(counter.DefaultSources)}
	inv, err := c.table.Restore(s.path)
	if err != nil {
		return nil, err
	}
	c.setInventory(identity.NewBook(inv), inv.VNICs)
	return c.Counters(ctx, since, until)
}

// machine is a virtual machine on a host, as a key.
type machine struct{ host, vm string }

// counted turns rows into counts of adapters. A machine that is counted at its ports is not counted a second time at itself.
func (k *adapters) counted(rows []counter.Row) []report.Counted {
	var out []report.Counted
	atPort := map[machine]bool{}
	for i := range rows {
		r := &rows[i]
		if r.Class != counter.Interface {
			continue
		}
		v := k.adapter(k.host(r), r.Name, r.ToNS)
		if v == nil {
			continue
		}
		atPort[machine{v.Host, v.VM}] = true
		out = append(out, report.Counted{
			Fabric: v.Fabric, Host: v.Host, VM: v.VM, VMID: v.VMID, Port: r.Name, From: time.Unix(0, r.FromNS), To: time.Unix(0, r.ToNS),
			OctetsSent: r.InOctets, OctetsReceived: r.OutOctets, // the port's side
		})
	}
	for i := range rows {
		r := &rows[i]
		host := k.host(r)
		if r.Class != counter.Machine || r.Name == "" || atPort[machine{host, r.Name}] {
			continue
		}
		out = append(out, report.Counted{
			Host: cmp.Or(host, r.Agent.String()), VM: r.Name, From: time.Unix(0, r.FromNS), To: time.Unix(0, r.ToNS),
			OctetsSent: r.OutOctets, OctetsReceived: r.InOctets,
		})
	}
	return out
}

// host is where an agent runs, "" when the inventory does not say.
func (k *adapters) host(r *counter.Row) string {
	if k.book == nil {
		return ""
	}
	if h := k.book.HostByVTEP(r.Agent, r.ToNS); h != nil {
		return h.Name
	}
	if o := k.book.ObserverOf(r.Agent, r.Domain, 0, r.ToNS); o != nil {
		return o.Host
	}
	return ""
}

// adapter finds the adapter behind a port of a host. Where the host is not known, the port's name must be that of one adapter only.
func (k *adapters) adapter(host, port string, atNS int64) (found *identity.VNIC) {
	if port == "" {
		return nil
	}
	for _, v := range k.byPort[port] {
		if !v.Contains(atNS) || host != "" && v.Host != host {
			continue
		}
		if found != nil {
			return nil
		}
		found = v
	}
	return found
}
