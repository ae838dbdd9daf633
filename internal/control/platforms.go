package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
)

// attached is a platform with the resource that it was made of.
type attached struct {
	platform.Platform
	text string
	own  bool               // it has no resource: it is there as long as the line
	stop context.CancelFunc // of its watch

	mu  sync.Mutex
	inv *platform.Inventory // what a watch has told; nil before the first update
}

// seen returns the newest that a watch has told; nil before the first.
func (a *attached) seen() *platform.Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inv == nil {
		return nil
	}
	return a.inv.Snapshot()
}

// take adds what a watch tells, and reports whether it is more than counters, and whether a machine's port has come.
func (a *attached) take(u platform.Update) (changed, comes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inv == nil {
		a.inv = platform.NewInventory(a.Name())
		a.inv.Apply(u)
		return true, false
	}
	comes = a.inv.Comes(&u)
	return a.inv.Apply(u), comes
}

func (a *attached) close() error {
	if a.stop != nil {
		a.stop()
	}
	switch c := a.Platform.(type) {
	case interface{ Close() error }:
		return c.Close()
	case interface{ Close() }:
		c.Close()
	}
	return nil
}

// Own adds a platform that no resource describes, such as the agents of a server. Call it before Run.
func (l *Line) Own(p platform.Platform) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.platforms[p.Name()] != nil {
		return fmt.Errorf("control: there is a platform %q already", p.Name())
	}
	l.platforms[p.Name()] = l.join(p, "", true)
	return nil
}

// join makes a platform one of the line. The caller holds mu.
func (l *Line) join(p platform.Platform, text string, own bool) *attached {
	if g, ok := p.(platform.Gapper); ok {
		g.OnGap(l.gap)
	}
	return &attached{Platform: p, text: text, own: own}
}

// attach makes the platforms those of a set, and returns them, those without a resource last. A platform whose resource has changed is made
// anew.
func (l *Line) attach(set *policy.Set) ([]*attached, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*attached
	for _, r := range set.Platforms {
		a := l.platforms[r.Name]
		if a != nil && a.own {
			return nil, fmt.Errorf("%w: platform %q: the name is that of the server's own agents: take another", policy.ErrMistake, r.Name)
		}
		if a == nil || !policy.Same(a.text, r.Text) {
			p, err := l.cfg.Connect(r)
			if err != nil {
				return nil, fmt.Errorf("control: platform %q: %w", r.Name, err)
			}
			if a != nil {
				_ = a.close()
			}
			a = l.join(p, r.Text, false)
			l.platforms[r.Name] = a
		}
		out = append(out, a)
	}
	for _, name := range slices.Sorted(maps.Keys(l.platforms)) {
		if l.platforms[name].own {
			out = append(out, l.platforms[name])
		}
	}
	return out, nil
}

// detach closes the platforms whose resource is no longer in force, unless a change is being made.
func (l *Line) detach(set *policy.Set) {
	if !l.applying.TryLock() {
		return
	}
	defer l.applying.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, a := range l.platforms {
		if !a.own && !slices.ContainsFunc(set.Platforms, func(r *policy.Platform) bool { return r.Name == name }) {
			if err := a.close(); err != nil {
				l.log.Warn("platform not closed", "platform", name, "err", err)
			}
			delete(l.platforms, name)
		}
	}
}

// parallel bounds how many platforms are asked at the same time.
const parallel = 64

// each runs f for all platforms at once, within the bound.
func each[T any](list []T, f func(i int, t T)) {
	var wg sync.WaitGroup
	tokens := make(chan struct{}, parallel)
	for i, t := range list {
		tokens <- struct{}{}
		wg.Go(func() {
			defer func() { <-tokens }()
			f(i, t)
		})
	}
	wg.Wait()
}

// readWait bounds how long one platform may take to be read, and lostWait one of which the watch says that it does not answer: nobody else is to
// wait for it.
const (
	readWait = 30 * time.Second
	lostWait = 3 * time.Second
)

// read asks all platforms for their inventory. One that does not answer gives a snapshot that says so.
func (l *Line) read(ctx context.Context, list []*attached) []*platform.Snapshot {
	out := make([]*platform.Snapshot, len(list))
	each(list, func(i int, a *attached) {
		wait := readWait
		if seen := a.seen(); seen != nil && seen.Lost != nil {
			wait = lostWait
		}
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		s, err := a.Read(ctx)
		if err != nil {
			s = platform.NewSnapshot(a.Name())
			s.Lost, s.AtNS = err, l.cfg.Now().UnixNano()
		}
		out[i] = s
	})
	return out
}
