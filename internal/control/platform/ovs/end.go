package ovs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

var _ platform.Ender = (*Platform)(nil)

// endTries is how often what somebody makes again meanwhile is removed.
const endTries = 3

// End implements platform.Ender: all objects of the switch end in one transaction. A switch that is busy takes long to confirm each.
func (p *Platform) End(ctx context.Context, steps []platform.Step) error {
	all, err := p.deeds(steps)
	if err != nil {
		return err
	}
	for _, g := range all {
		if g.want.Spec != nil {
			return fmt.Errorf("ovs: %s: %s: the step cannot be read: it removes nothing", p.cfg.Name, g.Object)
		}
	}
	var left []*deed
	for try := range endTries + 1 {
		d, err := p.read(ctx, false)
		if err != nil {
			return err
		}
		if left, err = p.left(d, all, try == 0); err != nil || len(left) == 0 {
			return err
		}
		if try == endTries {
			break
		}
		if err := p.remove(ctx, d, left); err != nil {
			return fmt.Errorf("%w (the end of %d objects)", err, len(left))
		}
	}
	return fmt.Errorf("ovs: %s: %s: somebody makes it again each time it is removed", p.cfg.Name, left[0].Object)
}

// left returns those of objects that are there. When they have to be as it was planned, others are an error.
func (p *Platform) left(d *db, all []*deed, planned bool) ([]*deed, error) {
	if planned {
		return p.undone(d, all)
	}
	d.see(all)
	return slices.DeleteFunc(slices.Clone(all), func(g *deed) bool { return g.now == nil }), nil
}

// remove does the transaction that ends objects, and waits until the switch has done it. Flows go before, where their bridge stays.
func (p *Platform) remove(ctx context.Context, d *db, all []*deed) error {
	bridges, feeds := map[string]bool{}, map[string][]string{} // of ours that go; by bridge
	for _, g := range all {
		switch g.want.Kind {
		case kindBridge:
			bridges[g.want.Name] = true
		case kindFeed:
			s := read[feedSpec](g.now)
			feeds[s.Bridge] = append(feeds[s.Bridge], s.Name)
		}
	}
	ops, err := d.removal(all, bridges)
	if err != nil {
		return fmt.Errorf("ovs: %s: %w: %w", p.cfg.Name, platform.ErrChanged, err)
	}
	for bridge, names := range feeds {
		if !bridges[bridge] {
			p.removeFlows(ctx, bridge, names...)
		}
	}
	return p.commit(ctx, ops, fmt.Sprintf("crosstap %s: the end of %d objects", all[0].owner, len(all)))
}

// removal is what removes objects. Of the bridges of ours that stay, each that mirrors use is nudged once; a bridge that goes has the switch
// look at its cached flows too.
func (d *db) removal(all []*deed, bridges map[string]bool) (ops []ovsdb.Operation, err error) {
	nudged := map[string]bool{}
	for _, g := range all {
		some, err := d.set(g)
		if err != nil {
			return nil, err
		}
		ops = append(ops, some...)
		if s := read[mirrorSpec](g.now); g.want.Kind == kindMirror {
			nudged[s.Ours] = !bridges[s.Ours]
		}
	}
	for _, bridge := range slices.Sorted(maps.Keys(nudged)) {
		if nudged[bridge] {
			ops = append(ops, d.nudge(bridge)...)
		}
	}
	return ops, nil
}
