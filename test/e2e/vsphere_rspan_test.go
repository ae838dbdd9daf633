//go:build linux

package e2e

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform/vsphere/vsim"
)

// Both ends of mirroring into a VLAN (RSPAN), through the built binary: sessions of the types remoteMirrorSource and remoteMirrorDest.
func TestVSphereRSPAN(t *testing.T) {
	v := newVCenter(t, vsim.Config{})
	v.edit("add", types.VMwareVspanSession{
		Name: "ops", SessionType: "remoteMirrorSource", EncapsulationVlanId: 300, SamplingRate: 1, DestinationPort: &types.VMwareVspanPort{UplinkPortName: []string{"dvUplink1"}},
	})
	foreign := v.sessions()[0].Key
	resources := func(vlan, more string) string {
		return v.platform(v.sim.User, "password") + strings.ReplaceAll(`---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: wire}
spec: {url: "rspan:VLAN?uplink=dvUplink1"}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids}
spec: {port: {vm: "`+vm2+`"}}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: from}
spec: {select: {vms: ["`+vm0+`", "`+vm1+`"]}, direction: ingress, destinations: [wire]}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: to}
spec: {from: "rspan:VLAN", destinations: [ids]}
`, "VLAN", vlan) + more
	}
	file := v.write("rspan.yaml", resources("99", ""))
	if out := v.crosstap(0, "plan", "-f", file); !strings.Contains(out, "EncapsulationVlanId=99") || !strings.Contains(out, "Vlans=@(99)") || !strings.Contains(out, "what comes in on rspan:99") {
		t.Errorf("plan:\n%s", out)
	}
	v.crosstap(0, "apply", "-f", file)
	if out := v.crosstap(0, "apply", "-f", file); !strings.Contains(out, "nothing to do") {
		t.Errorf("a second time:\n%s", out)
	}
	ends := func() (from, to types.VMwareVspanSession) {
		t.Helper()
		for _, s := range v.sessions() {
			switch {
			case s.Key == foreign:
			case s.SessionType == "remoteMirrorSource":
				from = s
			case s.SessionType == "remoteMirrorDest":
				to = s
			}
		}
		return from, to
	}
	from, to := ends()
	if len(v.sessions()) != 3 || from.EncapsulationVlanId != 99 || strings.Join(from.DestinationPort.UplinkPortName, " ") != "dvUplink1" || len(from.SourcePortReceived.PortKey) != 2 ||
		to.SourcePortReceived.Vlans[0] != 99 || strings.Join(to.DestinationPort.PortKey, " ") != strings.Join(v.portKeys(vm2), " ") || !to.Enabled {
		t.Errorf("sessions %+v", v.sessions())
	}
	copies := func(want string) {
		t.Helper()
		v.sim.Received(vm2, 0)
		v.send(vm0, vm1, 3)
		v.send(vm3, vm0, 1) // of a machine that is no source
		if got := tsharkFields(t, v.sim.Received(vm2, 0), 1, "-e", "vlan.id", "-e", "udp.dstport"); got != want {
			t.Errorf("tshark says %q, want %q", got, want)
		}
	}
	copies(strings.Repeat("99;5000\n", 3))

	// both machines migrate: nothing has to be done
	v.migrate(vm0, "DC0_C0_H1")
	v.migrate(vm2, "DC0_C0_H0")
	v.migrate(vm2, "DC0_C0_H1")
	v.crosstap(0, "diff")
	copies(strings.Repeat("99;5000\n", 3))

	// somebody changes what lands
	to.SourcePortReceived.Vlans = []int32{98}
	v.edit("edit", to)
	if out := v.crosstap(1, "diff"); !strings.Contains(out, `vlans is "98", not "99"`) {
		t.Errorf("drift:\n%s", out)
	}
	v.crosstap(0, "apply", "-f", file)
	copies(strings.Repeat("99;5000\n", 3))

	// what cannot be is refused, and what exists goes on
	wrong := v.write("wrong.yaml", strings.ReplaceAll(resources("99", ""), "dvUplink1", "vmnic7"))
	if out := v.crosstap(7, "apply", "-f", wrong); !strings.Contains(out, `the switch has no uplink "vmnic7"; name one of: dvUplink1; until then the copies that exist go on`) {
		t.Errorf("another uplink:\n%s", out)
	}
	v.crosstap(0, "apply", "-f", file)
	also := v.write("also.yaml", "apiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: too}\nspec: {from: \"rspan:97\", destinations: [ids]}\n")
	if out := v.crosstap(7, "apply", "-f", also); !strings.Contains(out, "is the destination of tap to, and a port is that of one session only") {
		t.Errorf("two taps for one port:\n%s", out)
	}
	v.crosstap(0, "delete", "tap", "too")
	copies(strings.Repeat("99;5000\n", 3))

	// another VLAN; the vCenter fails on the way, and nothing has changed; then it does, and that is rolled back
	next := v.write("next.yaml", resources("98", ""))
	v.sim.Fail("ReconfigureDvs_Task", 1, &types.HostNotConnected{})
	v.crosstap(1, "apply", "-f", next)
	copies(strings.Repeat("99;5000\n", 3))
	out := v.crosstap(0, "apply", "-f", next)
	copies(strings.Repeat("98;5000\n", 3))
	_, number, _ := strings.Cut(out, "change ")
	number, _, _ = strings.Cut(number, ":")
	v.crosstap(0, "rollback", number)
	copies(strings.Repeat("99;5000\n", 3))

	v.crosstap(0, "delete", "-f", file)
	if left := v.sessions(); len(left) != 1 || left[0].Key != foreign || left[0].EncapsulationVlanId != 300 {
		t.Errorf("left: %+v", left)
	}
}
