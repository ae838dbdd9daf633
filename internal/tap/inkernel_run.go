package tap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/kernel"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/deliver/tunnel"
)

// fromKernel gives an error the type that captures have.
func fromKernel(err error) error {
	var unknown *kernel.UnknownInterface
	if errors.As(err, &unknown) {
		return fmt.Errorf("kernel: %w", &capture.UnknownInterface{Name: unknown.Name, Have: unknown.Have})
	}
	return err
}

// kernelHeaders is the source of headers.
type kernelHeaders struct{ *kernel.Headers }

func (k kernelHeaders) Run(ctx context.Context, out chan<- frame.Batch) error {
	return fromKernel(k.Headers.Run(ctx, out))
}

// kernelFlows is the source of frames that the kernel does not count by itself. It also gives records, to the channel of those of the meter.
type kernelFlows struct {
	*kernel.Flows
	records chan<- []flow.Record
}

func (k *kernelFlows) Run(ctx context.Context, out chan<- frame.Batch) error {
	return fromKernel(k.Flows.Run(ctx, context.WithoutCancel(ctx), out, k.records))
}

// recordChannel is where the meter's records go.
func (t *Tap) recordChannel() chan []flow.Record {
	if t.path.records != nil {
		return t.path.records
	}
	return make(chan []flow.Record, flowsAhead)
}

// copies are mirrors that run in the kernel.
type copies struct {
	way     kernel.Way
	mirrors []*kernel.Mirror
	to      []string
}

// startInKernel attaches what runs in the kernel, and says in one line which path frames take and why. It is called once the destinations
// are open.
func (t *Tap) startInKernel() error {
	k := t.path
	if k.product == flowsProduct || k.product == headProduct {
		if err := t.exclude(); err != nil {
			return err
		}
	}
	if k.product == mirrorProduct {
		err := t.startMirrors()
		if err != nil && k.forced {
			return fromKernel(err)
		}
		if err != nil {
			k.product, k.why = noProduct, err.Error()
		}
	}
	if t.spec.Log != nil && k.why != "" {
		t.spec.Log.Info("path", "path", t.pathName(), "reason", k.why)
	}
	return nil
}

// exclude keeps our own copies out of the kernel's source.
func (t *Tap) exclude() error {
	for _, r := range t.remotes {
		expr := r.Exclusion()
		if expr == "" {
			continue
		}
		if err := t.path.headers.Exclude(expr); err != nil { // a flow table has no destinations for frames
			return err
		}
	}
	return nil
}

// pathName is the word for the path that frames take.
func (t *Tap) pathName() string {
	switch k := t.path; {
	case k.copies.Load() != nil:
		return k.copies.Load().way.String()
	case k.product != noProduct:
		return k.ways[0].String()
	}
	return PathRing
}

// Path says which path frames take and why; "" when they come from elsewhere than interfaces of this host.
func (t *Tap) Path() string {
	if t.path.why == "" {
		return ""
	}
	return t.pathName() + ": " + t.path.why
}

// startMirrors has the kernel make the copies of all destinations, or of none.
func (t *Tap) startMirrors() (err error) {
	outers, err := t.outers()
	if err != nil {
		return err
	}
	var all []string
	for _, way := range t.path.ways {
		c := &copies{way: way}
		if err = t.openMirrors(c, outers); err == nil {
			t.path.copies.Store(c)
			return nil
		}
		for _, m := range c.mirrors {
			m.Close()
		}
		all = append(all, fmt.Sprintf("%s: %v", way, err))
	}
	if len(all) == 1 {
		return err
	}
	return errors.New(strings.Join(all, "; "))
}

// outers returns what the copies for each destination are wrapped in.
func (t *Tap) outers() (all []kernel.Outer, err error) {
	for i, w := range t.path.wishes {
		sink, ok := t.remotes[i].(*tunnel.Sink)
		if !ok {
			return nil, fmt.Errorf("%s: not a tunnel", w.to)
		}
		o, why := outer(sink, w.keep)
		if why != "" {
			return nil, fmt.Errorf("%s: %s", w.to, why)
		}
		all = append(all, o)
	}
	return all, nil
}

func (t *Tap) openMirrors(c *copies, outers []kernel.Outer) error {
	s := &t.spec
	var own []string
	for _, r := range t.remotes {
		if e := r.Exclusion(); e != "" {
			own = append(own, "("+e+")")
		}
	}
	for i, w := range t.path.wishes {
		m, err := kernel.NewMirror(kernel.MirrorConfig{
			Config: kernel.Config{
				Interfaces: s.Interfaces, NetNS: s.NetNS, IngressOnly: s.IngressOnly, Promiscuous: s.Promiscuous, Way: c.way, Filter: w.filter, Options: s.filterOptions(),
				Sample: w.sample, Govern: t.governed != nil, Wait: s.Successor, Keeper: s.Keeper, Log: s.Log,
			},
			Outer: outers[i],
		})
		if err != nil {
			return err
		}
		if len(own) > 0 {
			if err := m.Exclude(strings.Join(own, " or ")); err != nil {
				return err
			}
		}
		if err := m.Open(); err != nil {
			return fmt.Errorf("%s: %w", w.to, err)
		}
		c.mirrors, c.to = append(c.mirrors, m), append(c.to, w.to)
	}
	return nil
}

// run keeps the mirrors until ctx ends.
func (c *copies) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range c.mirrors {
		g.Go(func() error { return m.Run(ctx, nil) })
	}
	return g.Wait()
}

// runMirrors runs a tap whose copies the kernel makes.
func (t *Tap) runMirrors(stop context.Context) error {
	defer func() {
		for _, r := range t.remotes {
			r.Close()
		}
	}()
	ctx, cancel := context.WithCancel(stop)
	defer cancel()
	t.stopSource.Store(&cancel)
	defer t.govern()()
	if t.spec.Ready != nil {
		t.spec.Ready()
	}
	if d := t.spec.Limit.For; d > 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, d)
		defer end()
	}
	return t.path.copies.Load().run(ctx)
}

// attached returns what the tap has in the kernel, each with the name of what it is for; none without.
func (t *Tap) attached() (all []inPlace) {
	k := t.path
	if c := k.copies.Load(); c != nil {
		for i, m := range c.mirrors {
			all = append(all, inPlace{c.to[i], m})
		}
		return all
	}
	switch k.product {
	case flowsProduct:
		return []inPlace{{"", k.flows}}
	case headProduct:
		return []inPlace{{"", k.headers}}
	}
	return nil
}

// inPlace is what one destination, or all of them, has in the kernel.
type inPlace struct {
	to string
	programs
}

// programs are a kernel.Mirror, Flows or Headers.
type programs interface {
	kernel.Attached
	Begin() error
	End()
	SetShed(kernel.Shed) (time.Time, error)
	Tally() kernel.Tally
	Traffic() uint64
}

// statements returns the books of the mirrors.
func (c *copies) statements() (all []ledger.Statement) {
	for _, m := range c.mirrors {
		all = append(all, m.Book().Read())
	}
	return all
}

// lines gives for each destination the sum that adds up.
func (c *copies) lines() (all []string) {
	for i, s := range c.statements() {
		var parts []string
		for _, d := range s.Dropped {
			if d.N > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", d.N, reasonText(s.Stage, d.Reason)))
			}
		}
		if s.Held > 0 {
			parts = append(parts, fmt.Sprintf("%d under way", s.Held))
		}
		text := fmt.Sprintf("%s: %d frames", c.to[i], s.In)
		if s.Made > 0 {
			text += fmt.Sprintf(" + %d made", s.Made)
		}
		all = append(all, text+" = "+strings.Join(append(parts, fmt.Sprintf("%d delivered", s.Out)), " + "))
	}
	return all
}
