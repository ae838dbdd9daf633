package vsphere

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"crosstap/internal/control/platform"
)

// fields is an object of vSphere as texts: what Object.Raw holds, what steps carry, and what is compared. nil is an object that is
// not there. A key that is missing is the same as an empty text.
type fields map[string]string

// noKey are the fields that nobody asks for: they say how to find a thing, or what was there before it.
var noKey = []string{"key", "ref", "was"}

// differ lists the names of the fields that are not the same; "everything" when only one of them exists.
func differ(a, b fields) []string {
	if (a == nil) != (b == nil) {
		return []string{"everything"}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if a[name] != b[name] && !slices.Contains(noKey, name) {
			out = append(out, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if _, both := a[name]; !both && b[name] != "" && !slices.Contains(noKey, name) {
			out = append(out, name)
		}
	}
	return out
}

// explainDiff tells the differences for people, those of the mark in short.
func explainDiff(have, want fields) string {
	var out []string
	for _, name := range differ(have, want) {
		switch name {
		case "everything":
			out = append(out, name)
		case "mark", "description":
			out = append(out, explainMark(platform.ParseMark(have[name]), platform.ParseMark(want[name])))
		default:
			out = append(out, fmt.Sprintf("%s is %q, not %q", name, have[name], want[name]))
		}
	}
	return strings.Join(out, "; ")
}

func explainMark(have, want platform.Mark) string {
	switch {
	case have.Key() != want.Key() || have.Owner != want.Owner:
		return "the mark is another"
	case have.Digest != want.Digest:
		return "the policy has changed"
	}
	return "the lease is renewed"
}

func number[T ~int | ~int32 | ~int64](n T) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}

func parseNumber(text string) int32 {
	n, _ := strconv.ParseInt(text, 10, 32) // written by number
	return int32(n)
}

func flag(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// joinPorts writes keys of ports in their order, which says nothing.
func joinPorts(list []string) string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return strings.Join(slices.Compact(list), ",")
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// joinNames writes names, in which there may be anything.
func joinNames(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = url.QueryEscape(s)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}

func splitNames(text string) []string {
	var out []string
	for _, s := range split(text) {
		if plain, err := url.QueryUnescape(s); err == nil {
			out = append(out, plain)
		}
	}
	return out
}

// noteList returns a list of names that stands in the notes of a capture machine after its mark, such as groups=a,b.
func noteList(note, key string) []string { return splitNames(noteWord(note, key)) }

func noteWord(note, key string) string {
	for word := range strings.FieldsSeq(note) {
		if value, ok := strings.CutPrefix(word, key+"="); ok {
			return value
		}
	}
	return ""
}

func vspanPort(p *types.VMwareVspanPort) types.VMwareVspanPort {
	if p == nil {
		return types.VMwareVspanPort{}
	}
	return *p
}

const (
	defaultNetstack = "defaultTcpipStack"
	encapsulated    = string(types.VMwareDVSVspanSessionTypeEncapsulatedRemoteMirrorSource)
	portMirror      = string(types.VMwareDVSVspanSessionTypeDvPortMirror)
	mixedMirror     = string(types.VMwareDVSVspanSessionTypeMixedDestMirror)
	remoteSource    = string(types.VMwareDVSVspanSessionTypeRemoteMirrorSource)
	remoteDest      = string(types.VMwareDVSVspanSessionTypeRemoteMirrorDest)
)

// sessionFields writes a mirror session. What its type gives no meaning to is left out: the server may fill it in as it likes.
func sessionFields(s *types.VMwareVspanSession) fields {
	tx, rx, to := vspanPort(s.SourcePortTransmitted), vspanPort(s.SourcePortReceived), vspanPort(s.DestinationPort)
	addrs := slices.Clone(to.IpAddress)
	slices.Sort(addrs)
	out := fields{
		"key": s.Key, "name": s.Name, "description": s.Description, "enabled": flag(s.Enabled), "type": cmp.Or(s.SessionType, mixedMirror),
		"transmitted": joinPorts(tx.PortKey), "received": joinPorts(rx.PortKey), "to-ports": joinPorts(to.PortKey), "to-addresses": strings.Join(addrs, ","),
		"to-uplinks": joinNames(to.UplinkPortName), "length": number(s.MirroredPacketLength), "sampling": number(max(s.SamplingRate, 1)),
		"strip-vlan": flag(s.StripOriginalVlan),
	}
	vlans := make([]string, len(rx.Vlans))
	for i, n := range rx.Vlans {
		vlans[i] = strconv.Itoa(int(n))
	}
	out["vlans"] = joinPorts(vlans)
	if len(to.PortKey) > 0 {
		out["normal-traffic"] = flag(s.NormalTrafficAllowed)
	}
	if len(to.UplinkPortName) > 0 {
		out["to-vlan"] = number(s.EncapsulationVlanId)
	}
	if out["type"] == encapsulated {
		out["encapsulation"] = cmp.Or(s.EncapType, string(types.VMwareDVSVspanSessionEncapTypeGre))
		out["erspan-id"], out["erspan-cos"] = number(s.ErspanId), number(s.ErspanCOS)
		if s.Netstack != defaultNetstack {
			out["netstack"] = s.Netstack
		}
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// session is the inverse of sessionFields.
func (f fields) session() types.VMwareVspanSession {
	s := types.VMwareVspanSession{
		Key: f["key"], Name: f["name"], Description: f["description"], Enabled: f["enabled"] == "yes", SessionType: f["type"],
		MirroredPacketLength: parseNumber(f["length"]), SamplingRate: parseNumber(f["sampling"]), StripOriginalVlan: f["strip-vlan"] == "yes",
		NormalTrafficAllowed: f["normal-traffic"] == "yes", EncapsulationVlanId: parseNumber(f["to-vlan"]), EncapType: f["encapsulation"],
		ErspanId: parseNumber(f["erspan-id"]), ErspanCOS: parseNumber(f["erspan-cos"]), Netstack: f["netstack"],
		DestinationPort: &types.VMwareVspanPort{
			PortKey: split(f["to-ports"]), IpAddress: split(f["to-addresses"]), UplinkPortName: splitNames(f["to-uplinks"]),
		},
	}
	if keys := split(f["transmitted"]); len(keys) > 0 {
		s.SourcePortTransmitted = &types.VMwareVspanPort{PortKey: keys}
	}
	received := types.VMwareVspanPort{PortKey: split(f["received"])}
	for _, n := range split(f["vlans"]) {
		received.Vlans = append(received.Vlans, parseNumber(n))
	}
	if len(received.PortKey)+len(received.Vlans) > 0 {
		s.SourcePortReceived = &received
	}
	return s
}
