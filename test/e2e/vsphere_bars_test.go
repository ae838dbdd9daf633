//go:build linux

package e2e

import (
	wire "encoding/binary"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform/vsphere/vsim"
)

// sendLong lets one machine send frames of a length to another.
func (v *vcenter) sendLong(from, to string, n, length int) {
	v.t.Helper()
	frame := make([]byte, length)
	for i, name := range []string{to, from} {
		vm, err := v.find.VirtualMachine(v.t.Context(), name)
		must(v.t, err)
		devices, err := vm.Device(v.t.Context())
		must(v.t, err)
		mac, err := net.ParseMAC(devices.PrimaryMacAddress())
		must(v.t, err)
		copy(frame[6*i:], mac)
	}
	copy(frame[12:], []byte{8, 0, 0x45, 0, byte((length - 14) >> 8), byte(length - 14), 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
	wire.BigEndian.PutUint16(frame[34:], 4000)
	wire.BigEndian.PutUint16(frame[36:], 5000)
	wire.BigEndian.PutUint16(frame[38:], uint16(length-34))
	for range n {
		must(v.t, v.sim.Send(from, 0, frame))
	}
}

// addNIC gives a machine one more adapter.
func (v *vcenter) addNIC(vm, network string) {
	v.t.Helper()
	m, err := v.find.VirtualMachine(v.t.Context(), vm)
	must(v.t, err)
	group, err := v.find.Network(v.t.Context(), network)
	must(v.t, err)
	backing, err := group.EthernetCardBackingInfo(v.t.Context())
	must(v.t, err)
	card, err := object.EthernetCardTypes().CreateEthernetCard("vmxnet3", backing)
	must(v.t, err)
	must(v.t, m.AddDevice(v.t.Context(), card))
}

// What can go wrong on a vCenter, through the built binary: another certificate, faults of others' sessions, a change that hosts do not take;
// and what copies are: lengths and sampling of ERSPAN, exports of port groups, what a capture machine is made of.
func TestVSphereBars(t *testing.T) {
	fd := greSocket(t, [4]byte{127, 84, 0, 8})
	v := newVCenter(t, vsim.Config{})
	for _, vm := range []string{vm0, vm1, vm2} {
		v.migrate(vm, "DC0_C0_H0")
	}
	t.Run("another certificate", func(t *testing.T) {
		v.t = t
		file := v.tap("web", `select: {vms: ["`+vm0+`"]}, method: remote-mirror, direction: ingress, destinations: [tool]`, `url: "gre://192.0.2.9"`)
		text, err := os.ReadFile(file)
		must(t, err)
		other := v.write("pinned.yaml", strings.Replace(string(text), v.sim.Thumbprint, strings.Repeat("AB:", 31)+"AB", 1))
		if out := v.crosstap(0, "plan", "-f", other); !strings.Contains(out, "is not the pinned one: its SHA-256 is "+v.sim.Thumbprint) {
			t.Errorf("plan:\n%s", out)
		}
		if logins := v.sim.Calls("Login"); logins != 1 {
			t.Errorf("%d logins: the password goes to no stranger", logins)
		}
	})
	t.Run("lengths and sampling", func(t *testing.T) {
		v.t = t
		file := v.tap("cut", `select: {vms: ["`+vm0+`"]}, method: remote-mirror, direction: ingress, slice: 64, sample: 4, destinations: [tool]`, `url: "erspan3://127.84.0.8?session=9"`)
		v.crosstap(0, "apply", "-f", file)
		if s := v.sessions(); len(s) != 1 || s[0].EncapType != "erspan3" || s[0].MirroredPacketLength != 64 || s[0].SamplingRate != 4 || s[0].ErspanId != 9 || s[0].SessionType != "encapsulatedRemoteMirrorSource" {
			t.Errorf("session %+v", s)
		}
		v.sendLong(vm0, vm1, 20, 400)
		var packets [][]byte
		for range 5 {
			buf := make([]byte, 2048)
			n, _, err := syscall.Recvfrom(fd, buf, 0)
			must(t, err)
			packets = append(packets, buf[:n])
		}
		// IPv4 20, GRE with its sequence 8, ERSPAN III 12, and 64 of the frame
		if got := tsharkFields(t, packets, 101, "-e", "frame.len", "-e", "gre.proto", "-e", "erspan.spanid", "-e", "udp.dstport"); got != strings.Repeat("104;0x22eb;9;5000\n", 5) {
			t.Errorf("tshark says %q", got)
		}
		v.crosstap(0, "delete", "-f", file)
	})
	t.Run("a destination of an administrator", func(t *testing.T) {
		v.t = t
		file := v.tap("local", `select: {vms: ["`+vm0+`"]}, method: mirror, direction: ingress, destinations: [tool]`, `port: {vm: "`+vm2+`"}`)
		v.crosstap(0, "apply", "-f", file)
		s := v.sessions()[0]
		if s.SessionType != "dvPortMirror" {
			t.Errorf("session %+v", s)
		}
		v.crosstap(0, "delete", "-f", file)
		theirs := types.VMwareVspanSession{
			Name: "ops", SessionType: "dvPortMirror", Enabled: true, SamplingRate: 1, DestinationPort: s.DestinationPort,
			SourcePortReceived: &types.VMwareVspanPort{PortKey: v.portKeys(vm1)},
		}
		v.edit("add", theirs)
		if out := v.crosstap(7, "apply", "-f", file); len(v.sessions()) != 1 || v.sessions()[0].Name != "ops" {
			t.Errorf("apply:\n%s", out)
		}
		v.edit("remove", types.VMwareVspanSession{Key: v.sessions()[0].Key})
		// Nobody's session in sight, and the vCenter refuses all the same: nothing is left.
		v.sim.Fail("ReconfigureDvs_Task", 1, &types.VspanDestPortConflict{PortKey: "4", VspanSessionKey1: "k1"})
		if out := v.crosstap(1, "apply", "-f", file); !strings.Contains(out, "destination of another session already (k1)") || len(v.sessions()) != 0 {
			t.Errorf("apply:\n%s", out)
		}
		v.crosstap(0, "apply", "-f", file)
		v.crosstap(0, "delete", "-f", file)
	})
	t.Run("exports of port groups", func(t *testing.T) {
		v.t = t
		file := v.tap("flows", `select: {vms: ["`+vm0+`", "`+vm1+`"]}, method: flows-only, flows: {sampling: 64, active: 90s, domain: 77}, destinations: [tool]`, `url: "ipfix://192.0.2.5:4739"`)
		v.crosstap(0, "apply", "-f", file)
		c := v.config().IpfixConfig
		if c == nil || c.CollectorIpAddress != "192.0.2.5" || c.CollectorPort != 4739 || c.ActiveFlowTimeout != 90 || c.SamplingRate != 64 || c.ObservationDomainId != 77 {
			t.Errorf("collector of the switch %+v", c)
		}
		if !*v.group("DC0_DVPG0").IpfixEnabled.Value {
			t.Error("the port group does not export")
		}
		v.crosstap(0, "delete", "-f", file)
		if *v.group("DC0_DVPG0").IpfixEnabled.Value {
			t.Error("the port group exports after delete")
		}
	})
	t.Run("capture machine", func(t *testing.T) {
		v.t = t
		v.addNIC(vm0, "VM Network")
		file := v.tap("all", `select: {vms: ["`+vm0+`", "`+vm1+`"]}, method: promiscuous, capture: {image: "`+vm3+`"}, allow: [promiscuous]`, "")
		v.crosstap(0, "apply", "-f", file)
		g := v.group("crosstap-span-DVS0-DC0_C0_H0")
		vlan, _ := g.Vlan.(*types.VmwareDistributedVirtualSwitchTrunkVlanSpec)
		if vlan == nil || len(vlan.VlanId) != 1 || vlan.VlanId[0] != (types.NumericRange{Start: 0, End: 4094}) || !*g.MacManagementPolicy.AllowPromiscuous {
			t.Errorf("distributed port group: VLAN %+v, %+v", g.Vlan, g.MacManagementPolicy)
		}
		h, err := v.find.HostSystem(t.Context(), "DC0_C0_H0")
		must(t, err)
		ns, err := h.ConfigManager().NetworkSystem(t.Context())
		must(t, err)
		var on mo.HostNetworkSystem
		must(t, property.DefaultCollector(v.admin.Client).RetrieveOne(t.Context(), ns.Reference(), []string{"networkInfo"}, &on))
		i := slices.IndexFunc(on.NetworkInfo.Portgroup, func(p types.HostPortGroup) bool { return p.Spec.Name == "crosstap-span-vSwitch0" })
		if i < 0 || on.NetworkInfo.Portgroup[i].Spec.VlanId != 4095 || !*on.NetworkInfo.Portgroup[i].Spec.Policy.Security.AllowPromiscuous {
			t.Errorf("standard port groups %+v", on.NetworkInfo.Portgroup)
		}
		cluster, err := v.find.ClusterComputeResource(t.Context(), "DC0_C0")
		must(t, err)
		vm, err := v.find.VirtualMachine(t.Context(), "crosstap-capture-DC0_C0_H0")
		must(t, err)
		config, err := cluster.Configuration(t.Context())
		must(t, err)
		rules := slices.ContainsFunc(config.Rule, func(r types.BaseClusterRuleInfo) bool {
			stays, ok := r.(*types.ClusterVmHostRuleInfo)
			return ok && *stays.Enabled && *stays.Mandatory
		})
		drs := slices.ContainsFunc(config.DrsVmConfig, func(c types.ClusterDrsVmConfigInfo) bool { return c.Key == vm.Reference() && !*c.Enabled })
		if !rules || !drs {
			t.Errorf("the machine may leave its host: rules %+v, DRS %+v", config.Rule, config.DrsVmConfig)
		}
		v.crosstap(0, "delete", "-f", file)
	})
}

// portKeys are the keys of a machine's distributed ports.
func (v *vcenter) portKeys(name string) (out []string) {
	v.t.Helper()
	vm, err := v.find.VirtualMachine(v.t.Context(), name)
	must(v.t, err)
	devices, err := vm.Device(v.t.Context())
	must(v.t, err)
	for _, d := range devices.SelectByType((*types.VirtualEthernetCard)(nil)) {
		if b, ok := d.GetVirtualDevice().Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo); ok {
			out = append(out, b.Port.PortKey)
		}
	}
	return out
}

// group is the setting of a distributed port group.
func (v *vcenter) group(name string) *types.VMwareDVSPortSetting {
	v.t.Helper()
	net, err := v.find.Network(v.t.Context(), name)
	must(v.t, err)
	var group mo.DistributedVirtualPortgroup
	must(v.t, property.DefaultCollector(v.admin.Client).RetrieveOne(v.t.Context(), net.Reference(), []string{"config"}, &group))
	s := group.Config.DefaultPortConfig.(*types.VMwareDVSPortSetting)
	if s.IpfixEnabled == nil {
		s.IpfixEnabled = &types.BoolPolicy{}
	}
	if s.IpfixEnabled.Value == nil {
		s.IpfixEnabled.Value = types.NewBool(false)
	}
	return s
}
