package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/agentapi"
	"crosstap/internal/ledger"
	"crosstap/internal/tap"
	"crosstap/internal/tapspec"
)

// slot is the place of one tap, whatever spec it has at the time.
type slot struct {
	m    *manager
	name string

	mu     sync.Mutex
	busy   bool // a change is under way
	now    *running
	tried  string // digest of the spec that was tried last, with what is allowed
	state  string
	err    string
	since  time.Time
	gap    time.Duration
	tries  int
	next   time.Time          // attempt, after a failure
	before []ledger.Statement // books of the taps whose place the present one has taken
}

// running is a tap that runs.
type running struct {
	spec   tapspec.Spec
	digest string
	tap    *tap.Tap
	cancel context.CancelFunc
	ready  chan struct{}
	done   chan struct{}
	err    error // once done is closed
	quits  bool  // the slot ends it
}

// Waiting between attempts to start a tap.
const (
	firstRetry   = time.Second
	longestRetry = 15 * time.Second
	startTimeout = 30 * time.Second
)

func tryKey(s *tapspec.Spec, payload bool) string { return fmt.Sprint(s.Digest(), payload) }

// due reports whether a change has to begin, and claims the slot for it.
func (s *slot) due(spec *tapspec.Spec, payload bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return false
	}
	if key := tryKey(spec, payload); s.tried != key {
		s.tried, s.tries = key, 0
	} else if s.state != agentapi.StateFailed || now.Before(s.next) {
		return false
	}
	s.busy = true
	return true
}

// claim claims the slot, unless a change is under way.
func (s *slot) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return false
	}
	s.busy = true
	return true
}

// change makes the slot run a spec. The tap before goes on until the new one captures; then each frame belongs to one of them, by the
// kernel's time stamp.
func (s *slot) change(ctx context.Context, spec tapspec.Spec, payload bool) {
	s.mu.Lock()
	old := s.now
	s.mu.Unlock()
	alive := old != nil && !old.ended()
	if alive && old.digest == spec.Digest() {
		s.finish(old, nil, 0)
		return
	}
	if err := s.m.rules.check(&spec, payload); err != nil {
		if alive {
			s.quit(old)
		}
		s.finish(nil, &refusedError{err}, 0)
		return
	}
	gap := time.Duration(0)
	var began time.Time
	if alive && exclusive(&old.spec, &spec) { // both cannot be at once
		began = time.Now()
		s.quit(old)
		alive = false
	}
	stamps := sharedStamps()
	defer stamps()
	next, err := s.start(ctx, spec)
	if err != nil {
		s.finish(nil, err, 0)
		return
	}
	switch {
	case alive:
		gap = handOver(ctx, old, next)
		s.quit(old)
	default:
		next.tap.Begin(time.Unix(0, 0))
		if !began.IsZero() {
			gap = time.Since(began)
		}
	}
	s.finish(next, nil, gap)
}

// How time is divided between two taps that both capture.
const (
	handOverAhead = 300 * time.Millisecond // frames of that time have not been captured when both are told
	handOverAfter = 300 * time.Millisecond // by then the one before has been given all of its frames
)

// handOver returns the time in which nothing was captured: none, unless one of the two captures in the kernel and the other does not.
func handOver(ctx context.Context, old, next *running) (gap time.Duration) {
	if next.tap.Follow(old.tap) {
		return 0
	}
	at := time.Now().Add(handOverAhead)
	if old.tap.InKernel() || next.tap.InKernel() {
		began := time.Now()
		old.tap.End(began)
		at = time.Now()
		next.tap.Begin(at)
		gap = time.Since(began)
	} else {
		old.tap.End(at)
		next.tap.Begin(at)
	}
	sleep(context.WithoutCancel(ctx), handOverAhead+handOverAfter)
	return gap
}

// sharedStamps has the kernel give a frame its time once, so that all rings that it comes to have the same, until the function that it returns is
// called. Otherwise each ring reads the clock by itself.
func sharedStamps() (stop func()) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) // without it a frame at the very moment may go to both or none
	return func() { _ = unix.Close(fd) }
}

// start starts a tap, and returns when it captures.
func (s *slot) start(ctx context.Context, spec tapspec.Spec) (*running, error) {
	ts, err := s.m.rules.spec(&spec)
	if err != nil {
		return nil, &refusedError{err}
	}
	r := &running{spec: spec, digest: spec.Digest(), ready: make(chan struct{}), done: make(chan struct{})}
	ts.Governor, ts.Successor, ts.Persist, ts.Log = s.m.governor, true, true, s.m.log.With("tap", spec.Name)
	ts.Ready = func() { close(r.ready) }
	if r.tap, err = tap.New(ts); err != nil {
		return nil, &refusedError{err}
	}
	var run context.Context
	run, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(r.done)
		r.err = r.tap.Run(run)
		s.m.poke()
	}()
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-r.ready:
		return r, nil
	case <-r.done:
		err = r.err
	case <-timeout.C:
		err = fmt.Errorf("it did not begin to capture within %s", startTimeout)
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.cancel()
	<-r.done
	if err == nil {
		err = errors.New("it ended before it captured")
	}
	return nil, err
}

// ended reports whether a tap has ended by itself.
func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// quit ends a tap and keeps its books.
func (s *slot) quit(r *running) {
	s.mu.Lock()
	r.quits = true
	s.mu.Unlock()
	r.cancel()
	<-r.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != r { // it had ended by itself
		return
	}
	s.before = merge(s.before, closed(r.tap.Statements()))
	s.now = nil
}

// end ends the slot's tap.
func (s *slot) end() {
	s.mu.Lock()
	r := s.now
	s.mu.Unlock()
	if r != nil {
		s.quit(r)
	}
}

// refusedError is why a tap is not tried again.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// finish notes how a change went, and gives the slot free. A tap that could not start leaves the one before running.
func (s *slot) finish(r *running, err error, gap time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	var refused *refusedError
	switch {
	case err == nil:
		if s.now != r {
			s.now, s.since, s.gap = r, time.Now().UTC(), gap
		}
		s.state, s.err, s.tries = agentapi.StateRunning, "", 0
		go s.watch(r)
		s.m.log.Info("tap runs", "tap", s.name, "gap", gap)
		return
	case errors.As(err, &refused):
		s.state = agentapi.StateRefused
	default:
		s.state = agentapi.StateFailed
		s.next = time.Now().Add(min(firstRetry<<s.tries, longestRetry))
		s.tries = min(s.tries+1, 5)
	}
	if s.err != err.Error() {
		s.m.log.Warn("tap does not run", "tap", s.name, "state", s.state, "error", err)
	}
	s.err = err.Error()
}

// watch notes when a tap ends by itself.
func (s *slot) watch(r *running) {
	<-r.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != r || r.quits {
		return
	}
	s.before = merge(s.before, closed(r.tap.Statements()))
	s.now = nil
	if r.err == nil && r.spec.TTL > 0 {
		s.state, s.err = agentapi.StateEnded, ""
		return
	}
	s.state, s.err, s.next = agentapi.StateFailed, "it ended", time.Now().Add(firstRetry)
	if r.err != nil {
		s.err = r.err.Error()
	}
	s.m.log.Warn("tap ended", "tap", s.name, "error", s.err)
}

// report says how the slot's tap is.
func (s *slot) report() agentapi.Tap {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := agentapi.Tap{Name: s.name, State: s.state, Error: s.err, Since: s.since, Gap: tapspec.Duration(s.gap), Level: "off", Books: s.before, To: []agentapi.Destination{}}
	r := s.now
	if r == nil {
		return out
	}
	d := Describe(s.name, r.tap)
	d.State, d.Error, d.Since, d.Gap, d.Digest, d.Books = out.State, out.Error, out.Since, out.Gap, r.digest, merge(s.before, d.Books)
	return d
}

// Describe says how a running tap is.
func Describe(name string, t *tap.Tap) agentapi.Tap {
	books := t.Statements()
	for i := range books {
		books[i] = books[i].Running()
	}
	out := agentapi.Tap{Name: name, State: agentapi.StateRunning, Books: books, To: []agentapi.Destination{}, Warnings: t.Warnings()}
	g, _ := t.Governing()
	out.Level, out.Counts = g.Level, g.Counts
	out.CPU, out.Memory, out.Mirror, out.Frames = g.Load.Used.CPU, g.Load.Used.Memory, g.Load.Used.Mirror, g.Load.Frames
	for _, x := range g.Steps {
		why := x.Resource
		if why == "" {
			why = "room again"
		} else if x.Host {
			why += " of the host"
		}
		out.Steps = append(out.Steps, agentapi.Step{Time: x.Time.UTC(), From: x.From, To: x.To, Why: why})
	}
	out.Path, out.PathWhy, _ = strings.Cut(t.Path(), ": ")
	if p, ok := t.Inline(); ok {
		out.Inline = &agentapi.Inline{A: p.A, B: p.B, Fail: p.Fail, Up: p.Up, Held: p.Held, Frames: p.Frames, Segments: p.Segments, Bytes: p.Bytes, Lost: p.Lost,
			Refused: p.Refused, Closed: p.Closed, Unwatched: p.Alone, Host: p.Host}
	}
	for _, d := range t.Destinations() {
		out.To = append(out.To, agentapi.Destination{URL: d.URL, Unit: string(d.Unit), Sent: d.Sent, Queued: d.Queued, Shed: d.Shed, Errors: d.Errors,
			Error: d.LastError, ErrorAt: moment(d.ErrorAt), Recovered: moment(d.Recovered)})
	}
	return out
}

// moment returns a time for a report, nil for none.
func moment(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC().Truncate(time.Second)
	return &at
}

// closed returns the books of a tap that has ended. What it holds waits on the disk, and whoever opens that next counts it as received.
func closed(books []ledger.Statement) []ledger.Statement {
	for i := range books {
		if b := &books[i]; b.Held > 0 && uint64(b.Held) <= b.In {
			b.In, b.Held = b.In-uint64(b.Held), 0
		}
	}
	return books
}

// merge adds books to those of the taps before. Neither is changed.
func merge(a, b []ledger.Statement) []ledger.Statement {
	out := make([]ledger.Statement, 0, max(len(a), len(b)))
	for _, x := range slices.Concat(a, b) {
		x.Dropped = slices.Clone(x.Dropped)
		i := slices.IndexFunc(out, func(o ledger.Statement) bool { return o.Stage == x.Stage && o.Unit == x.Unit })
		if i < 0 {
			out = append(out, x)
			continue
		}
		o := &out[i]
		o.In, o.Made, o.Out, o.Held = o.In+x.In, o.Made+x.Made, o.Out+x.Out, o.Held+x.Held
		for _, d := range x.Dropped {
			if j := slices.IndexFunc(o.Dropped, func(c ledger.Count) bool { return c.Reason == d.Reason }); j >= 0 {
				o.Dropped[j].N += d.N
			} else {
				o.Dropped = append(o.Dropped, d)
			}
		}
	}
	return out
}
