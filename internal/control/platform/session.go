package platform

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"crosstap/internal/flow"
)

// Method is a way to get at the packets.
type Method string

// The methods. A policy may also say MethodAuto; a session never does.
const (
	MethodAuto         Method = "auto"
	MethodMirror       Method = "mirror"        // copies to a port of the same host
	MethodRemoteMirror Method = "remote-mirror" // copies in a tunnel to an address
	MethodPromiscuous  Method = "promiscuous"   // a capture VM in a port group that gets everything
	MethodAgent        Method = "agent"         // our tap on the host or in the VM
	MethodFlowsOnly    Method = "flows-only"    // the switch exports flow records
)

// Encap is how copies travel.
type Encap string

// The encapsulations of a copy.
const (
	EncapGRE     Encap = "gre"
	EncapERSPAN2 Encap = "erspan2"
	EncapERSPAN3 Encap = "erspan3"
	EncapVXLAN   Encap = "vxlan"
	EncapGeneve  Encap = "geneve"
	EncapVLAN    Encap = "vlan" // RSPAN: an uplink and a VLAN
)

// Direction tells which packets of a port are copied, as the switch sees it.
type Direction uint8

// The directions, to be combined.
const (
	Ingress Direction = 1 << iota // into the switch: what the VM sends (OVS select_src_port, vSphere "received": its words are the port's)
	Egress                        // out of the switch: what the VM receives (OVS select_dst_port, vSphere "transmitted")
	Both    = Ingress | Egress
)

// String gives "ingress", "egress", "both" or "none".
func (d Direction) String() string { return [...]string{"none", "ingress", "egress", "both"}[d&Both] }

// MarshalText writes the word of String.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the word of String.
func (d *Direction) UnmarshalText(b []byte) error {
	for i, word := range [...]string{"none", "ingress", "egress", "both"} {
		if string(b) == word {
			*d = Direction(i)
			return nil
		}
	}
	return fmt.Errorf("platform: %q is no direction (ingress, egress, both)", b)
}

// Mark is the name tag on everything that we make. Where a platform has a place for key and value (external_ids), Text stands there
// under MarkKey; where it has only a name, the name begins with MarkPrefix and Text in a description completes it.
type Mark struct {
	Owner  string `json:"owner"`          // the control line that made it; lines with different owners leave each other alone
	Policy string `json:"policy"`         // name of the Tap resource
	Part   string `json:"part,omitempty"` // which session of the policy on this host or switch, when there are several
	// Digest is of the session's content. Digests differ when anything but the expiry does.
	Digest string `json:"digest,omitempty"`
	// ExpiresS is when the object is to be removed by whoever finds it, in seconds since the Unix epoch; 0 for never.
	ExpiresS int64 `json:"expires_s,omitempty"`
}

// Shared is the policy in the marks of what sessions of several policies use, such as a bridge for copies.
const Shared = "-"

// Where marks stand.
const (
	MarkKey    = "crosstap"
	MarkPrefix = "crosstap-"
)

// IsZero reports whether an object is foreign.
func (m Mark) IsZero() bool { return m.Owner == "" }

// Key names a session of an owner on its platform, whatever its revision.
func (m Mark) Key() string { return m.Policy + "/" + m.Part }

// Text writes the mark on one line; ParseMark reads it.
func (m Mark) Text() string {
	return fmt.Sprintf("owner=%s policy=%s part=%s digest=%s expires=%d", m.Owner, m.Policy, m.Part, m.Digest, m.ExpiresS)
}

// ParseMark reads the text of a mark. Anything that is not one is foreign: the zero Mark.
func ParseMark(text string) (m Mark) {
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "owner":
			m.Owner = value
		case "policy":
			m.Policy = value
		case "part":
			m.Part = value
		case "digest":
			m.Digest = value
		case "expires":
			if _, err := fmt.Sscan(value, &m.ExpiresS); err != nil {
				return Mark{}
			}
		}
	}
	if m.Policy == "" {
		return Mark{}
	}
	return m
}

// Source is one port and what of it is copied.
type Source struct {
	Port string    `json:"port"` // ID
	Dir  Direction `json:"dir"`
	// Quiet has broadcasts that others send left out: they are copied at another port.
	Quiet bool `json:"quiet,omitempty"`
}

// Session is one copy point as it shall be: on one switch, or on one host when it has no switch.
type Session struct {
	Mark    Mark     `json:"mark"`
	Method  Method   `json:"method"`
	Host    string   `json:"host,omitempty"` // ID; "" for a session of a distributed switch that is not bound to a host
	Switch  string   `json:"switch,omitempty"`
	Sources []Source `json:"sources,omitempty"` // sorted by Port; none for what comes in on VLANs (Capability.FromVLAN)
	VLANs   []uint16 `json:"vlans,omitempty"`   // only these; nil for all
	Filter  string   `json:"filter,omitempty"`  // packet filter on the tenant's frame, internal/filter; "" for everything
	// ExceptFrom holds the MACs whose packets are copied elsewhere: of what leaves the switch through a source, the frames from these
	// are not copied (the rule of exactly once). Sorted.
	ExceptFrom []flow.MAC `json:"except_from,omitempty"`
	Slice      int        `json:"slice,omitempty"`  // bytes of each copy, without outer headers; 0 for all
	Sample     int        `json:"sample,omitempty"` // one packet in this many; 0 and 1 for all
	Outputs    []Output   `json:"outputs,omitempty"`
	Flows      *Export    `json:"flows,omitempty"`   // of flows-only
	Capture    *Capture   `json:"capture,omitempty"` // of promiscuous
	Groom      []string   `json:"groom,omitempty"`   // steps of an agent, as "crosstap tap --groom" has them
	Budget     *Budget    `json:"budget,omitempty"`  // that an agent keeps to by itself
	Lease      Lease      `json:"lease,omitzero"`
}

// Lease says how long a session lives without its controller, and altogether.
type Lease struct {
	TTL     time.Duration `json:"ttl,omitempty"` // after the controller's last sign of life; 0 for no limit
	Expires time.Time     `json:"expires,omitzero"`
}

// Budget is what a session may cost where it runs.
type Budget struct {
	CPU       float64 `json:"cpu,omitempty"`        // part of one core; 0 for no bound
	MirrorBPS float64 `json:"mirror_bps,omitempty"` // bits each second of copies; 0 for no bound
}

// Output is where copies go: to a port of the switch or to an address.
type Output struct {
	Name  string     `json:"name"`            // of the Destination resource
	Port  string     `json:"port,omitempty"`  // ID, of MethodMirror; of RSPAN the name of the uplink
	Encap Encap      `json:"encap,omitempty"` // of MethodRemoteMirror
	Addr  netip.Addr `json:"addr,omitzero"`
	UDP   uint16     `json:"udp,omitempty"`  // destination port of VXLAN and Geneve; 0 for the registered one
	Key   uint32     `json:"key,omitempty"`  // VNI, GRE key, ERSPAN session (10 bits)
	VLAN  uint16     `json:"vlan,omitempty"` // of RSPAN
	DSCP  uint8      `json:"dscp,omitempty"`
	URL   string     `json:"url"` // as "crosstap tap --to" has it: what an agent gets
}

// Overhead returns the bytes that an output adds to each copy at the IP layer of the underlay; the tag of RSPAN stands outside of it.
func (o Output) Overhead() int {
	ip := 20
	if o.Addr.Is6() && !o.Addr.Is4In6() {
		ip = 40
	}
	const ethernet = 14 // the copy's own header travels inside
	switch o.Encap {
	case EncapGRE:
		return ip + 4 + 4 + ethernet // with key
	case EncapERSPAN2:
		return ip + 8 + 8 + ethernet
	case EncapERSPAN3:
		return ip + 8 + 12 + ethernet
	case EncapVXLAN, EncapGeneve:
		return ip + 8 + 8 + ethernet
	case EncapVLAN:
		return 4
	}
	return 0
}

// Export is an export of flow records by the switch.
type Export struct {
	Protocol string         `json:"protocol"` // ipfix, netflow5, sflow
	To       netip.AddrPort `json:"to"`
	Sampling int            `json:"sampling,omitempty"` // one packet in this many; 0 and 1 for all
	Active   time.Duration  `json:"active,omitempty"`   // 0 for the platform's default
	Idle     time.Duration  `json:"idle,omitempty"`
	Domain   uint32         `json:"domain,omitempty"`   // observation domain
	Internal bool           `json:"internal,omitempty"` // only flows with both ends on one host
}

// Capture is a capture VM on its host with one adapter in one promiscuous port group of each switch.
type Capture struct {
	VM    string       `json:"vm"` // name
	Image string       `json:"image,omitempty"`
	NICs  []CaptureNIC `json:"nics"`
}

// CaptureNIC is one adapter of a capture VM.
type CaptureNIC struct {
	Switch string     `json:"switch"` // ID
	Kind   SwitchKind `json:"kind"`
	Group  string     `json:"group"` // name of the port group
	// VLANs is 4095 on a standard switch (all, tagged) and the trunk 0–4094 on a distributed one.
	VLANs string `json:"vlans"`
}
