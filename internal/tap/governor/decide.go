package governor

import (
	"math"
	"time"
)

// Changed is a tap whose level has changed.
type Changed struct {
	Tap  *Tap
	Step Step
}

// Decide looks at what was measured of all taps and changes levels. It returns the taps that must act.
func (g *Governor) Decide(now time.Time) (out []Changed) {
	own := make([]Level, len(g.taps))
	for i, t := range g.taps {
		own[i] = t.fitting(limits(t.budget), 1)
	}
	wanted := append([]Level(nil), own...)
	g.share(wanted, 1)
	roomy := make([]Level, len(g.taps))
	for i, t := range g.taps {
		roomy[i] = t.fitting(limits(t.budget), g.cfg.Room)
	}
	g.share(roomy, g.cfg.Room)
	hostOver := exceeded(g.used(), limits(g.host))
	for i, t := range g.taps {
		reason := exceeded(t.load.Used.values(), limits(t.budget))
		ofHost := reason < 0 && hostOver >= 0 && wanted[i] > own[i] || reason < 0 && hostOver >= 0 && g.dearest(hostOver) == t
		if ofHost {
			reason = hostOver
		}
		if step, ok := t.decide(now, wanted[i], roomy[i], reason); ok {
			step.Host = ofHost && step.Resource != ""
			out = append(out, Changed{t, step})
		}
	}
	return out
}

// used adds up what all taps cost.
func (g *Governor) used() (sum [resources]float64) {
	for _, t := range g.taps {
		for r, v := range t.load.Used.values() {
			sum[r] += v
		}
	}
	return sum
}

// dearest returns the tap that takes most of a resource.
func (g *Governor) dearest(r int) (most *Tap) {
	for _, t := range g.taps {
		if most == nil || t.load.Used.values()[r] > most.load.Used.values()[r] {
			most = t
		}
	}
	return most
}

// fitting returns the best level that is predicted to stay within a share of the limits. Memory cannot be predicted: what is above the
// limit asks for the next level, what is close to it for the present one.
func (t *Tap) fitting(limit [resources]float64, share float64) Level {
	memory := limit[ofMemory]
	limit[ofMemory] = 0
	for r := range limit {
		limit[r] *= share
	}
	l := Full
	for l < Off && exceeded(t.at(l), limit) >= 0 {
		l++
	}
	switch used := t.load.Used.Memory; {
	case memory > 0 && used > memory:
		l = max(l, min(t.level+1, Off))
	case memory > 0 && used > memory*share:
		l = max(l, t.level)
	case memory > 0 && t.level > Full:
		l = max(l, t.level-1)
	}
	return l
}

// share raises levels until all taps together are predicted to stay within a share of the host's budget: each time that of the tap that
// takes most of what is short.
func (g *Governor) share(at []Level, share float64) {
	limit := limits(g.host)
	memory := limit[ofMemory]
	limit[ofMemory] = 0
	for r := range limit {
		limit[r] *= share
	}
	for range len(at) * int(levels) {
		var sum [resources]float64
		for i, t := range g.taps {
			for r, v := range t.at(at[i]) {
				sum[r] += v
			}
		}
		short := exceeded(sum, limit)
		if short < 0 || !g.raise(at, short) {
			break
		}
	}
	if used := g.used()[ofMemory]; memory > 0 && used > memory*share {
		if t := g.dearest(ofMemory); t != nil {
			for i := range g.taps {
				least := g.taps[i].level
				if g.taps[i] == t && used > memory {
					least = min(least+1, Off)
				}
				at[i] = max(at[i], least)
			}
		}
	}
}

// raise raises the level of the tap that takes most of a resource, and reports whether there was one.
func (g *Governor) raise(at []Level, resource int) bool {
	most, which := 0.0, -1
	for i, t := range g.taps {
		if v := t.at(at[i])[resource]; at[i] < Off && v > most {
			most, which = v, i
		}
	}
	if which >= 0 {
		at[which]++
	}
	return which >= 0
}

// decide moves the tap: to wanted or beyond when it costs too much, to roomy when that has fitted for a while.
func (t *Tap) decide(now time.Time, wanted, roomy Level, reason int) (Step, bool) {
	if reason < 0 && wanted <= t.level {
		t.over = 0
		return t.recover(now, roomy)
	}
	t.fits = time.Time{}
	if reason < 0 { // predicted, and not yet so
		t.over = 0
		return Step{}, false
	}
	if t.over++; t.over < t.g.cfg.Down || t.level == Off {
		return Step{}, false
	}
	t.over = 0
	return t.move(now, max(wanted, t.level+1), resourceNames[reason]), true
}

// recover goes up when a better level has fitted for long enough.
func (t *Tap) recover(now time.Time, roomy Level) (Step, bool) {
	if !t.raised.IsZero() && now.Sub(t.raised) > t.g.cfg.Relax {
		t.wait, t.raised = t.g.cfg.Up, time.Time{} // it has held
	}
	if roomy >= t.level {
		t.fits = time.Time{}
		return Step{}, false
	}
	if t.fits.IsZero() {
		t.fits, t.better = now, roomy
	}
	t.better = max(t.better, roomy) // the worst of all that fitted meanwhile
	if t.better >= t.level {
		t.fits = time.Time{}
		return Step{}, false
	}
	if now.Sub(t.fits) < t.wait {
		return Step{}, false
	}
	return t.move(now, t.better, ""), true
}

func (t *Tap) move(now time.Time, to Level, why string) Step {
	s := Step{Time: now, From: t.level.String(), To: to.String(), Resource: why}
	if to < t.level {
		t.raised = now
	} else if !t.raised.IsZero() && now.Sub(t.raised) <= t.g.cfg.Relax {
		t.wait = time.Duration(math.Min(float64(2*t.wait), float64(t.g.cfg.Longest)))
		t.raised = time.Time{}
	}
	t.level, t.fits = to, time.Time{}
	return s
}
