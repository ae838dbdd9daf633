package vsphere

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// readMark reads our custom attribute of a switch.
func (m *model) readMark(ctx context.Context, c *connection, r types.ManagedObjectReference) error {
	var sw mo.DistributedVirtualSwitch
	if err := get(ctx, c, r, &sw, "customValue"); err != nil {
		return err
	}
	m.applySwitch(r.Value, []types.PropertyChange{{Name: "customValue", Val: types.ArrayOfCustomFieldValue{CustomFieldValue: sw.CustomValue}}})
	return nil
}

// fetchPorts reads the connected ports of a distributed switch with their counters.
func (v *VSphere) fetchPorts(ctx context.Context, c *connection, id string) ([]types.DistributedVirtualPort, error) {
	ref, err := v.switchRef(ctx, c, id)
	if err != nil {
		return nil, err
	}
	yes := true
	return object.NewDistributedVirtualSwitch(c.client, ref).FetchDVPorts(ctx, &types.DistributedVirtualSwitchPortCriteria{Connected: &yes})
}

// count fills in the counters of ports. "In" is into the switch.
func (v *VSphere) count(ctx context.Context, c *connection, m *model, ports []platform.Port) error {
	at := make(map[string]int, len(ports))
	for i := range ports {
		at[ports[i].ID] = i
	}
	for _, id := range keys(m.switches) {
		fetched, err := v.fetchPorts(ctx, c, id)
		if err != nil {
			return err
		}
		for i := range fetched {
			n, known := at[id+"/"+fetched[i].Key]
			if s := fetched[i].State; known && s != nil {
				ports[n].RxBytes = uint64(s.Stats.BytesInUnicast + s.Stats.BytesInMulticast + s.Stats.BytesInBroadcast)
				ports[n].TxBytes = uint64(s.Stats.BytesOutUnicast + s.Stats.BytesOutMulticast + s.Stats.BytesOutBroadcast)
			}
		}
	}
	return nil
}

// Counters is described at platform.Platform. vSphere counts ports, not sessions: a session towards ports is counted there, by what
// left the switch, and one towards an address is not counted at all.
func (v *VSphere) Counters(ctx context.Context, owner string) (map[string]platform.Counter, error) {
	out := map[string]platform.Counter{}
	err := v.with(ctx, func(c *connection) error {
		refs, err := list(ctx, c, "DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch")
		if err != nil {
			return err
		}
		for _, r := range refs {
			on := onSwitch{c: c, sw: r}
			if _, err := on.load(ctx); err != nil {
				return err
			}
			if err := v.countSessions(ctx, c, &on, owner, out); err != nil {
				return err
			}
		}
		return nil
	})
	return out, v.explain("platform "+v.set.Name+": counters", err)
}

func (v *VSphere) countSessions(ctx context.Context, c *connection, on *onSwitch, owner string, out map[string]platform.Counter) error {
	var stats map[string]types.DistributedVirtualSwitchPortStatistics
	for i := range on.config.VspanSession {
		s := &on.config.VspanSession[i]
		mark := platform.ParseMark(s.Description)
		to := vspanPort(s.DestinationPort)
		if mark.Owner != owner || len(to.PortKey) == 0 {
			continue
		}
		if stats == nil {
			ports, err := v.fetchPorts(ctx, c, on.sw.Value)
			if err != nil {
				return err
			}
			stats = map[string]types.DistributedVirtualSwitchPortStatistics{}
			for i := range ports {
				if ports[i].State != nil {
					stats[ports[i].Key] = ports[i].State.Stats
				}
			}
		}
		n := out[mark.Key()]
		n.At = time.Now()
		for _, key := range to.PortKey {
			p := stats[key]
			n.Packets += uint64(p.PacketsOutUnicast + p.PacketsOutMulticast + p.PacketsOutBroadcast)
			n.Bytes += uint64(p.BytesOutUnicast + p.BytesOutMulticast + p.BytesOutBroadcast)
			n.Drops += uint64(p.PacketsOutDropped)
		}
		out[mark.Key()] = n
	}
	return nil
}

// A Need is one privilege with the objects that it must be had on.
type Need struct {
	Privilege string
	On        string // kind of object, for people
	For       string // what it is needed for
}

// Needs lists the privileges of a method, the least that do. "" is what everything needs: the inventory.
func Needs(m platform.Method) []Need {
	const sw, group, host, anywhere = "distributed switches", "distributed port groups", "hosts", "the vCenter"
	switch m {
	case "":
		return []Need{{"System.View", anywhere, "see the inventory"}, {"System.Read", anywhere, "read it"}}
	case platform.MethodMirror, platform.MethodRemoteMirror:
		return []Need{{"DVSwitch.Vspan", sw, "mirror sessions"}}
	case platform.MethodFlowsOnly:
		return []Need{
			{"DVSwitch.Modify", sw, "the collector of a switch"}, {"DVPortgroup.Modify", group, "switching the export of a port group on"},
			{"Global.SetCustomField", sw, "the mark of an export"}, {"Global.ManageCustomFields", anywhere, "making the custom attribute of the mark, once"},
		}
	case platform.MethodPromiscuous:
		return []Need{
			{"DVPortgroup.Create", sw, "port groups for capture"}, {"DVPortgroup.Modify", group, "repairing them"}, {"DVPortgroup.Delete", group, "removing them"},
			{"Host.Config.Network", host, "port groups on standard switches"}, {"Network.Assign", group, "attaching the capture VM"},
			{"VirtualMachine.Provisioning.Clone", anywhere, "making the capture VM"}, {"VirtualMachine.Inventory.CreateFromExisting", anywhere, "making the capture VM"},
			{"VirtualMachine.Inventory.Delete", anywhere, "removing the capture VM"}, {"VirtualMachine.Config.AddRemoveDevice", anywhere, "its adapters"},
			{"VirtualMachine.Config.EditDevice", anywhere, "its adapters"}, {"VirtualMachine.Config.Annotation", anywhere, "its mark"},
			{"VirtualMachine.Interact.PowerOn", anywhere, "its power"}, {"VirtualMachine.Interact.PowerOff", anywhere, "its power"},
			{"Datastore.AllocateSpace", anywhere, "its disk"}, {"Resource.AssignVMToPool", anywhere, "its place"},
			{"Resource.HotMigrate", anywhere, "bringing it back to its host"}, {"Host.Inventory.EditCluster", anywhere, "keeping it on its host"},
		}
	}
	return nil
}

// Missing is described at platform.Prober. hostOrSwitch is an ID; "" asks at the root.
func (v *VSphere) Missing(ctx context.Context, m platform.Method, hostOrSwitch string) ([]string, error) {
	var out []string
	err := v.with(ctx, func(c *connection) error {
		entities, err := v.entities(ctx, c, hostOrSwitch)
		if err != nil {
			return err
		}
		out, err = missing(ctx, c, slices.Concat(Needs(""), Needs(m)), entities)
		return err
	})
	return out, v.explain("platform "+v.set.Name+": privileges", err)
}

// entities returns what a host or switch is made of, and the root.
func (v *VSphere) entities(ctx context.Context, c *connection, id string) (map[string][]types.ManagedObjectReference, error) {
	root := c.client.ServiceContent.RootFolder
	out := map[string][]types.ManagedObjectReference{"the vCenter": {root}, "distributed switches": nil, "distributed port groups": nil, "hosts": nil}
	id, _, _ = strings.Cut(id, "/") // a standard switch is its host's
	switch {
	case id == "":
		out["distributed switches"], out["hosts"], out["distributed port groups"] = out["the vCenter"], out["the vCenter"], out["the vCenter"]
	case strings.HasPrefix(id, "dvs-"):
		ref, err := v.switchRef(ctx, c, id)
		if err != nil {
			return nil, err
		}
		var sw mo.DistributedVirtualSwitch
		if err := get(ctx, c, ref, &sw, "portgroup"); err != nil {
			return nil, err
		}
		out["distributed switches"], out["distributed port groups"] = []types.ManagedObjectReference{ref}, sw.Portgroup
	default:
		out["hosts"] = []types.ManagedObjectReference{{Type: "HostSystem", Value: id}}
	}
	return out, nil
}

// missing asks which privileges the account lacks.
func missing(ctx context.Context, c *connection, needs []Need, entities map[string][]types.ManagedObjectReference) ([]string, error) {
	manager := object.NewAuthorizationManager(c.client)
	var out []string
	for _, on := range keys(entities) {
		var ids []string
		for _, n := range needs {
			if n.On == on {
				ids = append(ids, n.Privilege)
			}
		}
		if len(ids) == 0 || len(entities[on]) == 0 {
			continue
		}
		answer, err := manager.HasUserPrivilegeOnEntities(ctx, entities[on], c.user, ids)
		if err != nil {
			return nil, err
		}
		for _, e := range answer {
			for _, p := range e.PrivAvailability {
				if !p.IsGranted {
					out = append(out, fmt.Sprintf("%s on %s", p.PrivId, e.Entity.Value))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// ChangedBy is described at platform.Auditor. It knows the last change of the switch, port group or machine that an object is part of.
func (v *VSphere) ChangedBy(ctx context.Context, id string) (user string, at time.Time, err error) {
	err = v.with(ctx, func(c *connection) error {
		if c.client.ServiceContent.EventManager == nil || !c.vcenter {
			return nil
		}
		ref, kinds, err := v.audited(ctx, c, id)
		if err != nil || ref.Value == "" {
			return err
		}
		events, err := event.NewManager(c.client).QueryEvents(ctx, types.EventFilterSpec{
			Entity: &types.EventFilterSpecByEntity{Entity: ref, Recursion: types.EventFilterSpecRecursionOptionSelf}, EventTypeId: kinds,
		})
		if err != nil {
			return err
		}
		for _, e := range events {
			if x := e.GetEvent(); x.CreatedTime.After(at) {
				user, at = x.UserName, x.CreatedTime
			}
		}
		return nil
	})
	return user, at, v.explain("platform "+v.set.Name+": events", err)
}

// audited returns the entity whose events tell of an object, and which events.
func (v *VSphere) audited(ctx context.Context, c *connection, id string) (types.ManagedObjectReference, []string, error) {
	first, rest, _ := strings.Cut(id, "/")
	switch {
	case first == "vm":
		return types.ManagedObjectReference{Type: "VirtualMachine", Value: rest}, []string{"VmReconfiguredEvent", "VmMigratedEvent", "DrsVmMigratedEvent", "VmPoweredOffEvent"}, nil
	case strings.HasPrefix(first, "dvportgroup-"):
		return types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: first}, []string{"DVPortgroupReconfiguredEvent"}, nil
	case strings.HasPrefix(first, "dvs-"):
		ref, err := v.switchRef(ctx, c, first)
		return ref, []string{"DvsReconfiguredEvent"}, err
	}
	return types.ManagedObjectReference{}, nil, nil // standard port groups: events of hosts do not tell what was changed
}
