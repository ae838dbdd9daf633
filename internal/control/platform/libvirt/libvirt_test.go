package libvirt

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	rpc "crosstap/internal/libvirt"
	"crosstap/internal/libvirt/libvirttest"
)

const node = `<node><domain type='test'>
  <name>web</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e1900</uuid>
  <memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>
  <devices>
    <interface type='bridge'><mac address='52:54:00:aa:00:01'/><source bridge='br0'/><vlan><tag id='30'/></vlan></interface>
    <interface type='bridge'><mac address='52:54:00:aa:00:02'/><source bridge='br1'/></interface>
  </devices>
</domain></node>`

func open(t *testing.T) (*libvirttest.Daemon, *Platform) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.xml")
	if err := os.WriteFile(file, []byte(node), 0o600); err != nil {
		t.Fatal(err)
	}
	d := libvirttest.Start(t, file)
	u, err := rpc.ParseURI(d.URI())
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Name: "kvm", Source: rpc.Source{Endpoint: rpc.Endpoint{URI: u}}, Host: "h1", Segments: map[string]flow.Segment{"br1": flow.NewSegment(flow.KindVXLAN, 5001)}})
	if err != nil {
		t.Fatal(err)
	}
	return d, p
}

func TestInventory(t *testing.T) {
	_, p := open(t)
	s, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type port struct {
		Switch, VM string
		MAC        string
		VLAN       uint16
		Segment    flow.Segment
		Addrs      int
	}
	got := map[string]port{}
	for _, x := range s.Ports {
		got[x.MAC.String()] = port{x.Switch, s.VMs[x.VM].Name, x.MAC.String(), x.VLAN, x.Segment, len(x.Addrs)}
	}
	want := map[string]port{
		"52:54:00:aa:00:01": {"br0", "web", "52:54:00:aa:00:01", 30, flow.NewSegment(flow.KindVLAN, 30), 1},
		"52:54:00:aa:00:02": {"br1", "web", "52:54:00:aa:00:02", 0, flow.NewSegment(flow.KindVXLAN, 5001), 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(s.Hosts) != 1 || s.Hosts["h1"] == nil || len(s.Switches) != 2 {
		t.Errorf("%+v %+v", s.Hosts, s.Switches)
	}
	steps, refused := p.Steps(s, platform.Want{Owner: "o", Sessions: []platform.Session{{Mark: platform.Mark{Owner: "o", Policy: "web"}, Method: platform.MethodMirror}}})
	if len(steps) != 0 || len(refused) != 1 || refused[0].Reason != platform.ReasonCapability || refused[0].Fix == "" {
		t.Errorf("%v %+v", steps, refused)
	}
}

// A daemon that goes away is told as lost, and what it says when it is back is whole.
func TestWatch(t *testing.T) {
	d, p := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	updates, done := make(chan platform.Update, 100), make(chan error, 1)
	go func() { done <- p.Watch(ctx, func(u platform.Update) { updates <- u }) }()
	until(t, updates, func(u platform.Update) bool { return u.Whole && len(u.Ports) == 2 && u.Lost == nil })
	d.Stop()
	until(t, updates, func(u platform.Update) bool { return u.Lost != nil && !u.Whole })
	d.Run()
	until(t, updates, func(u platform.Update) bool { return u.Whole && len(u.Ports) == 2 && u.Lost == nil })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func until(t *testing.T, c <-chan platform.Update, f func(platform.Update) bool) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case u := <-c:
			if f(u) {
				return
			}
		case <-timeout:
			t.Fatal("nothing comes")
		}
	}
}
