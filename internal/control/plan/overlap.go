package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// Each tap copies a packet once. Two taps that bring the same packets to the same tool bring it two: that is told, since nobody but who wrote
// them knows whether it was meant. Open vSwitch alone brings a packet to a port of the mirrored bridge once, however many mirrors name it.

// feed is a session that brings copies to a tool.
type feed struct {
	tap, tool string
	s         *platform.Session
}

// overlaps warns of taps that bring the same packets to one tool.
func (b *builder) overlaps(sessions map[string][]platform.Session) {
	found := map[overlap]int{} // ports
	for _, s := range b.in.Snapshots {
		for at, feeds := range feedsOf(sessions[s.Platform]) {
			sw := s.Switches[at.sw]
			once := at.local && sw != nil && sw.Kind == platform.SwitchOVS
			for i := range feeds {
				for j := range i {
					if n := shared(&feeds[i], &feeds[j]); n > 0 {
						found[overlap{feeds[i].tap, feeds[j].tap, feeds[j].tool, once}] += n
						found[overlap{feeds[j].tap, feeds[i].tap, feeds[i].tool, once}] += n
					}
				}
			}
		}
	}
	order := func(x, y overlap) int {
		return cmp.Or(cmp.Compare(x.tap, y.tap), cmp.Compare(x.other, y.other), cmp.Compare(x.tool, y.tool), cmp.Compare(count(x.once), count(y.once)))
	}
	for _, o := range slices.SortedFunc(maps.Keys(found), order) {
		b.twice(o, found[o])
	}
}

// overlap is what a tap and another one both bring to a tool; once says that the tool gets it once all the same.
type overlap struct {
	tap, other, tool string
	once             bool
}

// maxTwice bounds how many others a tap's warnings name.
const maxTwice = 3

func (b *builder) twice(o overlap, ports int) {
	i := slices.IndexFunc(b.out.Taps, func(t Tap) bool { return t.Name == o.tap })
	const head = "tap "
	told := 0
	for _, w := range b.out.Taps[i].Warnings {
		if strings.HasPrefix(w, head) {
			told++
		}
	}
	if told == maxTwice {
		return
	}
	what := "the tool gets them twice; change select, exclude or filter of one so that they differ, or delete it"
	if o.once {
		what = "the switch brings them to it once, and counts them for one of the taps alone"
	}
	b.out.Taps[i].Warnings = append(b.out.Taps[i].Warnings, fmt.Sprintf("%s%s copies packets of %d of the same ports to %s, too: %s", head, o.other, ports, o.tool, what))
}

// toolAt is a tool as the sessions of one switch reach it.
type toolAt struct {
	host, sw, way string
	local         bool // a port of the switch
}

// usualPorts are those of tunnels whose destination names none.
var usualPorts = map[platform.Encap]uint16{platform.EncapVXLAN: 4789, platform.EncapGeneve: 6081}

// feedsOf sorts the sessions of a platform by switch and tool. Records of flows are joined by the collector, whoever exports them.
func feedsOf(list []platform.Session) map[toolAt][]feed {
	out := map[toolAt][]feed{}
	for i := range list {
		s := &list[i]
		for _, o := range s.Outputs {
			if flowsTo(o.URL) {
				continue
			}
			way := o.URL
			if o.Port != "" || o.Encap != "" {
				way = fmt.Sprint(o.Port, o.Encap, o.Addr, cmp.Or(o.UDP, usualPorts[o.Encap]), o.Key, o.VLAN)
			}
			key := toolAt{s.Host, s.Switch, way, o.Encap == "" && o.URL == ""}
			out[key] = append(out[key], feed{s.Mark.Policy, o.Name, s})
		}
	}
	return out
}

// shared counts the ports of which two sessions of different taps copy the same packets.
func shared(x, y *feed) (n int) {
	if x.tap == y.tap || !mayOverlap(x.s, y.s) {
		return 0
	}
	a, b := x.s.Sources, y.s.Sources
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0].Port, b[0].Port); {
		case c < 0:
			a = a[1:]
		case c > 0:
			b = b[1:]
		default:
			n += count(a[0].Dir&b[0].Dir != 0)
			a, b = a[1:], b[1:]
		}
	}
	return n
}

// mayOverlap reports whether what two sessions pass is surely partly the same: filters of different words may exclude each other.
func mayOverlap(x, y *platform.Session) bool {
	if x.Filter != "" && y.Filter != "" && x.Filter != y.Filter {
		return false
	}
	return len(x.VLANs) == 0 || len(y.VLANs) == 0 || slices.ContainsFunc(x.VLANs, func(v uint16) bool { return slices.Contains(y.VLANs, v) })
}
