//go:build linux

package e2e

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/rpc/sshtest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// A kernel behind a real sshd is planned, tapped and left by the built binary, which is also the far end.
func TestKernelBehindSSH(t *testing.T) {
	testkit.Tool(t, "tc")
	h := sshtest.New(t)
	vm, tool := testns.New(t), testns.New(t)
	h.Space.Sh("ip link add br0 type bridge && ip link set br0 up; ip link add up0 type veth peer name eth0 netns NS && ip addr add 10.9.0.1/24 dev up0 && ip link set up0 up", tool)
	h.Space.Sh("ip link add vnet1 type veth peer name eth0 address 02:00:00:00:00:01 netns NS && ip link set vnet1 master br0 up", vm)
	vm.Sh("ip addr add 10.1.0.1/24 dev eth0 && ip link set eth0 up")
	h.Space.Up("vnet1")

	dir := t.TempDir()
	file := filepath.Join(dir, "tap.yaml")
	must(t, os.WriteFile(file, []byte(`apiVersion: crosstap/v1
kind: Destination
metadata: {name: ids}
spec: {url: "vxlan://10.9.0.9:4790?vni=7"}
---
apiVersion: crosstap/v1
kind: Tap
metadata: {name: web}
spec: {select: 'port = vnet1', direction: ingress, filter: udp port 53, destinations: [ids]}
`), 0o600))
	q := url.Values{"command": {binary(t) + " platform"}, "libvirt": {"none"}}
	at := fmt.Sprintf("kvm@linux=ssh://%s@%s?%s", h.SSH.User, sshtest.Name, q.Encode())
	crosstap := func(code int, args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), binary(t), append(args, "--platform", at)...)
		c.Env = append(os.Environ(), "PATH="+h.Dir()+":"+os.Getenv("PATH"))
		return printed(t, code, nil, c)
	}
	state := filepath.Join(dir, "state.db")
	filters := func() string {
		t.Helper()
		var out []byte
		must(t, h.Space.Do(func() (err error) {
			out, err = exec.Command("tc", "filter", "show", "dev", "vnet1", "ingress").CombinedOutput()
			return err
		}))
		return string(out)
	}
	if out := crosstap(0, "get", "ports"); !strings.Contains(out, "vnet1") || !strings.Contains(out, "02:00:00:00:00:01") {
		t.Errorf("ports:\n%s", out)
	}
	crosstap(0, "apply", "-f", file, "--state", state)
	if got := filters(); !strings.Contains(got, "mirred (Egress Mirror to device crosstap-") {
		t.Errorf("filters there:\n%s", got)
	}
	if out := crosstap(0, "apply", "-f", file, "--state", state); !strings.Contains(out, "nothing to do") {
		t.Errorf("a second time:\n%s", out)
	}
	crosstap(0, "delete", "-f", file, "--state", state)
	// A filter that no frame meets keeps the qdisc until the far end sees that the port is silent.
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("left there:\n%s", filters())
		}
	})
	testkit.Eventually(t, "nothing is left there", func() bool { return strings.TrimSpace(filters()) == "" })
}
