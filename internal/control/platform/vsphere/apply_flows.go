package vsphere

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// attributeName is the custom attribute (a global one) that holds our mark on a distributed switch: the settings of an export have no
// place for one.
const attributeName = "crosstap"

// noField stands for a custom attribute that nobody has made yet.
const noField = -1

// ipfixTarget is the flow export of a distributed switch, with the port groups that take part.
type ipfixTarget struct {
	onSwitch
	groupList []mo.DistributedVirtualPortgroup
	attribute string
}

func (t *ipfixTarget) read(ctx context.Context) (fields, error) {
	sw, err := t.load(ctx, "customValue")
	if err != nil {
		return nil, err
	}
	field, err := customField(ctx, t.c)
	if err != nil {
		return nil, err
	}
	t.attribute = (&model{field: field}).ownField(sw.CustomValue)
	if t.groupList, err = t.groups(ctx); err != nil {
		return nil, err
	}
	var live []string
	for i := range t.groupList {
		g := dvGroup{name: unescape(t.groupList[i].Name)}
		g.read(t.groupList[i].Config)
		if g.flows {
			live = append(live, g.name)
		}
	}
	if t.attribute == "" && len(live) == 0 {
		return nil, nil
	}
	return ipfixFields(t.config.IpfixConfig, t.config.SwitchIpAddress, live, t.attribute), nil
}

// write makes the mark first: should we be cut off, whoever comes after us knows whose the rest is.
func (t *ipfixTarget) write(ctx context.Context, have, want fields) error {
	was := have["was"]
	if have == nil {
		was = url.QueryEscape(exportText(t.config.IpfixConfig))
	}
	own := slices.Concat(splitNames(have["groups"]), splitNames(want["groups"]))
	if want != nil {
		if err := t.setAttribute(ctx, want["mark"]+" groups="+joinNames(own)+" was="+was); err != nil {
			return err
		}
		if err := t.setCollector(ctx, have, want); err != nil {
			return err
		}
	}
	if err := t.toggle(ctx, minus(splitNames(want["groups"]), splitNames(have["groups"])), true); err != nil {
		return err
	}
	if err := t.toggle(ctx, minus(splitNames(have["groups"]), splitNames(want["groups"])), false); err != nil {
		return err
	}
	if want != nil {
		return t.setAttribute(ctx, want["mark"]+" groups="+want["groups"]+" was="+was)
	}
	if err := t.restore(ctx, was); err != nil {
		return err
	}
	return t.setAttribute(ctx, "")
}

// setCollector writes where flows go. Two attempts of one step may come here: the second finds it done.
func (t *ipfixTarget) setCollector(ctx context.Context, have, want fields) error {
	strip := func(f fields) fields {
		out := maps.Clone(f)
		maps.DeleteFunc(out, func(name, _ string) bool { return name == "groups" || name == "mark" || name == "was" })
		return out
	}
	if have != nil && len(differ(strip(have), strip(want))) == 0 {
		return nil
	}
	return t.setExport(ctx, &types.VMwareDVSConfigSpec{
		DVSConfigSpec: types.DVSConfigSpec{SwitchIpAddress: want["switch-ip"]}, IpfixConfig: want.ipfix(),
	})
}

// setExport writes the collector. When others change the switch at the same time it tries again, unless it was the collector.
func (t *ipfixTarget) setExport(ctx context.Context, spec *types.VMwareDVSConfigSpec) error {
	was := exportText(t.config.IpfixConfig)
	for try := 0; ; try++ {
		err := t.reconfigure(ctx, spec)
		if err == nil || !fault.Is(err, &types.ConcurrentAccess{}) || try >= maxConflicts {
			return err
		}
		if err := pause(ctx, firstPause<<min(try, 3)); err != nil {
			return err
		}
		if _, err := t.load(ctx); err != nil {
			return err
		}
		if now := exportText(t.config.IpfixConfig); now != was {
			return fmt.Errorf("%w: the collector is %q now", platform.ErrChanged, now)
		}
	}
}

// exportText writes a collector for the mark, "" for none.
func exportText(c *types.VMwareIpfixConfig) string {
	if c == nil || c.CollectorIpAddress == "" {
		return ""
	}
	return fmt.Sprintf("%s|%d|%d|%d|%d|%d|%t", c.CollectorIpAddress, c.CollectorPort, c.ObservationDomainId, c.ActiveFlowTimeout, c.IdleFlowTimeout, c.SamplingRate, c.InternalFlowsOnly)
}

// restore brings back the collector that was there before us. vSphere has no way to empty it; without port groups it is not used.
func (t *ipfixTarget) restore(ctx context.Context, was string) error {
	text, err := url.QueryUnescape(was)
	if err != nil || text == "" {
		return nil
	}
	var c types.VMwareIpfixConfig
	for i := range text {
		if text[i] == '|' {
			c.CollectorIpAddress, text = text[:i], text[i+1:]
			break
		}
	}
	if _, err := fmt.Sscanf(text, "%d|%d|%d|%d|%d|%t", &c.CollectorPort, &c.ObservationDomainId, &c.ActiveFlowTimeout, &c.IdleFlowTimeout, &c.SamplingRate, &c.InternalFlowsOnly); err != nil {
		return nil // somebody edited the attribute; what was is not known
	}
	return t.setExport(ctx, &types.VMwareDVSConfigSpec{IpfixConfig: &c})
}

// toggle switches the export of port groups on or off.
func (t *ipfixTarget) toggle(ctx context.Context, names []string, on bool) error {
	for _, name := range names {
		i := slices.IndexFunc(t.groupList, func(g mo.DistributedVirtualPortgroup) bool { return unescape(g.Name) == name })
		if i < 0 {
			if !on {
				continue
			}
			return fmt.Errorf("port group %q %w", name, platform.ErrGone)
		}
		if err := t.toggleGroup(ctx, t.groupList[i].Self, on); err != nil {
			return fmt.Errorf("port group %q: %w", name, err)
		}
	}
	return nil
}

// toggleGroup reads the version of a port group anew each time: others may be changing the group for reasons of their own.
func (t *ipfixTarget) toggleGroup(ctx context.Context, ref types.ManagedObjectReference, on bool) error {
	for try := 0; ; try++ {
		var g mo.DistributedVirtualPortgroup
		if err := get(ctx, t.c, ref, &g, "config"); err != nil {
			return err
		}
		task, err := object.NewDistributedVirtualPortgroup(t.c.client, ref).Reconfigure(ctx, types.DVPortgroupConfigSpec{
			ConfigVersion: g.Config.ConfigVersion, DefaultPortConfig: &types.VMwareDVSPortSetting{IpfixEnabled: &types.BoolPolicy{Value: &on}},
		})
		err = wait(ctx, task, err)
		if err == nil || !fault.Is(err, &types.ConcurrentAccess{}) || try >= maxConflicts {
			return err
		}
		if err := pause(ctx, firstPause<<min(try, 3)); err != nil {
			return err
		}
	}
}

// setAttribute writes our custom attribute of the switch, which is made when there is none yet.
func (t *ipfixTarget) setAttribute(ctx context.Context, value string) error {
	if value == t.attribute {
		return nil
	}
	m, err := object.GetCustomFieldsManager(t.c.client)
	if err != nil {
		return err
	}
	field, err := customField(ctx, t.c)
	if err != nil {
		return err
	}
	if field == noField {
		def, err := m.Add(ctx, attributeName, "", nil, nil)
		if err != nil {
			return err
		}
		field = def.Key
	}
	if err := m.Set(ctx, t.sw, field, value); err != nil {
		return err
	}
	t.attribute = value
	return nil
}

// customField returns the key of our custom attribute, noField when there is none.
func customField(ctx context.Context, c *connection) (int32, error) {
	ref := c.client.ServiceContent.CustomFieldsManager
	if ref == nil {
		return noField, nil // an ESXi host on its own
	}
	var m mo.CustomFieldsManager
	if err := get(ctx, c, *ref, &m, "field"); err != nil {
		return noField, err
	}
	for _, f := range m.Field {
		if f.Name == attributeName && f.ManagedObjectType == "" {
			return f.Key, nil
		}
	}
	return noField, nil
}
