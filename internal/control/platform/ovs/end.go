package ovs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

var _ platform.Ender = (*Platform)(nil)

// endTries is how often what somebody makes again meanwhile is removed.
const endTries = 3

// going is an object that ends: what it was when that was planned, and what it is.
type going struct {
	object      string
	key         [2]string
	before, now json.RawMessage
	owner       string
}

// End implements platform.Ender: all objects of the switch end in one transaction. A switch that is busy takes long to confirm each.
func (p *Platform) End(ctx context.Context, steps []platform.Step) error {
	all := make([]going, len(steps))
	for i, s := range steps {
		var before, want change
		err := errors.Join(json.Unmarshal(s.Before, &before), json.Unmarshal(s.Do, &want))
		if err == nil && null(want.Spec) != nil {
			err = errors.New("it removes nothing")
		}
		if err != nil {
			return fmt.Errorf("ovs: %s: %s: the step cannot be read: %w", p.cfg.Name, s.Object, err)
		}
		all[i] = going{object: s.Object, key: [2]string{want.Kind, want.Name}, before: null(before.Spec), owner: ownerOf(null(before.Spec))}
	}
	var left []going
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
	return fmt.Errorf("ovs: %s: %s: somebody makes it again each time it is removed", p.cfg.Name, left[0].object)
}

// left returns those of objects that are there. When they have to be as it was planned, others are an error.
func (p *Platform) left(d *db, all []going, planned bool) (out []going, err error) {
	ours := map[string]present{}
	for _, g := range all {
		if ours[g.owner] == nil {
			ours[g.owner] = d.ours(g.owner)
		}
		if g.now = ours[g.owner][g.key]; g.now == nil {
			continue
		}
		if planned && !bytes.Equal(g.now, g.before) && !p.repairable(g.key[0], g.now, g.before, nil) {
			return nil, fmt.Errorf("ovs: %s: %s: %w: %s", p.cfg.Name, g.object, platform.ErrChanged, why(orEmpty(g.before), g.now))
		}
		out = append(out, g)
	}
	return out, nil
}

// remove does the transaction that ends objects, and waits until the switch has done it. Flows go before, where their bridge stays.
func (p *Platform) remove(ctx context.Context, d *db, all []going) error {
	bridges, feeds := map[string]bool{}, map[string][]string{} // of ours that go; by bridge
	for _, g := range all {
		switch g.key[0] {
		case kindBridge:
			bridges[g.key[1]] = true
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
func (d *db) removal(all []going, bridges map[string]bool) (ops []ovsdb.Operation, err error) {
	nudged := map[string]bool{}
	for _, g := range all {
		switch g.key[0] {
		case kindBridge:
			ops = append(ops, d.setBridge(g.now, nil)...)
		case kindOutput:
			ops = append(ops, d.setOutput(g.now, nil)...)
		case kindFeed:
			ops = append(ops, d.setFeed(g.now, nil)...)
		case kindMirror:
			s := read[mirrorSpec](g.now)
			ops = append(ops, d.dropMirror(&s)...)
			nudged[s.Ours] = !bridges[s.Ours]
		case kindExport:
			more, err := d.setExport(g.owner, g.now, nil)
			if err != nil {
				return nil, err
			}
			ops = append(ops, more...)
		}
	}
	for _, bridge := range slices.Sorted(maps.Keys(nudged)) {
		if nudged[bridge] {
			ops = append(ops, d.nudge(bridge)...)
		}
	}
	return ops, nil
}
