package serve

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/counter"
	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/control/plan"
	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

func TestCountedAdapters(t *testing.T) {
	agent := func(n byte) flow.Addr { return flow.V4([]byte{10, 0, 0, n}) }
	inv := identity.Inventory{
		Hosts:     []identity.Host{{Name: "h1", VTEPs: []flow.Addr{agent(1)}}, {Name: "h2"}},
		Observers: []identity.Observer{{Name: "br-int of h2", Host: "h2", Exporter: agent(2)}},
		VNICs: []identity.VNIC{
			{VM: "web-1", VMID: "id-1", Host: "h1", Port: "vnet0"},
			{VM: "db-1", VMID: "id-2", Host: "h2", Port: "vnet0", Fabric: "lab"},
			{VM: "mq-1", Host: "h3", Port: "vnet5"},
		},
	}
	row := func(a byte, class uint32, name string, owner store.Owner, in, out uint64) store.Count {
		return store.Count{CountKey: store.CountKey{Agent: agent(a), Class: class, Index: uint32(in)}, Name: name, Owner: owner,
			Cells: []store.CountCell{{FromNS: 1e9, ToNS: 2e9, InOctets: in, OutOctets: out}, {FromNS: 2e9, ToNS: 4e9, InOctets: 20, OutOctets: 40}}}
	}
	rows := []store.Count{
		row(1, counter.Interface, "vnet0", store.Owner{}, 10, 20),                                                            // h1's
		row(1, counter.Interface, "eth0", store.Owner{}, 30, 40),                                                             // an uplink
		row(1, counter.Machine, "web-1", store.Owner{Host: "h1", VM: "web-1"}, 20, 10),                                       // the same machine again
		row(1, counter.Machine, "new-1", store.Owner{Host: "h1", VM: "new-1"}, 5, 6),                                         // not in the inventory
		row(2, counter.Interface, "vnet0", store.Owner{VM: "an old name", Reason: report.ReasonFilter}, 50, 60),              // h2's
		row(9, counter.Interface, "vnet5", store.Owner{}, 70, 80),                                                            // nobody knows the agent, but one port has the name
		row(9, counter.Interface, "vnet0", store.Owner{}, 90, 99),                                                            // and two have this one
		row(9, counter.Interface, "vnet7", store.Owner{Fabric: "lab", Host: "h9", VM: "gone-1", FromNS: 0, ToNS: 5e9}, 1, 2), // the inventory has forgotten it
		row(9, counter.Machine, "old-1", store.Owner{}, 7, 8),
	}
	one := func(fabric, host, vm, id, port string, sent, received uint64) report.Counted {
		return report.Counted{Fabric: fabric, Host: host, VM: vm, VMID: id, Port: port, From: time.Unix(1, 0), To: time.Unix(3, 0), OctetsSent: sent, OctetsReceived: received}
	}
	want := []report.Counted{
		one("default", "h1", "web-1", "id-1", "vnet0", 20, 40), one("lab", "h2", "db-1", "id-2", "vnet0", 60, 80), one("default", "h3", "mq-1", "", "vnet5", 80, 100),
		one("lab", "h9", "gone-1", "", "vnet7", 11, 22), one("", "h1", "new-1", "", "", 26, 15), one("", "10.0.0.9", "old-1", "", "", 28, 17),
	}
	want[1].Reason = report.ReasonFilter
	if d := cmp.Diff(want, counted(rows, counter.NewAdapters(identity.NewBook(inv)), 1e9, 3e9)); d != "" {
		t.Error(d)
	}
	// without an inventory of its own it is what was stored
	late := []store.Count{row(1, counter.Interface, "vnet0", store.Owner{}, 10, 20), row(1, counter.Interface, "vnet0", store.Owner{Fabric: "lab", Host: "h1", VM: "web-1", VMID: "id-1"}, 10, 20),
		row(1, counter.Interface, "vnet1", store.Owner{Host: "h1"}, 20, 20)}
	late[1].Cells = nil
	if d := cmp.Diff([]report.Counted{one("lab", "h1", "web-1", "id-1", "vnet0", 20, 40)}, counted(late, nil, 1e9, 3e9)); d != "" {
		t.Error(d)
	}
	late[1].Owner.FromNS = 4e9 // the machine came later
	if got := counted(late, nil, 1e9, 3e9); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// A machine whose only taps filter or sample is not seen whole because of them.
func TestCountedReasons(t *testing.T) {
	c := counters{metered: func(context.Context) (map[string]plan.Metering, error) {
		return map[string]plan.Metering{"all": {Whole: true, Filtered: true}, "dns": {Filtered: true, Sampled: true}, "some": {Sampled: true}}, nil
	}}
	if d := cmp.Diff(map[string]string{"dns": report.ReasonFilter, "some": report.ReasonSampling}, c.reasons(t.Context())); d != "" {
		t.Error(d)
	}
}
