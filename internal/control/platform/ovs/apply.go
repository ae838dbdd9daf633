package ovs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

// protocols of our bridge: 1.4 for bundles, the others for people with ovs-ofctl.
var protocols = []string{"OpenFlow10", "OpenFlow13", "OpenFlow14"}

// Apply implements platform.Platform.
func (p *Platform) Apply(ctx context.Context, s platform.Step) error {
	return p.ensure(ctx, &s, s.Before, s.Do)
}

// Undo implements platform.Platform.
func (p *Platform) Undo(ctx context.Context, s platform.Step) error {
	return p.ensure(ctx, &s, s.Do, s.Before)
}

// ensure brings an object from one state to another. It does nothing when it is there already, and refuses when it is in neither state.
func (p *Platform) ensure(ctx context.Context, s *platform.Step, from, to json.RawMessage) error {
	var before, want change
	if err := errors.Join(json.Unmarshal(from, &before), json.Unmarshal(to, &want)); err != nil {
		return fmt.Errorf("ovs: %s: %s: the step cannot be read: %w", p.cfg.Name, s.Object, err)
	}
	before.Spec, want.Spec = null(before.Spec), null(want.Spec)
	d, err := p.read(ctx, want.Kind == kindFeed)
	if err != nil {
		return err
	}
	owner := ownerOf(before.Spec, want.Spec)
	now := d.ours(owner)[[2]string{want.Kind, want.Name}]
	switch {
	case bytes.Equal(now, want.Spec):
		return nil
	case !bytes.Equal(now, before.Spec) && !p.repairable(want.Kind, now, before.Spec, want.Spec):
		return fmt.Errorf("ovs: %s: %s: %w: %s", p.cfg.Name, s.Object, platform.ErrChanged, why(orEmpty(before.Spec), orEmpty(now)))
	}
	var counts *meter
	if want.Kind == kindMirror {
		if fresh := p.arrived(now, want.Spec); len(fresh) > 0 {
			counts = p.meter(ctx, d, read[mirrorSpec](now), read[mirrorSpec](want.Spec), fresh)
		}
	}
	config, err := p.set(ctx, d, owner, want.Kind, now, want.Spec)
	if err != nil {
		err = fmt.Errorf("%w (%s)", err, s.Object)
	} else {
		err = p.confirm(ctx, s, owner, &want, config)
	}
	if err != nil {
		counts.Close()
		return err
	}
	switch want.Kind {
	case kindMirror:
		p.gaps(ctx, s, counts)
	case kindOutput:
		p.greet(ctx, want.Spec)
	}
	return nil
}

// greet sends one frame without content into a new tunnel. A switch in user space asks for the MAC address of a tunnel's end with the first
// packet for it, and loses what comes before the answer: that is to be this frame and not a copy.
func (p *Platform) greet(ctx context.Context, spec json.RawMessage) {
	s := read[portSpec](spec)
	if s.Type == "" || !p.hasOpenFlow() {
		return
	}
	err := func() error {
		d, err := p.read(ctx, false)
		if err != nil {
			return err
		}
		c, err := p.openflow(ctx, s.Bridge)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.SendOut(ctx, d.ofports(s.Bridge)[s.Name], emptyFrame())
	}()
	if err != nil {
		p.log.Debug("a tunnel's end was not asked for", "port", s.Name, "err", err)
	}
}

// repairable reports whether a state that is not the one planned on is still ours to go on from: flows run out and come back while a plan
// is made, what is gone is made anew, and a feed that was to be removed may have lost its flows alone.
func (p *Platform) repairable(kind string, now, before, want json.RawMessage) bool {
	if now == nil {
		return true
	}
	if kind != kindFeed {
		return false
	}
	a, b := read[feedSpec](now), read[feedSpec](before)
	if before == nil && string(encode(a.What)) == "{}" {
		b = read[feedSpec](want)
	}
	return a.Name == b.Name && a.Bridge == b.Bridge && a.Peer == b.Peer
}

func null(b json.RawMessage) json.RawMessage {
	if string(b) == "null" {
		return nil
	}
	return b
}

func orEmpty(b json.RawMessage) json.RawMessage {
	if b == nil {
		return json.RawMessage("{}")
	}
	return b
}

func ownerOf(specs ...json.RawMessage) string {
	for _, s := range specs {
		var marked struct{ Mark string }
		if s != nil && json.Unmarshal(s, &marked) == nil {
			if m := platform.ParseMark(marked.Mark); m.Owner != "" {
				return m.Owner
			}
		}
	}
	return ""
}

// confirm waits until the switch has done it, reads it back, and sees to the flows. config is the number of the change.
func (p *Platform) confirm(ctx context.Context, s *platform.Step, owner string, want *change, config int64) error {
	if err := p.settled(ctx, config); err != nil {
		return fmt.Errorf("%w (%s)", err, s.Object)
	}
	if want.Kind == kindFeed {
		if err := p.setFlows(ctx, want); err != nil {
			return fmt.Errorf("%w (%s)", err, s.Object)
		}
	}
	d, err := p.read(ctx, want.Kind == kindFeed)
	if err != nil {
		return err
	}
	d.fresh = true
	if err := p.listens(ctx, want); err != nil {
		return fmt.Errorf("%w (%s)", err, s.Object)
	}
	now := d.ours(owner)[[2]string{want.Kind, want.Name}]
	if !bytes.Equal(now, want.Spec) {
		return fmt.Errorf("ovs: %s: %s: %w while it was made: %s", p.cfg.Name, s.Object, platform.ErrChanged, why(orEmpty(now), orEmpty(want.Spec)))
	}
	return p.working(d, want)
}

// listens waits until a bridge that is to take OpenFlow over the network does.
func (p *Platform) listens(ctx context.Context, want *change) error {
	if want.Kind != kindBridge || want.Spec == nil || read[bridgeSpec](want.Spec).Listen == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmWait)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := p.openflow(ctx, want.Name)
		if err == nil {
			return c.Close()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w; let this machine reach it, or take openflow out of the resource", err)
		}
	}
}

// working reports an interface that the switch could not make.
func (p *Platform) working(d *db, want *change) error {
	var on struct{ Name, Output, Type string }
	if want.Spec == nil || json.Unmarshal(want.Spec, &on) != nil {
		return nil
	}
	name := on.Name
	if want.Kind == kindMirror {
		name = on.Output
	}
	_, r, ok := d.find("Interface", name)
	if n, has := r.Int("ofport"); !ok || has && n > 0 {
		return nil
	}
	if text := r.Text("error"); text != "" {
		return fmt.Errorf("ovs: %s: port %s: the switch says: %s", p.cfg.Name, name, text)
	}
	return nil
}

// settled waits until the switch has done what the database says: its cur_cfg reaches the next_cfg of a change (ovs-vswitchd.conf.db(5)).
func (p *Platform) settled(ctx context.Context, want int64) error {
	ctx, cancel := context.WithTimeout(ctx, confirmWait)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		res, err := p.transact(ctx, ovsdb.Select("Open_vSwitch", nil, "cur_cfg"))
		if err != nil {
			return err
		}
		if len(res[0].Rows) == 1 {
			if have, _ := res[0].Rows[0].Int("cur_cfg"); have >= want {
				return nil
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("ovs: %s: %w: the database has the change, but ovs-vswitchd does not confirm it", p.cfg.Name, platform.ErrUnreachable)
		}
	}
}

// setFlows makes the flows of a feed what they should be; none when it is gone.
func (p *Platform) setFlows(ctx context.Context, want *change) error {
	if want.Spec == nil {
		return nil // the flows of a port that is gone match nothing; removeFeed took them out
	}
	s := read[feedSpec](want.Spec)
	flows, err := s.flows()
	if err != nil {
		return err
	}
	d, err := p.read(ctx, false)
	if err != nil {
		return err
	}
	c, err := p.openflow(ctx, s.Bridge)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Replace(ctx, feedCookie(s.Name), feedMask, flows, d.ofports(s.Bridge))
}

// set does the transaction that brings an object from what it is now to what it shall be. It returns the next_cfg by which the switch says
// that it has done so.
func (p *Platform) set(ctx context.Context, d *db, owner, kind string, now, want json.RawMessage) (config int64, err error) {
	var ops []ovsdb.Operation
	switch kind {
	case kindBridge:
		ops = d.setBridge(now, want)
	case kindOutput:
		ops = d.setOutput(now, want)
	case kindFeed:
		if want == nil {
			s := read[feedSpec](now)
			p.removeFlows(ctx, s.Bridge, s.Name)
		}
		ops = d.setFeed(now, want)
	case kindMirror:
		ops = d.setMirror(now, want)
	case kindExport:
		ops, err = d.setExport(owner, now, want)
	}
	if err != nil {
		return 0, fmt.Errorf("ovs: %s: %w: %w", p.cfg.Name, platform.ErrChanged, err)
	}
	if len(ops) == 0 {
		return 0, fmt.Errorf("ovs: %s: %w: the bridge or a port", p.cfg.Name, platform.ErrGone)
	}
	return p.commit(ctx, ops, "crosstap "+owner+": "+kind)
}

// commit does a transaction and returns its next_cfg.
func (p *Platform) commit(ctx context.Context, ops []ovsdb.Operation, comment string) (config int64, err error) {
	n := len(ops) + 1
	ops = append(ops, ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "next_cfg", Mutator: "+=", Value: 1}), ovsdb.Select("Open_vSwitch", nil, "next_cfg"))
	res, err := p.transact(ctx, append(ops, ovsdb.Comment(comment))...)
	if err != nil {
		return 0, err
	}
	if len(res[n].Rows) != 1 {
		return 0, fmt.Errorf("ovs: %s: the database has %d rows for the switch", p.cfg.Name, len(res[n].Rows))
	}
	config, _ = res[n].Rows[0].Int("next_cfg")
	return config, nil
}

// removeFlows takes the flows of feeds out of our bridge.
func (p *Platform) removeFlows(ctx context.Context, bridge string, feeds ...string) {
	c, err := p.openflow(ctx, bridge)
	if err == nil {
		defer c.Close()
		for _, name := range feeds {
			err = errors.Join(err, c.Replace(ctx, feedCookie(name), feedMask, nil, nil))
		}
	}
	if err != nil {
		p.log.Warn("flows of a feed that goes are left to the switch", "err", err)
	}
}

// Counters implements platform.Platform: of what goes through our bridge the flows count, of other mirrors the switch does, some seconds
// late.
func (p *Platform) Counters(ctx context.Context, owner string) (map[string]platform.Counter, error) {
	d, err := p.read(ctx, true)
	if err != nil {
		return nil, err
	}
	out, at := map[string]platform.Counter{}, time.Now()
	for _, r := range d.tables["Mirror"] {
		m := markOf(r)
		if m.Owner != owner {
			continue
		}
		c := platform.Counter{At: at}
		stats := r.IntMap("statistics")
		c.Packets, c.Bytes = uint64(max(stats["tx_packets"], 0)), uint64(max(stats["tx_bytes"], 0))
		out[m.Key()] = c
	}
	for _, r := range d.tables["Port"] {
		m := markOf(r)
		if _, feed := r.TextMap("external_ids")[feedKey]; !feed || m.Owner != owner {
			continue
		}
		c := platform.Counter{At: at}
		for _, counts := range d.flows {
			for cookie, n := range counts {
				if cookie&feedMask == feedCookie(r.Text("name")) && cookie&passBit != 0 {
					c.Packets, c.Bytes = c.Packets+n.Packets, c.Bytes+n.Bytes
				}
			}
		}
		out[m.Key()] = c
	}
	return out, nil
}

// Read implements platform.Platform.
func (p *Platform) Read(ctx context.Context) (*platform.Snapshot, error) {
	d, err := p.read(ctx, true)
	if err != nil {
		return nil, err
	}
	inv := platform.NewInventory(p.cfg.Name)
	inv.Apply(p.update(d, time.Now()))
	return inv.Snapshot(), nil
}

// Watch implements platform.Platform.
func (p *Platform) Watch(ctx context.Context, update func(platform.Update)) error {
	w := &watch{p: p, poke: make(chan struct{}, 1)}
	cfg := ovsdb.DefaultClientConfig()
	cfg.Endpoint, cfg.Log = p.endpoint(), p.log
	for _, t := range tableNames {
		cfg.Monitor = append(cfg.Monitor, ovsdb.TableMonitor{Table: t, Columns: columns[t]})
	}
	cfg.Changed = func([]ovsdb.Change) { w.wake() }
	client, err := ovsdb.NewClient(cfg)
	if err != nil {
		return err
	}
	w.client = client
	running, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- client.Run(running) }()
	err = w.run(ctx, update, failed)
	stop()
	if err == nil {
		err = <-failed
	}
	return err
}

// watch turns what the database tells into updates.
type watch struct {
	p      *Platform
	client *ovsdb.Client
	poke   chan struct{}
	ports  map[string]bool // of the last update; nil before the first
}

func (w *watch) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// Times of a watch: what changes together comes within a moment, and connections and flows are looked at now and then.
const (
	foldFor   = 5 * time.Millisecond
	lookEvery = 10 * time.Second
	lostAfter = time.Second
)

func (w *watch) run(ctx context.Context, update func(platform.Update), failed chan error) error {
	tick := time.NewTicker(lostAfter)
	defer tick.Stop()
	told, looked := true, time.Now() // told that there is no connection, so that the first failure is told once it lasts
	for first := true; ; first = false {
		if first {
			told = false
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			failed <- nil
			return err
		case <-w.poke:
			time.Sleep(foldFor)
		case <-tick.C:
			if !w.client.Connected() {
				if !told {
					update(platform.Update{AtNS: time.Now().UnixNano(), Lost: fmt.Errorf("the database at %s does not answer", w.p.cfg.Address)})
					told = true
				}
				continue
			}
			if !told && time.Since(looked) < lookEvery {
				continue
			}
		}
		d := w.copy()
		looked, told = time.Now(), false
		w.p.readFlows(ctx, d)
		u := w.p.update(d, looked)
		w.ports = w.p.arrivals(w.ports, &u, w.ports == nil)
		update(u)
	}
}

// copy is the state of the database that the client knows.
func (w *watch) copy() *db {
	d := &db{tables: map[string]rows{}}
	for _, t := range tableNames {
		d.tables[t] = w.client.Rows(t)
	}
	return d
}
