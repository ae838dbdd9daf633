package netnetflow

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"crosstap/internal/ovsdb"
)

// switchKey names a switch for good.
type switchKey struct{ kind, name string }

func (k switchKey) String() string { return k.kind + ":" + k.name }

// The kinds of switches.
const (
	kindBridge = "bridge"
	kindOVS    = "ovs"
)

// port is one port of a switch.
type port struct {
	name string
	no   uint32
	host bool   // of the machine itself: what it sends through the interface enters the switch
	dark string // why nothing can be captured there, "" for nothing
	// index of the interface, of a Linux bridge's ports
	index int
}

// vswitch is a switch as it is now.
type vswitch struct {
	kind, name string
	ports      []port
}

func (s *vswitch) key() switchKey { return switchKey{s.kind, s.name} }

// checkPorts refuses ports that have no identifier.
func (s *vswitch) checkPorts(id int) error {
	for _, p := range s.ports {
		if _, err := PortID(id, p.no); err != nil && p.dark == "" {
			return fmt.Errorf("net-netflow: switch %s, port %s: %w: leave -p out, or renumber it", s.name, p.name, err)
		}
	}
	return nil
}

// finder finds switches by their names.
type finder struct {
	netns string
	ovs   *ovsdb.Client // nil where there is no database
}

const ovsPatience = 5 * time.Second // for the first copy of the Open vSwitch database

func newFinder(c *Config) (*finder, error) {
	f := &finder{netns: c.NetNS}
	if path, ok := strings.CutPrefix(c.OVSDB, "unix:"); c.OVSDB == "" || ok && !exists(path) {
		return f, nil
	}
	o := ovsdb.DefaultClientConfig()
	o.Address, o.Log = c.OVSDB, c.Log
	o.Monitor = []ovsdb.TableMonitor{
		{Table: "Bridge", Columns: []string{"name", "ports"}},
		{Table: "Port", Columns: []string{"interfaces"}},
		{Table: "Interface", Columns: []string{"name", "type", "ofport"}},
	}
	var err error
	f.ovs, err = ovsdb.NewClient(o)
	return f, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// start follows the Open vSwitch database until the function it returns is called.
func (f *finder) start(ctx context.Context) (stop func()) {
	if f.ovs == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.ovs.Run(ctx) // a database of another kind has no switches
	}()
	return func() { cancel(); <-done }
}

// find returns a switch, or an error that lists those that there are.
func (f *finder) find(ctx context.Context, name string) (*vswitch, error) {
	links, err := links(f.netns)
	if err != nil {
		return nil, fmt.Errorf("net-netflow: interfaces: %w", err)
	}
	if s := bridge(links, name); s != nil {
		return s, nil
	}
	if f.ovs != nil {
		wait, cancel := context.WithTimeout(ctx, ovsPatience)
		defer cancel()
		if err := f.ovs.Ready(wait); err != nil {
			return nil, fmt.Errorf("net-netflow: switch %s: no Linux bridge, and the Open vSwitch database does not answer: %w", name, err)
		}
	}
	if s := f.ovsBridge(name); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("net-netflow: no switch of the name %s; there are: %s", name, strings.Join(f.names(links), ", "))
}

// look returns a switch as it is now, nil when it is gone. While the Open vSwitch database does not answer, its switches stay
// as they were.
func (f *finder) look(k switchKey) (*vswitch, error) {
	if k.kind == kindOVS {
		return f.ovsBridge(k.name), nil
	}
	all, err := links(f.netns)
	if err != nil {
		return nil, err
	}
	return bridge(all, k.name), nil
}

func (f *finder) names(links map[string]link) (names []string) {
	for name, l := range links {
		if l.kind == "bridge" {
			names = append(names, name)
		}
	}
	if f.ovs != nil {
		for _, r := range f.ovs.Rows("Bridge") {
			names = append(names, r.Text("name"))
		}
	}
	if len(names) == 0 {
		return []string{"none"}
	}
	slices.Sort(names)
	return names
}

// bridge returns a Linux bridge: its ports, and its own interface as port 0.
func bridge(links map[string]link, name string) *vswitch {
	br, ok := links[name]
	if !ok || br.kind != "bridge" {
		return nil
	}
	s := &vswitch{kind: kindBridge, name: name, ports: []port{{name: name, host: true, index: br.index}}}
	for other, l := range links {
		if l.master == br.index {
			s.ports = append(s.ports, port{name: other, no: l.portNo, index: l.index})
		}
	}
	return s
}

// ovsBridge returns an Open vSwitch bridge as the copy of the database has it.
func (f *finder) ovsBridge(name string) *vswitch {
	if f.ovs == nil {
		return nil
	}
	_, br, ok := f.ovs.Find("Bridge", "name", name)
	if !ok {
		return nil
	}
	s := &vswitch{kind: kindOVS, name: name}
	for _, p := range br.UUIDs("ports") {
		for _, i := range f.ovs.Row("Port", p).UUIDs("interfaces") {
			if p, ok := ovsPort(f.ovs.Row("Interface", i)); ok {
				s.ports = append(s.ports, p)
			}
		}
	}
	return s
}

// ovsPort returns a port; false for one that the switch could not make.
func ovsPort(r ovsdb.Row) (port, bool) {
	no, ok := r.Int("ofport")
	p := port{name: r.Text("name"), no: uint32(no)}
	if !ok || no < 0 || p.name == "" {
		return p, false
	}
	switch kind := r.Text("type"); kind {
	case "", "system", "tap", "afxdp", "afxdp-nonpmd":
	case "internal":
		p.host = true
	default:
		p.dark = kind + " port has no interface to capture from"
	}
	return p, true
}
