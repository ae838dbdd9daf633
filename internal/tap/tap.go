// Package tap is the tap wing: it turns a spec into a running line from a copy point to the collectors of its
// flow records: capture → dissect → meter → export.
package tap

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/dissect"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/deliver"
	"crosstap/internal/tap/export"
	"crosstap/internal/tap/meter"
)

// source is the first stage of a tap.
type source interface {
	Run(ctx context.Context, out chan<- frame.Batch) error
	Book() *ledger.Book
}

// sink is the last stage of a tap.
type sink interface {
	Run(ctx context.Context, in <-chan []flow.Record) error
}

// Tap is a tap line, made but not running.
type Tap struct {
	spec   Spec
	source source
	live   *capture.Live // source, when it captures from interfaces
	meter  *meter.Meter
	sinks  []sink
	books  []*ledger.Book
}

// New returns the tap that s describes. It opens nothing.
func New(s Spec) (*Tap, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t := &Tap{spec: s}
	for _, step := range []func() error{t.makeSource, t.makeMeter, t.makeSinks} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Tap) makeSource() (err error) {
	s := &t.spec
	if s.File != "" {
		t.source, err = capture.NewFile(capture.FileConfig{Path: s.File, SnapLen: s.SnapLen})
	} else {
		t.live, err = capture.NewLive(capture.LiveConfig{
			Interfaces: s.Interfaces, NetNS: s.NetNS, RingBytes: s.RingBytes, SnapLen: s.SnapLen,
			Promiscuous: s.Promiscuous, IngressOnly: s.IngressOnly, Ready: s.Ready, Log: s.Log,
		})
		t.source = t.live
	}
	if err == nil {
		t.books = append(t.books, t.source.Book())
	}
	return err
}

func (t *Tap) makeMeter() (err error) {
	dc := t.spec.dissectConfig()
	if err := dc.Validate(); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	c := t.spec.meterConfig()
	c.Dissector = dissect.New(dc)
	c.Point = t.point
	if t.meter, err = meter.New(c); err == nil {
		t.books = append(t.books, t.meter.Books()...)
	}
	return err
}

// point describes an observation point to the meter. Points are numbered from 1: an exporter shows 0 as "not known".
func (t *Tap) point(index uint32) meter.Point {
	p := meter.Point{ID: uint64(index) + 1, Name: t.spec.Name, Host: t.spec.Host, Role: t.spec.Role}
	if t.live != nil {
		_, p.IfIndex = t.live.Interface(index)
	}
	return p
}

func (t *Tap) makeSinks() error {
	targets, lines, null, err := t.spec.destinations()
	if err != nil {
		return err
	}
	if len(targets) > 0 {
		c := export.DefaultConfig()
		c.Targets, c.Domain, c.Logger, c.Wait = targets, t.spec.Domain, t.spec.Log, t.spec.File != ""
		e, err := export.New(c)
		if err != nil {
			return fmt.Errorf("tap: %w", err)
		}
		t.sinks, t.books = append(t.sinks, e), append(t.books, e.Books()...)
	}
	if lines {
		l := deliver.NewLines(t.spec.Stdout)
		t.sinks, t.books = append(t.sinks, l), append(t.books, l.Book())
	}
	if null {
		n := deliver.NewNull()
		t.sinks, t.books = append(t.sinks, n), append(t.books, n.Book())
	}
	return nil
}

// Channels hold this many batches of frames and slices of records.
const (
	framesAhead = 4
	flowsAhead  = 8
)

// Run runs the tap until its capture ends or stop does; then it drains: what was captured is metered and exported. A
// source that fails, such as a damaged capture, is drained in the same way before its error is returned.
func (t *Tap) Run(stop context.Context) error {
	g, ctx := errgroup.WithContext(context.WithoutCancel(stop)) // ctx ends when a stage fails
	src, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)() // the end of stop ends the source; the rest drain
	frames, flows := make(chan frame.Batch, framesAhead), make(chan []flow.Record, flowsAhead)
	var sourceErr error
	g.Go(func() error {
		defer close(frames)
		if t.live == nil && t.spec.Ready != nil {
			t.spec.Ready()
		}
		sourceErr = t.source.Run(src, frames)
		return nil
	})
	g.Go(func() error {
		defer close(flows)
		return t.meter.Run(ctx, frames, flows)
	})
	t.runSinks(ctx, g, flows)
	err := g.Wait()
	for b := range frames { // a stage failed: the rest is not metered
		b.Release()
	}
	if err != nil {
		return err
	}
	return sourceErr
}

// runSinks gives every sink all records. Sinks only read them.
func (t *Tap) runSinks(ctx context.Context, g *errgroup.Group, flows <-chan []flow.Record) {
	if len(t.sinks) == 1 {
		g.Go(func() error { return t.sinks[0].Run(ctx, flows) })
		return
	}
	branches := make([]chan []flow.Record, len(t.sinks))
	for i, s := range t.sinks {
		branches[i] = make(chan []flow.Record, flowsAhead)
		g.Go(func() error { return s.Run(ctx, branches[i]) })
	}
	g.Go(func() error {
		defer func() {
			for _, b := range branches {
				close(b)
			}
		}()
		for records := range flows {
			for _, b := range branches {
				select {
				case b <- records:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
}

// Statements returns the books of all stages, in the order of the line.
func (t *Tap) Statements() []ledger.Statement {
	var all []ledger.Statement
	for _, b := range t.books {
		all = append(all, b.Read())
	}
	return all
}

// Stats returns the meter's figures.
func (t *Tap) Stats() meter.Stats { return t.meter.Stats() }

// Summary returns one line about what the tap did in a time: what came in, what went out, and every
// reason for a difference.
func (t *Tap) Summary(took time.Duration) string {
	st := t.Stats()
	var b strings.Builder
	fmt.Fprintf(&b, "%d frames, %d packets, %d octets in %s", t.source.Book().Read().In, st.Packets, st.Octets, took.Round(time.Millisecond))
	records := t.meter.Books()[1].Read()
	fmt.Fprintf(&b, "; %d flow records", records.Out)
	for _, s := range t.Statements() {
		for _, d := range s.Dropped {
			if d.N > 0 {
				fmt.Fprintf(&b, "; %s: %d %s %s", s.Stage, d.N, s.Unit, strings.ReplaceAll(d.Reason, "_", " "))
			}
		}
	}
	for _, x := range []struct {
		n    uint64
		what string
	}{{st.Evicted, "flows ended early (cache full)"}, {st.FragmentOrphans, "fragments without their first one"}, {st.ClockJumps, "jumps back in time"}} {
		if x.n > 0 {
			fmt.Fprintf(&b, "; %d %s", x.n, x.what)
		}
	}
	return b.String()
}
