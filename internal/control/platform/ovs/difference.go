package ovs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/platform"
)

// limits refuses sessions for which a bridge has no mirror left, and returns their keys. Those of others count.
func (o *objects) limits(sessions []platform.Session) map[string]bool {
	over := map[string]bool{}
	others := map[string]int{}
	for _, obj := range o.now.Objects {
		if obj.Kind == "Mirror" && obj.Mark.Owner != o.owner {
			others[obj.Switch]++
		}
	}
	used := map[string]int{}
	for i := range sessions {
		s := &sessions[i]
		name := platform.MarkPrefix + s.Mark.Key()
		if o.specs[[2]string{kindMirror, name}] == nil {
			continue
		}
		if used[s.Switch]++; used[s.Switch]+others[s.Switch] <= maxMirrors {
			continue
		}
		over[s.Mark.Key()] = true
		o.no(s, platform.ReasonLimit, "select the machines with fewer taps, let the others' owners remove some, or use method: agent",
			"bridge %s takes %d mirrors, %d are others'", s.Switch, maxMirrors, others[s.Switch])
	}
	return over
}

// keep adds what is there of sessions that stay as they are, with what they need.
func (o *objects) keep(have present, policies map[string]bool) {
	needs := map[string]bool{} // outputs and bridges
	for key, spec := range have {
		var marked struct {
			Mark, Bridge, Ours string
			What               feedContent
		}
		_ = json.Unmarshal(spec, &marked) // our own bytes
		m := platform.ParseMark(marked.Mark)
		if m.Policy == platform.Shared || !policies[m.Policy] && !o.stay[m.Key()] || expired(m, o.now.AtNS) {
			continue
		}
		o.specs[key], o.policy[key] = spec, [2]string{m.Policy, m.Key()}
		for _, to := range marked.What.To {
			needs[to] = true
		}
		needs[marked.Bridge], needs[marked.Ours] = true, true
	}
	for key, spec := range have {
		if (key[0] == kindOutput || key[0] == kindBridge) && needs[key[1]] && o.specs[key] == nil {
			o.specs[key] = spec
		}
	}
}

// expired reports whether a mark says that its object was to be gone by now.
func expired(m platform.Mark, nowNS int64) bool {
	return m.ExpiresS != 0 && time.Unix(m.ExpiresS, 0).UnixNano() < nowNS
}

// phases of what is made; what is removed goes last, in the other order.
var order = []string{kindBridge, kindOutput, kindFeed, kindMirror, kindExport}

// difference lists the steps from what is there to what shall be.
func (o *objects) difference(have present) (steps []platform.Step) {
	for key, spec := range o.specs {
		if key[0] == kindMirror {
			delete(have, [2]string{kindOutput, read[mirrorSpec](spec).Output}) // left without its mirror, and used again
		}
	}
	bySort := func(a, b [2]string) int { return strings.Compare(a[1], b[1]) }
	for _, kind := range order {
		for _, key := range slices.SortedFunc(maps.Keys(o.specs), bySort) {
			if key[0] == kind && !bytes.Equal(o.specs[key], have[key]) {
				steps = append(steps, o.step(key, have[key], o.specs[key]))
			}
		}
	}
	for _, kind := range slices.Backward(order) {
		for _, key := range slices.SortedFunc(maps.Keys(have), bySort) {
			if key[0] == kind && o.specs[key] == nil {
				steps = append(steps, o.step(key, have[key], nil))
			}
		}
	}
	return steps
}

// step makes one step.
func (o *objects) step(key [2]string, before, spec json.RawMessage) platform.Step {
	s := platform.Step{
		Platform: o.cfg.Name, Host: o.hostID(), Phase: platform.PhasePrepare, Action: platform.Create, Object: key[0] + " " + key[1],
		Policy: o.policy[key][0], Session: o.policy[key][1], Summary: o.about[key],
		Before: encode(change{key[0], key[1], before}), Do: encode(change{key[0], key[1], spec}),
	}
	if key[0] == kindMirror || key[0] == kindExport {
		s.Phase = platform.PhaseSwitch
	}
	switch {
	case spec == nil:
		s.Phase, s.Action = platform.PhaseCleanup, platform.Remove
		s.Summary = "remove " + key[0] + " " + key[1]
		var marked struct{ Mark string }
		_ = json.Unmarshal(before, &marked) // our own bytes
		if m := platform.ParseMark(marked.Mark); m.Policy != platform.Shared {
			s.Policy, s.Session = m.Policy, m.Key()
		}
	case before != nil:
		s.Action, s.Why = platform.Change, why(before, spec)
	}
	s.Switch = o.switchOf(before, spec)
	s.Commands = o.commands(key[0], before, spec)
	return s
}

func (o *objects) hostID() string {
	for id := range o.now.Hosts {
		return id
	}
	return ""
}

func (o *objects) switchOf(before, spec json.RawMessage) string {
	var on struct{ Bridge, Name string }
	for _, b := range []json.RawMessage{spec, before} {
		if b != nil && json.Unmarshal(b, &on) == nil && on.Bridge != "" {
			return on.Bridge
		}
	}
	return on.Name
}

// why names the fields that differ.
func why(before, after json.RawMessage) string {
	var a, b map[string]json.RawMessage
	if json.Unmarshal(before, &a) != nil || json.Unmarshal(after, &b) != nil {
		return ""
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(a[k], b[k]) {
			out = append(out, fmt.Sprintf("%s %s, wanted %s", k, short(a[k]), short(b[k])))
		}
	}
	return strings.Join(out, "; ")
}

func short(b json.RawMessage) string {
	const most = 200
	switch {
	case b == nil:
		return "nothing"
	case len(b) > most:
		return string(b[:most]) + "…"
	}
	return string(b)
}

// sentence tells what a mirror does.
func (o *objects) sentence(s *platform.Session, m *mirrorSpec) string {
	what := "everything of " + m.Bridge
	if len(s.Sources) == 0 && len(m.VLANs) > 0 {
		what = fmt.Sprintf("VLAN %d of %s", m.VLANs[0], m.Bridge)
	}
	if !m.All {
		ports := slices.Concat(m.Src, m.Dst)
		slices.Sort(ports)
		ports = slices.Compact(ports)
		what = strings.Join(ports[:min(len(ports), 8)], ", ")
		if len(ports) > 8 {
			what += fmt.Sprintf(" and %d more", len(ports)-8)
		}
		if len(m.Dst) == 0 {
			what += " (ingress)"
		} else if len(m.Src) == 0 {
			what += " (egress)"
		}
	}
	to := m.Output
	if len(s.Outputs) > 0 {
		var names []string
		for _, out := range s.Outputs {
			name := out.Name
			switch {
			case out.Encap == platform.EncapVLAN:
				name = fmt.Sprintf("VLAN %d of %s", out.VLAN, out.Port)
			case out.Encap != "":
				name = fmt.Sprintf("%s %s", out.Encap, out.Addr)
			}
			names = append(names, name)
		}
		to = strings.Join(names, ", ")
	}
	if s.Flows != nil {
		to = s.Flows.Protocol + " " + s.Flows.To.String()
	}
	text := "mirror " + what + " > " + to
	if s.Filter != "" {
		text += " if " + s.Filter
	}
	return text
}
