package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/dissect"
)

// Kind is what copies are wrapped in.
type Kind uint8

// The kinds.
const (
	VXLAN Kind = iota
	Geneve
	UDP // nothing but UDP
	GRE // transparent Ethernet bridging
	ERSPAN2
	ERSPAN3
	Interface // as they are, through an interface of the host
)

// kinds are the kinds by the scheme of a URL, with the port where one is usual.
var kinds = []struct {
	scheme string
	kind   Kind
	port   uint16
}{{"vxlan", VXLAN, 4789}, {"geneve", Geneve, 6081}, {"udp", UDP, 0}, {"gre", GRE, 0}, {"erspan2", ERSPAN2, 0}, {"erspan3", ERSPAN3, 0}, {"iface", Interface, 0}}

// String returns the scheme.
func (k Kind) String() string { return kinds[k].scheme }

// overUDP reports whether the encapsulation is one over UDP.
func (k Kind) overUDP() bool { return k <= UDP }

// Schemes returns the schemes of targets.
func Schemes() (names []string) {
	for _, k := range kinds {
		names = append(names, k.scheme)
	}
	return names
}

// TooLong says what happens to a frame that does not fit into one packet of the path.
type TooLong uint8

// The ways.
const (
	Fragment TooLong = iota // the copy travels in fragments
	Slice                   // the frame is cut
	Refuse                  // nothing is sent: not at start, when frames can be so long, nor later
)

var tooLong = []string{"fragment", "slice", "refuse"}

// Absent says what happens while nothing listens at the tool.
type Absent uint8

// The ways.
const (
	Send  Absent = iota // copies are sent and counted
	Pause               // copies are dropped until the tool listens again
)

var absents = []string{"send", "pause"}

// Granularity is the unit of time stamps of ERSPAN type III, as its header has it.
type Granularity uint8

// The units. PTP means nanoseconds, with the seconds in a platform sub-header.
const (
	Micros100 Granularity = iota
	Nanos100
	PTP
)

var granularities = []string{"100us", "100ns", "ptp"}

// Target is one tool.
type Target struct {
	Kind   Kind
	Host   string     // name or address; the name of the interface for Interface
	Port   uint16     // over UDP
	Source netip.Addr // local address, invalid for the one the system chooses
	Device string     // interface to send through, whatever the routes say; "" to follow them
	NetNS  string     // file of the network namespace to send from; "" for the process's own
	MTU    TooLong    // what happens to frames that are too long
	Path   int        // path MTU when the system knows less; 0 to ask it
	TTL    int        // of the packets, 0 for 64
	DSCP   int        // of the packets
	Ports  int        // source ports that conversations are spread over: a power of two
	Rate   uint64     // most bits each second, with their encapsulation; 0 for no bound
	Absent Absent
	Probe  bool // ask with an empty packet whether something listens

	VNI         uint32 // VXLAN, Geneve
	Key         uint32 // GRE
	HasKey      bool
	Seq         bool   // GRE: number the packets
	Session     uint16 // ERSPAN
	Index       uint32 // ERSPAN II: the port; 0 for the number of the copy point
	Granularity Granularity
	Switch      uint16 // ERSPAN III: identifier of the switch, in the platform sub-header
	SGT         uint16 // ERSPAN III: security group tag
	HardwareID  uint8  // ERSPAN III
}

// Limits.
const (
	maxVNI     = 1<<24 - 1
	maxSession = 1<<10 - 1
	maxIndex   = 1<<20 - 1
	maxPorts   = 64
	minPath    = 576
	maxPath    = 65535
)

// Parse reads a URL such as vxlan://HOST:4789?vni=5001 or iface:NAME. docs/guide/destinations.md lists the options.
func Parse(s string) (Target, error) {
	fail := func(format string, args ...any) (Target, error) {
		return Target{}, fmt.Errorf("deliver: %s: %s", s, fmt.Sprintf(format, args...))
	}
	base, query, _ := strings.Cut(s, "?")
	u, err := url.Parse(base)
	if err != nil {
		return fail("not a URL: want SCHEME://HOST[:PORT][?OPTION=VALUE&…], with spaces and special characters as %%XX")
	}
	i := slices.Index(Schemes(), u.Scheme)
	if i < 0 {
		return fail("scheme %q is not known here, want %s", u.Scheme, strings.Join(Schemes(), ", "))
	}
	t := Target{Kind: kinds[i].kind, Port: kinds[i].port, Ports: 16, Probe: true}
	switch {
	case t.Kind == Interface:
		if t.Host = u.Opaque; t.Host == "" || u.Host != "" {
			return fail("no interface, want iface:NAME")
		}
	case u.Hostname() == "":
		return fail("no host, want %s://HOST", u.Scheme)
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.Fragment != "":
		return fail("only a host, a port and options after ? are expected")
	default:
		t.Host = u.Hostname()
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 || !t.Kind.overUDP() {
			return fail("port %q: want 1 to 65535, and none for %s", p, GRE)
		}
		t.Port = uint16(n)
	}
	if err := t.options().Read(query); err != nil {
		return fail("%v", err)
	}
	if err := t.validate(); err != nil {
		return Target{}, err
	}
	return t, nil
}

// validate reports the first mistake.
func (t *Target) validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("deliver: %s: %s", t, fmt.Sprintf(format, args...))
	}
	switch {
	case t.Host == "":
		return fail("no host")
	case t.Kind.overUDP() && t.Port == 0:
		return fail("no port, want %s://HOST:PORT", t.Kind)
	case (t.Kind == ERSPAN2 || t.Kind == ERSPAN3) && (t.Session == 0 || t.Session > maxSession):
		return fail("session %d: want session=1 to %d", t.Session, maxSession)
	case t.VNI > maxVNI:
		return fail("vni %d: want 0 to %d", t.VNI, maxVNI)
	case t.Index > maxIndex:
		return fail("index %d: want 0 to %d", t.Index, maxIndex)
	case t.Kind.overUDP() && (t.Ports < 1 || t.Ports > maxPorts || t.Ports&(t.Ports-1) != 0):
		return fail("ports %d: want a power of two, at most %d", t.Ports, maxPorts)
	}
	return nil
}

// address returns the host, with the port where there is one.
func (t *Target) address() string {
	if t.Port != 0 {
		return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	}
	if strings.Contains(t.Host, ":") {
		return "[" + t.Host + "]"
	}
	return t.Host
}

// String returns the target as a URL, without the options that are at their defaults.
func (t Target) String() string {
	q := t.options().Query()
	if q != "" {
		q = "?" + q
	}
	if t.Kind == Interface {
		return "iface:" + t.Host + q
	}
	return t.Kind.String() + "://" + strings.ReplaceAll(t.address(), "%", "%25") + q // a zone's percent sign, RFC 6874
}

// dissector reads frames with the port of this target among those of its encapsulation, so that our own copies are recognised.
func (t *Target) dissector() *dissect.Dissector {
	c := dissect.DefaultConfig()
	if (t.Kind == VXLAN || t.Kind == Geneve) && !slices.Contains(c.Ports(), t.Port) {
		_ = c.Add(t.Kind.String(), t.Port) // both are encapsulations with ports
	}
	return dissect.New(c)
}
