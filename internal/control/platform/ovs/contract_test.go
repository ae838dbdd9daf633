//go:build linux

package ovs_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/platformtest"
)

// TestContract tries the platform on a real Open vSwitch, one for all parts of the test.
func TestContract(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2)
	p := open(t, l.config())
	var foreign sync.Once
	present := func(name string) func(*platform.Snapshot) bool {
		return func(s *platform.Snapshot) bool {
			for _, x := range s.Ports {
				if x.Name == name {
					return true
				}
			}
			return false
		}
	}
	mirror := func(s platform.Session) string { return platform.MarkPrefix + s.Mark.Key() }
	platformtest.Run(t, func(t *testing.T) *platformtest.Place {
		if !strings.Contains(l.db.Vsctl("list-ports br-int"), "vnet1") { // a part before has taken it away
			l.db.Vsctl(`add-port br-int vnet1 -- set interface vnet1 external_ids:iface-id=vm1 external_ids:attached-mac="02:00:00:00:01:01" external_ids:vm-uuid=vm1`)
		}
		return &platformtest.Place{
			Platform: p,
			Session: func(_ *testing.T, _ *platform.Snapshot, policy string) platform.Session {
				s := l.session(policy, l.vms[0], l.vms[1])
				s.Mark.Owner, s.Outputs[0].Key = platformtest.Owner, 100+uint32(len(policy))
				return s
			},
			Change: func(s platform.Session) platform.Session {
				s.Filter, s.Slice, s.Mark.Digest = "udp port 5000", 100, "changed"
				return s
			},
			State: func(*testing.T) string {
				return l.db.Vsctl("--no-headings --columns=name,select_all,select_src_port,select_dst_port,output_port,snaplen,external_ids list mirror") + "\n" +
					l.db.Vsctl("list-br") + "\n" + l.db.Vsctl("list-ports br-int")
			},
			Foreign: func(*testing.T) {
				foreign.Do(func() {
					l.db.Vsctl("-- --id=@o get port vnet2 -- --id=@m create mirror name=admin select-all=true output-port=@o -- add bridge br-int mirrors @m")
				})
			},
			Meddle: func(_ *testing.T, s platform.Session) string {
				l.db.Vsctl("clear mirror " + mirror(s) + " select_src_port")
				return "src"
			},
			Break: func(_ *testing.T, s platform.Session) {
				l.db.Vsctl("-- --id=@m get mirror " + mirror(s) + " -- remove bridge br-int mirrors @m")
			},
			Appear: func(*testing.T) { l.db.Vsctl("add-port br-int new0 -- set interface new0 type=internal") },
			Vanish: func(*testing.T) { l.db.Vsctl("del-port br-int new0") },
			Is:     present("new0"),
			Lose:   func(*testing.T, platform.Session) { l.db.Vsctl("del-port br-int vnet1") },
			Expire: func(t *testing.T, s platform.Session) platform.Session {
				s.Lease.TTL = 8 * time.Second
				now, err := p.Read(t.Context())
				must(t, err)
				steps, refused := p.Steps(now, platform.Want{Owner: platformtest.Owner, Sessions: []platform.Session{s}})
				if len(refused) > 0 {
					t.Fatalf("%+v", refused)
				}
				for _, step := range steps {
					must(t, p.Apply(t.Context(), step))
				}
				return s
			},
			Ended: func(t *testing.T, _ platform.Session) bool {
				bridges := strings.Fields(l.db.Vsctl("list-br"))
				ours := slices.DeleteFunc(bridges, func(name string) bool { return strings.HasPrefix(name, "br-") })
				if len(ours) != 1 {
					t.Fatalf("bridges of ours: %q", ours)
				}
				out := sh(t, "ovs-ofctl -O OpenFlow14 dump-flows unix:"+strings.TrimSuffix(l.db.Socket(), "db.sock")+ours[0]+".mgmt | grep -c hard_timeout || true")
				return strings.TrimSpace(out) == "0"
			},
		}
	})
}
