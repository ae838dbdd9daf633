//go:build linux

package linux

import (
	"fmt"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/platformtest"
)

// TestContract tries the platform on a real kernel. It has no leases: filters in the kernel end with the control line's word alone.
func TestContract(t *testing.T) {
	platformtest.Run(t, func(t *testing.T) *platformtest.Place {
		l := newLab(t)
		l.warm("a>b")
		p := l.platform("h1")
		return &platformtest.Place{
			Platform: p,
			Session: func(_ *testing.T, _ *platform.Snapshot, policy string) platform.Session {
				s := l.session(policy, 7001, "udp", "a", "b")
				s.Mark.Owner = platformtest.Owner
				s.Outputs[0].Key = 7001 + uint32(len(policy))
				return s
			},
			Change: func(s platform.Session) platform.Session {
				s.Filter, s.Sample, s.Mark.Digest = "tcp port 80", 2, "changed"
				return s
			},
			State: func(t *testing.T) string { return l.untouched("h1") },
			Foreign: func(*testing.T) {
				l.hosts["h1"].Sh("tc qdisc add dev vnet-a clsact && tc filter add dev vnet-a ingress pref 9 protocol ip u32 match ip dport 53 0xffff flowid 1:1")
			},
			Meddle: func(t *testing.T, s platform.Session) string {
				out := l.output("h1", "tc filter show dev vnet-a ingress")
				_, handle, found := strings.Cut(out, "handle ")
				if !found {
					t.Fatalf("no filter:\n%s", out)
				}
				handle, _, _ = strings.Cut(handle, " ")
				handle, _, _ = strings.Cut(handle, "\n")
				device := strings.Fields(strings.SplitN(out, "to device ", 2)[1])[0]
				l.hosts["h1"].Sh(fmt.Sprintf("tc filter replace dev vnet-a ingress pref %d protocol all handle %s bpf bytecode '1,6 0 0 0' action mirred egress mirror dev %s continue cookie %s",
					preference, handle, strings.TrimSuffix(device, ")"), cookieOf(s.Mark, true)))
				return "packet filter"
			},
			Break: func(*testing.T, platform.Session) { l.hosts["h1"].Sh("tc qdisc del dev vnet-a clsact") },
			Appear: func(*testing.T) {
				l.vm("h1", "br0", "new", 6)
				l.vms["new"].Sh("ping -q -c 1 -W 1 10.1.0.1 >/dev/null || true")
			},
			Vanish: func(*testing.T) { l.unplug("h1", "new") },
			Is:     func(s *platform.Snapshot) bool { return s.Ports["vnet-new"] != nil },
			Lose:   func(*testing.T, platform.Session) { l.unplug("h1", "a") },
		}
	})
}
