package vsphere

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// maxConflicts is how often a change is tried again when somebody else was quicker.
const maxConflicts = 6

// firstPause is before the second try; it doubles thrice.
const firstPause = 50 * time.Millisecond

// target is one object on the server while a step is done.
type target interface {
	// read returns what is there, nil for nothing.
	read(ctx context.Context) (fields, error)
	// write brings what read returned last to what shall be. A version that is no longer current makes it fail with ConcurrentAccess.
	write(ctx context.Context, have, want fields) error
}

// Apply is described at platform.Platform.
func (v *VSphere) Apply(ctx context.Context, s platform.Step) error {
	do, before, err := readStep(s)
	if err != nil {
		return err
	}
	return v.converge(ctx, "apply", do, before.Fields, do.Fields)
}

// Undo is described at platform.Platform.
func (v *VSphere) Undo(ctx context.Context, s platform.Step) error {
	do, before, err := readStep(s)
	if err != nil {
		return err
	}
	if s.Before == nil && do.Kind == kindAdapters {
		before.Fields = fields{"name": do.Name, "host": do.Host, "power": "off"} // the VM itself goes with the step that made it
	}
	return v.converge(ctx, "undo", do, do.Fields, before.Fields)
}

func readStep(s platform.Step) (do, before change, err error) {
	if err = json.Unmarshal(s.Do, &do); err == nil && len(s.Before) > 0 {
		err = json.Unmarshal(s.Before, &before)
	}
	if err != nil {
		err = fmt.Errorf("vsphere: step %q: %w", s.Object, err)
	}
	if do.Kind == kindAdapters && before.Fields == nil {
		before.Fields = fields{"name": do.Name, "host": do.Host, "power": "off"}
	}
	return do, before, err
}

// converge brings an object from one state to another, and reads back that it is so. Somebody else's change to the same switch is
// waited out; somebody else's change to the same object is ErrChanged.
func (v *VSphere) converge(ctx context.Context, verb string, c change, from, to fields) error {
	where := fmt.Sprintf("%s: %s %s", verb, c.Kind, c.Name)
	err := v.with(ctx, func(conn *connection) error {
		t, err := v.target(ctx, conn, &c, from)
		if err != nil {
			if to == nil && errors.Is(err, platform.ErrGone) {
				return nil // the whole switch or host is gone, and the object with it
			}
			return err
		}
		return v.settle(ctx, t, from, to)
	})
	return v.explain(where, err)
}

// settle reads, compares and writes until the object is as it shall be.
func (v *VSphere) settle(ctx context.Context, t target, from, to fields) error {
	wrote := false
	for try := 0; ; try++ {
		have, err := t.read(ctx)
		if err != nil {
			return err
		}
		rest := differ(have, to)
		switch {
		case len(rest) == 0:
			return nil
		case wrote:
			return fmt.Errorf("the server took the change, and does not show it: %s", explainDiff(have, to))
		case len(differ(have, from)) != 0:
			return fmt.Errorf("%w: %s", platform.ErrChanged, explainDiff(have, from))
		}
		err = t.write(ctx, have, to)
		if err == nil {
			wrote = true
			continue
		}
		if !fault.Is(err, &types.ConcurrentAccess{}) || try >= maxConflicts {
			return err
		}
		if err := pause(ctx, firstPause<<min(try, 3)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// target returns the object that a change is about.
func (v *VSphere) target(ctx context.Context, c *connection, do *change, from fields) (target, error) {
	switch do.Kind {
	case kindSession, kindIPFIX, kindGroup:
		sw, err := v.switchRef(ctx, c, do.Switch)
		if err != nil {
			return nil, err
		}
		on := onSwitch{c: c, sw: sw}
		switch do.Kind {
		case kindSession:
			return &sessionTarget{onSwitch: on, key: from["key"], name: do.Name}, nil
		case kindIPFIX:
			return &ipfixTarget{onSwitch: on}, nil
		}
		return &groupTarget{onSwitch: on, name: do.Name}, nil
	case kindHostGroup:
		return &hostGroupTarget{c: c, host: types.ManagedObjectReference{Type: "HostSystem", Value: do.Host}, name: do.Name}, nil
	case kindMachine, kindAdapters:
		return &machineTarget{c: c, host: types.ManagedObjectReference{Type: "HostSystem", Value: do.Host}, name: do.Name, ref: from["ref"], adapters: do.Kind == kindAdapters}, nil
	}
	return nil, fmt.Errorf("a step of a kind that this version does not know")
}

// switchRef returns the reference of a distributed switch. Its type depends on the server.
func (v *VSphere) switchRef(ctx context.Context, c *connection, id string) (types.ManagedObjectReference, error) {
	v.mu.Lock()
	kind, known := v.switches[id]
	v.mu.Unlock()
	if known {
		return types.ManagedObjectReference{Type: kind, Value: id}, nil
	}
	refs, err := list(ctx, c, "DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch")
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range refs {
		v.switches[r.Value] = r.Type
	}
	kind, known = v.switches[id]
	if !known {
		return types.ManagedObjectReference{}, fmt.Errorf("distributed switch %s %w", id, platform.ErrGone)
	}
	return types.ManagedObjectReference{Type: kind, Value: id}, nil
}

// list returns the objects of some kinds.
func list(ctx context.Context, c *connection, kinds ...string) ([]types.ManagedObjectReference, error) {
	w, err := view.NewManager(c.client).CreateContainerView(ctx, c.client.ServiceContent.RootFolder, kinds, true)
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Destroy(context.WithoutCancel(ctx)) }()
	var out mo.ContainerView
	if err := property.DefaultCollector(c.client).RetrieveOne(ctx, w.Reference(), []string{"view"}, &out); err != nil {
		return nil, err
	}
	return out.View, nil
}

// get reads properties of one object.
func get(ctx context.Context, c *connection, ref types.ManagedObjectReference, dst any, properties ...string) error {
	return property.DefaultCollector(c.client).RetrieveOne(ctx, ref, properties, dst)
}

// wait waits for a task. A task whose waiting was given up goes on at the server; the next Apply finds what it did.
func wait(ctx context.Context, t *object.Task, err error) error {
	if err != nil {
		return err
	}
	return t.Wait(ctx)
}

// onSwitch is what all objects of a distributed switch have.
type onSwitch struct {
	c      *connection
	sw     types.ManagedObjectReference
	config *types.VMwareDVSConfigInfo // as read last
}

// load reads the switch's configuration with its version.
func (o *onSwitch) load(ctx context.Context, also ...string) (*mo.DistributedVirtualSwitch, error) {
	var sw mo.DistributedVirtualSwitch
	if err := get(ctx, o.c, o.sw, &sw, append(also, "config")...); err != nil {
		return nil, err
	}
	config, ok := sw.Config.(*types.VMwareDVSConfigInfo)
	if !ok {
		return nil, fmt.Errorf("the switch is not VMware's: %T", sw.Config)
	}
	o.config = config
	return &sw, nil
}

func (o *onSwitch) reconfigure(ctx context.Context, spec *types.VMwareDVSConfigSpec) error {
	spec.ConfigVersion = o.config.ConfigVersion
	t, err := object.NewDistributedVirtualSwitch(o.c.client, o.sw).Reconfigure(ctx, spec)
	return wait(ctx, t, err)
}

// sessionTarget is a mirror session.
type sessionTarget struct {
	onSwitch
	key, name string
}

func (t *sessionTarget) read(ctx context.Context) (fields, error) {
	if _, err := t.load(ctx); err != nil {
		return nil, err
	}
	var byName fields
	for i := range t.config.VspanSession {
		s := &t.config.VspanSession[i]
		if t.key != "" && s.Key == t.key {
			return sessionFields(s), nil
		}
		if s.Name == t.name {
			byName = sessionFields(s)
		}
	}
	return byName, nil
}

func (t *sessionTarget) write(ctx context.Context, have, want fields) error {
	spec := types.VMwareDVSVspanConfigSpec{}
	switch {
	case want == nil:
		spec.Operation = string(types.ConfigSpecOperationRemove)
		spec.VspanSession = types.VMwareVspanSession{Key: have["key"]}
	case have == nil:
		spec.Operation = string(types.ConfigSpecOperationAdd)
		spec.VspanSession = want.session()
		spec.VspanSession.Key = ""
	default:
		spec.Operation = string(types.ConfigSpecOperationEdit)
		spec.VspanSession = want.session()
		spec.VspanSession.Key = have["key"]
	}
	return t.reconfigure(ctx, &types.VMwareDVSConfigSpec{VspanConfigSpec: []types.VMwareDVSVspanConfigSpec{spec}})
}

// groupTarget is a distributed port group for capture.
type groupTarget struct {
	onSwitch
	name  string
	group mo.DistributedVirtualPortgroup // as read last
}

// groups returns the port groups of the switch.
func (o *onSwitch) groups(ctx context.Context) ([]mo.DistributedVirtualPortgroup, error) {
	var sw mo.DistributedVirtualSwitch
	if err := get(ctx, o.c, o.sw, &sw, "portgroup"); err != nil || len(sw.Portgroup) == 0 {
		return nil, err
	}
	var out []mo.DistributedVirtualPortgroup
	err := property.DefaultCollector(o.c.client).Retrieve(ctx, sw.Portgroup, []string{"name", "config"}, &out)
	return out, err
}

func (t *groupTarget) read(ctx context.Context) (fields, error) {
	groups, err := t.groups(ctx)
	if err != nil {
		return nil, err
	}
	for i := range groups {
		if g := &groups[i]; unescape(g.Name) == t.name {
			t.group = *g
			return groupFields(&g.Config), nil
		}
	}
	return nil, nil
}

// capturePorts is how many ports a capture group begins with; it grows by itself.
const capturePorts = 8

func (t *groupTarget) write(ctx context.Context, have, want fields) error {
	client := t.c.client
	if want == nil {
		task, err := object.NewDistributedVirtualPortgroup(client, t.group.Self).Destroy(ctx)
		return wait(ctx, task, err)
	}
	yes, no := types.NewBool(true), types.NewBool(false)
	spec := types.DVPortgroupConfigSpec{
		Name: escape(t.name), Description: want["description"], Type: want["type"], AutoExpand: yes,
		DefaultPortConfig: &types.VMwareDVSPortSetting{
			Vlan: &types.VmwareDistributedVirtualSwitchTrunkVlanSpec{VlanId: []types.NumericRange{{Start: 0, End: 4094}}},
			// The older policy and the one that has replaced it: a switch reads the one that it knows.
			SecurityPolicy: &types.DVSSecurityPolicy{
				AllowPromiscuous: &types.BoolPolicy{Value: yes}, MacChanges: &types.BoolPolicy{Value: no}, ForgedTransmits: &types.BoolPolicy{Value: no},
			},
			MacManagementPolicy: &types.DVSMacManagementPolicy{AllowPromiscuous: yes, MacChanges: no, ForgedTransmits: no},
		},
	}
	if have == nil {
		spec.NumPorts = capturePorts
		task, err := object.NewDistributedVirtualSwitch(client, t.sw).AddPortgroup(ctx, []types.DVPortgroupConfigSpec{spec})
		return wait(ctx, task, err)
	}
	spec.Name, spec.ConfigVersion = "", t.group.Config.ConfigVersion
	task, err := object.NewDistributedVirtualPortgroup(client, t.group.Self).Reconfigure(ctx, spec)
	return wait(ctx, task, err)
}

// escape writes a name as vSphere keeps it.
func escape(name string) string {
	return strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c").Replace(name)
}

// hostGroupTarget is a standard port group of one host.
type hostGroupTarget struct {
	c    *connection
	host types.ManagedObjectReference
	name string
	net  types.ManagedObjectReference // network system, as read last
}

func (t *hostGroupTarget) read(ctx context.Context) (fields, error) {
	var h mo.HostSystem
	if err := get(ctx, t.c, t.host, &h, "configManager.networkSystem", "config.network.portgroup"); err != nil {
		return nil, err
	}
	if h.ConfigManager.NetworkSystem == nil {
		return nil, fmt.Errorf("host %s tells nothing of its network: is it connected?", t.host.Value)
	}
	t.net = *h.ConfigManager.NetworkSystem
	if h.Config == nil || h.Config.Network == nil {
		return nil, nil
	}
	for i := range h.Config.Network.Portgroup {
		if s := &h.Config.Network.Portgroup[i].Spec; s.Name == t.name {
			return hostGroupFields(s), nil
		}
	}
	return nil, nil
}

func (t *hostGroupTarget) write(ctx context.Context, have, want fields) error {
	system := object.NewHostNetworkSystem(t.c.client, t.net)
	if want == nil {
		return system.RemovePortGroup(ctx, t.name)
	}
	promiscuous, no := types.NewBool(want["promiscuous"] == "yes"), types.NewBool(false)
	spec := types.HostPortGroupSpec{
		Name: t.name, VlanId: parseNumber(want["vlan"]), VswitchName: want["switch"],
		Policy: types.HostNetworkPolicy{Security: &types.HostNetworkSecurityPolicy{AllowPromiscuous: promiscuous, MacChanges: no, ForgedTransmits: no}},
	}
	if have == nil {
		return system.AddPortGroup(ctx, spec)
	}
	return system.UpdatePortGroup(ctx, t.name, spec)
}
