package netnetflow

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// A bridge of a real Open vSwitch, which exports NetFlow with add_id_to_interface itself: both exports give each flow the same switch
// and ports. Open vSwitch counts layer-2 bytes, and may miss packets before its flow is set up, so that counters are not compared.
func TestN09AgreesWithOpenVSwitch(t *testing.T) {
	l := newLab(t)
	db := ovstest.New(t, l.host.Do)
	db.Switch()
	ours := newCollector(t)
	db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev")
	a, b := l.vmOVS(db, "va", "10.1.0.1", 13), l.vmOVS(db, "vb", "10.1.0.2", 14)
	// the switch sends from the lab's namespace: its collector is there
	var sink *collector
	l.must(l.host.Do(func() error { sink = newCollector(t); return nil }))
	db.Vsctl(fmt.Sprintf("-- --id=@n create NetFlow targets=\"127.0.0.1:%d\" engine_id=3 engine_type=3 add_id_to_interface=true active_timeout=1 -- set bridge br-int netflow=@n", sink.port()))

	c := l.config(ours, "br-int")
	c.OVSDB, c.PortIDs, c.IDs = "unix:"+db.Socket(), true, map[string]int{"br-int": 3}
	r := l.start(c)
	if got := jsonOf(r.Status()[0].Ports); got != `[{"name":"br-int","number":2046},{"name":"va","number":1549},{"name":"vb","number":1550}]` {
		t.Errorf("ports %s", got)
	}
	places := func(col *collector) (all []string) {
		for _, g := range col.all() {
			for _, r := range g.records() {
				if r.Proto() == 17 && r.Dst()[0] == 10 {
					all = append(all, fmt.Sprintf("%d/%d %d>%d %d>%d", g.header().EngineType(), g.header().EngineID(), r.SrcPort(), r.DstPort(), r.Input(), r.Output()))
				}
			}
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	want := "3/3 1000>2000 1549>1550 3/3 1000>2000 1550>1549"
	for _, col := range []*collector{ours, sink} {
		testkit.Eventually(t, "both directions", func() bool {
			l.send(a, b, "10.1.0.2", 3, 100)
			l.send(b, a, "10.1.0.1", 3, 100)
			time.Sleep(250 * time.Millisecond) // our flows end
			return len(places(col)) >= 2
		})
	}
	if got := strings.Join(places(ours), " "); got != want {
		t.Errorf("ours: %s", got)
	}
	// Their first datagrams may lack the port that the switch had not learned yet.
	for _, w := range strings.SplitAfter(want, "9 ") {
		testkit.Eventually(t, "Open vSwitch: "+w, func() bool {
			l.send(a, b, "10.1.0.2", 3, 100)
			l.send(b, a, "10.1.0.1", 3, 100)
			time.Sleep(50 * time.Millisecond)
			return strings.Contains(strings.Join(places(sink), " "), strings.TrimSpace(w))
		})
	}

	// What the switch has learned is known to a tap that starts now.
	known, err := learnedByOVS(t.Context(), c.OVSDB, "br-int")
	if err != nil || len(known[13]) != 1 || len(known[14]) != 1 || known[13][0] == known[14][0] {
		t.Errorf("learned %v, %v", known, err)
	}
	if _, err := learnedByOVS(t.Context(), c.OVSDB, "br9"); err == nil || !strings.Contains(err.Error(), "no such bridge") {
		t.Errorf("%v", err)
	}

	// Ports come and go by the database; a tunnel cannot be captured, and that is said.
	l.vmOVS(db, "vc", "10.1.0.3", 15)
	testkit.Eventually(t, "a port more", func() bool { return len(r.Status()[0].Ports) == 4 })
	db.Vsctl("del-port vc")
	testkit.Eventually(t, "a port less", func() bool { return len(r.Status()[0].Ports) == 3 })
	db.Vsctl("add-port br-int tun0 -- set interface tun0 type=vxlan options:remote_ip=10.9.9.9")
	testkit.Eventually(t, "the tunnel is named", func() bool { return strings.Contains(r.log.String(), "vxlan port has no interface to capture from") })
	db.Vsctl("del-br br-int")
	testkit.Eventually(t, "gone", func() bool { return r.Status()[0].Gone })
}

func TestParseFDB(t *testing.T) {
	got := fmt.Sprint(parseFDB(" port  VLAN  MAC                Age\n    3     0  02:00:00:00:00:01    4\nLOCAL     7  02:00:00:00:00:02  259\n    3     9  02:00:00:00:00:03 static\nx y z\n"))
	if want := "map[3:[02:00:00:00:00:01 02:00:00:00:00:03] 65534:[02:00:00:00:00:02]]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// vmOVS attaches a VM to br-int, with that OpenFlow port.
func (l *lab) vmOVS(db *ovstest.DB, port, addr string, no int) *testns.Space {
	l.t.Helper()
	vm := testns.New(l.t)
	l.quiet(vm)
	l.host.Sh("ip link add name "+port+" type veth peer name eth0 netns NS && ip link set dev "+port+" up", vm)
	testkit.Tool(l.t, "ethtool")
	vm.Sh("ethtool -K eth0 tx off >/dev/null; ip addr add " + addr + "/24 dev eth0 && ip link set eth0 up") // nobody completes checksums here
	db.Vsctl(fmt.Sprintf("add-port br-int %s -- set interface %s ofport_request=%d", port, port, no))
	return vm
}
