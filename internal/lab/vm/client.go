package vm

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"
)

// Sizes of the echo requests: an ordinary one, and one that needs IP fragments.
const (
	pingSize = 56
	pingBig  = 3000
)

// client starts the loops of a client: names and pages, pings, copies.
func (v *VM) client(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return v.browse(ctx) })
	g.Go(func() error { return v.pings(ctx) })
	g.Go(func() error { return v.copies(ctx) })
}

// browse asks for the server's name, then for a page from each of its addresses: over a new connection for
// IPv4, over a lasting one for IPv6.
func (v *VM) browse(ctx context.Context) error {
	r, err := newResolver(v.cfg.DB.Addr4)
	if err != nil {
		return err
	}
	defer r.conn.Close()
	fresh, lasting := httpClient(false), httpClient(true)
	defer lasting.CloseIdleConnections()
	name := "web." + v.cfg.Tenant + ".lab."
	for id := 0; ; id++ {
		a, err := r.lookup(name, dnsmessage.TypeA)
		v.stats.count(ctx, "name query", err)
		if err == nil {
			v.stats.count(ctx, "page", get(ctx, fresh, a, id%50))
		}
		if v.cfg.Web.Addr6.IsValid() {
			a, err = r.lookup(name, dnsmessage.TypeAAAA)
			v.stats.count(ctx, "name query", err)
			if err == nil {
				v.stats.count(ctx, "page over IPv6", get(ctx, lasting, a, id%50))
			}
		}
		if !pause(ctx, v.cfg.Every) {
			return nil
		}
	}
}

func httpClient(lasting bool) *http.Client {
	t := &http.Transport{DisableKeepAlives: !lasting, IdleConnTimeout: time.Minute, DialContext: dialHTTP}
	return &http.Client{Transport: t, Timeout: 10 * time.Second}
}

// pings sends echo requests to both servers over all families, now and then a big one.
func (v *VM) pings(ctx context.Context) error {
	var targets []netip.Addr
	for _, p := range []Peer{v.cfg.Web, v.cfg.DB} {
		targets = append(targets, p.addrs()...)
	}
	pingers := map[bool]*pinger{}
	for _, t := range targets {
		if pingers[t.Is6()] != nil {
			continue
		}
		p, err := newPinger(t)
		if err != nil {
			return err
		}
		defer p.conn.Close()
		pingers[t.Is6()] = p
	}
	for n := 0; ; n++ {
		size := pingSize
		if n%5 == 4 {
			size = pingBig
		}
		for _, t := range targets {
			v.stats.count(ctx, fmt.Sprintf("ping %s", t), pingers[t.Is6()].ping(ctx, t, size))
		}
		if !pause(ctx, v.cfg.Every) {
			return nil
		}
	}
}

// copies fetches bulk data from the database VM, one address family after the other.
func (v *VM) copies(ctx context.Context) error {
	from := v.cfg.DB.addrs()
	if !pause(ctx, time.Second) {
		return nil
	}
	for n := 0; ; n++ {
		v.stats.count(ctx, "copy", fetch(ctx, from[n%len(from)], v.cfg.Bulk.Bytes))
		if !pause(ctx, v.cfg.Bulk.Every) {
			return nil
		}
	}
}
