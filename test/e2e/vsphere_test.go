//go:build linux

package e2e

import (
	wire "encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform/vsphere/vsim"
	"crosstap/internal/testkit"
)

// vcenter is a simulated vCenter with the binary's control line at it.
type vcenter struct {
	t      *testing.T
	sim    *vsim.Server
	dir    string
	admin  *govmomi.Client
	find   *find.Finder
	server string // URL of a server that does it; "" for a state file
}

func newVCenter(t *testing.T, c vsim.Config) *vcenter {
	t.Helper()
	sim, err := vsim.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	v := &vcenter{t: t, sim: sim, dir: t.TempDir()}
	v.login()
	v.write("password", sim.Password+"\n")
	return v
}

// login makes a session for the administrator.
func (v *vcenter) login() {
	v.t.Helper()
	var err error
	if v.admin, err = govmomi.NewClient(v.t.Context(), v.sim.Login(), true); err != nil {
		v.t.Fatal(err)
	}
	v.find = find.NewFinder(v.admin.Client)
	dc, err := v.find.DefaultDatacenter(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	v.find.SetDatacenter(dc)
}

func (v *vcenter) write(name, text string) string {
	v.t.Helper()
	name = filepath.Join(v.dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		v.t.Fatal(err)
	}
	return name
}

// platform is the resource of the vCenter for a user whose password is in a file.
func (v *vcenter) platform(user, passwordFile string) string {
	return fmt.Sprintf(`apiVersion: crosstap/v1
kind: Platform
metadata: {name: vc}
spec:
  kind: vsphere
  address: %s
  user: %s
  password: {file: %s}
  tls: {thumbprint: %q}
`, v.sim.URL, user, filepath.Join(v.dir, passwordFile), v.sim.Thumbprint)
}

// tap is a file with the vCenter, one tap and its destination.
func (v *vcenter) tap(name, spec, destination string) string {
	v.t.Helper()
	text := v.platform(v.sim.User, "password") + "---\napiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: " + name + "}\nspec: {" + spec + "}\n"
	if destination != "" {
		text += "---\napiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: tool}\nspec: {" + destination + "}\n"
	}
	return v.write(name+".yaml", text)
}

// crosstap runs a command and wants an exit code.
func (v *vcenter) crosstap(code int, args ...string) string {
	v.t.Helper()
	if v.server != "" {
		args = append(args, "--server", v.server)
	} else {
		args = append(args, "--state", filepath.Join(v.dir, "state.db"))
	}
	out := printed(v.t, code, nil, exec.CommandContext(v.t.Context(), binary(v.t), args...))
	if strings.Contains(out, v.sim.Password) {
		v.t.Errorf("crosstap %s: the password is in the output", args[0])
	}
	return out
}

func (v *vcenter) sessions() []types.VMwareVspanSession {
	v.t.Helper()
	return v.config().VspanSession
}

func (v *vcenter) config() *types.VMwareDVSConfigInfo {
	v.t.Helper()
	net, err := v.find.Network(v.t.Context(), "DVS0")
	if err != nil {
		v.t.Fatal(err)
	}
	var sw mo.DistributedVirtualSwitch
	if err := property.DefaultCollector(v.admin.Client).RetrieveOne(v.t.Context(), net.Reference(), []string{"config"}, &sw); err != nil {
		v.t.Fatal(err)
	}
	return sw.Config.(*types.VMwareDVSConfigInfo)
}

// edit lets an administrator change the mirror sessions.
func (v *vcenter) edit(op string, s types.VMwareVspanSession) {
	v.t.Helper()
	net, err := v.find.Network(v.t.Context(), "DVS0")
	if err != nil {
		v.t.Fatal(err)
	}
	task, err := object.NewDistributedVirtualSwitch(v.admin.Client, net.Reference()).Reconfigure(v.t.Context(), &types.VMwareDVSConfigSpec{
		DVSConfigSpec:   types.DVSConfigSpec{ConfigVersion: v.config().ConfigVersion},
		VspanConfigSpec: []types.VMwareDVSVspanConfigSpec{{Operation: op, VspanSession: s}},
	})
	v.wait(task, err)
}

func (v *vcenter) wait(task *object.Task, err error) {
	v.t.Helper()
	if err == nil {
		err = task.Wait(v.t.Context())
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// migrate brings a machine to a host.
func (v *vcenter) migrate(vm, host string) {
	v.t.Helper()
	m, err := v.find.VirtualMachine(v.t.Context(), vm)
	if err != nil {
		v.t.Fatal(err)
	}
	h, err := v.find.HostSystem(v.t.Context(), host)
	if err != nil {
		v.t.Fatal(err)
	}
	ref := h.Reference()
	task, err := m.Relocate(v.t.Context(), types.VirtualMachineRelocateSpec{Host: &ref}, types.VirtualMachineMovePriorityDefaultPriority)
	v.wait(task, err)
}

const vm0, vm1, vm2, vm3 = "DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1", "DC0_C0_RP0_VM2", "DC0_C0_RP0_VM3"

// send lets one machine send UDP packets to another: 10.0.0.1:4000 > 10.0.0.2:5000, whoever they are.
func (v *vcenter) send(from, to string, n int) {
	v.t.Helper()
	mac := func(name string) net.HardwareAddr {
		vm, err := v.find.VirtualMachine(v.t.Context(), name)
		if err != nil {
			v.t.Fatal(err)
		}
		devices, err := vm.Device(v.t.Context())
		if err != nil {
			v.t.Fatal(err)
		}
		m, err := net.ParseMAC(devices.PrimaryMacAddress())
		if err != nil {
			v.t.Fatal(err)
		}
		return m
	}
	frame := append(append(append([]byte{}, mac(to)...), mac(from)...), 8, 0)
	ip := make([]byte, 20+8+18)
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	wire.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	wire.BigEndian.PutUint16(ip[20:], 4000)
	wire.BigEndian.PutUint16(ip[22:], 5000)
	wire.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
	for range n {
		if err := v.sim.Send(from, 0, append(frame, ip...)); err != nil {
			v.t.Fatal(err)
		}
	}
}

// greSocket receives GRE at an address of the loopback network.
func greSocket(t *testing.T, addr [4]byte) int {
	t.Helper()
	testkit.Root(t)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_GRE)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: addr})
	}
	if err == nil {
		err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 60})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return fd
}

// tshark decodes IP packets.
func tsharkFields(t *testing.T, packets [][]byte, linkType uint32, args ...string) string {
	t.Helper()
	le := wire.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(b, 0), 0), 65535), linkType)
	for i, p := range packets {
		b = le.AppendUint32(le.AppendUint32(b, uint32(i)), 0)
		b = append(le.AppendUint32(le.AppendUint32(b, uint32(len(p))), uint32(len(p))), p...)
	}
	file := filepath.Join(t.TempDir(), "copies.pcap")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), testkit.Tool(t, "tshark"), append([]string{"-n", "-r", file, "-T", "fields", "-E", "separator=;"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestVSphereRemoteMirror(t *testing.T) {
	fd := greSocket(t, [4]byte{127, 84, 0, 7})
	v := newVCenter(t, vsim.Config{})
	v.edit("add", types.VMwareVspanSession{
		Name: "ops", Description: "leave me alone", SessionType: "encapsulatedRemoteMirrorSource", SamplingRate: 1,
		DestinationPort: &types.VMwareVspanPort{IpAddress: []string{"192.0.2.1"}},
	})
	foreign := v.sessions()[0]
	file := v.tap("web", `select: {vms: ["`+vm0+`", "`+vm1+`"]}, method: remote-mirror, direction: ingress, slice: 64, destinations: [tool]`, `url: "erspan2://127.84.0.7?session=321"`)

	if out := v.crosstap(0, "plan", "-f", file); !strings.Contains(out, "pwsh -Command") || !strings.Contains(out, "each packet once") {
		t.Errorf("plan:\n%s", out)
	}
	v.crosstap(0, "apply", "-f", file)
	if out := v.crosstap(0, "apply", "-f", file); !strings.Contains(out, "nothing to do") {
		t.Errorf("a second time:\n%s", out)
	}
	v.send(vm0, vm1, 1)
	v.send(vm1, vm0, 1)
	v.send(vm2, vm0, 1) // of a machine that is no source
	var packets [][]byte
	for range 2 {
		buf := make([]byte, 2048)
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, buf[:n])
	}
	if got := tsharkFields(t, packets, 101, "-e", "erspan.spanid", "-e", "udp.srcport", "-e", "udp.dstport"); got != "321;4000;5000\n321;4000;5000\n" {
		t.Errorf("tshark says %q", got)
	}

	v.migrate(vm0, "DC0_C0_H1")
	v.crosstap(0, "diff") // the session goes with the machine
	ours := v.sessions()[1]
	ours.Enabled = false
	v.edit("edit", ours)
	if out := v.crosstap(1, "diff"); !strings.Contains(out, "enabled") {
		t.Errorf("drift:\n%s", out)
	}
	v.sim.Conflict(2)
	v.crosstap(0, "apply", "-f", file)
	v.crosstap(0, "diff")
	v.crosstap(0, "delete", "-f", file)
	if left := v.sessions(); len(left) != 1 || left[0].Key != foreign.Key || left[0].Description != foreign.Description || left[0].Enabled != foreign.Enabled {
		t.Errorf("sessions after delete: %+v; want the administrator's as it was", left)
	}
}

func TestVSphereMirrorFlowsAndCapture(t *testing.T) {
	v := newVCenter(t, vsim.Config{})
	for _, vm := range []string{vm0, vm1, vm2} {
		v.migrate(vm, "DC0_C0_H0")
	}
	t.Run("mirror", func(t *testing.T) {
		v.t = t
		file := v.tap("local", `select: {vms: ["`+vm0+`", "`+vm1+`"]}, method: mirror, direction: ingress, destinations: [tool]`, `port: {vm: "`+vm2+`"}`)
		v.crosstap(0, "apply", "-f", file)
		v.crosstap(0, "diff") // also now that the tool's port is a session's
		if out := v.crosstap(0, "apply", "-f", file); !strings.Contains(out, "nothing to do") {
			t.Errorf("a second time:\n%s", out)
		}
		v.send(vm0, vm1, 10)
		v.send(vm1, vm0, 10)
		frames := v.sim.Received(vm2, 0)
		if got := tsharkFields(t, frames, 1, "-e", "udp.dstport"); got != strings.Repeat("5000\n", 20) {
			t.Errorf("%d copies of 20 packets; tshark says %q", len(frames), got)
		}
		v.crosstap(0, "delete", "-f", file)
	})
	t.Run("flows", func(t *testing.T) {
		v.t = t
		collector, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = collector.Close() }()
		port := collector.LocalAddr().(*net.UDPAddr).Port
		file := v.tap("flows", `select: {vms: ["`+vm0+`", "`+vm1+`"]}, method: flows-only, flows: {sampling: 1, domain: 77}, allow: [unsampled], destinations: [tool]`, `url: "ipfix://127.0.0.1:`+strconv.Itoa(port)+`"`)
		v.crosstap(0, "apply", "-f", file)
		v.crosstap(0, "diff")
		v.send(vm0, vm1, 7)
		if n, err := v.sim.ExportFlows(); n != 1 || err != nil {
			t.Fatalf("%d flows exported: %v", n, err)
		}
		buf := make([]byte, 2048)
		_ = collector.SetReadDeadline(time.Now().Add(patience))
		n, err := collector.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		udp := append(wire.BigEndian.AppendUint16(wire.BigEndian.AppendUint16(wire.BigEndian.AppendUint16(wire.BigEndian.AppendUint16(nil, 4739), 4739), uint16(8+n)), 0), buf[:n]...)
		ip := append([]byte{0x45, 0, byte((20 + len(udp)) >> 8), byte(20 + len(udp)), 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1}, udp...)
		got := tsharkFields(t, [][]byte{ip}, 101, "-d", "udp.port==4739,cflow", "-e", "cflow.od_id", "-e", "cflow.srcaddr", "-e", "cflow.dstaddr", "-e", "cflow.packets", "-e", "cflow.dstport")
		if got != "77;10.0.0.1;10.0.0.2;7;5000\n" {
			t.Errorf("tshark says %q", got)
		}
		v.crosstap(0, "delete", "-f", file)
	})
	t.Run("capture", func(t *testing.T) {
		v.t = t
		spec := `select: {vms: ["*"]}, method: promiscuous, capture: {image: "` + vm3 + `"}`
		if out := v.crosstap(7, "apply", "-f", v.tap("all", spec, "")); !strings.Contains(out, "promiscuous") {
			t.Errorf("without acknowledgement:\n%s", out)
		}
		file := v.tap("all", spec+`, allow: [promiscuous]`, "")
		v.crosstap(0, "apply", "-f", file)
		v.crosstap(0, "diff")
		v.send(vm0, vm1, 3)
		if got := len(v.sim.Received("crosstap-capture-DC0_C0_H0", 0)); got != 3 {
			t.Errorf("the capture VM has %d frames of 3", got)
		}
		v.crosstap(0, "delete", "-f", file)
		vms, err := v.find.VirtualMachineList(t.Context(), "*")
		if err != nil || len(vms) != 4 {
			t.Errorf("%d machines after delete: %v", len(vms), err)
		}
	})
}

func TestVSphereLeastPrivilege(t *testing.T) {
	v := newVCenter(t, vsim.Config{VMs: 2})
	v.sim.AddUser("observer", "watching", "System.View", "System.Read")
	v.write("observer", "watching\n")
	v.write("wrong", "guess\n")
	tap := v.tap("web", `select: {vms: ["*"]}, method: remote-mirror, direction: ingress, destinations: [tool]`, `url: "gre://192.0.2.9"`)
	text, err := os.ReadFile(tap)
	if err != nil {
		t.Fatal(err)
	}
	as := func(user, file string) string {
		own := strings.Replace(string(text), v.platform(v.sim.User, "password"), v.platform(user, file), 1)
		return v.write("as-"+file+".yaml", own)
	}
	if out := v.crosstap(0, "plan", "-f", as("observer", "observer")); !strings.Contains(out, "DVSwitch.Vspan") {
		t.Errorf("plan of an observer:\n%s", out)
	}
	if out := v.crosstap(7, "apply", "-f", as("observer", "observer")); !strings.Contains(out, "DVSwitch.Vspan") || len(v.sessions()) != 0 {
		t.Errorf("apply of an observer:\n%s", out)
	}
	if out := v.crosstap(0, "plan", "-f", as("observer", "wrong")); !strings.Contains(out, "does not take this password") || strings.Contains(out, "guess") {
		t.Errorf("plan with a wrong password:\n%s", out)
	}
}

// TestVSphereServer is a server that keeps a vCenter as the policies want it.
func TestVSphereServer(t *testing.T) {
	v := newVCenter(t, vsim.Config{})
	r := start(t, nil, "serve", "--data", filepath.Join(v.dir, "data"), "--http", "127.0.0.1:0", "--flows", "127.0.0.1:0")
	v.server = "http://" + r.waitFor(`console=http://([^/\s]+)/`)
	file := v.tap("web", `select: {vms: ["`+vm0+`", "`+vm1+`"]}, method: remote-mirror, direction: ingress, destinations: [tool]`, `url: "erspan3://192.0.2.9?session=5"`)
	v.crosstap(0, "apply", "-f", file)
	testkit.Eventually(t, "a session of two ports", func() bool {
		s := v.sessions()
		return len(s) == 1 && s[0].SourcePortReceived != nil && len(s[0].SourcePortReceived.PortKey) == 2
	})
	s := v.sessions()[0]
	s.DestinationPort.IpAddress = []string{"198.51.100.1"}
	v.edit("edit", s)
	testkit.Eventually(t, "drift set right", func() bool {
		s := v.sessions()
		return len(s) == 1 && s[0].DestinationPort.IpAddress[0] == "192.0.2.9"
	})
	v.sim.DropSessions()
	v.login()
	v.edit("remove", types.VMwareVspanSession{Key: v.sessions()[0].Key})
	testkit.Eventually(t, "a removed session made again after the vCenter had ended ours", func() bool { return len(v.sessions()) == 1 })
	vm, err := v.find.VirtualMachine(t.Context(), vm0)
	if err != nil {
		t.Fatal(err)
	}
	group, err := v.find.Network(t.Context(), "DC0_DVPG0")
	if err != nil {
		t.Fatal(err)
	}
	backing, err := group.EthernetCardBackingInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	card, err := object.EthernetCardTypes().CreateEthernetCard("vmxnet3", backing)
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.AddDevice(t.Context(), card); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "an added adapter joined", func() bool {
		s := v.sessions()
		return len(s) == 1 && len(s[0].SourcePortReceived.PortKey) == 3
	})
	v.crosstap(0, "taps", "stop", "--all")
	testkit.Eventually(t, "no session after stop", func() bool { return len(v.sessions()) == 0 })
}
