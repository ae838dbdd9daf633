package ovs_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/ovs"
	"crosstap/internal/pki"
	"crosstap/internal/testkit"
)

// authorities makes the certificates of a switch and of a controller with Open vSwitch's own tool: they name no host.
func authorities(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	sh(t, "cd "+dir+" && ovs-pki --dir=pki --log=log init >out 2>&1 && ovs-pki --dir=pki --log=log -b req+sign sw switch >>out 2>&1 && ovs-pki --dir=pki --log=log -b req+sign ctl controller >>out 2>&1 || { cat out log; exit 1; }")
	return dir
}

// Database and flows over TLS with certificates on both sides: filtered copies, a server that is started again, and who is not let in.
func TestOverSSL(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := authorities(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	l := newLab(t, 2, "--remote=pssl:6640:127.0.0.1", "--private-key="+file("sw-privkey.pem"), "--certificate="+file("sw-cert.pem"), "--ca-cert="+file("pki/controllerca/cacert.pem"))
	files := pki.Client{CA: file("pki/switchca/cacert.pem"), Cert: file("ctl-cert.pem"), Key: file("ctl-privkey.pem")}
	c := ovs.Config{Name: "kvm", Host: "kvm", Address: "ssl:127.0.0.1", OpenFlow: "ssl:127.0.0.1"}
	var err error
	if c.TLS, err = files.Config(); err != nil {
		t.Fatal(err)
	}
	p := open(t, c)
	s := l.session("web", l.vms[0], l.vms[1])
	s.Filter = "udp dst port 5001"
	if r := l.refusal(p, s); r.Reason != platform.ReasonDown || !strings.Contains(r.Message, "set-ssl") {
		t.Errorf("a switch without a certificate: %+v", r)
	}
	l.db.Vsctl("set-ssl " + file("sw-privkey.pem") + " " + file("sw-cert.pem") + " " + file("pki/controllerca/cacert.pem"))

	updates := make(chan platform.Update, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- p.Watch(ctx, func(u platform.Update) { updates <- u }) }()
	defer func() { cancel(); must(t, <-watched) }()

	steps := l.converge(p, s)
	if text := texts(steps); !strings.Contains(text, "set-controller crosstap pssl:6653:127.0.0.1") || !strings.Contains(text, "--db=ssl:127.0.0.1 -p KEY -c CERT -C CA") {
		t.Errorf("commands:\n%s", text)
	}
	got := l.capture(l.tool, "udp dst port 4789")
	l.send(l.vms[0], l.vms[1], 5000, 10)
	l.send(l.vms[0], l.vms[1], 5001, 10)
	l.send(l.vms[1], l.vms[0], 5001, 10)
	got.is("10× 77 10.1.0.1 5001; 10× 77 10.1.0.2 5001", "vxlan && udp.dstport != 9", "vxlan.vni", "ip.src", "udp.dstport")
	testkit.Eventually(t, "twenty copies are counted", func() bool { // a moment later, as the switch looks at its flows
		n, err := p.Counters(t.Context(), "crosstap")
		return err == nil && n["web/br-int"].Packets == 20
	})

	// The server goes away and comes back: it is told, and what changed since is known.
	l.db.Stop()
	until(t, updates, "the loss", func(u platform.Update) bool { return u.Lost != nil })
	if _, err := p.Read(t.Context()); !errors.Is(err, platform.ErrUnreachable) {
		t.Errorf("read without a server: %v", err)
	}
	l.db.Start()
	l.vm(3, "")
	until(t, updates, "the machine that has come", func(u platform.Update) bool {
		for _, port := range u.Ports {
			if port.ID == "vnet3" && u.Whole {
				return true
			}
		}
		return false
	})
	l.converge(p, s)

	f := func(want string, change func(*ovs.Config)) {
		t.Helper()
		c := c
		change(&c)
		p := open(t, c)
		if _, err := p.Read(t.Context()); want == "" && err != nil || want != "" && (!errors.Is(err, platform.ErrUnreachable) || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	other := files
	other.CA = file("pki/controllerca/cacert.pem")
	f("unknown authority", func(c *ovs.Config) { c.TLS, _ = other.Config() })
	f("not the pinned one: its SHA-256 is", func(c *ovs.Config) { c.Thumbprint = strings.Repeat("ab:", 31) + "ab" })
	pinned := strings.TrimSpace(sh(t, "openssl x509 -noout -fingerprint -sha256 -in "+file("sw-cert.pem")+" | cut -d= -f2"))
	f("", func(c *ovs.Config) { c.Thumbprint = pinned })
	named := files
	named.ServerName = "kvm.example"
	f(`wanted "kvm.example"`, func(c *ovs.Config) { c.TLS, _ = named.Config() })
	stranger := files
	stranger.Cert, stranger.Key = "", ""
	f("", func(c *ovs.Config) { c.TLS, _ = files.Config() })
	c.TLS, _ = stranger.Config()
	if _, err := open(t, c).Read(t.Context()); err == nil {
		t.Error("who has no certificate is let in")
	}

	l.converge(p)
	if left := l.db.Vsctl("--no-headings list controller") + l.db.Vsctl("list-br") + l.db.Vsctl("--no-headings list mirror"); strings.Contains(left, "crosstap") {
		t.Errorf("left: %s", left)
	}
}

func until(t *testing.T, updates chan platform.Update, what string, f func(platform.Update) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case u := <-updates:
			if f(u) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("nothing told of %s", what)
		}
	}
}

// The database over TCP. Without OpenFlow there are copies as they are, and flow records of whole bridges; what needs flows is refused with
// the way out, and so is what cannot get through. With OpenFlow over TCP everything is there.
func TestOverTCP(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2, "--remote=ptcp:6640:127.0.0.1")
	c := ovs.Config{Name: "kvm", Host: "kvm", Address: "tcp:127.0.0.1:6640"}
	p := open(t, c)
	plain := l.session("web", l.vms[0])
	filtered := l.session("db", l.vms[1])
	filtered.Filter = "udp dst port 5001"
	if r := l.refusal(p, plain, filtered); r.Policy != "db" || r.Reason != platform.ReasonCapability || !strings.Contains(r.Fix, "openflow: tcp:127.0.0.1:6653") {
		t.Errorf("%+v", r)
	}
	l.converge(p, plain)
	l.warm(l.vms[0], l.vms[1])
	got := l.capture(l.tool, "udp dst port 4789")
	l.send(l.vms[1], l.vms[0], 5000, 10)
	l.send(l.vms[0], l.vms[1], 5000, 10)
	got.is("10× 77 10.1.0.1 5000", "vxlan && udp.dstport != 9", "vxlan.vni", "ip.src", "udp.dstport")
	flows := l.export("flows", "ipfix", "10.99.0.9:4739", l.vms[0])
	if r := l.refusal(p, flows); r.Reason != platform.ReasonCapability || !strings.Contains(r.Fix, "select the whole bridge") {
		t.Errorf("%+v", r)
	}

	c.OpenFlow = "tcp:127.0.0.1:7000"
	busy, err := net.Listen("tcp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // it hangs up on whoever calls: one that says nothing would be waited for
		for c, err := busy.Accept(); err == nil; c, err = busy.Accept() {
			c.Close()
		}
	}()
	p = open(t, c)
	if r := l.refusal(p, filtered); r.Reason != platform.ReasonDown || !strings.Contains(r.Message, "somebody else listens") {
		t.Errorf("%+v", r)
	}
	busy.Close()
	p = open(t, c)
	if r := l.refusal(p, plain, filtered); r.Policy != "db" || r.Reason != platform.ReasonConflict || !strings.Contains(r.Fix, "another VNI") {
		t.Errorf("the same tunnel twice: %+v", r)
	}
	filtered.Outputs[0].Key = 78
	l.converge(p, plain, filtered)
	got = l.capture(l.tool, "udp dst port 4789")
	l.send(l.vms[1], l.vms[0], 5000, 10)
	l.send(l.vms[1], l.vms[0], 5001, 10)
	l.send(l.vms[0], l.vms[1], 5000, 10)
	got.is("10× 77 10.1.0.1 5000; 10× 78 10.1.0.2 5001", "vxlan && udp.dstport != 9", "vxlan.vni", "ip.src", "udp.dstport")

	// A bridge that does not answer any more: what needs it is refused and stays, the rest goes on.
	l.db.Vsctl("del-controller crosstap")
	l.db.Vsctl("set-controller crosstap ptcp:7001:127.0.0.1")
	steps, refused := l.steps(open(t, c), nil, plain, filtered)
	if len(refused) == 0 || refused[0].Reason != platform.ReasonDown || !strings.Contains(refused[0].Fix, "127.0.0.1:7000") {
		t.Errorf("refusals %+v, steps %s", refused, texts(steps))
	}
	if mirrors := l.db.Vsctl("--no-headings --columns=name list mirror"); strings.Count(mirrors, "crosstap-") != 2 {
		t.Errorf("mirrors: %s", mirrors)
	}
}

// Mistakes in how a switch is reached are found before it is reached.
func TestReachMistakes(t *testing.T) {
	f := func(c ovs.Config, want string) {
		t.Helper()
		c.Name = "kvm"
		if _, err := ovs.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	f(ovs.Config{Address: "ssl:10.0.0.1"}, "ssl needs a certificate")
	f(ovs.Config{Address: "tcp:10.0.0.1", OpenFlow: "ssl:10.0.0.1"}, "ssl needs a certificate")
	f(ovs.Config{Address: "tcp:10.0.0.1", OpenFlow: "tcp:10.0.0.1:{bridge}"}, "our bridge alone")
	f(ovs.Config{Address: "tcp:10.0.0.1", OpenFlow: "tcp:"}, "want tcp:HOST")
	f(ovs.Config{Address: "tcp:10.0.0.1", OpenFlow: "udp:10.0.0.1"}, "or none")
	f(ovs.Config{Address: "tcp:10.0.0.1", Thumbprint: "ab:cd"}, "32 pairs")
	g := func(key, value, want string) {
		t.Helper()
		if _, err := ovs.ParseOptions(map[string]string{key: value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s=%s: %v, want %q", key, value, err, want)
		}
	}
	g("brige", "x", `"brige" is not known: bridge`)
	g("sflow-header", "10", "14 to 65535")
	g("ipfix", "all", "flows (of single machines, filtered) or bridge")
	g("netflow-add-id-to-interface", "si", "true or false")
	g("listen", "kvm", "want an address")
}
