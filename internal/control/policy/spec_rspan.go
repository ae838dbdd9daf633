package policy

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/control/platform"
)

// RSPAN is mirroring into a VLAN of the physical network that carries nothing else. It has two ends, and each is a tap: one whose
// destination is the VLAN (rspan:99?uplink=NAME), and one that takes what comes in on it to a tool (from: rspan:99).
const schemeRSPAN = "rspan"

// maxVLAN is the last VLAN that may be used (IEEE 802.1Q, table 9-2).
const maxVLAN = 4094

// rspanVLAN reads the number of an RSPAN VLAN; 0 when it is none.
func (r *reader) rspanVLAN(place, text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n < 1 || n > maxVLAN {
		r.fail(place, "write it as rspan:99, with a VLAN that nothing but copies uses", "VLAN %q: must be a number from 1 to %d", text, maxVLAN)
		return 0
	}
	return uint16(n)
}

// rspan reads a destination such as rspan:99?uplink=dvUplink1.
func (r *reader) rspan(d *Destination, vlan string, options url.Values) {
	const place, uplink = "$.spec.url", "uplink"
	o := &d.Output
	o.Encap, o.VLAN, o.Port = platform.EncapVLAN, r.rspanVLAN(place, vlan), options.Get(uplink)
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if name != uplink || len(options[name]) > 1 {
			r.fail(place, "known: "+uplink+", once", "option %q is not known of %s", name, schemeRSPAN)
			return
		}
	}
	if o.Port == "" {
		r.fail(place, "write "+schemeRSPAN+":"+vlan+"?uplink=NAME, such as dvUplink1 on vSphere, or an adapter of its own on Open vSwitch", "copies need an uplink to leave through")
	}
}

// from reads what a tap takes in place of machines. What is said of machines, or only of their copies, goes not with it.
func (r *reader) from(t *Tap, s *tapSpec) {
	const place = "$.spec.from"
	kind, vlan, _ := strings.Cut(s.From, ":")
	if kind != schemeRSPAN {
		r.fail(place, "write it as rspan:99", "%q: only RSPAN VLANs can be taken from", s.From)
		return
	}
	t.FromVLAN = r.rspanVLAN(place, vlan)
	for _, other := range []struct {
		key string
		set bool
	}{
		{"select", !t.Select.Empty()}, {"exclude", !t.Exclude.Empty()}, {"direction", s.Direction != ""}, {"vlans", len(s.VLANs) > 0}, {"groom", len(s.Groom) > 0},
		{"flows", s.Flows != nil}, {"capture", s.Capture != nil}, {"budget", s.Budget != nil},
	} {
		if other.set {
			r.fail("$.spec."+other.key, "leave one of them out", "there is from too: what comes in on a VLAN has no machines")
		}
	}
	if t.Method != platform.MethodAuto && t.Method != platform.MethodMirror {
		r.fail("$.spec.method", "leave it out, or write mirror", "what comes in on a VLAN goes to a port by mirror, not %s", t.Method)
	}
}
