package control

import (
	"context"

	"crosstap/internal/control/plan"
	"crosstap/internal/control/policy"
)

// Match returns what a tap's selector finds now, with at most so many rows. It reads no platform that is watched, so that it may be
// asked with every key that somebody presses. Lost names the platforms that do not answer.
func (l *Line) Match(ctx context.Context, t *policy.Tap, most int) (found plan.Matches, lost []string, err error) {
	set, _, err := l.load(ctx)
	if err != nil {
		return found, nil, err
	}
	list, err := l.Inventory(ctx)
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
