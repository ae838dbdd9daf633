package vsphere

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// change is what a step makes of one object, or what was there before it.
type change struct {
	Kind   string `json:"kind"`
	Switch string `json:"switch,omitempty"`
	Host   string `json:"host,omitempty"`
	Name   string `json:"name"`
	Fields fields `json:"fields"` // null when it is not there
}

// wanted is a change with where it comes from.
type wanted struct {
	change
	mark  platform.Mark
	phase platform.Phase
	about string
}

// stepper turns sessions into steps.
type stepper struct {
	set      *settings
	now      *platform.Snapshot
	ids      []string // of now's objects, in order
	owner    string
	keep     map[string]bool // policies whose objects stay
	steps    []platform.Step
	refusals []platform.Refusal
	taken    map[string]bool    // objects that a session accounts for
	kept     map[string]bool    // Mark.Key of sessions that were refused: what they have stays
	planned  map[string]fields  // what is already wanted of groups, by kind, switch or host, and name
	sessions map[string]int     // by switch, mirror sessions that will be there
	flows    map[string]*wanted // by switch
	claimed  map[string]string  // port that copies go to → Mark.Key of the session that has it
	first    map[string]string  // see merge
}

// Steps is described at platform.Platform.
func (v *VSphere) Steps(now *platform.Snapshot, all platform.Want) ([]platform.Step, []platform.Refusal) {
	want, first := merge(all.Sessions)
	b := &stepper{
		set: &v.set, now: now, ids: keys(now.Objects), owner: all.Owner, keep: all.Keep, taken: map[string]bool{}, kept: map[string]bool{}, planned: map[string]fields{}, sessions: map[string]int{},
		flows: map[string]*wanted{}, claimed: map[string]string{}, first: first,
	}
	for _, o := range now.Objects {
		if o.Kind == kindSession {
			b.sessions[o.Switch]++
		}
	}
	need := make([][]wanted, len(want))
	for i := range want {
		need[i] = b.session(&want[i])
	}
	for i := range want {
		if !b.kept[want[i].Mark.Key()] {
			b.need(need[i])
		}
	}
	for _, sw := range keys(b.flows) {
		if w := b.flows[sw]; !b.kept[w.mark.Key()] {
			b.need([]wanted{*w})
		}
	}
	b.cleanUp()
	platform.SortSteps(b.steps)
	return b.steps, b.refusals
}

// refuse notes why a session cannot be made, and keeps what it has.
func (b *stepper) refuse(s *platform.Session, r platform.Refusal) {
	r.Policy = s.Mark.Policy
	if sw := b.now.Switches[s.Switch]; sw != nil && r.Switch == "" {
		r.Switch = sw.Name
	}
	if h := b.now.Hosts[s.Host]; h != nil && r.Host == "" {
		r.Host = h.Name
	}
	b.refusals = append(b.refusals, r)
	b.kept[s.Mark.Key()] = true
}

// session returns what one session needs; nothing when it is refused.
func (b *stepper) session(s *platform.Session) []wanted {
	before := len(b.refusals)
	if s.Lease.TTL > 0 {
		b.refuse(s, platform.Refusal{
			Reason: platform.ReasonCapability, Message: "sessions, exports and capture machines of vSphere go on without a controller: none of them can have a lease",
			Fix: "leave lease out (ttl still ends the tap while a controller is there), or use an agent in the machines",
		})
		return nil
	}
	var out []wanted
	switch s.Method {
	case platform.MethodMirror, platform.MethodRemoteMirror:
		out = b.mirror(s)
	case platform.MethodPromiscuous:
		out = b.capture(s)
	case platform.MethodFlowsOnly:
		b.export(s)
	default:
		b.refuse(s, platform.Refusal{
			Reason: platform.ReasonCapability, Message: fmt.Sprintf("vSphere does not do %s", s.Method), Fix: "choose mirror, remote-mirror, promiscuous or flows-only",
		})
	}
	if len(b.refusals) > before {
		return nil
	}
	return out
}

// need makes the steps for what a session wants. Everything is looked at first: a session is made wholly or not at all.
func (b *stepper) need(list []wanted) {
	have := make([]*platform.Object, len(list))
	for i := range list {
		o, foreign := b.find(&list[i])
		if foreign {
			b.conflict(&list[i], o)
			return
		}
		have[i] = o
	}
	for i := range list {
		if o := have[i]; o != nil {
			b.taken[o.ID] = true
		}
		b.step(&list[i], have[i])
	}
}

// place says where an object stands and what it is called.
func (c *change) place() string {
	return c.Kind + "\x00" + c.Switch + "\x00" + c.Host + "\x00" + c.Name
}

// find returns the object that a session already has. foreign is set when its place is somebody else's.
func (b *stepper) find(w *wanted) (o *platform.Object, foreign bool) {
	kind := w.Kind
	if kind == kindAdapters {
		kind = kindMachine
	}
	var byName *platform.Object
	for _, id := range b.ids {
		c := b.now.Objects[id]
		if c.Kind != kind || kind != kindMachine && c.Switch != w.Switch || w.Host != "" && kind == kindHostGroup && c.Host != w.Host {
			continue
		}
		ours := c.Mark.Owner == b.owner
		if kind == kindSession && ours && c.Mark.Key() == w.mark.Key() && noteWord(c.Raw["description"], "n") == noteWord(w.Fields["description"], "n") {
			return c, false
		}
		if kind == kindIPFIX || c.Name == w.Name {
			byName = c
			if ours {
				break
			}
		}
	}
	if byName == nil {
		return nil, b.foreignMachine(w)
	}
	leftOver := kind == kindHostGroup && byName.Mark.IsZero() && strings.HasPrefix(byName.Name, platform.MarkPrefix)
	return byName, byName.Mark.Owner != b.owner && !leftOver
}

// foreignMachine reports whether a VM has the name of a capture VM and is none of ours.
func (b *stepper) foreignMachine(w *wanted) bool {
	if w.Kind != kindMachine {
		return false
	}
	for _, vm := range b.now.VMs {
		if vm.Name == w.Name && vm.Host == w.Host {
			return true
		}
	}
	return false
}

func (b *stepper) conflict(w *wanted, o *platform.Object) {
	r := platform.Refusal{Policy: w.mark.Policy, Reason: platform.ReasonConflict}
	if sw := b.now.Switches[w.Switch]; sw != nil {
		r.Switch = sw.Name
	}
	if h := b.now.Hosts[w.Host]; h != nil {
		r.Host = h.Name
	}
	switch {
	case o == nil:
		r.Message = fmt.Sprintf("there is a VM %q that is not ours", w.Name)
		r.Fix = "give the capture VM another name"
	case w.Kind == kindIPFIX:
		r.Message = fmt.Sprintf("the switch exports flows to %s for somebody else, and it has one exporter only", o.Remote)
		r.Fix = "let crosstap be that collector and replicate the datagrams to the other, or switch NetFlow off on all port groups first"
	case o.Mark.IsZero():
		r.Message = fmt.Sprintf("there is a %s %q without a mark of ours", o.Kind, o.Name)
		r.Fix = "rename or remove it; if it was ours, restore the text of its description"
	default:
		r.Message = fmt.Sprintf("the %s %q belongs to %s", o.Kind, o.Name, o.Mark.Owner)
		r.Fix = "use another owner's name only for another control line, or remove it there"
	}
	b.refusals = append(b.refusals, r)
	b.kept[w.mark.Key()] = true
	if o != nil && o.Mark.Owner == b.owner {
		b.taken[o.ID] = true
	}
}

// part returns the fields of an object that a change is about.
func part(kind string, raw fields) fields {
	if raw == nil {
		return nil
	}
	names := map[string][]string{
		kindMachine: {"name", "ref", "note", "host"}, kindAdapters: {"name", "ref", "host", "adapters", "power"},
	}[kind]
	if names == nil {
		return raw
	}
	out := fields{}
	for _, n := range names {
		out[n] = raw[n]
	}
	return out
}

// step adds the step that brings an object to what is wanted, unless it is so already.
func (b *stepper) step(w *wanted, o *platform.Object) {
	var before fields
	if o != nil {
		before = part(w.Kind, o.Raw)
	}
	if w.Kind == kindAdapters && before == nil {
		before = fields{"name": w.Name, "host": w.Host, "adapters": "", "power": "off"} // as the step before leaves it
	}
	if len(differ(before, w.Fields)) == 0 {
		return
	}
	action := platform.Change
	if o == nil {
		action = platform.Create
	}
	if w.Kind == kindSession && action == platform.Create {
		b.makeRoom(w)
	}
	b.add(w, before, action)
}

// makeRoom removes an own session first whose destination port a new session needs: a port is the destination of one only.
func (b *stepper) makeRoom(w *wanted) {
	for _, id := range b.ids {
		o := b.now.Objects[id]
		if o.Kind != kindSession || o.Switch != w.Switch || o.Mark.Owner != b.owner || b.taken[o.ID] || b.stays(o) {
			continue
		}
		shared := slices.ContainsFunc(split(o.Raw["to-ports"]), func(key string) bool { return slices.Contains(split(w.Fields["to-ports"]), key) })
		if shared {
			b.taken[o.ID] = true
			b.remove(o, platform.PhaseSwitch, "its destination port is needed, and a port is the destination of one session only")
		}
	}
}

// stays reports whether an own object is not ours to judge: its session was refused, or nobody knows its policy.
func (b *stepper) stays(o *platform.Object) bool {
	return b.kept[o.Mark.Key()] || b.keep[o.Mark.Policy]
}

// add appends a step.
func (b *stepper) add(w *wanted, before fields, action platform.Action) {
	s := platform.Step{
		Platform: b.set.Name, Host: w.Host, Switch: w.Switch, Policy: w.mark.Policy, Session: cmp.Or(b.first[w.mark.Key()], w.mark.Key()), Phase: w.phase, Action: action,
		Object: w.Kind + " " + w.Name, Summary: w.about, Do: platform.MustJSON(w.change),
	}
	was := w.change
	was.Fields = before
	if before != nil {
		s.Before = platform.MustJSON(was)
	}
	if action == platform.Change {
		s.Why = explainDiff(before, w.Fields)
	}
	s.Commands = commands(was, w.change)
	b.steps = append(b.steps, s)
}

// remove adds the step that takes an object away.
func (b *stepper) remove(o *platform.Object, phase platform.Phase, why string) {
	w := wanted{
		change: change{Kind: o.Kind, Switch: o.Switch, Host: o.Host, Name: o.Name}, mark: o.Mark, phase: phase,
		about: "remove " + o.Kind + " " + o.Name,
	}
	b.add(&w, part(o.Kind, o.Raw), platform.Remove)
	b.steps[len(b.steps)-1].Why = why
}

// cleanUp removes what is ours and what no session accounts for: adapters before their port groups, those before the VM.
func (b *stepper) cleanUp() {
	order := []string{kindSession, kindIPFIX, kindMachine, kindGroup, kindHostGroup}
	var left []*platform.Object
	for _, id := range b.ids {
		if o := b.now.Objects[id]; o.Mark.Owner == b.owner && !b.taken[id] && !b.stays(o) {
			left = append(left, o)
		}
	}
	slices.SortStableFunc(left, func(x, y *platform.Object) int {
		return cmp.Compare(slices.Index(order, x.Kind), slices.Index(order, y.Kind))
	})
	var machines []*platform.Object
	for _, o := range left {
		if o.Kind != kindMachine {
			b.remove(o, platform.PhaseCleanup, "")
			continue
		}
		machines = append(machines, o)
		bare := part(kindAdapters, o.Raw)
		bare["adapters"], bare["power"] = "", "off"
		w := wanted{
			change: change{Kind: kindAdapters, Host: o.Host, Name: o.Name, Fields: bare}, mark: o.Mark, phase: platform.PhaseCleanup,
			about: "switch capture VM " + o.Name + " off and take its adapters away",
		}
		if before := part(kindAdapters, o.Raw); len(differ(before, bare)) > 0 {
			b.add(&w, before, platform.Change)
		}
	}
	for _, o := range machines {
		b.remove(o, platform.PhaseCleanup, "")
	}
}
