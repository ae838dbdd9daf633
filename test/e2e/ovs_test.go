//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// An Open vSwitch that is reached by TLS alone, with certificates of ovs-pki: planned, tapped with a filter, its rows of flow records made, and left
// by the built binary.
func TestOpenVSwitchOverSSL(t *testing.T) {
	testkit.Tool(t, "ovs-pki")
	host := testns.New(t)
	dir := t.TempDir()
	host.Sh("cd " + dir + " && ovs-pki --dir=pki --log=log init >/dev/null 2>&1 && ovs-pki --dir=pki --log=log -b req+sign sw switch >/dev/null 2>&1 && ovs-pki --dir=pki --log=log -b req+sign ctl controller >/dev/null 2>&1")
	file := func(name string) string { return filepath.Join(dir, name) }
	own := []string{file("sw-privkey.pem"), file("sw-cert.pem"), file("pki/controllerca/cacert.pem")}
	db := ovstest.New(t, host.Do, "--remote=pssl:6640:127.0.0.1", "--private-key="+own[0], "--certificate="+own[1], "--ca-cert="+own[2])
	db.Switch()
	db.Vsctl("set-ssl " + strings.Join(own, " "))
	db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int vnet1 -- set interface vnet1 type=internal external_ids:vm-uuid=web external_ids:iface-id=web")
	text := fmt.Sprintf(`apiVersion: crosstap/v1
kind: Platform
metadata: {name: kvm}
spec:
  kind: ovs
  address: ssl:127.0.0.1
  openflow: ssl:127.0.0.1
  host: kvm
  tls: {ca: %s, cert: %s, key: %s}
  options: {bridge: taps, sflow-header: "96", sflow-polling: "5"}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids}
spec: {url: "gre://192.0.2.9?key=7"}
---
apiVersion: crosstap/v1
kind: Destination
metadata: {name: collector}
spec: {url: "sflow://192.0.2.9"}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: web}
spec: {select: 'vm = web', direction: ingress, filter: udp port 53, destinations: [ids]}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: flows}
spec: {select: 'vm = web', method: flows-only, flows: {protocol: sflow, sampling: 64}, destinations: [collector]}
`, file("pki/switchca/cacert.pem"), file("ctl-cert.pem"), file("ctl-privkey.pem"))
	policy := file("taps.yaml")
	must(t, os.WriteFile(policy, []byte(text), 0o600))
	crosstap := func(code int, args ...string) string {
		t.Helper()
		return printed(t, code, host.Do, exec.CommandContext(t.Context(), binary(t), append(args, "--state", file("state.db"))...))
	}
	if out := crosstap(0, "plan", "-f", policy); !strings.Contains(out, "set-controller taps pssl:6653:127.0.0.1") || !strings.Contains(out, "header=96 polling=5 sampling=64") {
		t.Errorf("plan:\n%s", out)
	}
	crosstap(0, "apply", "-f", policy)
	crosstap(0, "diff")
	if got := db.Vsctl("get-controller taps") + " " + db.Vsctl("--no-headings --columns=header,polling,sampling list sflow"); strings.Join(strings.Fields(got), " ") != "pssl:6653:127.0.0.1 96 5 64" {
		t.Errorf("made: %s", got)
	}
	crosstap(0, "delete", "-f", policy)
	if left := db.Vsctl("list-br") + db.Vsctl("--no-headings list mirror") + db.Vsctl("--no-headings list sflow") + db.Vsctl("--no-headings list controller"); strings.TrimSpace(left) != "br-int" {
		t.Errorf("left: %s", left)
	}
}
