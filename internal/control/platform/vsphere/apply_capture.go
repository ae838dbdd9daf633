package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// machineTarget is a capture VM: itself with its notes and host, or its adapters and power.
type machineTarget struct {
	c        *connection
	host     types.ManagedObjectReference
	name     string
	ref      string // of the VM when it is known
	adapters bool

	vm *mo.VirtualMachine // as read last; nil when there is none
}

var machineProperties = []string{"name", "config.annotation", "config.template", "config.hardware.device", "runtime.host", "runtime.powerState"}

func (t *machineTarget) read(ctx context.Context) (fields, error) {
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	if t.vm == nil {
		if t.adapters {
			return fields{"name": t.name, "host": t.host.Value, "power": "off"}, nil
		}
		return nil, nil
	}
	m := newModel(&settings{}, t.c.vcenter)
	if err := t.knowGroups(ctx, m); err != nil {
		return nil, err
	}
	changes := []types.PropertyChange{
		{Name: "name", Val: t.vm.Name}, {Name: "runtime.host", Val: *t.vm.Runtime.Host}, {Name: "runtime.powerState", Val: t.vm.Runtime.PowerState},
		{Name: "config.annotation", Val: t.vm.Config.Annotation}, {Name: "config.hardware.device", Val: types.ArrayOfVirtualDevice{VirtualDevice: t.vm.Config.Hardware.Device}},
	}
	m.applyVM(t.vm.Self.Value, changes)
	v := m.vms[t.vm.Self.Value]
	kind := kindAdapters
	if !t.adapters {
		kind = kindMachine
		if v.note == "" {
			return nil, nil // not ours, or no longer
		}
	}
	return part(kind, m.captureObject(v, platform.ParseMark(v.note)).Raw), nil
}

// load finds the VM: by its reference, else the one of its name on its host.
func (t *machineTarget) load(ctx context.Context) error {
	t.vm = nil
	if t.ref != "" {
		var vm mo.VirtualMachine
		err := get(ctx, t.c, types.ManagedObjectReference{Type: "VirtualMachine", Value: t.ref}, &vm, machineProperties...)
		if err == nil && vm.Config != nil {
			t.vm = &vm
		}
		if _, base := aboutErr(err); errors.Is(base, platform.ErrGone) {
			return nil
		}
		return err
	}
	var h mo.HostSystem
	if err := get(ctx, t.c, t.host, &h, "vm"); err != nil || len(h.Vm) == 0 {
		return err
	}
	var vms []mo.VirtualMachine
	if err := property.DefaultCollector(t.c.client).Retrieve(ctx, h.Vm, machineProperties, &vms); err != nil {
		return err
	}
	for i := range vms {
		if unescape(vms[i].Name) == t.name && vms[i].Config != nil {
			t.vm = &vms[i]
		}
	}
	return nil
}

func aboutErr(err error) (string, error) {
	if err == nil {
		return "", nil
	}
	return about(err)
}

// knowGroups teaches a model the names of the distributed port groups that the VM is attached to.
func (t *machineTarget) knowGroups(ctx context.Context, m *model) error {
	for _, d := range t.vm.Config.Hardware.Device {
		card, ok := d.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		n := readNIC(card.GetVirtualEthernetCard())
		if n.kind != platform.SwitchDistributed || m.groups[n.group] != nil {
			continue
		}
		var g mo.DistributedVirtualPortgroup
		if err := get(ctx, t.c, types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: n.group}, &g, "name"); err != nil {
			return err
		}
		m.groups[n.group] = &dvGroup{ref: n.group, name: unescape(g.Name)}
	}
	return nil
}

func (t *machineTarget) write(ctx context.Context, have, want fields) error {
	switch {
	case t.adapters:
		return t.writeAdapters(ctx, want)
	case want == nil:
		return t.destroy(ctx, have)
	case have == nil:
		return t.clone(ctx, want)
	}
	vm := object.NewVirtualMachine(t.c.client, t.vm.Self)
	if have["host"] != want["host"] {
		task, err := vm.Relocate(ctx, types.VirtualMachineRelocateSpec{Host: &t.host}, types.VirtualMachineMovePriorityDefaultPriority)
		if err := wait(ctx, task, err); err != nil {
			return err
		}
	}
	if err := t.pin(ctx, t.vm.Self); err != nil {
		return err
	}
	return t.note(ctx, t.vm.Self, have["note"], want["note"])
}

// note writes the notes of the VM. It comes last: a VM whose notes are not as they shall be is looked at again.
func (t *machineTarget) note(ctx context.Context, vm types.ManagedObjectReference, have, want string) error {
	if have == want {
		return nil
	}
	task, err := object.NewVirtualMachine(t.c.client, vm).Reconfigure(ctx, types.VirtualMachineConfigSpec{Annotation: want})
	return wait(ctx, task, err)
}

// unfinished stands in the notes of a clone until it is pinned to its host.
const unfinished = " unfinished"

// destroy removes a VM that we made, with its disks. One that somebody made for us only loses the mark.
func (t *machineTarget) destroy(ctx context.Context, have fields) error {
	vm := object.NewVirtualMachine(t.c.client, t.vm.Self)
	if noteWord(have["note"], "image") == "" {
		return t.note(ctx, t.vm.Self, have["note"], " ") // an empty text would change nothing
	}
	if err := t.unpin(ctx); err != nil {
		return err
	}
	if t.vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		task, err := vm.PowerOff(ctx)
		if err := wait(ctx, task, err); err != nil {
			return err
		}
	}
	task, err := vm.Destroy(ctx)
	return wait(ctx, task, err)
}

// clone makes the VM from its template, on its host, switched off and without adapters.
func (t *machineTarget) clone(ctx context.Context, want fields) error {
	if !t.c.vcenter {
		return fmt.Errorf("an ESXi host without a vCenter cannot clone; make the VM yourself and write into its notes: %s", want["note"])
	}
	image := strings.Join(splitNames(noteWord(want["note"], "image")), "")
	template, err := t.template(ctx, image)
	if err != nil {
		return err
	}
	pool, store, err := t.room(ctx, template)
	if err != nil {
		return err
	}
	spec := types.VirtualMachineCloneSpec{
		Location: types.VirtualMachineRelocateSpec{Host: &t.host, Pool: pool, Datastore: store},
		Config:   &types.VirtualMachineConfigSpec{Annotation: want["note"] + unfinished},
	}
	for _, d := range template.Config.Hardware.Device {
		if _, ok := d.(types.BaseVirtualEthernetCard); ok {
			spec.Config.DeviceChange = append(spec.Config.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d})
		}
	}
	folder := object.NewFolder(t.c.client, *template.Parent)
	task, err := object.NewVirtualMachine(t.c.client, template.Self).Clone(ctx, folder, escape(t.name), spec)
	if err != nil {
		return err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return err
	}
	made, ok := info.Result.(types.ManagedObjectReference)
	if !ok {
		return fmt.Errorf("the server cloned the template and does not tell the VM")
	}
	t.ref = made.Value
	return t.finish(ctx, made, want)
}

// finish brings a clone to what was asked for, where a server has left the configuration of the specification aside.
func (t *machineTarget) finish(ctx context.Context, made types.ManagedObjectReference, want fields) error {
	var vm mo.VirtualMachine
	if err := get(ctx, t.c, made, &vm, machineProperties...); err != nil {
		return err
	}
	t.vm = &vm
	if err := t.note(ctx, made, vm.Config.Annotation, want["note"]+unfinished); err != nil {
		return err
	}
	spec := types.VirtualMachineConfigSpec{}
	for _, d := range vm.Config.Hardware.Device {
		if _, ok := d.(types.BaseVirtualEthernetCard); ok {
			spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d})
		}
	}
	if len(spec.DeviceChange) > 0 {
		task, err := object.NewVirtualMachine(t.c.client, made).Reconfigure(ctx, spec)
		if err := wait(ctx, task, err); err != nil {
			return err
		}
	}
	if err := t.pin(ctx, made); err != nil {
		return err
	}
	return t.note(ctx, made, "", want["note"])
}

// template finds the machine to clone by its name.
func (t *machineTarget) template(ctx context.Context, name string) (*mo.VirtualMachine, error) {
	refs, err := list(ctx, t.c, "VirtualMachine")
	if err != nil || len(refs) == 0 {
		return nil, cmpErr(err, fmt.Errorf("template %q %w", name, platform.ErrGone))
	}
	var names []mo.VirtualMachine
	if err := property.DefaultCollector(t.c.client).Retrieve(ctx, refs, []string{"name"}, &names); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(names, func(vm mo.VirtualMachine) bool { return unescape(vm.Name) == name })
	if i < 0 {
		return nil, fmt.Errorf("template %q %w: no machine has this name", name, platform.ErrGone)
	}
	var vm mo.VirtualMachine
	err = get(ctx, t.c, names[i].Self, &vm, "parent", "datastore", "config.hardware.device")
	if err == nil && (vm.Parent == nil || vm.Config == nil) {
		err = fmt.Errorf("template %q is in a vApp or cannot be read", name)
	}
	return &vm, err
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// room returns the resource pool of the host, and a datastore: that of the template when the host has it, else the one with most
// space.
func (t *machineTarget) room(ctx context.Context, template *mo.VirtualMachine) (pool, store *types.ManagedObjectReference, err error) {
	var h mo.HostSystem
	if err := get(ctx, t.c, t.host, &h, "parent", "datastore"); err != nil {
		return nil, nil, err
	}
	p, err := object.NewHostSystem(t.c.client, t.host).ResourcePool(ctx)
	if err != nil {
		return nil, nil, err
	}
	pool = types.NewReference(p.Reference())
	for _, d := range template.Datastore {
		if slices.Contains(h.Datastore, d) {
			return pool, &d, nil
		}
	}
	if len(h.Datastore) == 0 {
		return nil, nil, fmt.Errorf("host %s has no datastore", t.host.Value)
	}
	var stores []mo.Datastore
	if err := property.DefaultCollector(t.c.client).Retrieve(ctx, h.Datastore, []string{"summary"}, &stores); err != nil {
		return nil, nil, err
	}
	best := slices.MaxFunc(stores, func(a, b mo.Datastore) int { return int(min(max(a.Summary.FreeSpace-b.Summary.FreeSpace, -1), 1)) })
	return pool, &best.Self, nil
}

// writeAdapters attaches the VM to exactly the port groups that are wanted, and sets its power.
func (t *machineTarget) writeAdapters(ctx context.Context, want fields) error {
	if t.vm == nil {
		return fmt.Errorf("capture VM %q %w", t.name, platform.ErrGone)
	}
	vm := object.NewVirtualMachine(t.c.client, t.vm.Self)
	on := t.vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	if on && want["power"] != "on" {
		task, err := vm.PowerOff(ctx)
		if err := wait(ctx, task, err); err != nil {
			return err
		}
	}
	spec, err := t.adapterSpec(ctx, splitNames(want["adapters"]))
	if err != nil {
		return err
	}
	if len(spec.DeviceChange) > 0 {
		task, err := vm.Reconfigure(ctx, *spec)
		if err := wait(ctx, task, err); err != nil {
			return err
		}
	}
	if !on && want["power"] == "on" {
		task, err := vm.PowerOn(ctx)
		return wait(ctx, task, err)
	}
	return nil
}

// adapterSpec is the change of devices from what the VM has to one adapter for each port group.
func (t *machineTarget) adapterSpec(ctx context.Context, want []string) (*types.VirtualMachineConfigSpec, error) {
	m := newModel(&settings{}, t.c.vcenter)
	if err := t.knowGroups(ctx, m); err != nil {
		return nil, err
	}
	var have []string
	spec := &types.VirtualMachineConfigSpec{}
	for _, d := range t.vm.Config.Hardware.Device {
		card, ok := d.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		n := readNIC(card.GetVirtualEthernetCard())
		if name := m.networkName(&n); slices.Contains(want, name) && !slices.Contains(have, name) {
			have = append(have, name)
			continue
		}
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d})
	}
	for i, name := range minus(want, have) {
		backing, err := t.backing(ctx, name)
		if err != nil {
			return nil, err
		}
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd,
			Device: &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{
				VirtualDevice: types.VirtualDevice{
					Key: int32(-200 - i), Backing: backing,
					Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: false, Connected: true},
				},
				AddressType: string(types.VirtualEthernetCardMacTypeGenerated),
			}}},
		})
	}
	return spec, nil
}

// backing finds a port group by its name: a distributed one, else the standard one of the VM's host.
func (t *machineTarget) backing(ctx context.Context, name string) (types.BaseVirtualDeviceBackingInfo, error) {
	refs, err := list(ctx, t.c, "DistributedVirtualPortgroup")
	if err != nil {
		return nil, err
	}
	if len(refs) > 0 {
		var groups []mo.DistributedVirtualPortgroup
		if err := property.DefaultCollector(t.c.client).Retrieve(ctx, refs, []string{"name"}, &groups); err != nil {
			return nil, err
		}
		for _, g := range groups {
			if unescape(g.Name) == name {
				return object.NewDistributedVirtualPortgroup(t.c.client, g.Self).EthernetCardBackingInfo(ctx)
			}
		}
	}
	return &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name}}, nil
}
