package filter

import (
	"fmt"
	"strings"
)

// FlowEntry is one entry of an OpenFlow table. Of the entries that a packet matches, the one with the highest priority
// says whether the packet passes; a packet that matches none does not.
type FlowEntry struct {
	Priority int
	Pass     bool
	fields   flowMatch
}

// Match is the match part of a flow in the syntax of ovs-ofctl, "" for any packet.
func (e FlowEntry) Match() string { return e.fields.String() }

// Flow is the entry with an action for what passes, such as "output:5"; what does not is dropped.
func (e FlowEntry) Flow(action string) string {
	if !e.Pass {
		action = "drop"
	}
	parts := []string{fmt.Sprintf("priority=%d", e.Priority)}
	if m := e.Match(); m != "" {
		parts = append(parts, m)
	}
	return strings.Join(parts, ",") + " actions=" + action
}

// maxFlows bounds the entries of one filter, maxRewrites the tests that are found to be beyond OpenFlow one by one.
const (
	maxFlows    = 2048
	maxRewrites = 400
)

// OpenFlow returns the filter as entries of an Open vSwitch table, highest priority first. residual reports that they pass more than
// the filter matches: of lengths, payloads, the insides of tunnels and IPv6 extension headers a switch sees nothing.
//
// The switch's own parsing decides: it takes IP behind LLC/SNAP for IP, and one VLAN tag of 802.1Q or 802.1ad off.
func (f *Filter) OpenFlow() (entries []FlowEntry, residual bool, err error) {
	entries, residual, extensions, err := f.openFlow()
	return entries, residual || extensions, err
}

// OpenFlowResidual tells what the entries of OpenFlow pass beyond the filter: residual as there, but without the one case that is reported
// as extensions, packets with the protocol and ports that the filter names behind IPv6 extension headers.
func (f *Filter) OpenFlowResidual() (residual, extensions bool, err error) {
	_, residual, extensions, err = f.openFlow()
	return residual, extensions, err
}

func (f *Filter) openFlow() (entries []FlowEntry, residual, extensions bool, err error) {
	if !linkLayers[f.Link].mac || f.Link != 1 {
		return nil, false, false, fmt.Errorf("filter: OpenFlow: matches are known for Ethernet alone, not for %s", linkName(f.Link))
	}
	s := switchable{bad: map[cmp]bool{}, live: map[cmp]bool{}}
	for _, v := range newGraph(f.root).v {
		s.live[v.cmp] = true
	}
	for range maxRewrites {
		g := newGraph(s.rewrite(f.root, true, false))
		w := flowWriter{g: g}
		w.write(g.root, flowMatch{})
		switch {
		case w.beyond != nil:
			s.bad[*w.beyond] = true
			continue
		case w.full:
			return nil, false, false, fmt.Errorf("filter: OpenFlow: more than %d entries; shorten the expression", maxFlows)
		}
		return prune(w.out), s.residual || w.coarse, s.extensions, nil
	}
	return nil, false, false, fmt.Errorf("filter: OpenFlow: more than %d tests that a switch cannot make; shorten the expression", maxRewrites)
}

// switchable rewrites a filter so that only tests a switch can make are left.
type switchable struct {
	bad      map[cmp]bool // tests without a field
	live     map[cmp]bool // tests that decide something at all
	residual bool

	extensions bool // what is residual is about IPv6 extension headers
}

// rewrite replaces what a switch cannot test by what lets more packets through. want is false under a negation, v6 true behind a
// test for IPv6.
func (s *switchable) rewrite(n Node, want, v6 bool) Node {
	switch n := n.(type) {
	case conj:
		if whole := behindFragment(n); whole != nil {
			return s.rewrite(whole, want, v6)
		}
		var out []Node
		for _, c := range n.x {
			out = append(out, s.rewrite(c, want, v6))
			if c, ok := c.(cmp); ok && c.op == '=' && c.r == imm(typeIPv6) {
				v6 = true
			}
		}
		return and(out...)
	case disj:
		var out []Node
		for _, c := range n.x {
			out = append(out, s.rewrite(c, want, v6))
		}
		return or(out...)
	case inv:
		return negate(s.rewrite(n.x, !want, v6))
	case set:
		return yes(true)
	case deep:
		s.residual = true
		return yes(want)
	case cmp:
		return s.comparison(n, want, v6)
	}
	return n
}

func (s *switchable) comparison(c cmp, want, v6 bool) Node {
	key := canonical(c, 0, 0).cmp
	if slotsIn(c.l)|slotsIn(c.r) != 0 || s.bad[key] {
		s.residual = s.residual || s.live[key]
		return yes(want)
	}
	l, ok := c.l.(load)
	k, isConst := c.r.(imm)
	if !ok || !isConst || !v6 || c.op != '=' || l.size != 1 || l.k != 20 && l.k != 24 || l.off != nil {
		return c
	}
	// the next header: the switch looks behind extension headers, so it finds more packets with a protocol
	s.extensions = s.extensions || s.live[key]
	switch k {
	case 0, 43, 44, ipAH, 60:
		return yes(want)
	}
	if !want {
		return yes(false)
	}
	return c
}

// behindFragment recognizes the test for a protocol behind an IPv6 fragment header, which for a switch is the packet's protocol.
func behindFragment(c conj) Node {
	if len(c.x) != 2 {
		return nil
	}
	first, ok1 := c.x[0].(cmp)
	second, ok2 := c.x[1].(cmp)
	l, ok3 := first.l.(load)
	if !ok1 || !ok2 || !ok3 || first.op != '=' || first.r != imm(44) || second.l != (load{1, l.k + 34, l.off}) {
		return nil
	}
	return cmp{'=', l, second.r}
}

// flowWriter lists the ways through a graph. At each test the entries of the packets that pass it come first and cover
// all of them, so that what follows is about the others alone.
type flowWriter struct {
	g      *graph
	out    []FlowEntry
	full   bool
	coarse bool // an entry passes a whole protocol that the switch cannot look into
	beyond *cmp // a test without a field
}

func (w *flowWriter) write(i int, m flowMatch) {
	if len(w.out) > maxFlows {
		w.full = true
	}
	if w.full || w.beyond != nil {
		return
	}
	if i <= accept {
		w.out = append(w.out, FlowEntry{Pass: i == accept, fields: m})
		return
	}
	v := w.g.v[i]
	if next, ok := w.tagTest(i); ok {
		if tagged, ok := m.with(fieldVLAN, 0, 2, 0x1000, 0x1000); ok {
			w.write(v.t, tagged)
		}
		m.untagged = true
		w.write(next, m)
		return
	}
	alternatives, ok := m.where(v.cmp)
	if !ok && m.opaque() { // only here: elsewhere the same bytes may be a field
		w.coarse = true
		w.write(accept, m)
		return
	}
	if !ok {
		c := v.cmp
		w.beyond = &c
		return
	}
	for _, a := range alternatives {
		w.write(v.t, a)
	}
	w.write(v.f, m)
}

// tagTest recognizes the test for the types of both tags that a switch takes off, and returns where a frame
// without any goes on.
func (w *flowWriter) tagTest(i int) (next int, ok bool) {
	v := w.g.v[i]
	if v.f <= accept || v.kind != vertexCmp {
		return 0, false
	}
	u := w.g.v[v.f]
	typ := load{2, 12, nil}
	is := func(v vertex, k imm) bool { return v.cmp == cmp{'=', typ, k} }
	both := is(v, typeVLAN) && is(u, typeQinQ) || is(v, typeQinQ) && is(u, typeVLAN)
	return u.f, both && u.t == v.t
}

// prune drops entries that say nothing: those behind a wider one, and drops that no lower entry contradicts.
func prune(in []FlowEntry) []FlowEntry {
	var kept []FlowEntry
	for _, e := range in {
		hidden := false
		for i := range kept {
			hidden = hidden || kept[i].fields.covers(&e.fields)
		}
		if !hidden {
			kept = append(kept, e)
		}
	}
	var out []FlowEntry
	for i, e := range kept {
		needed := e.Pass
		for _, lower := range kept[i+1:] {
			needed = needed || lower.Pass && lower.fields.overlaps(&e.fields)
		}
		if needed {
			out = append(out, e)
		}
	}
	for i := range out {
		out[i].Priority = len(out) - i
	}
	return out
}
