package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

type destinationSpec struct {
	URL    string    `yaml:"url"`
	Port   *portSpec `yaml:"port"`
	MTU    int       `yaml:"mtu"`
	Tenant string    `yaml:"tenant"`
}

type portSpec struct {
	Platform string `yaml:"platform"`
	Host     string `yaml:"host"`
	Switch   string `yaml:"switch"`
	Port     string `yaml:"port"`
	VM       string `yaml:"vm"`
}

var keysDestination = []string{"url", "port", "mtu", "tenant", "platform", "host", "switch", "vm"}

func (r *reader) destination(meta Meta) *Destination {
	s := spec[destinationSpec](r, keysDestination)
	d := &Destination{Meta: meta, URL: s.URL, MTU: s.MTU, Tenant: s.Tenant}
	d.Output = platform.Output{Name: meta.Name, URL: s.URL}
	if s.MTU != 0 && (s.MTU < 576 || s.MTU > 65535) {
		r.fail("$.spec.mtu", "leave it out for what the hosts know", "%d: must be 576 to 65535", s.MTU)
	}
	if s.Port != nil {
		d.Port = PortRef(*s.Port)
	}
	switch {
	case s.URL == "" && d.Port.IsZero():
		r.fail("$.spec", "give it a url such as vxlan://10.0.0.9?vni=9001, or the port of a tool's machine", "has neither url nor port")
	case s.URL != "" && s.Port != nil:
		r.fail("$.spec.port", "leave one of them out", "there is a url too")
	case s.URL != "":
		r.where(d)
	}
	return d
}

// where reads the URL of a destination.
func (r *reader) where(d *Destination) {
	const place = "$.spec.url"
	base, query, _ := strings.Cut(d.URL, "?")
	u, err := url.Parse(base)
	if err != nil {
		r.fail(place, "want SCHEME://HOST[:PORT][?OPTION=VALUE&…]", "%q is no URL", d.URL)
		return
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		r.fail(place, "", "%v", err)
		return
	}
	switch u.Scheme {
	case "vxlan", "geneve", "gre", "erspan2", "erspan3":
		r.tunnel(d, u, options)
	case schemeRSPAN:
		r.rspan(d, u.Opaque, options)
	case "ipfix", "netflow5", "sflow":
		to := r.addrPort(place, u, map[string]uint16{"ipfix": 4739, "netflow5": 2055, "sflow": 6343}[u.Scheme])
		d.Export = &platform.Export{Protocol: u.Scheme, To: to}
		r.onlyOptions(options)
	case "iface":
		if d.Output.Port = u.Opaque; u.Opaque == "" {
			r.fail(place, "want iface:NAME", "no interface")
		}
		r.onlyOptions(options)
	case "ipfix+tcp", "ipfix+tls", "netflow9":
		d.Records = true // what only a tap of ours can write to: the method agent
	case "udp", "tls", "pcapng", "pcap": // likewise
	default:
		r.fail(place, strings.TrimPrefix(or(u.Scheme, schemes), "; "), "scheme %q is not known", u.Scheme)
	}
}

var schemes = []string{
	"vxlan", "geneve", "gre", "erspan2", "erspan3", schemeRSPAN, "ipfix", "netflow5", "sflow", "iface", "ipfix+tcp", "ipfix+tls", "netflow9", "udp", "tls", "pcapng", "pcap",
}

// keys of tunnels: the option that names the copies, and how many bits it has.
var tunnelKeys = map[platform.Encap]struct {
	name string
	bits int
}{
	platform.EncapVXLAN: {"vni", 24}, platform.EncapGeneve: {"vni", 24}, platform.EncapGRE: {"key", 32},
	platform.EncapERSPAN2: {"session", 10}, platform.EncapERSPAN3: {"session", 10},
}

func (r *reader) tunnel(d *Destination, u *url.URL, options url.Values) {
	const place = "$.spec.url"
	o := &d.Output
	o.Encap = platform.Encap(u.Scheme)
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		r.fail(place, "switches know no names: give an IPv4 or IPv6 address", "%q is no address of a tool", u.Hostname())
		return
	}
	o.Addr = addr.Unmap()
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 || o.Encap != platform.EncapVXLAN && o.Encap != platform.EncapGeneve {
			r.fail(place, "ports go with vxlan and geneve", "port %q", p)
		}
		o.UDP = uint16(n)
	}
	key := tunnelKeys[o.Encap]
	for _, name := range slices.Sorted(maps.Keys(options)) {
		bits, into := key.bits, func(n uint64) { o.Key = uint32(n) }
		switch name {
		case key.name:
		case "dscp":
			bits, into = 6, func(n uint64) { o.DSCP = uint8(n) }
		default:
			r.fail(place, "known: "+key.name+", dscp", "option %q is not known of %s", name, o.Encap)
			return
		}
		n, err := strconv.ParseUint(options.Get(name), 10, bits)
		if err != nil {
			r.fail(place, "", "%s %q: must be a number of %d bits", name, options.Get(name), bits)
			return
		}
		into(n)
	}
	if key.name == "session" && o.Key == 0 {
		r.fail(place, "add ?session=1 to 1023", "ERSPAN needs a session")
	}
}

func (r *reader) onlyOptions(options url.Values) {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		r.fail("$.spec.url", "leave it out", "option %q is not known here", name)
	}
}

func (r *reader) addrPort(place string, u *url.URL, port uint16) netip.AddrPort {
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		r.fail(place, "switches know no names: give an IPv4 or IPv6 address", "%q is no address", u.Hostname())
		return netip.AddrPort{}
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			r.fail(place, "1 to 65535", "port %q", p)
		}
		port = uint16(n)
	}
	return netip.AddrPortFrom(addr.Unmap(), port)
}

type platformSpec struct {
	Kind     string            `yaml:"kind"`
	Address  string            `yaml:"address"`
	Host     string            `yaml:"host"`
	User     string            `yaml:"user"`
	Password *secretSpec       `yaml:"password"`
	TLS      *tlsSpec          `yaml:"tls"`
	Segments map[string]string `yaml:"segments"`
	OpenFlow string            `yaml:"openflow"`
	Options  map[string]string `yaml:"options"`
}

type secretSpec struct {
	File string `yaml:"file"`
	Env  string `yaml:"env"`
}

type tlsSpec struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	Thumbprint string `yaml:"thumbprint"`
	ServerName string `yaml:"serverName"`
}

var keysPlatform = []string{
	"kind", "address", "host", "user", "password", "tls", "segments", "openflow", "options", "file", "env", "ca", "cert", "key", "thumbprint", "serverName",
}

// PlatformKinds lists the kinds of platforms.
func PlatformKinds() []string { return []string{"ovs", "linux", "libvirt", "vsphere"} }

func (r *reader) platform(meta Meta) *Platform {
	s := spec[platformSpec](r, keysPlatform)
	p := &Platform{
		Meta: meta, Address: s.Address, Host: s.Host, User: s.User, Segments: s.Segments, OpenFlow: s.OpenFlow, Options: s.Options,
		Kind: r.word("$.spec.kind", s.Kind, PlatformKinds()),
	}
	if s.Kind == "" {
		r.fail("$.spec.kind", "one of: "+strings.Join(PlatformKinds(), ", "), "is missing")
	}
	if s.Address == "" && s.Kind != "linux" {
		r.fail("$.spec.address", "such as unix:/run/openvswitch/db.sock, tcp:10.0.0.1:6640 or https://vcenter.example/sdk", "is missing")
	}
	if s.Password != nil {
		p.Password = Secret(*s.Password)
	}
	if s.TLS != nil {
		p.TLS = TLS(*s.TLS)
	}
	for _, where := range slices.Sorted(maps.Keys(s.Segments)) {
		if _, err := ParseSegment(s.Segments[where]); err != nil {
			r.fail("$.spec.segments", "write it as br-int/10: vxlan:5001", "%s: %v", where, err)
		}
	}
	return p
}

type tenantSpec struct {
	Segments []string   `yaml:"segments"`
	Fabric   string     `yaml:"fabric"`
	VMs      selectSpec `yaml:"vms"`
}

var keysTenant = []string{"segments", "fabric", "vms", "hosts", "groups", "switches", "ports", "tags", "where", "platforms"}

func (r *reader) tenant(meta Meta) *Tenant {
	s := spec[tenantSpec](r, keysTenant)
	t := &Tenant{Meta: meta, Fabric: s.Fabric, VMs: r.selector("$.spec.vms", s.VMs)}
	for i, text := range s.Segments {
		seg, err := ParseSegment(text)
		if err != nil {
			r.fail(at("$.spec.segments", i), "write it as vxlan:5001", "%v", err)
		}
		t.Segments = append(t.Segments, seg)
	}
	if len(t.Segments) == 0 && t.VMs.Empty() {
		r.fail("$.spec", "name its segments, or its machines", "has neither segments nor vms")
	}
	if t.VMs.Asks("tenant") {
		r.fail("$.spec.vms", "", "a tenant is not selected by tenants")
	}
	return t
}

// ParseSegment reads a segment as "kind:number", such as vxlan:5001.
func ParseSegment(text string) (flow.Segment, error) {
	name, number, _ := strings.Cut(text, ":")
	for _, k := range []struct {
		kind flow.SegmentKind
		bits int
	}{{flow.KindVXLAN, 24}, {flow.KindNVGRE, 24}, {flow.KindVLAN, 12}, {flow.KindGeneve, 24}, {flow.KindGRE, 32}} {
		if k.kind.String() != name {
			continue
		}
		n, err := strconv.ParseUint(number, 10, k.bits)
		if err != nil {
			return 0, fmt.Errorf("%q is no segment: the number of kind %s has %d bits", text, name, k.bits)
		}
		return flow.NewSegment(k.kind, uint32(n)), nil
	}
	return 0, fmt.Errorf("%q is no segment: want vxlan, nvgre, vlan, geneve or gre and a number", text)
}

// SegmentText writes a segment as ParseSegment reads it, "" for none.
func SegmentText(s flow.Segment) string {
	if s == 0 {
		return ""
	}
	return s.Kind().String() + ":" + strconv.FormatUint(uint64(s.Number()), 10)
}
