package vsphere

import (
	"context"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// The names of what keeps a capture VM on its host.
func (t *machineTarget) rule() (vmGroup, hostGroup, rule string) {
	return t.name + "-vm", t.name + "-host", t.name + "-stays"
}

// cluster returns the cluster of the host, nil when it is in none.
func (t *machineTarget) cluster(ctx context.Context) (*object.ClusterComputeResource, *types.ClusterConfigInfoEx, error) {
	var h mo.HostSystem
	if err := get(ctx, t.c, t.host, &h, "parent"); err != nil {
		return nil, nil, err
	}
	if h.Parent == nil || h.Parent.Type != "ClusterComputeResource" {
		return nil, nil, nil
	}
	c := object.NewClusterComputeResource(t.c.client, *h.Parent)
	config, err := c.Configuration(ctx)
	return c, config, err
}

// pin keeps the VM on its host: DRS does not move it, HA does not start it elsewhere. Its view is of that host alone.
func (t *machineTarget) pin(ctx context.Context, vm types.ManagedObjectReference) error {
	c, config, err := t.cluster(ctx)
	if err != nil || c == nil {
		return err
	}
	vmGroup, hostGroup, rule := t.rule()
	spec := &types.ClusterConfigSpecEx{}
	operation := func(there bool) types.ArrayUpdateSpec {
		if there {
			return types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationEdit}
		}
		return types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationAdd}
	}
	has := func(name string) bool {
		return slices.ContainsFunc(config.Group, func(g types.BaseClusterGroupInfo) bool { return g.GetClusterGroupInfo().Name == name })
	}
	spec.GroupSpec = []types.ClusterGroupSpec{
		{ArrayUpdateSpec: operation(has(vmGroup)), Info: &types.ClusterVmGroup{ClusterGroupInfo: types.ClusterGroupInfo{Name: vmGroup}, Vm: []types.ManagedObjectReference{vm}}},
		{ArrayUpdateSpec: operation(has(hostGroup)), Info: &types.ClusterHostGroup{ClusterGroupInfo: types.ClusterGroupInfo{Name: hostGroup}, Host: []types.ManagedObjectReference{t.host}}},
	}
	there := slices.ContainsFunc(config.Rule, func(r types.BaseClusterRuleInfo) bool { return r.GetClusterRuleInfo().Name == rule })
	if !there {
		yes := types.NewBool(true)
		spec.RulesSpec = []types.ClusterRuleSpec{{ArrayUpdateSpec: operation(false), Info: &types.ClusterVmHostRuleInfo{
			ClusterRuleInfo: types.ClusterRuleInfo{Name: rule, Enabled: yes, Mandatory: yes}, VmGroupName: vmGroup, AffineHostGroupName: hostGroup,
		}}}
	}
	no := types.NewBool(false)
	drs := slices.ContainsFunc(config.DrsVmConfig, func(i types.ClusterDrsVmConfigInfo) bool { return i.Key == vm })
	das := slices.ContainsFunc(config.DasVmConfig, func(i types.ClusterDasVmConfigInfo) bool { return i.Key == vm })
	spec.DrsVmConfigSpec = []types.ClusterDrsVmConfigSpec{{ArrayUpdateSpec: operation(drs), Info: &types.ClusterDrsVmConfigInfo{Key: vm, Enabled: no}}}
	spec.DasVmConfigSpec = []types.ClusterDasVmConfigSpec{{ArrayUpdateSpec: operation(das), Info: &types.ClusterDasVmConfigInfo{
		Key: vm, DasSettings: &types.ClusterDasVmSettings{RestartPriority: string(types.ClusterDasVmSettingsRestartPriorityDisabled)},
	}}}
	task, err := c.Reconfigure(ctx, spec, true)
	return wait(ctx, task, err)
}

// unpin removes the rule and its groups; the cluster forgets the VM's other settings with the VM.
func (t *machineTarget) unpin(ctx context.Context) error {
	c, config, err := t.cluster(ctx)
	if err != nil || c == nil {
		return err
	}
	vmGroup, hostGroup, rule := t.rule()
	spec := &types.ClusterConfigSpecEx{}
	for _, r := range config.Rule {
		if i := r.GetClusterRuleInfo(); i.Name == rule {
			spec.RulesSpec = append(spec.RulesSpec, types.ClusterRuleSpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationRemove, RemoveKey: i.Key}})
		}
	}
	for _, g := range config.Group {
		if name := g.GetClusterGroupInfo().Name; name == vmGroup || name == hostGroup {
			spec.GroupSpec = append(spec.GroupSpec, types.ClusterGroupSpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationRemove, RemoveKey: name}})
		}
	}
	if len(spec.RulesSpec)+len(spec.GroupSpec) == 0 {
		return nil
	}
	task, err := c.Reconfigure(ctx, spec, true)
	return wait(ctx, task, err)
}
