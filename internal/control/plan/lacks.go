package plan

import (
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/filter"
	"crosstap/internal/frame"
)

// method decides how a switch copies: as the policy says, or the nearest way that it has.
func (m *maker) method(g *group, natural platform.Method, outputs []platform.Output) (platform.Method, bool) {
	can := g.can()
	has, encaps := slices.Contains(can.Methods, natural), true
	for _, o := range outputs {
		encaps = encaps && (o.Encap == "" || slices.Contains(can.Encaps, o.Encap))
	}
	if has && encaps {
		return natural, true
	}
	what, fix := string(natural), "use what it can: "+able(can)+", or method: agent"
	if has {
		what = "encapsulate as " + encapsOf(outputs)
	}
	if i := slices.IndexFunc(outputs, func(o platform.Output) bool { return o.Encap == platform.EncapVLAN }); i >= 0 && !slices.Contains(can.Encaps, platform.EncapVLAN) {
		what, fix = fmt.Sprintf("put copies into VLAN %d (RSPAN)", outputs[i].VLAN), fix+wayIntoVLAN(g, outputs[i])
	}
	m.refuse(m.tap, g.places[0], platform.ReasonCapability, fix, "switch %s cannot %s", g.places[0].switchName(), what)
	return "", false
}

func encapsOf(outputs []platform.Output) string {
	var out []string
	for _, o := range outputs {
		out = append(out, string(o.Encap))
	}
	return strings.Join(slices.Compact(out), ", ")
}

func words[T ~string](list []T) (out []string) {
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

func able(can platform.Capability) string {
	var out []string
	for _, x := range can.Methods {
		word := string(x)
		if x == platform.MethodRemoteMirror && len(can.Encaps) > 0 {
			word += " (" + strings.Join(words(can.Encaps), ", ") + ")"
		}
		out = append(out, word)
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

// lack is something that a tap asks for and a switch cannot do.
type lack struct{ what, fix string }

// lacks lists what a switch cannot do of what the tap asks for beyond its method.
func (m *maker) lacks(g *group, method platform.Method) (out []lack) {
	can := g.can()
	if m.tap.Filter != "" {
		switch {
		case can.Filter == platform.FilterNone:
			out = append(out, lack{"filter: it would copy everything", "leave filter out, or use method: agent"})
		case can.Filter == platform.FilterTuple && m.residual():
			out = append(out, lack{fmt.Sprintf("tell all packets of %q from others", m.tap.Filter), "use addresses, protocols and ports only, or method: agent"})
		}
	}
	if m.tap.Slice > 0 && !can.Slice {
		fix := "leave slice out, or use method: agent"
		if can.Sample {
			fix = "copy fewer packets with sample, leave slice out, or use method: agent"
		}
		out = append(out, lack{"cut copies", fix})
	}
	if m.tap.Sample > 1 && !can.Sample && method != platform.MethodFlowsOnly {
		out = append(out, lack{"sample copies", "leave sample out, or use method: agent"})
	}
	if len(m.tap.VLANs) > 0 && !can.VLANs {
		out = append(out, lack{"select VLANs", "leave vlans out, or use method: agent"})
	}
	if len(m.tap.Groom) > 0 {
		out = append(out, lack{"groom copies", "leave groom out, or use method: agent"})
	}
	return out
}

// capable reports whether the switch has what the session asks for beyond its method, and refuses what it has not.
func (m *maker) capable(g *group, method platform.Method) bool {
	list := m.lacks(g, method)
	for _, l := range list {
		m.refuse(m.tap, g.places[0], platform.ReasonCapability, l.fix, "switch %s cannot %s", g.places[0].switchName(), l.what)
	}
	return len(list) == 0
}

// residual reports whether a switch that matches as OpenFlow does would copy more than the filter says.
func (m *maker) residual() bool {
	if m.beyond == nil {
		beyond := m.compiled()
		m.beyond = &beyond
	}
	return *m.beyond
}

func (m *maker) compiled() bool {
	f, err := filter.Compile(m.tap.Filter, frame.LinkEthernet, filter.Options{})
	if err != nil {
		return true // it was checked when the policy was read
	}
	residual, extensions, err := f.OpenFlowResidual()
	if extensions {
		m.warn("IPv6 packets with extension headers are copied when what is behind them matches the filter")
	}
	return residual || err != nil
}
