package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Guest is a virtual machine with its adapters.
type Guest struct {
	Name     string
	UUID     string
	Title    string
	Off      bool
	Adapters []Adapter
}

// Adapter is one adapter of a guest.
type Adapter struct {
	Name        string // stable within the guest, such as net0
	Type        string // bridge, network, direct …
	Device      string // of the host, such as vnet3; "" while the guest is off
	MAC         string // lower case
	Bridge      string // that the device is a port of
	Network     string // of libvirt
	Group       string // port group of the network
	InterfaceID string // of an Open vSwitch port
	OVS         bool
	VLANs       []uint16
	MTU         int
	Addrs       []netip.Addr
}

// State is what a daemon knows.
type State struct {
	Host    string // name of its machine
	Version string
	Guests  []Guest // sorted by UUID
}

// Source reads the guests of one daemon and follows them.
type Source struct {
	Endpoint
	// Refresh is how often addresses are asked for, of which there are no events; 0 for 30 s.
	Refresh time.Duration
}

// How long to wait for answers and between attempts.
const (
	callTimeout    = 20 * time.Second
	agentTimeout   = 2 * time.Second // a guest agent that does not answer must not hold up the others
	firstRetry     = 500 * time.Millisecond
	longestRetry   = 30 * time.Second
	defaultRefresh = 30 * time.Second
	settle         = 20 * time.Millisecond // a migration sends several events at once
)

// Read asks the daemon once.
func (s *Source) Read(ctx context.Context) (*State, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := Dial(ctx, s.Endpoint, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return s.read(ctx, c)
}

// Watch follows the guests until ctx ends. update gets each new state from one goroutine, and an error with a nil state when there is
// no connection any more, which Watch then makes again by itself. events, which may be nil, gets every event.
func (s *Source) Watch(ctx context.Context, update func(*State, error), events func(Event)) error {
	retry := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := s.session(ctx, update, events)
		if ctx.Err() != nil {
			return nil
		}
		update(nil, err)
		if time.Since(began) > longestRetry {
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, longestRetry)
	}
	return nil
}

// session follows the guests while one connection lasts.
func (s *Source) session(ctx context.Context, update func(*State, error), events func(Event)) error {
	changed := make(chan struct{}, 1)
	begin, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := Dial(begin, s.Endpoint, func(e Event) {
		if events != nil {
			events(e)
		}
		select {
		case changed <- struct{}{}:
		default: // one look finds both
		}
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Subscribe(begin); err != nil && !Unsupported(err) && !Denied(err) {
		return err // without events there is still the regular look
	}
	refresh := time.NewTicker(cmp.Or(max(s.Refresh, 0), defaultRefresh))
	defer refresh.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, callTimeout)
		state, err := s.read(look, c)
		cancel()
		if err != nil {
			return err
		}
		update(state, nil)
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			return c.Err()
		case <-refresh.C:
		case <-changed:
			time.Sleep(settle)
			select {
			case <-changed:
			default:
			}
		}
	}
}

// read asks for everything.
func (s *Source) read(ctx context.Context, c *Conn) (*State, error) {
	host, err := c.Hostname(ctx)
	if err != nil {
		return nil, err
	}
	state := &State{Host: host}
	if state.Version, err = c.Version(ctx); err != nil {
		return nil, err
	}
	all, err := c.Domains(ctx)
	if err != nil {
		return nil, err
	}
	for _, dom := range all {
		g, err := s.guest(ctx, c, dom)
		if NotFound(err) {
			continue // it went between two calls
		}
		if err != nil {
			return nil, fmt.Errorf("domain %s: %w", dom.Name, err)
		}
		state.Guests = append(state.Guests, *g)
	}
	slices.SortFunc(state.Guests, func(a, b Guest) int { return strings.Compare(a.UUID, b.UUID) })
	return state, nil
}

func (s *Source) guest(ctx context.Context, c *Conn, dom Domain) (*Guest, error) {
	text, err := c.XML(ctx, dom)
	if err != nil {
		return nil, err
	}
	d, err := ParseDescription(text)
	if err != nil {
		return nil, err
	}
	g := &Guest{Name: dom.Name, UUID: dom.UUIDText(), Title: d.Title, Off: !dom.Running()}
	for i := range d.NICs {
		g.Adapters = append(g.Adapters, adapter(&d.NICs[i]))
	}
	if g.Off || len(g.Adapters) == 0 {
		return g, nil
	}
	return g, s.addresses(ctx, c, dom, g)
}

func adapter(n *NIC) Adapter {
	a := Adapter{
		Name: n.Alias.Name, Type: n.Type, Device: n.Target.Dev, MAC: n.MAC.Address, Bridge: n.Source.Bridge, Network: n.Source.Network,
		Group: n.Source.PortGroup, InterfaceID: n.VirtualPort.Parameters.InterfaceID, OVS: n.VirtualPort.Type == "openvswitch", MTU: n.MTU.Size,
	}
	for _, t := range n.VLAN.Tags {
		a.VLANs = append(a.VLANs, t.ID)
	}
	return a
}

// addresses asks every source that answers; what one does not know, another may.
func (s *Source) addresses(ctx context.Context, c *Conn, dom Domain, g *Guest) error {
	sources := []AddrSource{FromLease, FromARP}
	if !s.ReadOnly {
		sources = append(sources, FromAgent)
	}
	for _, from := range sources {
		ask, cancel := ctx, func() {}
		if from == FromAgent {
			ask, cancel = context.WithTimeout(ctx, agentTimeout)
		}
		all, err := c.Addresses(ask, dom, from)
		cancel()
		if err != nil && (c.Err() != nil || ctx.Err() != nil) {
			return errors.Join(c.Err(), ctx.Err())
		}
		for _, known := range all {
			g.learn(known)
		}
	}
	return nil
}

// learn adds addresses to the adapter that they are of.
func (g *Guest) learn(known InterfaceAddrs) {
	for i := range g.Adapters {
		a := &g.Adapters[i]
		if known.MAC != a.MAC && (known.MAC != "" || known.Name != a.Device) {
			continue
		}
		for _, addr := range known.Addrs {
			if !slices.Contains(a.Addrs, addr) && !addr.IsLoopback() {
				a.Addrs = append(a.Addrs, addr)
			}
		}
		slices.SortFunc(a.Addrs, netip.Addr.Compare)
	}
}
