package vsphere

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/platformtest"
	"crosstap/internal/control/platform/vsphere/vsim"
)

// TestContract is the contract of all platforms. It runs on the simulator, and on a real vCenter when CROSSTAP_VCENTER_URL says where one is
// (docs/guide/vsphere.md): there it touches the sessions that it makes, and nothing else.
func TestContract(t *testing.T) {
	t.Parallel()
	platformtest.Run(t, func(t *testing.T) *platformtest.Place {
		if address := os.Getenv("CROSSTAP_VCENTER_URL"); address != "" {
			return realPlace(t, address)
		}
		return simulatedPlace(t)
	})
}

// realPlace is a vCenter that others use, too.
func realPlace(t *testing.T, address string) *platformtest.Place {
	t.Helper()
	v, err := New(Config{Name: "vc", Address: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	place := &platformtest.Place{Platform: v, Shared: true}
	vm, tool := os.Getenv("CROSSTAP_VCENTER_VM"), os.Getenv("CROSSTAP_VCENTER_TOOL")
	if vm == "" {
		return place // only read
	}
	to, err := netip.ParseAddr(tool)
	if err != nil {
		t.Fatalf("CROSSTAP_VCENTER_TOOL %q must be an address", tool)
	}
	place.Session = func(t *testing.T, now *platform.Snapshot, policy string) platform.Session {
		p := vmPort(now, vm)
		if p == nil || now.Switches[p.Switch].Kind != platform.SwitchDistributed {
			t.Fatalf("CROSSTAP_VCENTER_VM %q must have a distributed port", vm)
		}
		return contractSession(policy, p, to)
	}
	place.Change = longer
	return place
}

func contractSession(policy string, p *platform.Port, to netip.Addr) platform.Session {
	return platform.Session{
		Mark: platform.Mark{Owner: platformtest.Owner, Policy: policy, Part: "dvs", Digest: "1"}, Method: platform.MethodRemoteMirror, Switch: p.Switch,
		Sources: []platform.Source{{Port: p.ID, Dir: platform.Ingress}},
		Outputs: []platform.Output{{Name: "tool", Encap: platform.EncapERSPAN2, Addr: to, Key: 1 + uint32(len(policy))}},
	}
}

func longer(s platform.Session) platform.Session {
	s.Slice, s.Sample, s.Mark.Digest = 128, 2, "2"
	return s
}

// simulatedPlace is a vCenter of its own. A port stays with its switch when its adapter goes, and sessions have no leases: both parts are left
// out.
func simulatedPlace(t *testing.T) *platformtest.Place {
	t.Helper()
	sim, v := simulate(t, vsim.Config{VMs: 2})
	client, f := admin(t, sim)
	ofOurs := func(t *testing.T, change func(types.VMwareVspanSession) types.VMwareDVSVspanConfigSpec) {
		t.Helper()
		editSessions(t, client, f, func(list []types.VMwareVspanSession) (out []types.VMwareDVSVspanConfigSpec) {
			for _, s := range list {
				if strings.HasPrefix(s.Name, platform.MarkPrefix) {
					out = append(out, change(s))
				}
			}
			return out
		})
	}
	return &platformtest.Place{
		Platform: v,
		Session: func(t *testing.T, now *platform.Snapshot, policy string) platform.Session {
			p := vmPort(now, vm0)
			if p == nil {
				t.Fatalf("%s has no port", vm0)
			}
			return contractSession(policy, p, netip.MustParseAddr("192.0.2.9"))
		},
		Change: longer,
		State: func(t *testing.T) string {
			var out []string
			editSessions(t, client, f, func(list []types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
				for _, s := range list {
					out = append(out, fmt.Sprintf("%s %s %v %v %+v", s.Key, s.Name, s.Enabled, s.MirroredPacketLength, s.DestinationPort.IpAddress))
				}
				return nil
			})
			return strings.Join(out, "\n")
		},
		Foreign: func(t *testing.T) {
			editSessions(t, client, f, func([]types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
				return []types.VMwareDVSVspanConfigSpec{{Operation: "add", VspanSession: types.VMwareVspanSession{
					Name: "ops", SessionType: encapsulated, DestinationPort: &types.VMwareVspanPort{IpAddress: []string{"192.0.2.200"}},
				}}}
			})
		},
		Meddle: func(t *testing.T, _ platform.Session) string {
			ofOurs(t, func(s types.VMwareVspanSession) types.VMwareDVSVspanConfigSpec {
				s.Enabled = false
				return types.VMwareDVSVspanConfigSpec{Operation: "edit", VspanSession: s}
			})
			return "enabled"
		},
		Break: func(t *testing.T, _ platform.Session) {
			ofOurs(t, func(s types.VMwareVspanSession) types.VMwareDVSVspanConfigSpec {
				return types.VMwareDVSVspanConfigSpec{Operation: "remove", VspanSession: s}
			})
		},
		Appear: func(t *testing.T) {
			vm, err := f.VirtualMachine(t.Context(), vm1)
			if err != nil {
				t.Fatal(err)
			}
			addNIC(t, f, vm, "DC0_DVPG0")
		},
		Vanish: func(t *testing.T) { removeNIC(t, f, vm1) },
		Is:     func(s *platform.Snapshot) bool { return len(vmPorts(s, vm1)) > 1 },
	}
}

// removeNIC takes a machine's last adapter away.
func removeNIC(t *testing.T, f *find.Finder, name string) {
	t.Helper()
	vm, err := f.VirtualMachine(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	devices, err := vm.Device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cards := devices.SelectByType((*types.VirtualEthernetCard)(nil))
	if err := vm.RemoveDevice(t.Context(), false, cards[len(cards)-1]); err != nil {
		t.Fatal(err)
	}
}

// TestContractOfSessions is what must hold of sessions on every vCenter, in the words of vSphere.
func TestContractOfSessions(t *testing.T) {
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
