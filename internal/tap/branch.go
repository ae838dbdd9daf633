package tap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"crosstap/internal/dissect"
	"crosstap/internal/filter"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
	"crosstap/internal/tap/groom"
	"crosstap/internal/urlopt"
)

// branch is a destination of frames with what is its own in front of it: a queue, a filter and groom steps.
type branch struct {
	frameSink
	to    string // the URL as it was given
	queue *queue
	groom *groom.Pipeline // nil: frames as they come
	away  bool            // the sink is on the network: its copies count for the budget
	bytes atomic.Uint64   // of frames that the sink was given, when they count
}

// own is what stands in the URL of a destination of frames for itself: a filter and groom steps.
type own struct {
	filter string
	groom  *groom.Spec
}

// splitOwn takes the options filter and groom out of a URL; what remains is the sink's.
func splitOwn(to string) (rest string, o own, err error) {
	base, query, ok := strings.Cut(to, "?")
	if !ok {
		return to, o, nil
	}
	left, err := urlopt.Take(query, []string{"filter", "groom"}, func(name, value string) error {
		if name == "filter" {
			o.filter = value
			return nil
		}
		s, err := groom.Parse(value)
		if err != nil {
			return err
		}
		if s.Balance != nil {
			return errors.New("balance chooses between destinations: give it with --groom")
		}
		o.groom = &s
		return nil
	})
	if err != nil {
		return "", o, fmt.Errorf("tap: destination %s: %w", to, err)
	}
	if left != "" {
		base += "?" + left
	}
	return base, o, nil
}

// newBranch makes what stands in front of a sink, which the caller may also set later. repair says that the sink sends what a wire would have
// carried.
func (t *Tap) newBranch(to string, o own, sink frameSink, repair bool) (*branch, error) {
	b := &branch{frameSink: sink, to: to, queue: newQueue(t.spec.File != "")}
	b.queue.shut = &t.shut
	b.away = t.governed != nil && repair
	t.books = append(t.books, b.queue.book)
	var spec groom.Spec
	if o.groom != nil {
		spec = *o.groom
	}
	if repair && spec.Repair == nil && (t.live != nil || t.path.headers != nil) && (t.spec.Groom == nil || t.spec.Groom.Repair == nil) {
		spec.Repair = &groom.Repair{MTU: groom.DefaultMTU}
	}
	if o.filter == "" && spec == (groom.Spec{}) {
		return b, nil
	}
	c := groom.Config{Spec: spec, Dissector: dissect.New(t.spec.Tunnels), Interface: t.interfaceName}
	if o.filter != "" {
		m, err := newMatcher(o.filter, t.spec.filterOptions())
		if err != nil {
			return nil, fmt.Errorf("tap: destination %s: %w", to, err)
		}
		c.Filter = m.match
	}
	var err error
	if b.groom, err = groom.New(c); err != nil {
		return nil, fmt.Errorf("tap: destination %s: %w", to, err)
	}
	t.books = append(t.books, b.groom.Books()...)
	return b, nil
}

// Where returns the destination as it was given.
func (b *branch) Where() string { return b.to }

// statements returns the books of the branch in their order.
func (b *branch) statements() []ledger.Statement {
	books := []*ledger.Book{b.queue.book}
	if b.groom != nil {
		books = append(books, b.groom.Books()...)
	}
	return readAll(append(books, b.frameSink.Book()))
}

// readAll reads books of stages that follow each other. The last is read first: what one has received the one before it has passed on by then, so that sums over
// all of them are right while they run, with what is under way between them.
func readAll(books []*ledger.Book) []ledger.Statement {
	all := make([]ledger.Statement, len(books))
	for i := len(books) - 1; i >= 0; i-- {
		all[i] = books[i].Read()
	}
	return all
}

// Run takes batches from in until it is closed or ctx ends. A live tap never waits for the sink: what does not fit into the queue is
// dropped and counted.
func (b *branch) Run(ctx context.Context, in <-chan frame.Batch) error {
	g, ctx := errgroup.WithContext(ctx)
	queued := make(chan frame.Batch, queueBatches)
	g.Go(func() error {
		defer close(queued)
		return b.queue.run(ctx, in, queued)
	})
	last := queued
	if b.groom != nil {
		last = make(chan frame.Batch, 1)
		g.Go(func() error {
			defer close(last)
			return b.groom.Run(ctx, queued, last)
		})
	}
	sized := last
	if b.away {
		sized = make(chan frame.Batch)
		g.Go(func() error {
			defer close(sized)
			return b.size(ctx, last, sized)
		})
	}
	g.Go(func() error { return b.frameSink.Run(ctx, sized) })
	err := g.Wait()
	for _, c := range []chan frame.Batch{queued, last, sized} {
		for batch := range c {
			batch.Release()
		}
	}
	return err
}

// size counts the bytes of what goes to the sink.
func (b *branch) size(ctx context.Context, in <-chan frame.Batch, out chan<- frame.Batch) error {
	for batch := range in {
		n := 0
		for i := range batch.Frames {
			n += len(batch.Frames[i].Data)
		}
		select {
		case out <- batch:
			b.bytes.Add(uint64(n))
		case <-ctx.Done():
			batch.Release()
			return ctx.Err()
		}
	}
	return nil
}

// queueBatches bounds what waits for a sink: more than that would keep blocks of the capture's ring from being filled again.
const queueBatches = 16

// queue is the place where a destination that is slow loses frames.
type queue struct {
	book    *ledger.Book
	patient bool // frames of a file wait
	shut    *atomic.Bool
}

// Reasons of a queue.
const (
	dropQueueFull = iota
	dropQueueStopped
	dropQueueShut
)

func newQueue(patient bool) *queue {
	return &queue{book: ledger.New("queue", ledger.Frames, "queue_full", "stopped", "shed_for_budget"), patient: patient}
}

// run moves batches from in to out.
func (q *queue) run(ctx context.Context, in <-chan frame.Batch, out chan<- frame.Batch) error {
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			q.pass(ctx, b, out)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *queue) pass(ctx context.Context, b frame.Batch, out chan<- frame.Batch) {
	n := len(b.Frames)
	q.book.In(n)
	if q.shut != nil && q.shut.Load() {
		q.book.Drop(dropQueueShut, n)
		b.Release()
		return
	}
	select {
	case out <- b:
		q.book.Out(n)
		return
	default:
	}
	if !q.patient {
		q.book.Drop(dropQueueFull, n)
		b.Release()
		return
	}
	select {
	case out <- b:
		q.book.Out(n)
	case <-ctx.Done():
		q.book.Drop(dropQueueStopped, n)
		b.Release()
	}
}

// matcher is a filter for frames of any link type: one that the expression does not fit matches nothing.
type matcher struct {
	expr  string
	opt   filter.Options
	link  frame.LinkType
	now   *filter.Filter // for link; nil when the expression does not fit
	known bool
}

// newMatcher finds mistakes of the expression by the usual link types.
func newMatcher(expr string, opt filter.Options) (*matcher, error) {
	m := &matcher{expr: expr, opt: opt}
	var first error
	for _, link := range []frame.LinkType{frame.LinkEthernet, frame.LinkRaw} {
		_, err := filter.Compile(expr, link, opt)
		if err == nil {
			return m, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// match reports whether a frame matches.
func (m *matcher) match(f *frame.Frame) bool {
	if !m.known || f.Link != m.link {
		m.now, _ = filter.Compile(m.expr, f.Link, m.opt)
		m.link, m.known = f.Link, true
	}
	return m.now != nil && m.now.MatchFrame(f)
}
