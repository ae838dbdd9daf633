// Package tapspec is the specification of one tap as data: what is copied where, what is made of it, where it goes, and what it may
// cost. The command line, a server and its agents, and the control line tell each other taps in these words.
//
// It is written as JSON or YAML with the same names; both are read strictly. Units stand in the values: 15s, 32MiB, 100Mbit/s, 20%.
package tapspec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// Spec is one tap.
type Spec struct {
	// Name tells the tap from the others of its host. It stays when the tap changes: a spec of the same name takes the place of
	// the one before without losing a frame.
	Name string `json:"name" yaml:"name"`
	// Observer is the name that flow records give the place; "" for Name.
	Observer string `json:"observer,omitempty" yaml:"observer,omitempty"`
	Role     string `json:"role,omitempty" yaml:"role,omitempty"` // vnic, port, mirror, tunnel or underlay
	// Labels say whose tap this is, such as the policy that it comes from. Nothing is done with them.
	Labels map[string]string `json:"labels,omitempty" yaml:"labels,omitempty"`

	Source Source `json:"source" yaml:"source"`
	Filter string `json:"filter,omitempty" yaml:"filter,omitempty"` // packet filter; "" for all frames
	Groom  Steps  `json:"groom,omitempty" yaml:"groom,omitempty"`   // of all that matches
	Meter  Meter  `json:"meter,omitzero" yaml:"meter,omitempty"`
	To     []To   `json:"to" yaml:"to"`

	Budget Budget `json:"budget,omitzero" yaml:"budget,omitempty"`
	// Lease is how long an agent goes on when its server is silent; 0 for the agent's own.
	Lease Duration `json:"lease,omitempty" yaml:"lease,omitempty"`
	// TTL is how long the tap lives from its start on; 0 for as long as it is wanted.
	TTL Duration `json:"ttl,omitempty" yaml:"ttl,omitempty"`
}

// Source says where frames come from. Exactly one of Interfaces, Inline, Listen, Remotes and File is there.
type Source struct {
	Interfaces []string `json:"interfaces,omitempty" yaml:"interfaces,omitempty"`
	Inline     *Inline  `json:"inline,omitempty" yaml:"inline,omitempty"`   // two interfaces that are joined
	Listen     []string `json:"listen,omitempty" yaml:"listen,omitempty"`   // endpoints that remote mirrors send to, as URLs
	Remotes    []string `json:"remotes,omitempty" yaml:"remotes,omitempty"` // interfaces of other hosts, as rpcap:// URLs
	File       string   `json:"file,omitempty" yaml:"file,omitempty"`       // a capture file

	NetNS       string `json:"netns,omitempty" yaml:"netns,omitempty"` // file of the interfaces' network namespace
	Snap        int    `json:"snap,omitempty" yaml:"snap,omitempty"`   // bytes kept of each frame; 0 for all
	Ring        Size   `json:"ring,omitempty" yaml:"ring,omitempty"`   // memory of each interface's ring; 0 for the usual
	IngressOnly bool   `json:"ingress_only,omitempty" yaml:"ingress_only,omitempty"`
	NoPromisc   bool   `json:"no_promisc,omitempty" yaml:"no_promisc,omitempty"` // only frames addressed to the interface
	// Path is how frames of interfaces are taken: auto (the default), tcx, clsact or ring.
	Path string `json:"path,omitempty" yaml:"path,omitempty"`
}

// Meter says what flow records are made of the frames. What is zero is as usual.
type Meter struct {
	Key      string   `json:"key,omitempty" yaml:"key,omitempty"` // inner, outer or both
	Idle     Duration `json:"idle,omitempty" yaml:"idle,omitempty"`
	Active   Duration `json:"active,omitempty" yaml:"active,omitempty"`
	Biflow   bool     `json:"biflow,omitempty" yaml:"biflow,omitempty"`
	MaxFlows int      `json:"max_flows,omitempty" yaml:"max_flows,omitempty"`
	Workers  int      `json:"workers,omitempty" yaml:"workers,omitempty"`
	Domain   uint32   `json:"domain,omitempty" yaml:"domain,omitempty"` // observation domain
	// The UDP ports of tunnels; filters and groom steps know them, too. TunnelPorts is by name: vxlan, vxlan-gpe, geneve, gtp, mpls, tzsp, gre.
	VXLANPorts  []uint16            `json:"vxlan_ports,omitempty" yaml:"vxlan_ports,omitempty"`
	TunnelPorts map[string][]uint16 `json:"tunnel_ports,omitempty" yaml:"tunnel_ports,omitempty"`
	NVGRE       bool                `json:"nvgre,omitempty" yaml:"nvgre,omitempty"` // keys of GRE are a virtual subnet and a flow
}

// To is one destination.
type To struct {
	URL    string `json:"url" yaml:"url"`                           // as --to takes it
	Filter string `json:"filter,omitempty" yaml:"filter,omitempty"` // of frames for this destination alone
	Groom  Steps  `json:"groom,omitempty" yaml:"groom,omitempty"`   // likewise
}

// Budget is what a tap may cost. What is zero is without limit.
type Budget struct {
	CPU    CPU  `json:"cpu,omitempty" yaml:"cpu,omitempty"` // with what the kernel does for it
	Memory Size `json:"memory,omitempty" yaml:"memory,omitempty"`
	Mirror Rate `json:"mirror,omitempty" yaml:"mirror,omitempty"` // bits of copies that leave for other hosts
}

// IsZero reports whether there is no limit.
func (b Budget) IsZero() bool { return b == Budget{} }

// IsZero reports whether all is as usual.
func (m Meter) IsZero() bool {
	return m.Key == "" && m.Idle == 0 && m.Active == 0 && !m.Biflow && m.MaxFlows == 0 && m.Workers == 0 && m.Domain == 0 &&
		len(m.VXLANPorts) == 0 && len(m.TunnelPorts) == 0 && !m.NVGRE
}

// Destination returns the URL with the destination's own filter and groom steps in it, as --to takes them.
func (t To) Destination() string {
	out, sep := t.URL, "?"
	if strings.Contains(out, "?") {
		sep = "&"
	}
	for _, o := range []struct{ name, value string }{{"filter", t.Filter}, {"groom", string(t.Groom)}} {
		if o.value != "" {
			out += sep + o.name + "=" + escape.Replace(o.value)
			sep = "&"
		}
	}
	return out
}

var escape = strings.NewReplacer("%", "%25", "&", "%26", "#", "%23")

// flowSchemes are the destinations that take no frames, or only their headers.
var flowSchemes = []string{"ipfix", "ipfix+tcp", "ipfix+tls", "netflow9", "netflow5", "sflow", "flows", "null"}

// Frames reports whether the destination takes frames rather than flow records.
func (t To) Frames() bool {
	scheme, rest, _ := strings.Cut(t.URL, ":")
	return scheme == "null" && rest == "frames" || !slices.Contains(flowSchemes, scheme)
}

// HeaderBytes is the most of a frame that counts as its headers.
const HeaderBytes = 160

// Payload reports whether the tap passes payload on: somebody must be allowed to see that. Flow records are none, and frames are
// none when Snap keeps the headers alone.
func (s *Spec) Payload() bool {
	if s.Source.Snap > 0 && s.Source.Snap <= HeaderBytes {
		return false
	}
	return slices.ContainsFunc(s.To, func(t To) bool { return t.Frames() && t.URL != "null:frames" })
}

// Digest identifies what the spec says: two specs with the same digest make the same tap.
func (s *Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // there is nothing in it that cannot be written
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}
