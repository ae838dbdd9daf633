package ovs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/ovsdb"
)

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
