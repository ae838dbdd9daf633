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
	"crosstap/internal/openflow"
	"crosstap/internal/ovsdb"
)

var _ platform.Beginner = (*Platform)(nil)

// making is an object that begins.
type making struct {
	object string
	want   change
}

// creation reads a step that makes a new object; ok is false for any other.
func creation(s *platform.Step) (m making, ok bool) {
	var before change
	m.object = s.Object
	if errors.Join(json.Unmarshal(s.Before, &before), json.Unmarshal(s.Do, &m.want)) != nil {
		return m, false
	}
	m.want.Spec = null(m.want.Spec)
	return m, null(before.Spec) == nil && m.want.Spec != nil
}

// Together implements platform.Beginner: outputs, patches and mirrors that are new. A mirror of a machine that has just come is made by itself,
// as what it misses is counted, and so is what exports flows, which are few.
func (p *Platform) Together(next []platform.Step) int {
	n, kind := 0, ""
	for i := range next {
		m, ok := creation(&next[i])
		if kind == "" {
			kind = m.want.Kind
		}
		if !ok || m.want.Kind != kind || next[i].Phase != next[0].Phase || !p.joins(&m.want) {
			break
		}
		n++
	}
	return max(n, 1)
}

func (p *Platform) joins(c *change) bool {
	switch c.Kind {
	case kindOutput:
		return true
	case kindFeed:
		return read[feedSpec](c.Spec).What.Export == nil
	case kindMirror:
		return len(p.arrived(nil, c.Spec)) == 0
	}
	return false
}

// Begin implements platform.Beginner: all of them begin in one transaction. A switch that is busy takes long to confirm each.
func (p *Platform) Begin(ctx context.Context, steps []platform.Step) error {
	all := make([]making, len(steps))
	for i := range steps {
		var ok bool
		if all[i], ok = creation(&steps[i]); !ok {
			return fmt.Errorf("ovs: %s: %s: the step makes nothing new", p.cfg.Name, steps[i].Object)
		}
	}
	owner, flows := ownerOf(all[0].want.Spec), all[0].want.Kind == kindFeed
	d, err := p.read(ctx, flows)
	if err != nil {
		return err
	}
	if err = p.create(ctx, d, owner, all); err != nil {
		return fmt.Errorf("%w (the beginning of %d objects)", err, len(all))
	}
	if flows {
		if err := p.fillFeeds(ctx, all); err != nil {
			return err
		}
	}
	return p.begun(ctx, owner, all)
}

// create does the transaction that makes those objects which are not there yet, and waits until the switch has done it.
func (p *Platform) create(ctx context.Context, d *db, owner string, all []making) error {
	have, ours := d.ours(owner), map[string]bool{}
	var ops []ovsdb.Operation
	for _, m := range all {
		now := have[[2]string{m.want.Kind, m.want.Name}]
		if bytes.Equal(now, m.want.Spec) {
			continue
		}
		if now != nil {
			return fmt.Errorf("ovs: %s: %s: %w: %s", p.cfg.Name, m.object, platform.ErrChanged, why(json.RawMessage("{}"), now))
		}
		var more []ovsdb.Operation
		switch m.want.Kind {
		case kindOutput:
			more = d.setOutput(nil, m.want.Spec)
		case kindFeed:
			more = d.setFeed(nil, m.want.Spec)
		case kindMirror:
			more = d.putMirror(nil, m.want.Spec)
			ours[read[mirrorSpec](m.want.Spec).Ours] = true
		}
		if len(more) == 0 {
			return fmt.Errorf("ovs: %s: %s: %w: the bridge or a port", p.cfg.Name, m.object, platform.ErrGone)
		}
		ops = append(ops, more...)
	}
	if len(ops) == 0 {
		return nil
	}
	for _, bridge := range slices.Sorted(maps.Keys(ours)) {
		ops = append(ops, d.nudge(bridge)...)
	}
	config, err := p.commit(ctx, ops, fmt.Sprintf("crosstap %s: the beginning of %d objects", owner, len(all)))
	if err != nil {
		return err
	}
	return p.settled(ctx, config)
}

// fillFeeds gives feeds their flows.
func (p *Platform) fillFeeds(ctx context.Context, all []making) error {
	d, err := p.read(ctx, false)
	if err != nil {
		return err
	}
	conns := map[string]*openflow.Conn{}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for _, m := range all {
		s := read[feedSpec](m.want.Spec)
		flows, err := s.flows()
		if err != nil {
			return fmt.Errorf("%w (%s)", err, m.object)
		}
		c := conns[s.Bridge]
		if c == nil {
			if c, err = p.openflow(ctx, s.Bridge); err != nil {
				return fmt.Errorf("%w (%s)", err, m.object)
			}
			conns[s.Bridge] = c
		}
		if err := c.Replace(ctx, feedCookie(s.Name), feedMask, flows, d.ofports(s.Bridge)); err != nil {
			return fmt.Errorf("%w (%s)", err, m.object)
		}
	}
	return nil
}

// begun reads back what was made.
func (p *Platform) begun(ctx context.Context, owner string, all []making) error {
	d, err := p.read(ctx, all[0].want.Kind == kindFeed)
	if err != nil {
		return err
	}
	d.fresh = true
	have := d.ours(owner)
	for _, m := range all {
		if now := have[[2]string{m.want.Kind, m.want.Name}]; !bytes.Equal(now, m.want.Spec) {
			return fmt.Errorf("ovs: %s: %s: %w while it was made: %s", p.cfg.Name, m.object, platform.ErrChanged, why(orEmpty(now), m.want.Spec))
		}
		if err := p.working(d, &m.want); err != nil {
			return err
		}
	}
	for _, m := range all {
		if m.want.Kind == kindOutput {
			p.greet(ctx, m.want.Spec)
		}
	}
	return nil
}
