package vsphere

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

// TestCaptureCutOff breaks the making of a capture VM at each of its calls; the next attempt completes it.
func TestCaptureCutOff(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{VMs: 2})
	s := read(t, v)
	h := platform.Sorted(s.Hosts)[0]
	want := platform.Session{Mark: mark("all", "1"), Method: platform.MethodPromiscuous, Host: h.ID, Capture: &platform.Capture{
		VM: "crosstap-capture", Image: vm1, NICs: []platform.CaptureNIC{
			{Switch: switchNamed(t, s, "DVS0").ID, Kind: platform.SwitchDistributed, Group: "crosstap-span-DVS0"},
			{Switch: h.ID + "/vSwitch0", Kind: platform.SwitchStandard, Group: "crosstap-span-vSwitch0"},
		},
	}}
	for _, method := range []string{"CloneVM_Task", "ReconfigVM_Task", "ReconfigureComputeResource_Task", "AddDVPortgroup_Task", "AddPortGroup", "PowerOnVM_Task"} {
		sim.Fail(method, 1, &types.HostNotConnected{})
		failed := 0
		for range 3 {
			failed += applyAll(t, v, plan(t, v, read(t, v), want))
		}
		if failed != 1 {
			t.Errorf("%s: %d steps failed, want one", method, failed)
		}
		settled(t, v, want)
		do(t, v)
		if now := read(t, v); len(now.Objects) != 0 || len(now.VMs) != 2 {
			t.Errorf("%s: left %+v, %d machines", method, platform.Sorted(now.Objects), len(now.VMs))
		}
	}
}

// applyAll applies until a step fails, and returns how many did.
func applyAll(t *testing.T, v *VSphere, steps []platform.Step) int {
	t.Helper()
	for _, s := range steps {
		if err := v.Apply(t.Context(), s); err != nil {
			t.Logf("%s %s: %v", s.Action, s.Object, err)
			return 1
		}
	}
	return 0
}

// TestRandomEdits lets policies, machines and an administrator change at random, with conflicts and lost sessions in between; at the end
// everything is as wanted, and what is the administrator's is as the administrator left it.
func TestRandomEdits(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{MaxSessions: 64})
	r := rand.New(rand.NewPCG(8, 8))
	client, f := admin(t, sim)
	vms := []string{vm0, vm1, vm2, vm3}
	hosts := platform.Sorted(read(t, v).Hosts)
	taps := map[string][]string{}
	digests := 0
	wanted := func(s *platform.Snapshot) (out []platform.Session) {
		for _, name := range keys(taps) {
			x := remoteSession(t, s, name, taps[name]...)
			x.Mark.Digest = fmt.Sprint(digests)
			out = append(out, x)
		}
		return out
	}
	foreign := 0
	for i := range 60 {
		switch r.IntN(7) {
		case 0, 1:
			n := 1 + r.IntN(len(vms))
			var some []string
			for _, k := range r.Perm(len(vms))[:n] {
				some = append(some, vms[k])
			}
			taps[fmt.Sprintf("tap%d", r.IntN(4))] = some
			digests++
		case 2:
			delete(taps, fmt.Sprintf("tap%d", r.IntN(4)))
		case 3:
			relocate(t, sim, hosts[r.IntN(len(hosts))].ID, vms[r.IntN(len(vms))])
		case 4:
			foreign++
			editSessions(t, client, f, func([]types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
				return []types.VMwareDVSVspanConfigSpec{{Operation: "add", VspanSession: types.VMwareVspanSession{
					Name: fmt.Sprintf("ops-%d", i), SessionType: encapsulated, DestinationPort: &types.VMwareVspanPort{IpAddress: []string{"192.0.2.200"}},
				}}}
			})
		case 5:
			editSessions(t, client, f, func(list []types.VMwareVspanSession) []types.VMwareDVSVspanConfigSpec {
				for k := range list {
					if !platform.ParseMark(list[k].Description).IsZero() {
						if r.IntN(2) == 0 {
							return []types.VMwareDVSVspanConfigSpec{{Operation: "remove", VspanSession: list[k]}}
						}
						list[k].SamplingRate = int32(2 + r.IntN(100))
						return edit(list[k])
					}
				}
				return nil
			})
		case 6:
			sim.Conflict(r.IntN(3))
		}
		s := read(t, v)
		for _, st := range plan(t, v, s, wanted(s)...) {
			if err := v.Apply(t.Context(), st); err != nil && !errors.Is(err, platform.ErrChanged) {
				t.Fatalf("edit %d: %s %s: %v", i, st.Action, st.Object, err)
			}
		}
		sim.Conflict(0) // what is left of them is not the administrator's
	}
	s := read(t, v)
	do(t, v, wanted(s)...)
	settled(t, v, wanted(read(t, v))...)
	ours, theirs := 0, 0
	for _, o := range objectsOf(read(t, v), kindSession) {
		if o.Mark.IsZero() {
			theirs++
		} else {
			ours++
		}
	}
	if ours != len(taps) || theirs != foreign {
		t.Errorf("%d sessions of ours, want %d; %d of others, want %d", ours, len(taps), theirs, foreign)
	}
}
