package control

import (
	"context"

	"crosstap/internal/control/platform"
)

// Counters returns what the sessions of each platform have copied; platforms that do not answer are missing.
func (l *Line) Counters(ctx context.Context) map[string]map[string]platform.Counter {
	l.mu.Lock()
	var list []*attached
	for _, a := range l.platforms {
		list = append(list, a)
	}
	l.mu.Unlock()
	found := make([]map[string]platform.Counter, len(list))
	each(list, func(i int, a *attached) {
		ctx, cancel := context.WithTimeout(ctx, readWait)
		defer cancel()
		counters, err := a.Counters(ctx, l.cfg.Owner)
		if err != nil {
			l.log.Warn("no counters", "platform", a.Name(), "err", err)
			return
		}
		found[i] = counters
	})
	out := map[string]map[string]platform.Counter{}
	for i, a := range list {
		if found[i] != nil {
			out[a.Name()] = found[i]
		}
	}
	return out
}
