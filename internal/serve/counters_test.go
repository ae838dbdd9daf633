package serve

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/counter"
	"crosstap/internal/collect/report"
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
	c := &counters{table: counter.New(1)}
	c.setInventory(identity.NewBook(inv), inv.VNICs)
	row := func(a byte, class uint32, name string, in, out uint64) counter.Row {
		return counter.Row{Key: counter.Key{Agent: agent(a), Class: class}, Name: name, FromNS: 1e9, ToNS: 2e9, Amount: counter.Amount{InOctets: in, OutOctets: out}}
	}
	got := c.known.Load().counted([]counter.Row{
		row(1, counter.Interface, "vnet0", 10, 20), // h1's
		row(1, counter.Interface, "eth0", 30, 40),  // an uplink
		row(1, counter.Machine, "web-1", 20, 10),   // the same machine again
		row(1, counter.Machine, "new-1", 5, 6),     // not in the inventory
		row(2, counter.Interface, "vnet0", 50, 60), // h2's
		row(9, counter.Interface, "vnet5", 70, 80), // nobody knows the agent, but one port has the name
		row(9, counter.Interface, "vnet0", 90, 99), // and two have this one
		row(9, counter.Machine, "old-1", 7, 8),
	})
	one := func(fabric, host, vm, id, port string, sent, received uint64) report.Counted {
		return report.Counted{Fabric: fabric, Host: host, VM: vm, VMID: id, Port: port, From: time.Unix(1, 0), To: time.Unix(2, 0), OctetsSent: sent, OctetsReceived: received}
	}
	want := []report.Counted{
		one("default", "h1", "web-1", "id-1", "vnet0", 10, 20), one("lab", "h2", "db-1", "id-2", "vnet0", 50, 60), one("default", "h3", "mq-1", "", "vnet5", 70, 80),
		one("", "h1", "new-1", "", "", 6, 5), one("", "10.0.0.9", "old-1", "", "", 8, 7),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := (&adapters{}).counted([]counter.Row{row(1, counter.Interface, "vnet0", 1, 2)}); len(n) != 0 {
		t.Errorf("%+v", n)
	}
}

// TestStoredCounters: who reads a data directory without its server compares with what agents counted while it ran.
func TestStoredCounters(t *testing.T) {
	path := filepath.Join(t.TempDir(), counter.FileName)
	ask := func() []report.Counted {
		t.Helper()
		got, err := storedCounters{path}.Counters(t.Context(), time.Unix(0, 0), time.Unix(99, 0))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := ask(); len(got) > 0 {
		t.Errorf("without a file: %+v", got)
	}
	const file = `{"version":1,"known":{"VNICs":[{"VM":"web-1","VMID":"id-1","Host":"h1","Port":"vnet0","Fabric":"lab"}]}}
{"Agent":[0,0,0,0,0,0,0,0,0,0,255,255,10,0,0,1],"Domain":0,"Class":0,"Index":3,"name":"vnet0","last":{"recv_ns":2000000000},"minutes":[[1000000000,2000000000,10,20,1,2]],"hours":[]}
`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []report.Counted{{Fabric: "lab", Host: "h1", VM: "web-1", VMID: "id-1", Port: "vnet0", From: time.Unix(1, 0), To: time.Unix(2, 0), OctetsSent: 10, OctetsReceived: 20}}
	if d := cmp.Diff(want, ask()); d != "" {
		t.Error(d)
	}
	if err := os.WriteFile(path, []byte(file[:200]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (storedCounters{path}).Counters(t.Context(), time.Unix(0, 0), time.Unix(99, 0)); err == nil {
		t.Error("a damaged file gives counters")
	}
}

// A machine whose only taps filter or sample is not seen whole because of them.
func TestCountedReasons(t *testing.T) {
	all := []report.Counted{{VM: "all"}, {VM: "dns"}, {VM: "some"}, {VM: "none"}, {}}
	explain(all, map[string]plan.Metering{"all": {Whole: true, Filtered: true}, "dns": {Filtered: true, Sampled: true}, "some": {Sampled: true}})
	for i, want := range []string{"", report.ReasonFilter, report.ReasonSampling, "", ""} {
		if all[i].Reason != want {
			t.Errorf("%s: %q", all[i].VM, all[i].Reason)
		}
	}
}
