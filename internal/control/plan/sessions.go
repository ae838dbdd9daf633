package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
)

// group is the chosen ports of one switch.
type group struct {
	key    groupKey
	places []*place
}

func (g *group) can() platform.Capability {
	if sw := g.places[0].Switch; sw != nil {
		return sw.Can
	}
	return platform.Capability{}
}

// tap plans one tap.
func (b *builder) tap(t *policy.Tap) (Tap, map[string][]platform.Session) {
	doc := Tap{Name: t.Name, Owner: t.Owner, Reason: t.Meta.Reason, Select: t.Chosen(), Method: t.Method, State: Active, Places: []Place{}}
	doc.Expires = b.expires(t)
	switch {
	case t.Paused:
		doc.State = Paused
		return doc, nil
	case b.expired(t):
		doc.State = Expired
		return doc, nil
	case t.FromVLAN != 0:
		return b.land(t, doc)
	}
	refused := len(b.out.Refusals)
	tools := b.tools(t)
	chosen := b.choose(t, tools)
	doc.Ports, doc.VMs = len(chosen), machines(chosen)
	if len(chosen) == 0 {
		doc.State = NoMatch
		switch {
		case len(b.out.Refusals) > refused:
			doc.State = Refused
		case b.in.Advise:
			doc.Warnings = []string{"nothing is copied until such a port appears: " + b.nothing(t)}
		}
		return doc, nil
	}
	m := &maker{builder: b, tap: t, doc: &doc, tools: tools, chosen: chosen, groups: grouped(chosen), made: map[string][]platform.Session{}}
	m.route()
	if len(m.chosen) == 0 || !m.once() {
		doc.State = Refused
		return doc, nil
	}
	for _, g := range m.groups {
		m.group(g)
	}
	if !m.budget() || len(doc.Places) == 0 {
		doc.State, doc.Places = Refused, []Place{}
		return doc, nil
	}
	m.routes()
	m.mtu()
	doc.Copies = m.copies()
	return doc, m.made
}

// expires returns when a tap ends, zero for never.
func (b *builder) expires(t *policy.Tap) time.Time {
	if t.TTL == 0 {
		return time.Time{}
	}
	applied, ok := b.in.Applied[t.Name]
	if !ok {
		applied = b.in.Now
	}
	return applied.Add(t.TTL)
}

func (b *builder) expired(t *policy.Tap) bool { return t.TTL > 0 && !b.in.Now.Before(b.expires(t)) }

func machines(chosen []*place) int {
	vms := map[string]bool{}
	for _, p := range chosen {
		vms[p.snap.Platform+"/"+p.Port.VM] = true
	}
	return len(vms)
}

func grouped(chosen []*place) (out []*group) {
	for _, p := range chosen {
		if n := len(out); n == 0 || out[n-1].key != p.key {
			out = append(out, &group{key: p.key})
		}
		g := out[len(out)-1]
		g.places = append(g.places, p)
	}
	return out
}

// maker makes the sessions of one tap.
type maker struct {
	*builder
	tap    *policy.Tap
	doc    *Tap
	tools  *tools
	chosen []*place
	groups []*group
	except map[groupKey][]flow.MAC
	within map[groupKey]bool // ingress alone is enough: everything that talks to the group is tapped
	whole  *bool             // every machine of the segments is chosen; nil while nobody asked
	twice  bool              // copies of what tapped machines on different switches say to each other come twice
	made   map[string][]platform.Session
	beyond *bool        // the filter is more than OpenFlow matches; nil while nobody asked
	loud   map[any]bool // domains whose broadcasts are copied at an agent
}

// group makes the sessions of one switch: one for each destination that is a port, one for all tunnels, one for each export of flows.
func (m *maker) group(g *group) {
	if g.places[0].ofAgent() && m.mayAgent(g) {
		m.byAgents(g)
		return
	}
	var remote []platform.Output
	for _, name := range m.tap.Destinations {
		d := m.in.Set.Destination(name)
		switch {
		case d == nil:
		case d.Export != nil:
			m.export(g, d)
		case d.Output.Encap != "":
			remote = append(remote, d.Output)
		default:
			m.local(g, d)
		}
	}
	if len(remote) > 0 {
		m.session(g, platform.MethodRemoteMirror, "remote", remote, nil)
	}
	if m.tap.Method == platform.MethodPromiscuous && len(m.tap.Destinations) == 0 {
		m.capture(g)
	}
}

// local makes the session to a tool's port on the same switch, or to an interface of the host.
func (m *maker) local(g *group, d *policy.Destination) {
	method := platform.MethodMirror
	if m.tap.Method == platform.MethodPromiscuous {
		method = platform.MethodPromiscuous
	}
	if d.Port.IsZero() && m.naturalMethod(d) == "" {
		m.refuse(m.tap, g.places[0], platform.ReasonCapability, "run crosstap agent in the machines or on their hosts, or use a destination that switches know",
			"destination %s: only agents write to %s", d.Name, d.URL)
		return
	}
	if d.Port.IsZero() {
		m.session(g, method, d.Name, []platform.Output{d.Output}, nil)
		return
	}
	ids := m.toolPorts(g, d)
	switch {
	case len(ids) == 0:
		m.refuse(m.tap, g.places[0], platform.ReasonCapability, "put a tool on each host, or use a destination with an address",
			"destination %s (%s) has no port on switch %s%s", d.Name, d.Port, g.places[0].switchAt(), m.elsewhere(d))
	case len(ids) > 1:
		m.severalPorts(g, d, len(ids))
	default:
		out := d.Output
		out.Port = ids[0]
		m.session(g, method, d.Name, []platform.Output{out}, nil)
	}
}

// elsewhere says where a tool has a port.
func (m *maker) elsewhere(d *policy.Destination) string {
	for i := range m.places {
		p := &m.places[i]
		if m.tools.ports[p.key][p.Port.ID] == d {
			return "; it has one on " + p.switchAt()
		}
	}
	return "; no machine of that name has one anywhere"
}

// toolPorts are the ports of a tool on a group's switch.
func (m *maker) toolPorts(g *group, d *policy.Destination) (ids []string) {
	for id, at := range m.tools.ports[g.key] {
		if at == d {
			ids = append(ids, id)
		}
	}
	return ids
}

// mayAgent reports whether the policy lets agents make its copies.
func (m *maker) mayAgent(*group) bool {
	return m.tap.Method == platform.MethodAgent || m.tap.Method == platform.MethodAuto || m.tap.Method == platform.MethodFlowsOnly
}

// export makes the session that exports flow records.
func (m *maker) export(g *group, d *policy.Destination) {
	e := *d.Export
	if p := m.tap.Flows.Protocol; p != "" && p != e.Protocol {
		m.refuse(m.tap, g.places[0], platform.ReasonCapability, "let protocol and url agree", "destination %s takes %s, the tap exports %s", d.Name, e.Protocol, p)
		return
	}
	e.Sampling, e.Active, e.Idle, e.Domain = m.tap.Flows.Sampling, m.tap.Flows.Active, m.tap.Flows.Idle, m.tap.Flows.Domain
	if e.Protocol == "netflow5" {
		e.Sampling = 1 // it has none
	}
	m.session(g, platform.MethodFlowsOnly, d.Name, nil, &e)
}

// session makes one session, unless the switch cannot do it.
func (m *maker) session(g *group, method platform.Method, part string, outputs []platform.Output, export *platform.Export) {
	p := g.places[0]
	method, ok := m.method(g, method, outputs)
	if !ok || !m.capable(g, method) || method == platform.MethodPromiscuous && !m.widens(g) {
		return
	}
	s := platform.Session{
		Method: method, Host: g.key.host, Switch: g.key.sw, VLANs: m.tap.VLANs, Filter: m.tap.Filter, Slice: m.tap.Slice, Sample: m.tap.Sample,
		Outputs: outputs, Flows: export, Groom: m.tap.Groom, ExceptFrom: m.except[g.key],
		Lease: platform.Lease{TTL: m.tap.Lease, Expires: m.doc.Expires},
	}
	dir := m.tap.Direction
	if dir == platform.Both && m.within[g.key] {
		dir = platform.Ingress
	}
	if dir&platform.Egress == 0 {
		s.ExceptFrom = nil
	}
	for _, src := range g.places {
		s.Sources = append(s.Sources, platform.Source{Port: src.Port.ID, Dir: dir})
	}
	m.put(g, &s, word(p.switchName())+"."+word(p.hostName())+"."+part)
}

// put marks a session and takes it into the plan.
func (m *maker) put(g *group, s *platform.Session, part string) {
	s.Mark = platform.Mark{Owner: m.in.Owner, Policy: m.tap.Name, Part: part}
	if !m.doc.Expires.IsZero() {
		s.Mark.ExpiresS = m.doc.Expires.Unix()
	}
	s.Mark.Digest = Digest(s)
	m.made[g.key.platform] = append(m.made[g.key.platform], *s)
	m.note(g, s)
}

func (m *maker) note(g *group, s *platform.Session) {
	p := g.places[0]
	doc := Place{Platform: p.snap.Platform, Host: p.hostName(), Switch: p.switchName(), Method: s.Method, Count: len(s.Sources), Session: s.Mark.Key(), To: []string{}}
	for _, src := range g.places[:min(len(g.places), len(s.Sources), maxNames)] {
		doc.Ports = append(doc.Ports, src.Port.Name)
	}
	for _, o := range s.Outputs {
		doc.To = append(doc.To, o.Name)
	}
	if f := s.Flows; f != nil && s.Method == platform.MethodFlowsOnly {
		doc.To = append(doc.To, f.Protocol+"://"+f.To.String())
	}
	m.doc.Places = append(m.doc.Places, doc)
}

// word makes a name fit for a mark: other bytes become -, and a name that had some keeps apart from others by a hash.
func word(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r < 128 && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '-'
	}, name)
	if clean != name || len(clean) > 40 {
		sum := sha256.Sum256([]byte(name))
		clean = clean[:min(len(clean), 40)] + "-" + hex.EncodeToString(sum[:3])
	}
	return clean
}

// Digest names the content of a session, without its mark and its expiry.
func Digest(s *platform.Session) string {
	c := *s
	c.Mark, c.Lease.Expires = platform.Mark{}, time.Time{}
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("plan: a session is no JSON: %v", err))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
