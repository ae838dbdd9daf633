package vsphere

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
	"crosstap/internal/testkit"
)

// frameTo is a UDP packet in Ethernet from one port to another, with a number in it.
func frameTo(from, to *platform.Port, n int) []byte {
	b := make([]byte, 14+20+8+18)
	to.MAC.Put(b)
	from.MAC.Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 1, 0, from.Name[0]})
	copy(ip[16:], []byte{10, 1, 0, to.Name[0]})
	binary.BigEndian.PutUint16(ip[20:], 4000)
	binary.BigEndian.PutUint16(ip[22:], 5000)
	binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
	binary.BigEndian.PutUint32(ip[28:], uint32(n))
	return b
}

// relocate brings machines to one host.
func relocate(t *testing.T, sim *vsim.Server, host string, vms ...string) {
	t.Helper()
	_, f := admin(t, sim)
	for _, name := range vms {
		vm, err := f.VirtualMachine(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		task, err := vm.Relocate(t.Context(), types.VirtualMachineRelocateSpec{Host: &types.ManagedObjectReference{Type: "HostSystem", Value: host}}, types.VirtualMachineMovePriorityDefaultPriority)
		done(t, task, err)
	}
}

func TestMirrorToPort(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	s := read(t, v)
	host := vmPort(s, vm0).Host
	relocate(t, sim, host, vm1, vm2)
	s = read(t, v)
	a, b, tool, far := vmPort(s, vm0), vmPort(s, vm1), vmPort(s, vm2), vmPort(s, vm3)
	want := platform.Session{
		Mark: mark("local", "1"), Method: platform.MethodMirror, Host: host, Switch: a.Switch,
		Sources: []platform.Source{{Port: a.ID, Dir: platform.Ingress}, {Port: b.ID, Dir: platform.Ingress}},
		Outputs: []platform.Output{{Name: "ids", Port: tool.ID}},
	}
	do(t, v, want)
	settled(t, v, want)
	const n = 20
	for i := range n {
		for _, pair := range [][2]*platform.Port{{a, b}, {b, a}} {
			if err := sim.Send(s.VMs[pair[0].VM].Name, 0, frameTo(pair[0], pair[1], i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := sim.Send(vm3, 0, frameTo(far, a, 0)); err != nil { // comes from a machine that is no source
		t.Fatal(err)
	}
	got := sim.Received(vm2, 0)
	if len(got) != 2*n {
		t.Fatalf("the tool has %d copies of %d frames; ingress of both ends copies each once", len(got), 2*n)
	}
	if !bytes.Equal(got[0], frameTo(a, b, 0)) {
		t.Errorf("first copy % x", got[0])
	}
	counters, err := v.Counters(t.Context(), "me")
	if c := counters[want.Mark.Key()]; err != nil || c.Packets != 2*n || c.Bytes != uint64(2*n*len(got[0])) {
		t.Errorf("counters %+v: %v", counters, err)
	}
	now := read(t, v)
	if p := now.Ports[tool.ID]; p.Kind != platform.PortMirror {
		t.Errorf("the tool's port is told as %s", p.Kind)
	}
	if p := now.Ports[a.ID]; p.RxBytes != uint64(n*len(got[0])) {
		t.Errorf("bytes into the switch: %d", p.RxBytes)
	}

	remote := want
	remote.Sources = []platform.Source{{Port: far.ID, Dir: platform.Ingress}}
	_, refused := v.Steps(now, platform.Want{Owner: "me", Sessions: []platform.Session{remote}})
	if len(refused) != 1 || refused[0].Reason != platform.ReasonCapability || !strings.Contains(refused[0].Fix, "remote-mirror") {
		t.Errorf("a source on another host: %+v", refused)
	}
	if steps, _ := v.Steps(now, platform.Want{Owner: "me", Sessions: []platform.Session{remote}}); len(steps) != 0 {
		t.Errorf("a refused session keeps what it has: %+v", steps)
	}
	if steps, _ := v.Steps(now, platform.Want{Owner: "me", Keep: map[string]bool{"local": true}}); len(steps) != 0 {
		t.Errorf("a policy that nobody knows keeps what it has: %+v", steps)
	}

	// Another session for the same destination port takes its place.
	other := want
	other.Mark = mark("other", "2")
	steps := do(t, v, other)
	if len(steps) != 2 || steps[0].Action != platform.Remove || steps[1].Action != platform.Create {
		t.Errorf("steps: %+v", steps)
	}
	settled(t, v, other)
}

func TestRemoteMirrorOverVLAN(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	s := read(t, v)
	a, b, tool := vmPort(s, vm0), vmPort(s, vm1), vmPort(s, vm2)
	var uplink *platform.Port
	for _, p := range platform.Sorted(s.Ports) {
		if p.Kind == platform.PortUplink && p.Switch == a.Switch {
			uplink = p
		}
	}
	from := platform.Session{
		Mark: mark("rspan", "1"), Method: platform.MethodRemoteMirror, Switch: a.Switch, Sources: []platform.Source{{Port: a.ID, Dir: platform.Ingress}},
		Outputs: []platform.Output{{Name: "wire", Encap: platform.EncapVLAN, VLAN: 99, Port: uplink.ID}},
	}
	to := platform.Session{
		Mark: mark("land", "1"), Method: platform.MethodMirror, Switch: a.Switch, VLANs: []uint16{99}, Outputs: []platform.Output{{Name: "ids", Port: tool.ID}},
	}
	do(t, v, from, to)
	settled(t, v, from, to)
	frame := frameTo(a, b, 7)
	if err := sim.Send(vm0, 0, frame); err != nil {
		t.Fatal(err)
	}
	tagged := slices.Concat(frame[:12], []byte{0x81, 0, 0, 99}, frame[12:])
	if wire := sim.OnTheWire(); len(wire) != 1 || !bytes.Equal(wire[0], tagged) {
		t.Errorf("on the wire: % x", wire)
	}
	if got := sim.Received(vm2, 0); len(got) != 1 || !bytes.Equal(got[0], tagged) {
		t.Errorf("at the tool: % x", got)
	}
}

func TestEncapsulatedCopiesDecodedByTshark(t *testing.T) {
	t.Parallel()
	tshark := testkit.Tool(t, "tshark")
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, 47)
	if err != nil {
		testkit.Missing(t, "raw sockets for GRE: "+err.Error())
	}
	defer func() { _ = syscall.Close(fd) }()
	tool := netip.MustParseAddr("127.83.0.9") // loopback: this test's own
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: tool.As4()}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 30}); err != nil {
		t.Fatal(err)
	}
	sim, v := simulate(t, vsim.Config{})
	s := read(t, v)
	a, b := vmPort(s, vm0), vmPort(s, vm1)
	var packets [][]byte
	for _, encap := range []platform.Encap{platform.EncapGRE, platform.EncapERSPAN2, platform.EncapERSPAN3} {
		out := platform.Output{Name: "ids", Encap: encap, Addr: tool}
		if encap != platform.EncapGRE {
			out.Key = 321
		}
		do(t, v, platform.Session{Mark: mark("far", string(encap)), Method: platform.MethodRemoteMirror, Switch: a.Switch, Sources: []platform.Source{{Port: a.ID, Dir: platform.Ingress}}, Outputs: []platform.Output{out}})
		if err := sim.Send(vm0, 0, frameTo(a, b, 1)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2048)
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatalf("%s: %v", encap, err)
		}
		packets = append(packets, buf[:n])
	}
	file := filepath.Join(t.TempDir(), "copies.pcap")
	writePcap(t, file, packets)
	text, err := exec.Command(tshark, "-r", file, "-T", "fields", "-E", "separator=;", "-e", "gre.proto", "-e", "erspan.spanid", "-e", "udp.srcport", "-e", "udp.dstport").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "0x6558;;4000;5000\n0x88be;321;4000;5000\n0x22eb;321;4000;5000\n"
	if string(text) != want {
		t.Errorf("tshark says\n%s want\n%s", text, want)
	}
}

// writePcap writes IP packets (link type 101) as a capture file.
func writePcap(t *testing.T, name string, packets [][]byte) {
	t.Helper()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(b, 0), 0), 65535), 101)
	for _, p := range packets {
		b = le.AppendUint32(le.AppendUint32(b, uint32(time.Now().Unix())), 0)
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(p))), uint32(len(p)))
		b = append(b, p...)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func exportSession(s *platform.Snapshot, policy string, to netip.AddrPort, vms ...string) platform.Session {
	out := platform.Session{Mark: mark(policy, to.String()), Method: platform.MethodFlowsOnly, Flows: &platform.Export{Protocol: "ipfix", To: to, Domain: 42, Sampling: 1}}
	for _, vm := range vms {
		p := vmPort(s, vm)
		out.Switch = p.Switch
		out.Sources = append(out.Sources, platform.Source{Port: p.ID, Dir: platform.Both})
	}
	return out
}

func TestFlowsOnly(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	w := watch(t, v)
	collector, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = collector.Close() }()
	to := collector.LocalAddr().(*net.UDPAddr).AddrPort()
	s := read(t, v)
	want := exportSession(s, "flows", to, vm0, vm1)
	steps := do(t, v, want)
	if len(steps) != 1 || steps[0].Before != nil || !strings.Contains(steps[0].Summary, "DC0_DVPG0") {
		t.Fatalf("steps: %+v", steps)
	}
	settled(t, v, want)
	now := w.until("our export, marked", func(s *platform.Snapshot) bool {
		o := objectsOf(s, kindIPFIX)
		return len(o) == 1 && o[0].Mark == want.Mark && o[0].Raw["groups"] != "" && o[0].Raw["collector"] != ""
	})
	if steps, _ := v.Steps(now, platform.Want{Owner: "me", Sessions: []platform.Session{want}}); len(steps) != 0 {
		t.Errorf("what is watched and what is read differ: %+v", steps)
	}
	o := objectsOf(now, kindIPFIX)[0]
	for name, value := range map[string]string{"active": "60", "idle": "15", "domain": "42", "internal": "no", "groups": "DC0_DVPG0"} {
		if o.Raw[name] != value {
			t.Errorf("%s is %q, want %q", name, o.Raw[name], value)
		}
	}

	a, b := vmPort(s, vm0), vmPort(s, vm1)
	for i := range 5 {
		if err := sim.Send(vm0, 0, frameTo(a, b, i)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := sim.ExportFlows(); n != 1 || err != nil {
		t.Fatalf("%d flows exported: %v", n, err)
	}
	buf := make([]byte, 2048)
	_ = collector.SetReadDeadline(time.Now().Add(patience))
	n, err := collector.Read(buf)
	if err != nil || binary.BigEndian.Uint16(buf) != 10 || binary.BigEndian.Uint32(buf[12:]) != 42 {
		t.Fatalf("datagram % x: %v", buf[:max(n, 0)], err)
	}

	// Another tap with the same collector shares the export, one with another is refused.
	also := exportSession(s, "more", to, vm2)
	if steps := plan(t, v, now, want, also); len(steps) != 0 {
		t.Errorf("port groups are exported already: %+v", steps)
	}
	_, refused := v.Steps(now, platform.Want{Owner: "me", Sessions: []platform.Session{want, exportSession(s, "else", netip.MustParseAddrPort("192.0.2.1:4739"), vm2)}})
	if len(refused) != 1 || refused[0].Reason != platform.ReasonConflict {
		t.Errorf("two collectors: %+v", refused)
	}
	if _, refused := v.Steps(now, platform.Want{Owner: "you", Sessions: []platform.Session{exportSession(s, "else", to, vm2)}}); len(refused) != 1 || refused[0].Reason != platform.ReasonConflict {
		t.Errorf("the export of another control line: %+v", refused)
	}

	if err := v.Undo(t.Context(), steps[0]); err != nil {
		t.Fatal(err)
	}
	if o := objectsOf(read(t, v), kindIPFIX); len(o) != 0 {
		t.Errorf("after undo: %+v", o[0])
	}
	w.until("no export", func(s *platform.Snapshot) bool { return len(objectsOf(s, kindIPFIX)) == 0 })
}

func TestForeignCollector(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{VMs: 2})
	client, f := admin(t, sim)
	ctx := t.Context()
	sw, err := f.Network(ctx, "DVS0")
	if err != nil {
		t.Fatal(err)
	}
	dvs := object.NewDistributedVirtualSwitch(client.Client, sw.Reference())
	task, err := dvs.Reconfigure(ctx, &types.VMwareDVSConfigSpec{
		DVSConfigSpec: types.DVSConfigSpec{ConfigVersion: "1"},
		IpfixConfig:   &types.VMwareIpfixConfig{CollectorIpAddress: "192.0.2.50", CollectorPort: 9995, ActiveFlowTimeout: 120, SamplingRate: 4096},
	})
	done(t, task, err)
	s := read(t, v)
	want := exportSession(s, "flows", netip.MustParseAddrPort("192.0.2.1:4739"), vm0)
	steps := do(t, v, want) // an exporter without port groups is idle
	if err := v.Undo(ctx, steps[0]); err != nil {
		t.Fatal(err)
	}
	on := onSwitch{c: mustConnect(t, v), sw: sw.Reference()}
	if _, err := on.load(ctx); err != nil || exportText(on.config.IpfixConfig) != "192.0.2.50|9995|0|120|15|4096|false" {
		t.Errorf("the collector of before: %s: %v", exportText(on.config.IpfixConfig), err)
	}

	group, err := f.Network(ctx, "DC0_DVPG0")
	if err != nil {
		t.Fatal(err)
	}
	var g = object.NewDistributedVirtualPortgroup(client.Client, group.Reference())
	version := groupVersion(t, on.c, group.Reference())
	task, err = g.Reconfigure(ctx, types.DVPortgroupConfigSpec{ConfigVersion: version, DefaultPortConfig: &types.VMwareDVSPortSetting{IpfixEnabled: &types.BoolPolicy{Value: types.NewBool(true)}}})
	done(t, task, err)
	_, refused := v.Steps(read(t, v), platform.Want{Owner: "me", Sessions: []platform.Session{want}})
	if len(refused) != 1 || refused[0].Reason != platform.ReasonConflict || !strings.Contains(refused[0].Message, "192.0.2.50") {
		t.Errorf("a switch that exports for somebody else: %+v", refused)
	}
}

func TestFlowsCutOff(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{VMs: 2})
	want := exportSession(read(t, v), "flows", netip.MustParseAddrPort("192.0.2.1:4739"), vm0)
	step := plan(t, v, read(t, v), want)[0]
	sim.Fail("ReconfigureDVPortgroup_Task", 1, &types.HostNotConnected{}) // after the mark and the collector
	if err := v.Apply(t.Context(), step); err == nil {
		t.Fatal("no error")
	}
	steps := do(t, v, want)
	if len(steps) != 1 || steps[0].Action != platform.Change {
		t.Errorf("steps: %+v", steps)
	}
	settled(t, v, want)
	do(t, v)
	if o := objectsOf(read(t, v), kindIPFIX); len(o) != 0 {
		t.Errorf("left: %+v", o)
	}
}

func TestPromiscuousCapture(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	w := watch(t, v)
	s := read(t, v)
	dvs := switchNamed(t, s, "DVS0")
	image := vm3 // any machine may be the template
	var want []platform.Session
	for _, h := range platform.Sorted(s.Hosts) {
		m := mark("all", "1")
		m.Part = strings.ToLower(h.Name)
		want = append(want, platform.Session{Mark: m, Method: platform.MethodPromiscuous, Host: h.ID, Capture: &platform.Capture{
			VM: "crosstap-capture-" + h.Name, Image: image, NICs: []platform.CaptureNIC{
				{Switch: dvs.ID, Kind: platform.SwitchDistributed, Group: "crosstap-span-DVS0-" + h.Name, VLANs: "0-4094"},
				{Switch: h.ID + "/vSwitch0", Kind: platform.SwitchStandard, Group: "crosstap-span-vSwitch0", VLANs: "4095"},
			},
		}})
	}
	steps := do(t, v, want...)
	kinds := map[string]int{}
	for _, st := range steps {
		kinds[strings.Fields(st.Object)[0]+" "+string(st.Action)]++
	}
	if got := fmt.Sprint(kinds); got != "map[adapters create:2 capture create:2 port create:2 standard create:2]" {
		t.Errorf("steps: %s", got)
	}
	settled(t, v, want...)
	now := w.until("two capture VMs with two ports each", func(s *platform.Snapshot) bool {
		return len(objectsOf(s, kindMachine)) == 2 && len(objectsOf(s, kindGroup)) == 2 && len(objectsOf(s, kindHostGroup)) == 2 &&
			len(vmPorts(s, want[0].Capture.VM)) == 2 && len(vmPorts(s, want[1].Capture.VM)) == 2
	})
	for _, x := range want {
		for _, p := range vmPorts(now, x.Capture.VM) {
			if p.Host != x.Host || !p.Promisc || p.Kind != platform.PortMirror || p.Owner != "me" {
				t.Errorf("port of %s: %+v", x.Capture.VM, p)
			}
		}
	}
	for _, o := range append(objectsOf(now, kindGroup), objectsOf(now, kindHostGroup)...) {
		if o.Mark.Policy != "all" || o.Raw["promiscuous"] != "yes" || o.Raw["vlans"] != trunkAll && o.Raw["vlan"] != "4095" {
			t.Errorf("port group: %+v", o)
		}
	}

	a, b := vmPort(s, vm0), vmPort(s, vm1) // on two hosts
	if err := sim.Send(vm0, 0, frameTo(a, b, 1)); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, x := range want {
		for nic := range 2 {
			for _, frame := range sim.Received(x.Capture.VM, nic) {
				if seen++; x.Host != a.Host || !bytes.Equal(frame, frameTo(a, b, 1)) {
					t.Errorf("%s got % x", x.Capture.VM, frame)
				}
			}
		}
	}
	if seen != 1 {
		t.Errorf("%d copies: a capture VM sees what passes its own host", seen)
	}

	t.Run("moved by somebody", func(t *testing.T) {
		relocate(t, sim, want[1].Host, want[0].Capture.VM)
		steps := do(t, v, want...)
		if len(steps) == 0 {
			t.Error("nothing to repair")
		}
		settled(t, v, want...)
	})
	t.Run("a name that is taken", func(t *testing.T) {
		x := want[0]
		c := *x.Capture
		c.VM = vm0
		x.Host, x.Capture, x.Mark = a.Host, &c, mark("rude", "1")
		_, refused := v.Steps(read(t, v), platform.Want{Owner: "me", Sessions: []platform.Session{x}})
		if len(refused) != 1 || refused[0].Reason != platform.ReasonConflict {
			t.Errorf("refused: %+v", refused)
		}
	})
	t.Run("removed", func(t *testing.T) {
		do(t, v)
		now := read(t, v)
		if len(now.Objects) != 0 || len(now.VMs) != 4 {
			t.Errorf("left: %+v, %d machines", platform.Sorted(now.Objects), len(now.VMs))
		}
	})
}

func TestCaptureOnOneHost(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{ESX: true, VMs: 2})
	s := read(t, v)
	h := platform.Sorted(s.Hosts)[0]
	want := platform.Session{Mark: mark("all", "1"), Method: platform.MethodPromiscuous, Host: h.ID, Capture: &platform.Capture{
		VM: "ha-host_VM1", NICs: []platform.CaptureNIC{{Switch: h.ID + "/vSwitch0", Kind: platform.SwitchStandard, Group: "crosstap-span-vSwitch0", VLANs: "4095"}},
	}}
	_, refused := v.Steps(s, platform.Want{Owner: "me", Sessions: []platform.Session{want}})
	if len(refused) != 1 {
		t.Fatalf("a VM that nobody gave us: %+v", refused)
	}
	client, _ := admin(t, sim)
	var ref types.ManagedObjectReference
	for _, o := range platform.Sorted(s.VMs) {
		if o.Name == "ha-host_VM1" {
			ref = types.ManagedObjectReference{Type: "VirtualMachine", Value: refOf(t, v, o.Name)}
		}
	}
	vm := object.NewVirtualMachine(client.Client, ref)
	task, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{Annotation: want.Mark.Text()})
	done(t, task, err)
	do(t, v, want)
	settled(t, v, want)
	do(t, v)
	now := read(t, v)
	if len(now.VMs) != 2 || len(now.Objects) != 0 {
		t.Errorf("a VM that somebody made for us stays, without a mark: %d machines, %+v", len(now.VMs), platform.Sorted(now.Objects))
	}
}
