package ovs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

var _ platform.Maker = (*Platform)(nil)

// deed is a step that brings an object from what it was to what it shall be.
type deed struct {
	*platform.Step
	want        change
	before, now json.RawMessage // as it was planned on, and as it is
	owner       string
}

func (g *deed) key() [2]string { return [2]string{g.want.Kind, g.want.Name} }

// Apply implements platform.Platform.
func (p *Platform) Apply(ctx context.Context, s platform.Step) error {
	_, err := p.Make(ctx, []platform.Step{s})
	return err
}

// Undo implements platform.Platform.
func (p *Platform) Undo(ctx context.Context, s platform.Step) error {
	s.Before, s.Do = s.Do, s.Before
	return p.Apply(ctx, s)
}

// Make implements platform.Maker. Everything that copies need is made in one transaction and filled with flows, and everything that copies
// begins in a second one: while a machine that has come waits, a busy switch is waited for twice. What it has done is read back when copies
// have begun.
func (p *Platform) Make(ctx context.Context, steps []platform.Step) (done int, err error) {
	all, err := p.deeds(steps)
	if err != nil {
		return 0, err
	}
	feeds := slices.ContainsFunc(all, func(g *deed) bool { return g.want.Kind == kindFeed })
	d, err := p.read(ctx, feeds)
	if err != nil {
		return 0, err
	}
	todo, err := p.undone(d, all)
	switch {
	case err != nil:
		return 0, err
	case len(todo) == 0:
		return len(all), nil
	}
	begin := slices.IndexFunc(todo, func(g *deed) bool { return g.want.Kind == kindMirror || g.want.Kind == kindExport })
	if begin < 0 {
		begin = len(todo)
	}
	if begin > 0 {
		if d, err = p.prepare(ctx, d, todo[:begin]); err != nil {
			return 0, about(todo[:begin], err)
		}
	}
	var counts []*meter
	if begin < len(todo) {
		if counts, err = p.begin(ctx, d, todo[begin:]); err != nil {
			return slices.Index(all, todo[begin]), about(todo[begin:], err)
		}
	}
	at := time.Now()
	if err := p.confirm(ctx, todo, feeds); err != nil {
		for _, m := range counts {
			m.Close()
		}
		return 0, err
	}
	for _, m := range counts {
		p.gaps(ctx, m, at)
	}
	return len(all), nil
}

// deeds reads steps.
func (p *Platform) deeds(steps []platform.Step) ([]*deed, error) {
	all := make([]*deed, len(steps))
	for i := range steps {
		g, before := &deed{Step: &steps[i]}, change{}
		if err := errors.Join(json.Unmarshal(g.Before, &before), json.Unmarshal(g.Do, &g.want)); err != nil {
			return nil, fmt.Errorf("ovs: %s: %s: the step cannot be read: %w", p.cfg.Name, g.Object, err)
		}
		g.before, g.want.Spec = null(before.Spec), null(g.want.Spec)
		g.owner = ownerOf(g.before, g.want.Spec)
		all[i] = g
	}
	return all, nil
}

// see notes what the objects of deeds are in the database.
func (d *db) see(all []*deed) {
	ours := map[string]present{}
	for _, g := range all {
		if ours[g.owner] == nil {
			ours[g.owner] = d.ours(g.owner)
		}
		g.now = ours[g.owner][g.key()]
	}
}

// undone returns those of deeds that are not done already. It refuses all when one of them is in neither state.
func (p *Platform) undone(d *db, all []*deed) (out []*deed, err error) {
	d.see(all)
	for _, g := range all {
		switch {
		case bytes.Equal(g.now, g.want.Spec):
			continue
		case !bytes.Equal(g.now, g.before) && !p.repairable(g.want.Kind, g.now, g.before, g.want.Spec):
			return nil, fmt.Errorf("ovs: %s: %s: %w: %s", p.cfg.Name, g.Object, platform.ErrChanged, why(orEmpty(g.before), orEmpty(g.now)))
		}
		out = append(out, g)
	}
	return out, nil
}

// about says which objects an error is about.
func about(all []*deed, err error) error {
	if more := len(all) - 1; more > 0 {
		return fmt.Errorf("%w (%s and %d more)", err, all[0].Object, more)
	}
	return fmt.Errorf("%w (%s)", err, all[0].Object)
}

// prepare makes what copies go through, and returns the database after it.
func (p *Platform) prepare(ctx context.Context, d *db, all []*deed) (*db, error) {
	ops, err := p.operations(d, all)
	if err != nil {
		return nil, err
	}
	for _, g := range all {
		if g.want.Kind == kindFeed && g.want.Spec == nil {
			s := read[feedSpec](g.now)
			p.removeFlows(ctx, s.Bridge, s.Name)
		}
	}
	if err := p.commit(ctx, ops, all[0].comment(len(all))); err != nil {
		return nil, err
	}
	for _, g := range all {
		if err := p.listens(ctx, &g.want); err != nil {
			return nil, err
		}
	}
	if d, err = p.read(ctx, false); err == nil {
		err = p.as(d, all)
	}
	if err != nil {
		return nil, err
	}
	return d, p.fill(ctx, d, all)
}

// operations make of objects what deeds want.
func (p *Platform) operations(d *db, all []*deed) (ops []ovsdb.Operation, err error) {
	for _, g := range all {
		some, err := d.set(g)
		switch {
		case err != nil:
			return nil, fmt.Errorf("ovs: %s: %w: %w", p.cfg.Name, platform.ErrChanged, err)
		case len(some) == 0:
			return nil, fmt.Errorf("ovs: %s: %w: the bridge or a port", p.cfg.Name, platform.ErrGone)
		}
		ops = append(ops, some...)
	}
	return ops, nil
}

// comment is what the database's log says of a transaction.
func (g *deed) comment(n int) string {
	return fmt.Sprintf("crosstap %s: %s, %d objects", g.owner, g.want.Kind, n)
}

// fill puts the flows of feeds into our bridges, and a frame without content into new tunnels. A switch in user space asks for the MAC address
// of a tunnel's end with the first packet for it, and loses what comes before the answer: that is to be this frame and not a copy.
func (p *Platform) fill(ctx context.Context, d *db, all []*deed) error {
	feeds, tunnels := map[string][]feedSpec{}, map[string][]string{} // by bridge of ours
	for _, g := range all {
		s := read[portSpec](g.want.Spec)
		switch {
		case g.want.Spec == nil: // the flows of a port that is gone match nothing; removeFlows took them out
		case g.want.Kind == kindFeed:
			feeds[s.Bridge] = append(feeds[s.Bridge], read[feedSpec](g.want.Spec))
		case g.want.Kind == kindOutput && s.Type != "" && p.hasOpenFlow():
			tunnels[s.Bridge] = append(tunnels[s.Bridge], s.Name)
		}
	}
	for bridge, names := range tunnels {
		if feeds[bridge] != nil {
			continue
		}
		if err := p.fillBridge(ctx, bridge, d.ofports(bridge), nil, names); err != nil {
			p.log.Debug("the ends of tunnels were not asked for", "bridge", bridge, "err", err)
		}
	}
	for bridge := range feeds {
		if err := p.fillBridge(ctx, bridge, d.ofports(bridge), feeds[bridge], tunnels[bridge]); err != nil {
			return err
		}
	}
	return nil
}

func (p *Platform) fillBridge(ctx context.Context, bridge string, ports map[string]uint32, feeds []feedSpec, tunnels []string) error {
	c, err := p.openflow(ctx, bridge)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, name := range tunnels {
		if err := c.SendOut(ports[name], emptyFrame()); err != nil {
			return err
		}
	}
	for i := range feeds {
		flows, err := feeds[i].flows()
		if err == nil {
			err = c.Replace(ctx, feedCookie(feeds[i].Name), feedMask, flows, ports)
		}
		if err != nil {
			return err
		}
	}
	if len(feeds) > 0 {
		return nil // it has answered
	}
	return c.Barrier(ctx)
}

// begin makes what copies. The switch then looks at its cached flows again. It returns the meters of what has come.
func (p *Platform) begin(ctx context.Context, d *db, all []*deed) (counts []*meter, err error) {
	defer func() {
		if err != nil {
			for _, m := range counts {
				m.Close()
			}
		}
	}()
	ops, err := p.operations(d, all)
	if err != nil {
		return nil, err
	}
	nudged := map[string]bool{}
	for _, g := range all {
		if g.want.Kind == kindMirror {
			nudged[read[mirrorSpec](g.now).Ours], nudged[read[mirrorSpec](g.want.Spec).Ours] = true, true
		}
	}
	for _, bridge := range slices.Sorted(maps.Keys(nudged)) {
		ops = append(ops, d.nudge(bridge)...)
	}
	for _, g := range all {
		if g.want.Kind != kindMirror {
			continue
		}
		if fresh := p.arrived(g.now, g.want.Spec); len(fresh) > 0 {
			m := p.meter(ctx, d, read[mirrorSpec](g.now), read[mirrorSpec](g.want.Spec), fresh)
			m.policy = g.Policy
			counts = append(counts, m)
		}
	}
	return counts, p.commit(ctx, ops, all[0].comment(len(all)))
}

// confirm reads back what was done.
func (p *Platform) confirm(ctx context.Context, all []*deed, flows bool) error {
	d, err := p.read(ctx, flows)
	if err != nil {
		return err
	}
	d.fresh = true
	return p.as(d, all)
}

// as reports what is not as it shall be, or does not work.
func (p *Platform) as(d *db, all []*deed) error {
	d.see(all)
	for _, g := range all {
		if !bytes.Equal(g.now, g.want.Spec) {
			return fmt.Errorf("ovs: %s: %s: %w while it was made: %s", p.cfg.Name, g.Object, platform.ErrChanged, why(orEmpty(g.now), orEmpty(g.want.Spec)))
		}
		if err := p.working(d, &g.want); err != nil {
			return err
		}
	}
	return nil
}

// commit does a transaction, and returns when the switch has done what it says: its cur_cfg then reaches the next_cfg of the transaction
// (ovs-vswitchd.conf.db(5), Open_vSwitch).
func (p *Platform) commit(ctx context.Context, ops []ovsdb.Operation, comment string) error {
	n := len(ops) + 1
	ops = append(ops, ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "next_cfg", Mutator: "+=", Value: 1}),
		ovsdb.Select("Open_vSwitch", nil, "next_cfg", "cur_cfg"), ovsdb.Comment(comment))
	res, err := p.transact(ctx, ops...)
	if err != nil {
		return err
	}
	if len(res[n].Rows) != 1 {
		return fmt.Errorf("ovs: %s: the database has %d rows for the switch", p.cfg.Name, len(res[n].Rows))
	}
	want, _ := res[n].Rows[0].Int("next_cfg")
	have, _ := res[n].Rows[0].Int("cur_cfg")
	return p.settled(ctx, have, want)
}

// settled waits until the switch's cur_cfg, which was have, has reached want. The database answers when it changes.
func (p *Platform) settled(ctx context.Context, have, want int64) error {
	ctx, cancel := context.WithTimeout(ctx, confirmWait)
	defer cancel()
	for have < want {
		res, err := p.transact(ctx,
			ovsdb.Wait("Open_vSwitch", nil, []string{"cur_cfg"}, "!=", []ovsdb.Row{{"cur_cfg": have}}, confirmWait), ovsdb.Select("Open_vSwitch", nil, "cur_cfg"))
		switch {
		case ctx.Err() != nil, errors.Is(err, platform.ErrChanged): // the database has waited for as long
			return fmt.Errorf("ovs: %s: %w: the database has the change, but ovs-vswitchd does not confirm it", p.cfg.Name, platform.ErrUnreachable)
		case err != nil:
			return err
		case len(res[1].Rows) == 1:
			have, _ = res[1].Rows[0].Int("cur_cfg")
		}
	}
	return nil
}
