package vsphere

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"crosstap/internal/control/platform"
)

func ref(kind, value string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: kind, Value: value}
}

func assign(name string, val any) types.PropertyChange {
	return types.PropertyChange{Name: name, Op: types.PropertyChangeOpAssign, Val: val}
}

// bigVM is what a vCenter tells of one machine of a large site: an adapter, two disks, an address.
func bigVM(i, hosts, groups int) types.ObjectUpdate {
	mac := fmt.Sprintf("00:50:56:%02x:%02x:%02x", i>>16&0x3f, i>>8&0xff, i&0xff)
	group := i % groups
	devices := []types.BaseVirtualDevice{
		&types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2000}, CapacityInKB: 1 << 20},
		&types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2001}, CapacityInKB: 1 << 20},
		&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{
			VirtualDevice: types.VirtualDevice{
				Key: 4000, Connectable: &types.VirtualDeviceConnectInfo{Connected: true},
				Backing: &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{
					SwitchUuid: fmt.Sprintf("uuid-%d", group%50), PortgroupKey: fmt.Sprintf("dvportgroup-%d", group), PortKey: fmt.Sprint(i),
				}},
			},
			MacAddress: mac,
		}}},
	}
	return types.ObjectUpdate{Kind: types.ObjectUpdateKindEnter, Obj: ref("VirtualMachine", fmt.Sprintf("vm-%d", i)), ChangeSet: []types.PropertyChange{
		assign("name", fmt.Sprintf("app-%06d", i)), assign("config.instanceUuid", fmt.Sprintf("5012%04x-0000-4000-8000-%012x", i>>16, i)),
		assign("config.template", false), assign("runtime.host", ref("HostSystem", fmt.Sprintf("host-%d", i%hosts))),
		assign("runtime.powerState", types.VirtualMachinePowerStatePoweredOn), assign("parent", ref("Folder", fmt.Sprintf("group-v%d", i%100))),
		assign("config.hardware.device", types.ArrayOfVirtualDevice{VirtualDevice: devices}),
		assign("guest.net", types.ArrayOfGuestNicInfo{GuestNicInfo: []types.GuestNicInfo{{DeviceConfigId: 4000, MacAddress: mac, IpAddress: []string{fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&0xff, i&0xff)}}}}),
	}}
}

// bigModel is a site with that many machines, on 50 distributed switches.
func bigModel(tb testing.TB, vms, hosts, groups int) *model {
	tb.Helper()
	m := newModel(&settings{}, true)
	do := func(u types.ObjectUpdate) { m.apply(&u) }
	do(types.ObjectUpdate{Obj: ref("Folder", "group-d1"), ChangeSet: []types.PropertyChange{assign("name", "Datacenters")}})
	for i := range 100 {
		do(types.ObjectUpdate{Obj: ref("Folder", fmt.Sprintf("group-v%d", i)), ChangeSet: []types.PropertyChange{assign("name", fmt.Sprintf("team-%d", i)), assign("parent", ref("Folder", "group-d1"))}})
	}
	for i := range 50 {
		do(types.ObjectUpdate{Obj: ref("VmwareDistributedVirtualSwitch", fmt.Sprintf("dvs-%d", i)), ChangeSet: []types.PropertyChange{
			assign("name", fmt.Sprintf("dvs-%d", i)), assign("uuid", fmt.Sprintf("uuid-%d", i)), assign("config", types.VMwareDVSConfigInfo{MaxMtu: 9000}),
		}})
	}
	for i := range groups {
		sw := ref("VmwareDistributedVirtualSwitch", fmt.Sprintf("dvs-%d", i%50))
		do(types.ObjectUpdate{Obj: ref("DistributedVirtualPortgroup", fmt.Sprintf("dvportgroup-%d", i)), ChangeSet: []types.PropertyChange{
			assign("name", fmt.Sprintf("net-%d", i)), assign("config", types.DVPortgroupConfigInfo{
				Name: fmt.Sprintf("net-%d", i), DistributedVirtualSwitch: &sw,
				DefaultPortConfig: &types.VMwareDVSPortSetting{Vlan: &types.VmwareDistributedVirtualSwitchVlanIdSpec{VlanId: int32(i%4000 + 1)}},
			}),
		}})
	}
	for i := range hosts {
		do(types.ObjectUpdate{Obj: ref("HostSystem", fmt.Sprintf("host-%d", i)), ChangeSet: []types.PropertyChange{
			assign("name", fmt.Sprintf("esx-%d", i)), assign("runtime.connectionState", types.HostSystemConnectionStateConnected),
		}})
	}
	for i := range vms {
		do(bigVM(i, hosts, groups))
	}
	return m
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// BenchmarkInventory is a site of 100,000 machines and 5,000 hosts: from what the server tells to the first whole update.
func BenchmarkInventory(b *testing.B) {
	const vms, hosts, groups = 100_000, 5_000, 2_000
	for b.Loop() {
		before := heap()
		m := bigModel(b, vms, hosts, groups)
		model := heap()
		u, _ := m.update(1)
		inv := platform.NewInventory("vc")
		inv.Apply(u)
		after := heap()
		if len(u.Ports) != vms || len(u.VMs) != vms || len(u.Hosts) != hosts {
			b.Fatalf("%d ports, %d machines, %d hosts", len(u.Ports), len(u.VMs), len(u.Hosts))
		}
		b.ReportMetric(float64(model-before)/1e6, "MB-model")
		b.ReportMetric(float64(after-model)/1e6, "MB-snapshot")
		runtime.KeepAlive(m)
		runtime.KeepAlive(inv)
	}
}

// BenchmarkChanges is one update with 1,000 changes of a site of that size: machines that migrate and get other addresses.
func BenchmarkChanges(b *testing.B) {
	const vms, hosts, groups, changes = 100_000, 5_000, 2_000, 1_000
	m := bigModel(b, vms, hosts, groups)
	inv := platform.NewInventory("vc")
	u, _ := m.update(1)
	inv.Apply(u)
	n := 0
	for b.Loop() {
		for range changes {
			i := n * 7 % vms
			u := types.ObjectUpdate{Kind: types.ObjectUpdateKindModify, Obj: ref("VirtualMachine", fmt.Sprintf("vm-%d", i)), ChangeSet: []types.PropertyChange{
				assign("runtime.host", ref("HostSystem", fmt.Sprintf("host-%d", (i+n+1)%hosts))),
			}}
			m.apply(&u)
			n++
		}
		u, ok := m.update(int64(n))
		if !ok || len(u.VMs) < changes-1 {
			b.Fatalf("%d machines told", len(u.VMs))
		}
		inv.Apply(u)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "changes/s")
}

// BenchmarkWire is the same from the XML of the server's answer on: 100 machines, each with all that is watched.
func BenchmarkWire(b *testing.B) {
	set := types.UpdateSet{Version: "1", FilterSet: []types.PropertyFilterUpdate{{Filter: ref("PropertyFilter", "f")}}}
	for i := range 100 {
		set.FilterSet[0].ObjectSet = append(set.FilterSet[0].ObjectSet, bigVM(i, 50, 20))
	}
	var text bytes.Buffer
	if err := xml.NewEncoder(&text).Encode(soap.Envelope{Body: &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{Returnval: &set}}}); err != nil {
		b.Fatal(err)
	}
	m := bigModel(b, 0, 50, 20)
	n := 0
	for b.Loop() {
		d := xml.NewDecoder(bytes.NewReader(text.Bytes()))
		d.TypeFunc = types.TypeFunc()
		var body methods.WaitForUpdatesExBody
		if err := d.Decode(&soap.Envelope{Body: &body}); err != nil {
			b.Fatal(err)
		}
		for i := range body.Res.Returnval.FilterSet[0].ObjectSet {
			m.apply(&body.Res.Returnval.FilterSet[0].ObjectSet[i])
			n++
		}
		m.update(1)
	}
	if len(m.vms) != 100 {
		b.Fatalf("%d machines", len(m.vms))
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "machines/s")
}

// TestBigSite holds the records of a site of 2,000 machines against what was told, and its memory within reason.
func TestBigSite(t *testing.T) {
	m := bigModel(t, 2_000, 100, 40)
	u, ok := m.update(1)
	if !ok || !u.Whole || len(u.Ports) != 2_000 {
		t.Fatalf("%d ports", len(u.Ports))
	}
	inv := platform.NewInventory("vc")
	inv.Apply(u)
	s := inv.Snapshot()
	vm := s.VMs["50120000-0000-4000-8000-000000000065"]
	if vm == nil || vm.Name != "app-000101" || vm.Folder != "/team-1" || vm.Host != "host-1" {
		t.Fatalf("machine 101: %+v", vm)
	}
	p := s.Ports["dvs-21/101"]
	if p == nil || p.VM != vm.ID || p.VLAN != 22 || p.MAC.String() != "00:50:56:00:00:65" || len(p.Addrs) != 1 || p.Addrs[0].String() != "10.0.0.101" {
		t.Fatalf("its port: %+v", p)
	}
	if _, ok := m.update(2); ok {
		t.Error("an update without a change")
	}
	// A port that one machine leaves and another takes in the same moment stays.
	gone := types.ObjectUpdate{Kind: types.ObjectUpdateKindLeave, Obj: ref("VirtualMachine", "vm-101")}
	m.apply(&gone)
	heir := bigVM(5_000, 100, 40)
	heir.ChangeSet[6] = bigVM(101, 100, 40).ChangeSet[6]
	m.apply(&heir)
	u, _ = m.update(3)
	inv.Apply(u)
	s = inv.Snapshot()
	if s.VMs[vm.ID] != nil || s.Ports["dvs-21/101"] == nil || s.Ports["dvs-21/101"].VM != "50120000-0000-4000-8000-000000001388" {
		t.Errorf("after the change of owners: %+v", s.Ports["dvs-21/101"])
	}
}
