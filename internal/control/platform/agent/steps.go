package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
	"crosstap/internal/tapspec"
)

// doing is Step.Do: one of Set and Remove is there.
type doing struct {
	Agent  string        `json:"agent"`
	Set    *tapspec.Spec `json:"set,omitempty"`
	Remove string        `json:"remove,omitempty"` // name of a tap
	// Expires is when the tap shall have ended, in seconds since the Unix epoch; 0 for never.
	Expires int64 `json:"expires,omitempty"`
}

// planner makes the steps of one call of Steps.
type planner struct {
	now      *platform.Snapshot
	path     func(*tapspec.Spec) string
	owner    string
	want     map[string]wanted // by ID of the object
	stay     map[string]bool   // Mark.Key of sessions whose taps stay as they are
	guards   map[string][]string
	given    map[string]int // taps that agents will have
	steps    []platform.Step
	refusals []platform.Refusal
}

type wanted struct {
	spec    tapspec.Spec
	mark    platform.Mark
	session *platform.Session
}

// Steps implements platform.Platform.
func (p *Platform) Steps(now *platform.Snapshot, all platform.Want) ([]platform.Step, []platform.Refusal) {
	l := &planner{now: now, path: p.path, owner: all.Owner, want: map[string]wanted{}, stay: map[string]bool{}, given: map[string]int{}}
	l.guards = l.ways(all.Sessions)
	for i := range all.Sessions {
		l.session(&all.Sessions[i])
	}
	for _, id := range slices.Sorted(maps.Keys(l.want)) {
		l.set(id, l.want[id])
	}
	for _, o := range platform.Sorted(now.Objects) {
		_, wanted := l.want[o.ID]
		if o.Kind == kindTap && o.Mark.Owner == l.owner && !wanted && !all.Keep[o.Mark.Policy] && !all.Keep[o.Mark.Key()] && !l.stay[o.Mark.Key()] {
			l.remove(o)
		}
	}
	platform.SortSteps(l.steps)
	return l.steps, l.refusals
}

// ways lists for each agent what keeps copies on their way out of its taps: those of all its sessions, and of what others gave it.
func (l *planner) ways(sessions []platform.Session) map[string][]string {
	found := map[string]map[string]bool{}
	note := func(agent, url string) {
		g := guardOf(url)
		if g == "" {
			return
		}
		if found[agent] == nil {
			found[agent] = map[string]bool{}
		}
		found[agent][g] = true
	}
	for i := range sessions {
		for _, o := range sessions[i].Outputs {
			note(sessions[i].Host, o.URL)
		}
	}
	for _, o := range l.now.Objects {
		if o.Mark.Owner == l.owner {
			continue
		}
		if s, err := decode(o.Raw["spec"]); err == nil {
			l.given[o.Host]++
			for _, t := range s.To {
				note(o.Host, t.URL)
			}
		}
	}
	out := map[string][]string{}
	for agent, set := range found {
		out[agent] = slices.Sorted(maps.Keys(set))
	}
	return out
}

// guardsFor leaves out those of a session's own destinations: the tap itself keeps these out, at less cost.
func (l *planner) guardsFor(s *platform.Session) (out []string) {
	own := map[string]bool{}
	for _, o := range s.Outputs {
		own[guardOf(o.URL)] = true
	}
	for _, g := range l.guards[s.Host] {
		if !own[g] {
			out = append(out, g)
		}
	}
	return out
}

func (l *planner) refuse(s *platform.Session, reason platform.Reason, fix, format string, args ...any) {
	l.stay[s.Mark.Key()] = true
	r := platform.Refusal{Policy: s.Mark.Policy, Host: s.Host, Reason: reason, Message: fmt.Sprintf(format, args...), Fix: fix}
	if len(s.Sources) == 1 {
		if p := l.now.Ports[s.Sources[0].Port]; p != nil {
			r.Port = p.Name
			if vm := l.now.VMs[p.VM]; vm != nil {
				r.VM = vm.Name
			}
		}
	}
	l.refusals = append(l.refusals, r)
}

// session plans the tap of one session, or refuses it.
func (l *planner) session(s *platform.Session) {
	host := l.now.Hosts[s.Host]
	switch {
	case s.Method != platform.MethodAgent:
		l.refuse(s, platform.ReasonCapability, "use method: agent", "an agent has no method %q", s.Method)
		return
	case len(s.Sources) != 1:
		l.refuse(s, platform.ReasonCapability, "", "a tap of an agent has one source, not %d", len(s.Sources))
		return
	case len(s.Outputs) == 0:
		l.refuse(s, platform.ReasonNoMatch, "name one", "the tap has no destination")
		return
	case host == nil:
		l.refuse(s, platform.ReasonDown, "start crosstap agent there", "agent %s is not known", s.Host)
		return
	case l.now.Ports[s.Sources[0].Port] == nil:
		l.refuse(s, platform.ReasonDown, "", "agent %s has no interface %s", s.Host, strings.TrimPrefix(s.Sources[0].Port, s.Host+"/"))
		return
	}
	spec := specOf(s, l.now.Ports[s.Sources[0].Port], l.guardsFor(s))
	if err := spec.Validate(); err != nil {
		l.refuse(s, platform.ReasonCapability, "", "%v", err)
		return
	}
	if spec.Payload() && host.Tags[tagPayload] == "" {
		l.refuse(s, platform.ReasonPrivilege, fmt.Sprintf("give the agent a token of role agent-payload, or keep headers alone with slice: %d", tapspec.HeaderBytes),
			"agent %s may not copy payload", s.Host)
		return
	}
	id := portID(s.Host, spec.Name)
	switch o := l.now.Objects[id]; {
	case o != nil && o.Mark.Owner != l.owner:
		l.refuse(s, platform.ReasonConflict, "give the policy another name", "somebody else has given agent %s a tap %s", s.Host, spec.Name)
		return
	case l.want[id].session != nil:
		l.refuse(s, platform.ReasonConflict, "", "two sessions of tap %s are on interface %s", s.Mark.Policy, spec.Source.Interfaces[0])
		return
	case l.given[s.Host] >= tapspec.MaxSpecs:
		l.refuse(s, platform.ReasonLimit, "select the machine with fewer taps", "agent %s takes %d taps", s.Host, tapspec.MaxSpecs)
		return
	}
	l.given[s.Host]++
	l.want[id] = wanted{spec, s.Mark, s}
}

func (l *planner) step(m platform.Mark, agent string, s platform.Step, do doing, was *tapspec.Spec) {
	s.Platform, s.Host, s.Switch, s.Policy, s.Session = l.now.Platform, agent, agent, m.Policy, m.Key()
	s.Do = platform.MustJSON(do)
	if was != nil {
		s.Before = platform.MustJSON(was)
	}
	l.steps = append(l.steps, s)
}

// set makes or changes a tap, unless it is as it shall be.
func (l *planner) set(id string, w wanted) {
	s := platform.Step{
		Phase: platform.PhaseSwitch, Action: platform.Create, Object: kindTap + " " + id, Summary: summary(&w.spec), Commands: []string{command(&w.spec)},
	}
	var was *tapspec.Spec
	if o := l.now.Objects[id]; o != nil {
		have, err := decode(o.Raw["spec"])
		if err == nil && encode(&have) == encode(&w.spec) {
			return
		}
		s.Action, s.Why, was = platform.Change, differ(&have, &w.spec), &have
	}
	if path := l.path(&w.spec); path != "" {
		s.Why = strings.TrimPrefix(s.Why+"; "+path, "; ")
	}
	l.step(w.mark, w.session.Host, s, doing{Agent: w.session.Host, Set: &w.spec, Expires: w.mark.ExpiresS}, was)
}

// summary is a tap in one line.
func summary(s *tapspec.Spec) string {
	var to []string
	for _, t := range s.To {
		to = append(to, t.URL)
	}
	text := fmt.Sprintf("tap %s > %s", strings.Join(s.Source.Interfaces, ", "), strings.Join(to, ", "))
	if s.Filter != "" {
		text += " if " + s.Filter
	}
	return text
}

// remove ends a tap that no session accounts for.
func (l *planner) remove(o *platform.Object) {
	was, err := decode(o.Raw["spec"])
	if err != nil {
		return // never: it is what we wrote
	}
	s := platform.Step{
		Phase: platform.PhaseCleanup, Action: platform.Remove, Object: kindTap + " " + o.Name, Summary: "end " + summary(&was),
		Commands: []string{"crosstap agent taps " + quote(o.Host) + "   # without " + quote(was.Name)},
	}
	l.step(o.Mark, o.Host, s, doing{Agent: o.Host, Remove: was.Name}, &was)
}
