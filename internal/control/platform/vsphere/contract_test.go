package vsphere

import (
	"net/netip"
	"os"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

// TestContract is what must hold on every vCenter. It runs on the simulator, and on a real one when CROSSTAP_VCENTER_URL says where it is
// (docs/guide/vsphere.md): there it touches the session that it makes, and nothing else.
func TestContract(t *testing.T) {
	t.Parallel()
	address, vm, tool := os.Getenv("CROSSTAP_VCENTER_URL"), os.Getenv("CROSSTAP_VCENTER_VM"), os.Getenv("CROSSTAP_VCENTER_TOOL")
	var v *VSphere
	if address == "" {
		_, v = simulate(t, vsim.Config{VMs: 2})
		vm, tool = vm0, "192.0.2.9"
	} else {
		var err error
		if v, err = New(Config{Name: "vc", Address: address}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = v.Close() })
	}
	s := read(t, v)
	t.Logf("%d hosts, %d switches, %d machines, %d ports, %d objects", len(s.Hosts), len(s.Switches), len(s.VMs), len(s.Ports), len(s.Objects))
	consistent(t, s)
	w := watch(t, v)
	w.until("what was read", func(now *platform.Snapshot) bool {
		return len(now.Hosts) == len(s.Hosts) && len(now.Switches) == len(s.Switches)
	})
	if vm == "" {
		t.Skip("no CROSSTAP_VCENTER_VM: only read")
	}
	p := vmPort(s, vm)
	to, err := netip.ParseAddr(tool)
	if p == nil || s.Switches[p.Switch].Kind != platform.SwitchDistributed || err != nil {
		t.Fatalf("CROSSTAP_VCENTER_VM %q must have a distributed port, and CROSSTAP_VCENTER_TOOL %q be an address", vm, tool)
	}
	if missing, err := v.Missing(t.Context(), platform.MethodRemoteMirror, p.Switch); err != nil || len(missing) > 0 {
		t.Fatalf("the account lacks %q: %v", missing, err)
	}
	before := objectsOf(s, kindSession)
	want := platform.Session{
		Mark: platform.Mark{Owner: "crosstap-contract", Policy: "contract", Digest: "1"}, Method: platform.MethodRemoteMirror, Switch: p.Switch,
		Sources: []platform.Source{{Port: p.ID, Dir: platform.Ingress}},
		Outputs: []platform.Output{{Name: "tool", Encap: platform.EncapERSPAN2, Addr: to, Key: 1}},
	}
	steps := func(want ...platform.Session) []platform.Step {
		t.Helper()
		steps, refused := v.Steps(read(t, v), platform.Want{Owner: "crosstap-contract", Sessions: want})
		for _, r := range refused {
			t.Fatalf("refused: %+v", r)
		}
		return steps
	}
	apply := func(list []platform.Step) {
		t.Helper()
		for _, st := range list {
			if err := v.Apply(t.Context(), st); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := steps(want)
	defer func() { apply(steps()) }()
	apply(first)
	if left := steps(want); len(left) != 0 {
		t.Errorf("after apply: %s", left[0].Why)
	}
	w.until("the session in the watch", func(now *platform.Snapshot) bool { return len(objectsOf(now, kindSession)) == len(before)+1 })
	want.Slice, want.Sample, want.Mark.Digest = 128, 2, "2"
	apply(steps(want))
	if left := steps(want); len(left) != 0 {
		t.Errorf("after a change: %s", left[0].Why)
	}
	apply(steps())
	after := read(t, v)
	for _, o := range before {
		if now := after.Objects[o.ID]; now == nil || len(differ(now.Raw, o.Raw)) > 0 {
			t.Errorf("session %q of somebody else has changed: %+v", o.Name, now)
		}
	}
	if n := len(objectsOf(after, kindSession)); n != len(before) {
		t.Errorf("%d sessions, %d before", n, len(before))
	}
}

// consistent wants every reference of an inventory to lead somewhere.
func consistent(t *testing.T, s *platform.Snapshot) {
	t.Helper()
	for _, p := range s.Ports {
		if s.Switches[p.Switch] == nil || p.Host != "" && s.Hosts[p.Host] == nil || p.VM != "" && s.VMs[p.VM] == nil {
			t.Errorf("port %s leads nowhere: %+v", p.ID, p)
		}
	}
	for _, vm := range s.VMs {
		if vm.Host != "" && s.Hosts[vm.Host] == nil {
			t.Errorf("machine %s is on no host: %+v", vm.Name, vm)
		}
	}
	for _, o := range s.Objects {
		if o.Switch != "" && s.Switches[o.Switch] == nil {
			t.Errorf("object %s leads nowhere: %+v", o.ID, o)
		}
	}
}
