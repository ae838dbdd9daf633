package ovs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/ovs"
	"crosstap/internal/control/platform/platformtest"
	"crosstap/internal/pki"
)

// TestContractOverSSL is the contract of all platforms on a switch that is reached by TLS alone, its database and its flows.
func TestContractOverSSL(t *testing.T) {
	if os.Getenv("CROSSTAP_SOAK") == "" {
		t.Skip("set CROSSTAP_SOAK to try the whole contract this way too")
	}
	if !alone(t) {
		return
	}
	dir := authorities(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	l := newLab(t, 2, "--remote=pssl:6640:127.0.0.1", "--private-key="+file("sw-privkey.pem"), "--certificate="+file("sw-cert.pem"), "--ca-cert="+file("pki/controllerca/cacert.pem"))
	l.db.Vsctl("set-ssl " + file("sw-privkey.pem") + " " + file("sw-cert.pem") + " " + file("pki/controllerca/cacert.pem"))
	c := ovs.Config{Name: "kvm", Host: "kvm", Address: "ssl:127.0.0.1", OpenFlow: "ssl:127.0.0.1"}
	var err error
	c.TLS, err = pki.Client{CA: file("pki/switchca/cacert.pem"), Cert: file("ctl-cert.pem"), Key: file("ctl-privkey.pem")}.Config()
	must(t, err)
	n := 10
	platformtest.Run(t, func(t *testing.T) *platformtest.Place {
		l.t = t
		p := open(t, c)
		l.clear(p)
		return &platformtest.Place{
			Platform: p,
			Session: func(_ *testing.T, _ *platform.Snapshot, policy string) platform.Session {
				s := l.session(policy, l.vms[0])
				s.Mark.Owner, s.Filter, s.Outputs[0].Key = platformtest.Owner, "udp", 7001+uint32(len(policy))
				return s
			},
			Change: func(s platform.Session) platform.Session {
				s.Filter, s.Slice, s.Mark.Digest = "tcp port 80", 64, "changed"
				return s
			},
			State: func(*testing.T) string {
				return l.db.Vsctl("list-br") + "\n" + l.db.Vsctl("list-ports br-int") + "\n" + l.db.Vsctl("--no-headings --columns=name,select_src_port,select_dst_port,output_port,external_ids list mirror") + "\n" + l.db.Vsctl("--no-headings list controller")
			},
			Foreign: func(*testing.T) {
				l.db.Vsctl("-- --id=@p get port vnet2 -- --id=@m create mirror name=theirs select-src-port=@p output-vlan=99 -- add bridge br-int mirrors @m")
			},
			Meddle: func(_ *testing.T, s platform.Session) string {
				l.db.Vsctl("-- --id=@p get port vnet2 -- set mirror " + platform.MarkPrefix + s.Mark.Key() + " select_dst_port=@p")
				return "dst"
			},
			Break: func(_ *testing.T, s platform.Session) {
				l.db.Vsctl("-- --id=@m get mirror " + platform.MarkPrefix + s.Mark.Key() + " -- remove bridge br-int mirrors @m")
			},
			Appear: func(*testing.T) {
				l.db.Vsctl(fmt.Sprintf("add-port br-int vnet%d -- set interface vnet%d type=internal external_ids:vm-uuid=new", n, n))
			},
			Vanish: func(*testing.T) { l.db.Vsctl(fmt.Sprintf("del-port br-int vnet%d", n)) },
			Is:     func(s *platform.Snapshot) bool { return s.Ports[fmt.Sprintf("vnet%d", n)] != nil },
			Lose:   func(_ *testing.T, s platform.Session) { l.db.Vsctl("del-port br-int " + s.Sources[0].Port) },
		}
	})
}

// clear brings the switch back to what it was at first.
func (l *lab) clear(p *ovs.Platform) {
	l.t.Helper()
	now, err := p.Read(l.t.Context())
	must(l.t, err)
	steps, _ := p.Steps(now, platform.Want{Owner: platformtest.Owner})
	for _, s := range steps {
		must(l.t, p.Apply(l.t.Context(), s))
	}
	l.db.Vsctl("clear bridge br-int mirrors")
	for _, v := range l.vms {
		l.db.Vsctl(fmt.Sprintf("--may-exist add-port br-int %s -- set interface %s external_ids:iface-id=vm%d external_ids:vm-uuid=vm%d", v.port, v.port, v.n, v.n))
	}
}
