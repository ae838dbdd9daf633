package ovs_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/ovs"
)

// What passed a machine's port before its copies began, over the network: counted where the tenants' bridge listens by itself, and where it
// does not it is said why and what to do.
func TestGapOverNetwork(t *testing.T) {
	if !alone(t) {
		return
	}
	l := newLab(t, 2, "--remote=ptcp:6640:127.0.0.1")
	a, b := l.vms[0], l.vms[1]
	p := open(t, ovs.Config{Name: "kvm", Host: "kvm", Address: "tcp:127.0.0.1:6640", OpenFlow: "tcp:127.0.0.1:6653"})
	gaps, updates := make(chan platform.Gap, 10), make(chan platform.Update, 1000)
	p.OnGap(func(g platform.Gap) { gaps <- g })
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- p.Watch(ctx, func(u platform.Update) { updates <- u }) }()
	defer func() { cancel(); must(t, <-watched) }()
	s := l.session("web", a)
	l.converge(p, s)
	come := func(n int) (*vm, platform.Gap) {
		t.Helper()
		v := l.vm(n, "")
		until(t, updates, "the machine that has come", func(u platform.Update) bool {
			for _, port := range u.Ports {
				if port.ID == v.port {
					return true
				}
			}
			return false
		})
		l.know(v, b)
		l.send(v, b, 5001, 10)
		s.Sources = append(s.Sources, platform.Source{Port: v.port, Dir: platform.Ingress})
		l.converge(p, s)
		return v, <-gaps
	}
	v, g := come(3)
	const what = "create controller 'target=\"pssl:6654\"' -- add bridge br-int controller @c"
	if g.Port != v.port || g.Packets != -1 || !strings.Contains(g.Why, "bridge br-int takes no OpenFlow over the network") || !strings.Contains(g.Why, what) {
		t.Errorf("%+v", g)
	}
	l.db.Vsctl(`--id=@c create controller target="ptcp:6654:127.0.0.1" -- add bridge br-int controller @c`)
	l.send(a, b, 5002, 3) // the tenants' bridge goes on as it was
	v, g = come(4)
	number := regexp.MustCompile(`rx pkts=(\d+),`).FindStringSubmatch(sh(t, "ovs-ofctl -O OpenFlow14 dump-ports tcp:127.0.0.1:6654 "+v.port))
	if number == nil {
		t.Fatal("ovs-ofctl tells no packets")
	}
	// The machine has said nothing since, so that everything it has said is missing; what it was told is not copied here.
	in, _ := strconv.Atoi(number[1])
	if g.Port != v.port || g.Why != "" || g.Packets < 10 || !g.Exact() || g.Packets != int64(in) {
		t.Errorf("%+v; ovs-ofctl counts %d", g, in)
	}
	l.converge(p)
	if left := l.db.Vsctl("get-controller br-int"); !strings.Contains(left, "ptcp:6654") {
		t.Errorf("the bridge's own controller is gone: %q", left)
	}
}
