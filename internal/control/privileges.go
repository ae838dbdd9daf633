package control

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// privileges refuses what the account of a platform may not do, before anything is begun. Only what has steps is asked for.
func (l *Line) privileges(ctx context.Context, p *Plan) {
	refused := make([][]platform.Refusal, len(p.list))
	each(p.list, func(i int, a *attached) {
		if prober, ok := a.Platform.(platform.Prober); ok {
			refused[i] = lacking(ctx, prober, a.Name(), p)
		}
	})
	for i, a := range p.list {
		for _, r := range refused[i] {
			p.Steps = slices.DeleteFunc(p.Steps, func(s platform.Step) bool { return s.Platform == a.Name() && s.Policy == r.Policy })
		}
		p.Refusals = append(p.Refusals, refused[i]...)
	}
}

// lacking asks for each method at each switch or host once. A platform that does not tell is left to say no when the step is done.
func lacking(ctx context.Context, prober platform.Prober, name string, p *Plan) (out []platform.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	type question struct {
		method platform.Method
		where  string
	}
	asked := map[question][]string{}
	told := map[string]bool{}
	for _, s := range p.Want[name].Sessions {
		if !slices.ContainsFunc(p.Steps, func(st platform.Step) bool { return st.Platform == name && st.Policy == s.Mark.Policy }) {
			continue
		}
		q := question{s.Method, s.Switch}
		if q.where == "" {
			q.where = s.Host
		}
		missing, known := asked[q]
		if !known {
			var err error
			if missing, err = prober.Missing(ctx, q.method, q.where); err != nil {
				missing = nil
			}
			asked[q] = missing
		}
		if len(missing) == 0 || told[s.Mark.Policy+"\x00"+q.where] {
			continue
		}
		told[s.Mark.Policy+"\x00"+q.where] = true
		r := platform.Refusal{Policy: s.Mark.Policy, Reason: platform.ReasonPrivilege, Fix: "add the privileges to the account's role"}
		r.Host, r.Switch = p.names(name, &s)
		lacks := strings.ReplaceAll(strings.Join(missing, ", "), " on "+q.where, " on "+cmp.Or(r.Switch, r.Host))
		r.Message = "platform " + name + ": the account lacks " + lacks
		out = append(out, r)
	}
	return out
}

// names are those of a session's host and switch.
func (p *Plan) names(on string, s *platform.Session) (host, sw string) {
	for _, snap := range p.snapshots {
		if snap.Platform != on {
			continue
		}
		if h := snap.Hosts[s.Host]; h != nil {
			host = h.Name
		}
		if w := snap.Switches[s.Switch]; w != nil {
			sw = w.Name
		}
	}
	return cmp.Or(host, s.Host), cmp.Or(sw, s.Switch)
}

// changedBy returns who changed the object of a step, "" when the platform does not tell.
func (l *Line) changedBy(ctx context.Context, p *Plan, s platform.Step) string {
	i := slices.IndexFunc(p.list, func(a *attached) bool { return a.Name() == s.Platform })
	if i < 0 {
		return ""
	}
	auditor, ok := p.list[i].Platform.(platform.Auditor)
	if !ok {
		return ""
	}
	for id, o := range p.snapshots[i].Objects {
		if o.Mark.Policy != s.Policy || o.Switch != s.Switch || o.Kind+" "+o.Name != s.Object {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, readWait)
		defer cancel()
		if user, _, err := auditor.ChangedBy(ctx, id); err == nil {
			return user
		}
	}
	return ""
}
