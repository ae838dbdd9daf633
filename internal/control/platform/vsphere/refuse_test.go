package vsphere

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	if _, err := sim.AddVMKernel("DC0_C0_H0", "DC0_DVPG0", "vmk1"); err != nil {
		t.Fatal(err)
	}
	s := read(t, v)
	a, tool := vmPort(s, vm0), vmPort(s, vm2)
	var kernel, uplink *platform.Port
	for _, p := range platform.Sorted(s.Ports) {
		switch {
		case p.Switch == a.Switch && p.Kind == platform.PortKernel:
			kernel = p
		case p.Switch == a.Switch && p.Kind == platform.PortUplink:
			uplink = p
		}
	}
	if kernel == nil || uplink == nil {
		t.Fatal("no vmkernel adapter or uplink on the distributed switch")
	}
	f := func(reason platform.Reason, words string, change func(*platform.Session)) {
		t.Helper()
		want := remoteSession(t, s, "web", vm0)
		change(&want)
		steps, refused := v.Steps(s, platform.Want{Owner: "me", Sessions: []platform.Session{want}})
		if len(steps) != 0 || len(refused) == 0 || refused[0].Reason != reason || !strings.Contains(refused[0].Message, words) {
			t.Errorf("%s %q: got %d steps, %+v", reason, words, len(steps), refused)
		}
	}
	from := func(p *platform.Port) func(*platform.Session) {
		return func(s *platform.Session) { s.Sources = []platform.Source{{Port: p.ID, Dir: platform.Both}} }
	}
	output := func(o platform.Output) func(*platform.Session) {
		o.Name = "ids"
		return func(s *platform.Session) { s.Outputs = []platform.Output{o} }
	}
	there := netip.MustParseAddr("192.0.2.9")
	f(platform.ReasonKernelPort, "vmkernel", from(kernel))
	f(platform.ReasonUplink, "uplink", from(uplink))
	f(platform.ReasonNoMatch, "not on this switch", from(&platform.Port{ID: "dvs-0/999"}))
	f(platform.ReasonNoMatch, "no source", func(s *platform.Session) { s.Sources = nil })
	f(platform.ReasonNoMatch, "no destination", func(s *platform.Session) { s.Outputs = nil })
	f(platform.ReasonCapability, "only distributed switches", func(s *platform.Session) { s.Switch = kernel.Host + "/vSwitch0" })
	f(platform.ReasonCapability, "can have a lease", func(s *platform.Session) { s.Lease.TTL = time.Minute })
	f(platform.ReasonCapability, "no filter", func(s *platform.Session) { s.Filter = "tcp" })
	f(platform.ReasonCapability, "all their VLANs", func(s *platform.Session) { s.VLANs = []uint16{3} })
	f(platform.ReasonCapability, "59 bytes", func(s *platform.Session) { s.Slice = 59 })
	f(platform.ReasonCapability, "one packet in 65536", func(s *platform.Session) { s.Sample = 65536 })
	f(platform.ReasonCapability, "session 1024", output(platform.Output{Encap: platform.EncapERSPAN3, Addr: there, Key: 1024}))
	f(platform.ReasonCapability, "no key", output(platform.Output{Encap: platform.EncapGRE, Addr: there, Key: 1}))
	f(platform.ReasonCapability, "as vxlan", output(platform.Output{Encap: platform.EncapVXLAN, Addr: there}))
	f(platform.ReasonNoMatch, "no address", output(platform.Output{Encap: platform.EncapGRE}))
	f(platform.ReasonNoMatch, "need an uplink", output(platform.Output{Encap: platform.EncapVLAN, VLAN: 5}))
	f(platform.ReasonCapability, "VLAN 4095", output(platform.Output{Encap: platform.EncapVLAN, VLAN: 4095, Port: uplink.ID}))
	f(platform.ReasonCapability, "does not do agent", func(s *platform.Session) { s.Method = platform.MethodAgent })
	local := func(o platform.Output, sources ...*platform.Port) func(*platform.Session) {
		return func(s *platform.Session) {
			s.Method = platform.MethodMirror
			s.Sources = nil
			for _, p := range sources {
				s.Sources = append(s.Sources, platform.Source{Port: p.ID, Dir: platform.Ingress})
			}
			output(o)(s)
		}
	}
	f(platform.ReasonCapability, "no port of a machine", local(platform.Output{Port: uplink.ID}, a))
	f(platform.ReasonDestination, "its own port", local(platform.Output{Port: a.ID}, a))
	f(platform.ReasonNoMatch, "is not on this switch", local(platform.Output{Port: "elsewhere/1"}, a))
	flows := func(e platform.Export) func(*platform.Session) {
		return func(s *platform.Session) { s.Method, s.Outputs, s.Flows = platform.MethodFlowsOnly, nil, &e }
	}
	to := netip.MustParseAddrPort("192.0.2.9:4739")
	f(platform.ReasonCapability, "not sflow", flows(platform.Export{Protocol: "sflow", To: to}))
	f(platform.ReasonCapability, "active timeout 30s", flows(platform.Export{To: to, Active: 30 * time.Second}))
	f(platform.ReasonCapability, "idle timeout 5s", flows(platform.Export{To: to, Idle: 5 * time.Second}))
	f(platform.ReasonCapability, "16384 at most", flows(platform.Export{To: to, Sampling: 20000}))
	f(platform.ReasonCapability, "no collector", flows(platform.Export{}))
	capture := func(c platform.Capture, host string) func(*platform.Session) {
		return func(s *platform.Session) {
			s.Method, s.Sources, s.Outputs, s.Capture, s.Host = platform.MethodPromiscuous, nil, nil, &c, host
		}
	}
	nic := platform.CaptureNIC{Switch: a.Switch, Kind: platform.SwitchDistributed, Group: "crosstap-span"}
	f(platform.ReasonNoMatch, "no template", capture(platform.Capture{VM: "cap", NICs: []platform.CaptureNIC{nic}}, a.Host))
	f(platform.ReasonNoMatch, "no capture VM, adapter or host", capture(platform.Capture{VM: "cap", Image: "x"}, a.Host))
	many := platform.Capture{VM: "cap", Image: "x"}
	for range 11 {
		many.NICs = append(many.NICs, nic)
	}
	f(platform.ReasonLimit, "10 adapters", capture(many, a.Host))
	tenants := nic
	tenants.Group = "DC0_DVPG0"
	f(platform.ReasonConflict, "begins with crosstap-", capture(platform.Capture{VM: "cap", Image: "x", NICs: []platform.CaptureNIC{tenants}}, a.Host))

	t.Run("an address of a source", func(t *testing.T) {
		_, fd := admin(t, sim)
		vm, err := fd.VirtualMachine(t.Context(), vm0)
		if err != nil {
			t.Fatal(err)
		}
		task, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "SET.guest.ipAddress", Value: "192.0.2.9"}}})
		done(t, task, err)
		s = read(t, v)
		f(platform.ReasonDestination, "would be copied", func(*platform.Session) {})
	})
	t.Run("older switches", func(t *testing.T) {
		sim.SetCapability("DVS0", func(c *types.VMwareDVSFeatureCapability) {
			c.VspanCapability = &types.VMwareDVSVspanCapability{MixedDestSupported: true}
			c.IpfixSupported, c.IpfixCapability = nil, nil
		})
		s = read(t, v)
		f(platform.ReasonCapability, "cannot do remote-mirror", func(*platform.Session) {})
		f(platform.ReasonCapability, "cannot export flows", flows(platform.Export{To: to}))
	})
	_ = tool
}

func TestPromiscuousPortGroupIsNoDestination(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	client, f := admin(t, sim)
	group, err := f.Network(t.Context(), "DC0_DVPG0")
	if err != nil {
		t.Fatal(err)
	}
	task, err := object.NewDistributedVirtualPortgroup(client.Client, group.Reference()).Reconfigure(t.Context(), types.DVPortgroupConfigSpec{
		ConfigVersion:     groupVersion(t, mustConnect(t, v), group.Reference()),
		DefaultPortConfig: &types.VMwareDVSPortSetting{MacManagementPolicy: &types.DVSMacManagementPolicy{AllowPromiscuous: types.NewBool(true)}},
	})
	done(t, task, err)
	s := read(t, v)
	if o := objectsOf(s, kindGroup); len(o) != 1 || !o[0].Mark.IsZero() {
		t.Errorf("a port group that shows everything is told: %+v", o)
	}
	want := remoteSession(t, s, "web", vm0)
	_, refused := v.Steps(s, platform.Want{Owner: "me", Sessions: []platform.Session{want}})
	if len(refused) != 1 || refused[0].Reason != platform.ReasonPromiscuous || !strings.Contains(refused[0].Fix, "ingress") {
		t.Errorf("refused: %+v", refused)
	}
	want.Sources[0].Dir = platform.Ingress
	do(t, v, want)
	settled(t, v, want)
}

func TestSessionLimit(t *testing.T) {
	t.Parallel()
	sim, _ := simulate(t, vsim.Config{MaxSessions: 2})
	v := dialAs(t, sim, sim.User, sim.Password, map[string]string{"max-sessions": "2"})
	s := read(t, v)
	want := []platform.Session{remoteSession(t, s, "one", vm0), remoteSession(t, s, "two", vm1), remoteSession(t, s, "three", vm2)}
	steps, refused := v.Steps(s, platform.Want{Owner: "me", Sessions: want})
	if len(steps) != 2 || len(refused) != 1 || refused[0].Policy != "three" || refused[0].Reason != platform.ReasonLimit {
		t.Errorf("%d steps, refused %+v", len(steps), refused)
	}
	for _, st := range steps {
		if err := v.Apply(t.Context(), st); err != nil {
			t.Fatal(err)
		}
	}
	free := dialAs(t, sim, sim.User, sim.Password, nil)
	st := plan(t, free, s, want[2])[0]
	if err := free.Apply(t.Context(), st); err == nil || !strings.Contains(err.Error(), "the limit of vspanSession is 2") {
		t.Errorf("the server's own limit: %v", err)
	}
}

// TestHostsShareASession is the plan of a tap on machines of two hosts: one session of the switch, which no migration changes.
func TestHostsShareASession(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	planned := func(s *platform.Snapshot) (out []platform.Session) {
		for _, h := range platform.Sorted(s.Hosts) {
			x := remoteSession(t, s, "web")
			x.Host, x.Mark.Part = h.ID, "DVS0."+h.Name+".remote"
			for _, vm := range []string{vm0, vm1, vm2} {
				if p := vmPort(s, vm); p.Host == h.ID {
					x.Sources = append(x.Sources, platform.Source{Port: p.ID, Dir: platform.Both})
				}
			}
			if len(x.Sources) > 0 {
				out = append(out, x)
			}
		}
		return out
	}
	s := read(t, v)
	if n := len(planned(s)); n != 2 {
		t.Fatalf("%d hosts", n)
	}
	if steps := do(t, v, planned(s)...); len(steps) != 1 || steps[0].Host != "" {
		t.Fatalf("steps: %+v", steps)
	}
	o := objectsOf(read(t, v), kindSession)
	if len(o) != 1 || len(o[0].Sources) != 3 || o[0].Mark.Part != "DVS0.remote" {
		t.Fatalf("sessions: %+v", o)
	}
	relocate(t, sim, vmPort(s, vm1).Host, vm0, vm2)
	s = read(t, v)
	if n := len(planned(s)); n != 1 {
		t.Fatalf("after the migration: %d hosts", n)
	}
	for _, st := range plan(t, v, s, planned(s)...) {
		t.Errorf("a migration needs no step: %s %s", st.Object, st.Why)
	}
}
