package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"crosstap/internal/control/platform"
)

// Open makes the platform that the near end asks for.
type Open func(Resource) (platform.Platform, error)

// Serve is the far end: it answers on out what is asked on in, until in ends. Steps that are being done then are done to their end.
func Serve(ctx context.Context, in io.Reader, out io.Writer, open Open) error {
	ctx, cancel := context.WithCancel(ctx)
	f := &far{ctx: ctx, out: out, open: open}
	defer f.end(cancel)
	if _, err := fmt.Fprintln(out, greeting); err != nil {
		return err
	}
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		b, err := line(r, nil, maxMessage)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("platform: %w", err)
		}
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("platform: not a message: %w", err)
		}
		if m.Method == methodOpen { // before what comes behind it
			f.answer(&m)
			continue
		}
		f.calls.Go(func() { f.answer(&m) })
	}
}

// far is the far end of one session.
type far struct {
	ctx   context.Context
	open  Open
	calls sync.WaitGroup

	write sync.Mutex // held while a message is written
	out   io.Writer

	mu       sync.Mutex
	platform platform.Platform // nil before open
	watch    *watch
}

// end waits for the calls that are being answered, and closes the platform.
func (f *far) end(cancel func()) {
	cancel()
	f.calls.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch != nil {
		f.watch.end()
	}
	if c, ok := f.platform.(io.Closer); ok {
		_ = c.Close() // nobody is there to be told
	}
}

func (f *far) send(m *message) {
	b, err := text(m)
	if err != nil {
		b, _ = text(&message{ID: m.ID, Error: failureOf(err)}) // an error's text is short
	}
	f.write.Lock()
	defer f.write.Unlock()
	_, _ = f.out.Write(b) // the near end is gone when it cannot be written; then in ends
}

// answer does one call.
func (f *far) answer(m *message) {
	body, err := f.call(m)
	out := &message{ID: m.ID, Error: failureOf(err)}
	if err == nil && body != nil {
		if out.Body, err = json.Marshal(body); err != nil {
			out.Error = failureOf(err)
		}
	}
	f.send(out)
}

func (f *far) call(m *message) (any, error) {
	if m.Method == methodOpen {
		return nil, f.begin(m.Body)
	}
	f.mu.Lock()
	p := f.platform
	f.mu.Unlock()
	if p == nil {
		return nil, errors.New("platform: nothing is open")
	}
	switch m.Method {
	case methodRead:
		s, err := p.Read(f.ctx)
		if err != nil {
			return nil, err
		}
		return snapshotOf(s), nil
	case methodWatch, methodNext:
		return f.next(p, m.Method == methodWatch)
	case methodSteps:
		var in stepsIn
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		if in.Now == nil {
			return nil, errors.New("platform: steps without a snapshot")
		}
		var out stepsOut
		out.Steps, out.Refusals = p.Steps(in.Now.snapshot(), in.Want)
		return out, nil
	case methodApply, methodUndo:
		var s platform.Step
		if err := json.Unmarshal(m.Body, &s); err != nil {
			return nil, err
		}
		do := p.Apply
		if m.Method == methodUndo {
			do = p.Undo
		}
		return nil, do(context.WithoutCancel(f.ctx), s) // a step that has begun is done
	case methodCounters:
		var owner string
		if err := json.Unmarshal(m.Body, &owner); err != nil {
			return nil, err
		}
		return p.Counters(f.ctx, owner)
	}
	return nil, fmt.Errorf("platform: unknown call %q: the other crosstap is newer", m.Method)
}

// begin opens the platform.
func (f *far) begin(body json.RawMessage) error {
	var r Resource
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.platform != nil {
		return errors.New("platform: is open")
	}
	p, err := f.open(r)
	if err != nil {
		return err
	}
	f.platform = p
	if g, ok := p.(platform.Gapper); ok {
		g.OnGap(func(gap platform.Gap) {
			if b, err := json.Marshal(gap); err == nil {
				f.send(&message{Method: methodGap, Body: b})
			}
		})
	}
	return nil
}

// watch follows the platform for the near end, which takes one update after the other.
type watch struct {
	updates chan platform.Update
	failed  chan error // one
	end     func()
}

// next waits for an update. Before the near end asks for another the platform folds together what comes.
func (f *far) next(p platform.Platform, anew bool) (any, error) {
	f.mu.Lock()
	if anew {
		if f.watch != nil {
			f.watch.end()
		}
		f.watch = follow(f.ctx, p)
	}
	w := f.watch
	f.mu.Unlock()
	if w == nil {
		return nil, errors.New("platform: nothing is watched")
	}
	select {
	case u := <-w.updates:
		return updateOf(u), nil
	case err := <-w.failed:
		if err == nil {
			err = errors.New("platform: the watch has ended")
		}
		return nil, err
	}
}

func follow(ctx context.Context, p platform.Platform) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{updates: make(chan platform.Update), failed: make(chan error, 1)}
	var running sync.WaitGroup
	running.Go(func() {
		w.failed <- p.Watch(ctx, func(u platform.Update) {
			select {
			case w.updates <- u:
			case <-ctx.Done():
			}
		})
	})
	w.end = func() { cancel(); running.Wait() }
	return w
}
