package remote_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/platformtest"
	"crosstap/internal/flow"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// TestContract is the contract of all platforms on a kernel behind a real sshd.
func TestContract(t *testing.T) {
	if os.Getenv("CROSSTAP_SOAK") == "" {
		t.Skip("set CROSSTAP_SOAK to try the whole contract this way too")
	}
	h := newHost(t)
	testkit.Tool(t, "tc")
	h.Space.Sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up; ip link add up0 type dummy 2>/dev/null || ip link add up0 type veth peer name up1; ip addr add 10.9.0.1/24 dev up0; ip link set up0 up")
	plug := func(n int) {
		peer := testns.New(t)
		h.Space.Sh(fmt.Sprintf("ip link del vnet%d 2>/dev/null || true; ip link add vnet%d type veth peer name eth0 address 02:00:00:00:00:%02x netns NS && ip link set vnet%d master br0 up", n, n, n, n), peer)
		peer.Sh(fmt.Sprintf("ip addr add 10.1.0.%d/24 dev eth0 && ip link set eth0 up", n))
	}
	platformtest.Run(t, func(t *testing.T) *platformtest.Place {
		for n := 1; n <= 2; n++ { // what was at the old ones goes with them
			plug(n)
		}
		p := h.platform()
		now, err := p.Read(t.Context())
		must(t, err)
		steps, _ := p.Steps(now, platform.Want{Owner: platformtest.Owner})
		for _, s := range steps {
			must(t, p.Apply(t.Context(), s))
		}
		return &platformtest.Place{
			Platform: p,
			Session: func(_ *testing.T, _ *platform.Snapshot, policy string) platform.Session {
				s := platform.Session{
					Mark:   platform.Mark{Owner: platformtest.Owner, Policy: policy, Part: "br0", Digest: policy},
					Method: platform.MethodRemoteMirror, Host: "kvm-4", Switch: "br0", Filter: "udp",
					Outputs: []platform.Output{{Name: "ids", Encap: platform.EncapVXLAN, Addr: netip.MustParseAddr("10.9.0.9"), UDP: 4790, Key: 7001 + uint32(len(policy))}},
				}
				for n := 1; n <= 2; n++ {
					s.Sources = append(s.Sources, platform.Source{Port: fmt.Sprintf("vnet%d", n), Dir: platform.Both})
					s.ExceptFrom = append(s.ExceptFrom, flow.MAC(0x020000000000+n))
				}
				return s
			},
			Change: func(s platform.Session) platform.Session {
				s.Filter, s.Sample, s.Mark.Digest = "tcp port 80", 2, "changed"
				return s
			},
			State: func(t *testing.T) string {
				var out []byte
				look := func() (err error) {
					out, err = exec.Command("sh", "-c", "ip -br link | grep -v '^vnet'; for d in vnet1 vnet2; do tc qdisc show dev $d | grep -v noqueue; tc filter show dev $d ingress; tc filter show dev $d egress; done | sed 's/index [0-9]* ref/ref/'; true").Output()
					return err
				}
				testkit.Eventually(t, "a qdisc goes in a quiet moment", func() bool {
					must(t, h.Space.Do(look))
					return !strings.Contains(string(out), "protocol [34997]")
				})
				return string(out)
			},
			Foreign: func(*testing.T) {
				h.Space.Sh("tc qdisc add dev vnet1 clsact && tc filter add dev vnet1 ingress pref 9 protocol ip u32 match ip dport 53 0xffff flowid 1:1")
			},
			Break:  func(*testing.T, platform.Session) { h.Space.Sh("tc qdisc del dev vnet1 clsact") },
			Appear: func(*testing.T) { plug(3) },
			Vanish: func(*testing.T) { h.Space.Sh("ip link del vnet3") },
			Is:     func(s *platform.Snapshot) bool { return s.Ports["vnet3"] != nil },
			Lose:   func(*testing.T, platform.Session) { h.Space.Sh("ip link del vnet1") },
		}
	})
}
