package plan

import (
	"slices"

	"crosstap/internal/control/platform"
)

// What a policy has begun goes on when its present form is refused, until it gets what it asks for or is deleted. Copies that would show what
// must not be seen, or that run in circles, end.

// hold says what becomes of what a policy has on a platform.
type hold uint8

const (
	holdKeep hold = iota + 1 // it goes on
	holdEnd
)

// spot is where a refusal is: a platform, "" for all, and the one session of an agent that it is about, "" for any.
type spot struct{ platform, session string }

// ends are the reasons for which copies that exist end.
var ends = []platform.Reason{
	platform.ReasonTenant, platform.ReasonPromiscuous, platform.ReasonLoop, platform.ReasonDestination, platform.ReasonMirrorPort, platform.ReasonKernelPort,
	platform.ReasonUplink, platform.ReasonExpired,
}

// hold notes what the refusal of a port means for what its policy has; without a port, of the whole policy. Agents are independent of each
// other: of those only the session of the port is meant.
func (b *builder) hold(name string, p *place, reason platform.Reason) {
	end := slices.Contains(ends, reason)
	switch {
	case p == nil:
		b.at = append(b.at, spot{})
		for _, s := range b.in.Snapshots {
			b.holdOn(s.Platform, name, end)
		}
	case p.ofAgent():
		key := name + "/" + agentPart(p)
		b.at = append(b.at, spot{p.snap.Platform, key})
		if !end {
			b.spare(p, name)
		}
	default:
		b.at = append(b.at, spot{platform: p.snap.Platform})
		b.holdOn(p.snap.Platform, name, end)
	}
}

func (b *builder) holdOn(on, name string, end bool) {
	if b.held[on] == nil {
		b.held[on] = map[string]hold{}
	}
	what := holdKeep
	if end {
		what = holdEnd
	}
	b.held[on][name] = max(b.held[on][name], what)
}

// spare has what exists of one session of an agent go on.
func (b *builder) spare(p *place, name string) {
	if b.spared[p.snap.Platform] == nil {
		b.spared[p.snap.Platform] = map[string]bool{}
	}
	b.spared[p.snap.Platform][name+"/"+agentPart(p)] = true
}

// agentPart names the session of an agent's interface.
func agentPart(p *place) string { return word(p.Port.Host) + "." + word(p.Port.Name) }

// keep names the policies whose objects on a platform stay: those that nobody here knows, and those that were refused; and single sessions.
func (b *builder) keep(s *platform.Snapshot) map[string]bool {
	keep := map[string]bool{}
	for _, o := range s.Objects {
		name := o.Mark.Policy
		if o.Mark.Owner != b.in.Owner || name == "" || name == platform.Shared {
			continue
		}
		stranger := !b.in.Prune && b.in.Set.Tap(name) == nil && !b.in.Known[name]
		if stranger || b.held[s.Platform][name] == holdKeep {
			keep[name] = true
		}
		if key := o.Mark.Key(); b.spared[s.Platform][key] {
			keep[key] = true
		}
	}
	return keep
}

// tellKept says of each refusal whether what exists goes on.
func (b *builder) tellKept() {
	exists := map[spot]bool{}
	for _, s := range b.in.Snapshots {
		for _, o := range s.Objects {
			if o.Mark.Owner != b.in.Owner {
				continue
			}
			if b.held[s.Platform][o.Mark.Policy] == holdKeep {
				exists[spot{s.Platform, o.Mark.Policy}], exists[spot{"", o.Mark.Policy}] = true, true
			}
			if b.spared[s.Platform][o.Mark.Key()] {
				exists[spot{s.Platform, o.Mark.Key()}] = true
			}
		}
	}
	for i := range b.out.Refusals {
		r, at := &b.out.Refusals[i], b.at[i]
		if at.session == "" {
			at.session = r.Policy
		}
		if !slices.Contains(ends, r.Reason) && exists[at] {
			r.Keeps()
		}
	}
}
