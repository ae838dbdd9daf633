package libvirt

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/libvirt/libvirttest"
	"crosstap/internal/testkit"
)

// The machines of the tests, as libvirt's test driver reads them.
const node = `<node>
<domain type='test'>
  <name>web</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e1900</uuid><title>Shop &amp; co</title>
  <memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>
  <devices>
    <interface type='bridge'><mac address='52:54:00:AA:00:01'/><source bridge='br0'/><target dev='vnet7'/><vlan><tag id='30'/></vlan></interface>
    <interface type='bridge'><mac address='52:54:00:aa:00:02'/><source bridge='ovs0'/><virtualport type='openvswitch'><parameters interfaceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/></virtualport><target dev='vnet8'/><mtu size='1400'/></interface>
  </devices>
</domain>
<domain type='test'>
  <name>db</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e1901</uuid>
  <memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>
  <devices><interface type='network'><mac address='52:54:00:aa:00:03'/><source network='default' portgroup='dmz'/></interface></devices>
</domain>
<network><name>default</name><bridge name='virbr0'/><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.128' end='192.168.122.253'/></dhcp></ip></network>
</node>`

func daemon(t *testing.T) (*libvirttest.Daemon, Endpoint) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.xml")
	if err := os.WriteFile(file, []byte(node), 0o600); err != nil {
		t.Fatal(err)
	}
	d := libvirttest.Start(t, file)
	u, err := ParseURI(d.URI())
	if err != nil {
		t.Fatal(err)
	}
	return d, Endpoint{URI: u}
}

func TestRead(t *testing.T) {
	_, e := daemon(t)
	got, err := (&Source{Endpoint: e}).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Host == "" || !strings.Contains(got.Version, ".") {
		t.Errorf("host %q, version %q", got.Host, got.Version)
	}
	var adapters []Adapter
	names := map[string]bool{}
	for _, g := range got.Guests {
		names[g.Name+" "+g.UUID+" "+g.Title] = g.Off
		adapters = append(adapters, g.Adapters...)
	}
	if diff := cmp.Diff(map[string]bool{"web 6695eb01-f6a4-8304-79aa-97f2502e1900 Shop & co": false, "db 6695eb01-f6a4-8304-79aa-97f2502e1901 ": false}, names); diff != "" {
		t.Error(diff)
	}
	byMAC := map[string]Adapter{}
	for i, a := range adapters {
		if len(a.Addrs) != 1 || !netip.MustParsePrefix("192.168.0.0/16").Contains(a.Addrs[0]) { // as the driver leases them
			t.Errorf("adapter %d: addresses %v", i, a.Addrs)
		}
		a.Addrs, a.Name = nil, ""
		byMAC[a.MAC] = a
	}
	want := map[string]Adapter{
		"52:54:00:aa:00:01": {Type: "bridge", Device: "testnet0", MAC: "52:54:00:aa:00:01", Bridge: "br0", VLANs: []uint16{30}},
		"52:54:00:aa:00:02": {Type: "bridge", Device: "testnet1", MAC: "52:54:00:aa:00:02", Bridge: "ovs0", OVS: true, InterfaceID: "09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f", MTU: 1400},
		"52:54:00:aa:00:03": {Type: "network", MAC: "52:54:00:aa:00:03", Network: "default", Group: "dmz"},
	}
	for mac, w := range want {
		g := byMAC[mac]
		if w.Device == "" {
			w.Device = g.Device // the driver names it
		}
		if diff := cmp.Diff(w, g); diff != "" {
			t.Error(diff)
		}
	}
}

// The daemon's own answers to calls that it refuses.
func TestRefusals(t *testing.T) {
	_, e := daemon(t)
	c, err := Dial(t.Context(), e, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.XML(t.Context(), Domain{Name: "ghost", UUID: [16]byte{1}, ID: -1}); !NotFound(err) {
		t.Errorf("XML of a machine that is not there: %v", err)
	}
	if err := c.call(t.Context(), 9999, nil, nil); err == nil || !strings.Contains(err.Error(), "9999") {
		t.Errorf("unknown procedure: %v", err)
	}
	if _, err := c.Domains(t.Context()); err != nil {
		t.Errorf("after refusals: %v", err)
	}
}

// Everything goes through one command of a shell, as behind ssh.
func TestThroughSSH(t *testing.T) {
	d, e := daemon(t)
	testkit.Tool(t, "nc")
	dir := t.TempDir()
	script := "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n"
	ssh := filepath.Join(dir, "ssh")
	if err := os.WriteFile(ssh, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	u, err := ParseURI("test+ssh://kvm4" + e.URI.Path + "?socket=" + d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	state, err := (&Source{Endpoint: Endpoint{URI: u, SSH: ssh}}).Read(t.Context())
	if err != nil || len(state.Guests) != 2 {
		t.Fatalf("%+v, %v", state, err)
	}
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\necho 'kvm4: Permission denied (publickey).' >&2; exit 255\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = (&Source{Endpoint: Endpoint{URI: u, SSH: ssh}}).Read(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Permission denied (publickey)") {
		t.Errorf("what ssh says is lost: %v", err)
	}
}

// Events come, and a daemon that is started again is found again.
func TestWatch(t *testing.T) {
	d := libvirttest.Start(t, "") // the driver's own machines are the same for all connections
	u, err := ParseURI(d.URI())
	if err != nil {
		t.Fatal(err)
	}
	e := Endpoint{URI: u}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	states, failures, events := make(chan *State, 100), make(chan error, 100), make(chan Event, 100)
	done := make(chan error, 1)
	go func() {
		done <- (&Source{Endpoint: e, Refresh: time.Hour}).Watch(ctx, func(s *State, err error) {
			if s == nil {
				failures <- err
				return
			}
			states <- s
		}, func(e Event) { events <- e })
	}()
	next(t, states)
	c, err := Dial(ctx, e, nil)
	if err != nil {
		t.Fatal(err)
	}
	var args encoder
	args.domain(named(t, c, "test"))
	const destroy = 12 // REMOTE_PROC_DOMAIN_DESTROY
	if err := c.call(ctx, destroy, args.b, nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for {
		ev := next(t, events)
		if ev.Domain.Name == "test" && ev.Kind == Lifecycle && ev.What == Stopped {
			break
		}
	}
	for s := next(t, states); !off(s, "test"); s = next(t, states) {
	}
	d.Stop()
	next(t, failures)
	d.Run()
	for s := next(t, states); off(s, "test"); s = next(t, states) {
	}
	cancel()
	if err := next(t, done); err != nil {
		t.Error(err)
	}
}

func off(s *State, name string) bool {
	for _, g := range s.Guests {
		if g.Name == name {
			return g.Off
		}
	}
	return true
}

func named(t *testing.T, c *Conn, name string) Domain {
	t.Helper()
	all, err := c.Domains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no machine %s in %v", name, all)
	return Domain{}
}

func next[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
	}
	return v
}
