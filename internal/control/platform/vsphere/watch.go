package vsphere

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

const (
	waitSeconds  = 60 // of one call; a server ends it with nothing to tell
	batchObjects = 1000
	firstRetry   = time.Second
	lastRetry    = 30 * time.Second
	tidyWithin   = 5 * time.Second
	answerWithin = time.Minute // after the server should have answered
)

// watched is what is followed, by kind. Kinds in one line are the same to us: vSphere has derived types.
var watched = []struct {
	kinds      []string
	base       string
	properties []string
}{
	{[]string{"Datacenter"}, "Datacenter", []string{"name", "parent"}},
	{[]string{"Folder"}, "Folder", []string{"name", "parent"}},
	{[]string{"ComputeResource", "ClusterComputeResource"}, "ComputeResource", []string{"name", "parent"}},
	{[]string{"HostSystem"}, "HostSystem", []string{
		"name", "parent", "summary.config.product", "runtime.connectionState", "config.network.vswitch", "config.network.portgroup",
		"config.network.proxySwitch", "config.network.vnic", "config.network.pnic",
	}},
	{[]string{"DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch"}, "DistributedVirtualSwitch", []string{
		"name", "uuid", "config", "capability", "summary.hostMember", "customValue",
	}},
	{[]string{"DistributedVirtualPortgroup"}, "DistributedVirtualPortgroup", []string{"name", "config"}},
	{[]string{"VirtualMachine"}, "VirtualMachine", []string{
		"name", "config.instanceUuid", "config.template", "config.annotation", "config.hardware.device", "runtime.host", "runtime.powerState", "parent", "guest.net",
	}},
}

// follower reads the inventory through a property collector of its own.
type follower struct {
	c         *connection
	collector *property.Collector
	view      *view.ContainerView
	model     *model
	version   string
}

// follow makes the collector with its filter.
func (v *VSphere) follow(ctx context.Context, c *connection) (_ *follower, err error) {
	f := &follower{c: c, model: newModel(&v.set, c.vcenter)}
	if f.model.field, err = customField(ctx, c); err != nil {
		return nil, err
	}
	if f.collector, err = property.DefaultCollector(c.client).Create(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.close(ctx)
		}
	}()
	var kinds []string
	var properties []types.PropertySpec
	for _, w := range watched {
		kinds = append(kinds, w.kinds...)
		properties = append(properties, types.PropertySpec{Type: w.base, PathSet: w.properties})
	}
	if f.view, err = view.NewManager(c.client).CreateContainerView(ctx, c.client.ServiceContent.RootFolder, kinds, true); err != nil {
		return nil, err
	}
	_, err = f.collector.CreateFilter(ctx, types.CreateFilter{Spec: types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: f.view.Reference(), Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{f.view.TraversalSpec()}}},
		PropSet:   properties,
	}})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// close removes what was made on the server. A session that is gone takes it along.
func (f *follower) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWithin)
	defer cancel()
	if f.collector != nil {
		_ = f.collector.Destroy(ctx)
	}
	if f.view != nil {
		_ = f.view.Destroy(ctx)
	}
}

// next waits for the next updates and applies them. more is set when the server holds back others that belong to them.
func (f *follower) next(ctx context.Context, wait int32) (more bool, err error) {
	set, err := f.wait(ctx, &types.WaitOptions{MaxWaitSeconds: &wait, MaxObjectUpdates: batchObjects})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil || set == nil {
		return false, err
	}
	f.version = set.Version
	for i := range set.FilterSet {
		for j := range set.FilterSet[i].ObjectSet {
			f.model.apply(&set.FilterSet[i].ObjectSet[j])
		}
	}
	return set.Truncated != nil && *set.Truncated, nil
}

// wait makes one call. Its end is asked for politely: a call that is torn down goes on at the server.
func (f *follower) wait(ctx context.Context, o *types.WaitOptions) (*types.UpdateSet, error) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(*o.MaxWaitSeconds)*time.Second+answerWithin)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = f.collector.CancelWaitForUpdates(call)
		_ = pause(call, tidyWithin) // it may have come before the call itself
		cancel()
	})
	defer stop()
	res, err := methods.WaitForUpdatesEx(call, f.c.client, &types.WaitForUpdatesEx{This: f.collector.Reference(), Version: f.version, Options: o})
	if err != nil {
		return nil, err
	}
	return res.Returnval, nil
}

// all reads until the server has told everything.
func (f *follower) all(ctx context.Context) error {
	for {
		more, err := f.next(ctx, waitSeconds)
		if err != nil || !more {
			return err
		}
	}
}

// Read is described at platform.Platform. Ports have counters.
func (v *VSphere) Read(ctx context.Context) (*platform.Snapshot, error) {
	var out *platform.Snapshot
	err := v.with(ctx, func(c *connection) error {
		f, err := v.follow(ctx, c)
		if err != nil {
			return err
		}
		defer f.close(ctx)
		if err := f.all(ctx); err != nil {
			return err
		}
		tags, err := v.tags(ctx, c, f.model)
		if err != nil {
			return err
		}
		f.model.setTags(tags)
		u, _ := f.model.update(time.Now().UnixNano())
		if err := v.count(ctx, c, f.model, u.Ports); err != nil {
			return err
		}
		inv := platform.NewInventory(v.set.Name)
		inv.Apply(u)
		out = inv.Snapshot()
		v.remember(out)
		return nil
	})
	return out, v.explain("platform "+v.set.Name+": read", err)
}

// Watch is described at platform.Platform.
func (v *VSphere) Watch(ctx context.Context, update func(platform.Update)) error {
	retry := firstRetry
	for {
		began := time.Now()
		err := v.watchOnce(ctx, update)
		switch {
		case ctx.Err() != nil:
			return nil
		case permanent(err):
			return fmt.Errorf("platform %s: %w", v.set.Name, err)
		}
		update(platform.Update{AtNS: time.Now().UnixNano(), Lost: v.explain("platform "+v.set.Name, err)})
		if time.Since(began) > time.Minute {
			retry = firstRetry // it had worked
		}
		if pause(ctx, retry) != nil {
			return nil
		}
		retry = min(2*retry, lastRetry)
	}
}

// permanent reports whether no new attempt mends an error.
func permanent(err error) bool {
	var login errLogin
	return errors.As(err, &login)
}

// watchOnce follows one session until it ends.
func (v *VSphere) watchOnce(ctx context.Context, update func(platform.Update)) error {
	c, err := v.connected(ctx)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, answerWithin, fmt.Errorf("no answer within %v", answerWithin))
	f, err := v.follow(limited, c)
	cancel()
	if err == nil {
		defer f.close(ctx)
		if err = f.all(ctx); err == nil {
			err = v.watchModel(ctx, f, update)
		}
	}
	if ctx.Err() == nil {
		v.forget(c) // whatever it was: the next attempt begins anew
	}
	return err
}

// watchModel tells the whole, and then changes. The tags come from another service, which tells no changes: they are asked for again
// and again.
func (v *VSphere) watchModel(ctx context.Context, f *follower, update func(platform.Update)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tags, err := v.tags(ctx, f.c, f.model)
	if err != nil {
		return err
	}
	f.model.setTags(tags)
	tagsRead := time.Now()
	for more := false; ; {
		if !more {
			if u, ok := f.model.update(time.Now().UnixNano()); ok {
				update(u)
			}
		}
		wait := int32(waitSeconds)
		if v.set.tagsEvery > 0 && f.c.vcenter {
			left := v.set.tagsEvery - time.Since(tagsRead)
			if left <= 0 {
				if tags, err = v.tags(ctx, f.c, f.model); err != nil {
					return err
				}
				f.model.setTags(tags)
				tagsRead, left = time.Now(), v.set.tagsEvery
			}
			wait = max(1, min(wait, int32(left/time.Second)))
		}
		if more, err = f.next(ctx, wait); err != nil {
			return err
		}
		if f.model.field == noField {
			if err := f.relearnField(ctx); err != nil {
				return err
			}
		}
	}
}

// relearnField looks for our custom attribute while it is not known: it is made when the first export begins.
func (f *follower) relearnField(ctx context.Context) error {
	dirty := false
	for r := range f.model.dirty {
		dirty = dirty || f.model.switches[r] != nil
	}
	if !dirty {
		return nil
	}
	field, err := customField(ctx, f.c)
	if err != nil || field == noField {
		return err
	}
	f.model.field = field
	return f.rereadMarks(ctx)
}

// rereadMarks reads the custom attributes of all switches: they came before we knew which is ours.
func (f *follower) rereadMarks(ctx context.Context) error {
	refs, err := list(ctx, f.c, "DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch")
	if err != nil {
		return err
	}
	for _, r := range refs {
		if err := f.model.readMark(ctx, f.c, r); err != nil {
			return err
		}
	}
	return nil
}
