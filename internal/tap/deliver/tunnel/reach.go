package tunnel

import (
	"context"
	"net/netip"

	"crosstap/internal/netns"
)

// Reach is the way to a tool that is spoken to over a connection.
type Reach struct {
	Tool, Source netip.Addr
	Interface    string // that the route leaves through
}

// Find resolves a tool's name and looks the way up, as Open does for a Sink. It refuses a way through a tunnel over a tapped interface.
func Find(ctx context.Context, c Config) (r Reach, err error) {
	t := &c.Target
	if r.Tool, err = resolve(ctx, t.Host, t.Source); err != nil {
		return r, err
	}
	var w way
	err = netns.Do(t.NetNS, func() (err error) {
		w.tool = r.Tool
		w.route, err = routeTo(r.Tool, t.Device)
		return err
	})
	if err != nil {
		return r, err
	}
	r.Source, r.Interface = w.route.source, w.route.name
	if t.Source.IsValid() {
		r.Source = t.Source
	}
	tapped, err := lookUp(c.Tapped, c.TappedNetNS)
	if err != nil {
		return r, err
	}
	return r, tapped.loop(t, &w)
}
