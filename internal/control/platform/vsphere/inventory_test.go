package vsphere

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/vsphere/vsim"
)

func TestInventoryOfVCenter(t *testing.T) {
	t.Parallel()
	_, v := simulate(t, vsim.Config{})
	s := read(t, v)
	if len(s.Hosts) != 2 || len(s.VMs) != 4 || len(s.Switches) != 3 {
		t.Fatalf("%d hosts, %d machines, %d switches; want 2, 4 and 3 (one distributed, two standard)", len(s.Hosts), len(s.VMs), len(s.Switches))
	}
	dvs := switchNamed(t, s, "DVS0")
	if dvs.Kind != platform.SwitchDistributed || len(dvs.Hosts) != 2 || dvs.MTU != 1500 {
		t.Errorf("distributed switch: %+v", dvs)
	}
	p := vmPort(s, "DC0_C0_RP0_VM0")
	if p == nil || p.Kind != platform.PortVM || p.Switch != dvs.ID || p.Group != "DC0_DVPG0" || p.MAC == 0 || !p.Up || s.Hosts[p.Host] == nil {
		t.Errorf("port of a machine: %+v", p)
	}
	vm := s.VMs[p.VM]
	if vm.Folder != "/DC0/vm" || vm.Off || vm.Host != p.Host || len(vm.ID) != 36 {
		t.Errorf("machine: %+v", vm)
	}
	if h := s.Hosts[p.Host]; h.Cluster != "DC0_C0" || h.Down || !strings.HasPrefix(h.Version, "VMware ESXi") {
		t.Errorf("host: %+v", h)
	}
	kinds := map[platform.PortKind]int{}
	for _, p := range s.Ports {
		kinds[p.Kind]++
	}
	want := map[platform.PortKind]int{platform.PortVM: 4, platform.PortKernel: 2, platform.PortUplink: 4}
	for kind, n := range want {
		if kinds[kind] != n {
			t.Errorf("%d ports of kind %s, want %d", kinds[kind], kind, n)
		}
	}
	if len(s.Objects) != 0 {
		t.Errorf("objects of a fresh vCenter: %v", s.Objects)
	}
}

func TestInventoryOfHost(t *testing.T) {
	t.Parallel()
	_, v := simulate(t, vsim.Config{ESX: true})
	s := read(t, v)
	if len(s.Hosts) != 1 || len(s.VMs) != 4 || len(s.Switches) != 1 {
		t.Fatalf("%d hosts, %d machines, %d switches", len(s.Hosts), len(s.VMs), len(s.Switches))
	}
	sw := switchNamed(t, s, "vSwitch0")
	if sw.Kind != platform.SwitchStandard || len(sw.Can.Methods) != 1 {
		t.Errorf("switch: %+v", sw)
	}
	ports := 0
	for _, p := range s.Ports {
		if p.Kind == platform.PortVM && p.Switch == sw.ID && p.Group == "VM Network" {
			ports++
		}
	}
	if ports != 4 {
		t.Errorf("%d ports of machines, want 4", ports)
	}
}

func TestWatchFollows(t *testing.T) {
	t.Parallel()
	sim, v := simulate(t, vsim.Config{})
	w := watch(t, v)
	const name = "DC0_C0_RP0_VM0"
	before := w.until("the machine", func(s *platform.Snapshot) bool { return vmPort(s, name) != nil })
	port := *vmPort(before, name)
	ctx := t.Context()
	_, f := admin(t, sim)
	vm, err := f.VirtualMachine(ctx, name)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("address", func(t *testing.T) {
		task, err := vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "SET.guest.ipAddress", Value: "10.1.0.5"}}})
		done(t, task, err)
		w.until("the address", func(s *platform.Snapshot) bool {
			p := vmPort(s, name)
			return p != nil && len(p.Addrs) == 1 && p.Addrs[0].String() == "10.1.0.5"
		})
	})
	t.Run("migration", func(t *testing.T) {
		var other types.ManagedObjectReference
		for id := range before.Hosts {
			if id != port.Host {
				other = types.ManagedObjectReference{Type: "HostSystem", Value: id}
			}
		}
		task, err := vm.Relocate(ctx, types.VirtualMachineRelocateSpec{Host: &other}, types.VirtualMachineMovePriorityDefaultPriority)
		done(t, task, err)
		s := w.until("the other host", func(s *platform.Snapshot) bool { return vmPort(s, name).Host == other.Value })
		if p := vmPort(s, name); p.ID != port.ID || s.VMs[p.VM].Host != other.Value {
			t.Errorf("a migrated machine keeps its port: %+v, was %s", p, port.ID)
		}
	})
	t.Run("rename and power", func(t *testing.T) {
		task, err := vm.Rename(ctx, "shop/web")
		done(t, task, err)
		task, err = vm.PowerOff(ctx)
		done(t, task, err)
		s := w.until("the new name", func(s *platform.Snapshot) bool {
			p := vmPort(s, "shop/web")
			return p != nil && s.VMs[p.VM].Off
		})
		if p := vmPort(s, "shop/web"); p.Up {
			t.Errorf("port of a machine that is off: %+v", p)
		}
	})
	t.Run("adapter added", func(t *testing.T) {
		addNIC(t, f, vm, "VM Network")
		w.until("a second port", func(s *platform.Snapshot) bool { return len(vmPorts(s, "shop/web")) == 2 })
	})
	t.Run("destroyed", func(t *testing.T) {
		task, err := vm.Destroy(ctx)
		done(t, task, err)
		s := w.until("no machine", func(s *platform.Snapshot) bool { return len(s.VMs) == 3 })
		if len(vmPorts(s, "shop/web")) != 0 || s.Ports[port.ID] != nil {
			t.Error("its ports are still told")
		}
	})
	t.Run("sessions dropped", func(t *testing.T) {
		sim.DropSessions()
		w.until("a new whole", func(*platform.Snapshot) bool { return w.wholes() >= 2 })
		_, f := admin(t, sim)
		vm, err := f.VirtualMachine(ctx, vm1)
		if err != nil {
			t.Fatal(err)
		}
		addNIC(t, f, vm, "DC0_DVPG0")
		w.until("a port in the new session", func(s *platform.Snapshot) bool { return len(vmPorts(s, vm1)) == 2 })
	})
}
