//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform/vsphere/vsim"
	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testns"
)

// One change for an Open vSwitch host and a vCenter that fails on the way: the host is done, the vCenter is as it was and is named, exit code 5. The
// next apply does what is left, and the number of the change brings back what was before it.
func TestPartlyApplied(t *testing.T) {
	db := ovstest.New(t, testns.New(t).Do)
	db.Switch()
	db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev")
	for _, vm := range []string{"web", "ids"} {
		db.Vsctl(fmt.Sprintf("add-port br-int %[1]s -- set interface %[1]s type=internal external_ids:iface-id=%[1]s external_ids:vm-uuid=%[1]s", vm))
	}
	v := newVCenter(t, vsim.Config{})
	text := v.platform(v.sim.User, "password") + fmt.Sprintf(`---
apiVersion: crosstap/v1
kind: Platform
metadata: {name: kvm-1}
spec: {kind: ovs, host: kvm-1, address: "unix:%s"}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids}
spec: {port: {vm: ids}}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: tool}
spec: {url: "gre://192.0.2.9"}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: web}
spec: {select: 'vm = web', destinations: [ids]}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: shop}
spec: {select: {vms: [%q]}, direction: ingress, destinations: [tool]}
`, db.Socket(), vm0)
	file := v.write("both.yaml", text)
	made := func(mirrors, sessions int) {
		t.Helper()
		if m, s := strings.Count(db.Vsctl("--no-headings --columns=name list mirror"), "crosstap-web"), len(v.sessions()); m != mirrors || s != sessions {
			t.Errorf("%d mirrors and %d sessions, want %d and %d", m, s, mirrors, sessions)
		}
	}
	says := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%q is not in:\n%s", w, out)
			}
		}
	}
	v.sim.Fail("ReconfigureDvs_Task", 1, &types.HostNotConnected{})
	out := v.crosstap(5, "apply", "-f", file)
	says(out, "kvm-1: done", "vc: rolled-back, 0 steps: ", "change 1: partly", "not done on vc, as it was there; the others are done")
	made(1, 0)
	says(v.crosstap(0, "history"), "apply   partly")
	says(v.crosstap(1, "diff"), "+ vc: ")

	says(v.crosstap(0, "apply"), "vc: done", "change 2: done")
	made(1, 1)
	v.crosstap(0, "diff")
	v.crosstap(0, "rollback", "1")
	made(0, 0)
}
