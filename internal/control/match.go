package control

import (
	"context"

	"crosstap/internal/control/plan"
	"crosstap/internal/control/policy"
)

// Match returns what a tap's selector finds now, with at most so many rows; with adds resources that are not in force, nil for none. It
// reads no platform that is watched, so that it may be asked with every key that somebody presses. Lost names the platforms that do not
// answer.
func (l *Line) Match(ctx context.Context, t *policy.Tap, most int, with *policy.Set) (found plan.Matches, lost []string, err error) {
	set, _, err := l.load(ctx)
	if err != nil {
		return found, nil, err
	}
	if with != nil {
		set = set.Merged(with)
	}
	list, err := l.inventory(ctx, set)
	if err != nil {
		return found, nil, err
	}
	for _, s := range list {
		if s.Lost != nil {
			lost = append(lost, s.Platform)
		}
	}
	return plan.Find(plan.Input{Owner: l.cfg.Owner, Set: set, Snapshots: list, Now: l.now()}, t, most), lost, nil
}

// Metered tells, by name, of which machines the taps in force make flow records, as the watches know it.
func (l *Line) Metered(ctx context.Context) (map[string]plan.Metering, error) {
	set, _, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	list, err := l.attach(set)
	if err != nil {
		return nil, err
	}
	in := plan.Input{Owner: l.cfg.Owner, Set: set, Now: l.now()}
	for _, a := range list {
		if seen := a.seen(); seen != nil {
			in.Snapshots = append(in.Snapshots, seen)
		}
	}
	return plan.Metered(in), nil
}
