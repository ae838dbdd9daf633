package groom

import (
	"context"
	"fmt"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/ledger"
)

// Config is what a pipeline is made from.
type Config struct {
	Spec Spec
	// Filter says which frames go on; nil for all. It is asked first, about frames as they were captured.
	Filter func(*frame.Frame) bool
	// Dissector reads the frames; nil for one with the usual tunnel ports.
	Dissector *dissect.Dissector
	// Interface names the interface of an observation point for the tag step; nil: they have no names. It is asked at a point's first frame or
	// later, by the goroutine that asks for a label.
	Interface func(point uint32) string
}

// step does one thing to the frame under way and reports whether the frame goes on.
type step interface {
	apply(*item) bool
	account() *account
}

// Pipeline grooms frames. Apply and Run are for one goroutine at a time; everything else is safe for concurrent
// use.
type Pipeline struct {
	filter   func(*frame.Frame) bool
	filtered account // book of the filter
	repair   *repair // nil: super-frames stay
	steps    []step
	judges   bool      // no step changes a frame or its output: each goes on as it is, or not at all
	nearby   *nearby   // one of the steps; nil: it is not
	points   *pointSet // that duplicates must come from different ones of; nil: they need not
	balance  *balance
	labels   func(tag uint16) string
	accounts []*account
	counts   []*account // of the steps

	pool    pool
	it      item
	parcels []*parcel // one for each output, nil when empty
	passed  int       // frames of the batch under way that all steps have let through
	emit    func(output int, b frame.Batch) bool
	onward  func() // p.rest, bound once
}

// Reasons of the steps that can lose frames; a book has those of its step.
const (
	dropFiltered = 0
	dropStopped  = 0
)

// New returns a pipeline. All mistakes of the configuration are found here.
func New(c Config) (*Pipeline, error) {
	if err := c.Spec.Validate(); err != nil {
		return nil, err
	}
	d := c.Dissector
	if d == nil {
		d = dissect.New(dissect.Config{})
	}
	p := &Pipeline{filter: c.Filter, filtered: newAccount("filter", []string{"filtered"})}
	p.it.d = d
	p.onward = p.rest
	if c.Filter != nil {
		p.accounts = append(p.accounts, &p.filtered)
	}
	if err := p.build(&c); err != nil {
		return nil, err
	}
	p.parcels = make([]*parcel, p.balance.n)
	return p, nil
}

// build makes the steps in their fixed order.
func (p *Pipeline) build(c *Config) error {
	s := &c.Spec
	if s.Repair != nil {
		p.repair = newRepair(*s.Repair)
		p.accounts = append(p.accounts, &p.repair.acc)
	}
	add := func(x step) {
		p.steps = append(p.steps, x)
		p.counts = append(p.counts, x.account())
		p.accounts = append(p.accounts, x.account())
	}
	p.judges = s.Repair == nil && s.Strip == nil && s.Mask == nil && s.Tag == nil && s.Balance == nil && (s.Slice == nil || s.Slice.Drop)
	if s.Strip != nil {
		add(newStrip(*s.Strip))
	}
	if s.Dedup != nil {
		add(p.newDedup(*s.Dedup))
	}
	if s.Sample != nil {
		add(newSample(*s.Sample))
	}
	if s.Slice != nil {
		add(newSlice(*s.Slice, s.Mask != nil || s.Balance != nil))
	}
	if s.Mask != nil {
		m, err := newMask(*s.Mask)
		if err != nil {
			return err
		}
		add(m)
	}
	if s.Tag != nil {
		names := naming{s.Tag, c.Interface}
		add(newTag(*s.Tag, names))
		if s.Tag.Comment {
			p.labels = (&labels{naming: names, texts: map[uint16]string{}}).of
		}
	}
	p.balance = newBalance(s.Balance)
	p.accounts = append(p.accounts, &p.balance.acc)
	return nil
}

// newDedup returns the step in the form that suits the spec.
func (p *Pipeline) newDedup(s Dedup) step {
	points := new(pointSet)
	if !s.SamePoint {
		p.points = points
	}
	if p.judges && s.near() {
		p.nearby = newNearby(s, points)
		return p.nearby
	}
	return newDedup(s, points)
}

// Outputs returns the number of outputs: 1 unless frames are balanced over several.
func (p *Pipeline) Outputs() int { return p.balance.n }

// Books returns the accounts of the steps, in their order. What a step passes on the next one receives.
func (p *Pipeline) Books() []*ledger.Book {
	var all []*ledger.Book
	for _, a := range p.accounts {
		all = append(all, a.book)
	}
	return all
}

// Notes returns what the steps did or saw that is no loss, the counters that are zero left out.
func (p *Pipeline) Notes() []Note {
	var all []Note
	for _, a := range p.accounts {
		for i := range a.notes {
			if n := a.notes[i].total.Load(); n > 0 {
				all = append(all, Note{Step: a.book.Read().Stage, What: a.notes[i].name, N: n})
			}
		}
	}
	return all
}

// Warnings says what in the spec cannot have had the effect that was probably wanted, by the frames so far.
func (p *Pipeline) Warnings() (all []string) {
	if p.points != nil && p.points.count.Load() == 1 {
		all = append(all, "dedup: every frame is from one copy point, and a duplicate comes from another; to drop repeated frames of one point give dedup/same-point")
	}
	return all
}

// Apply grooms a batch, which it takes over, and hands the frames that remain to emit: that batch, parts of it, or batches of
// at most 512 frames for each output, in order. Whoever takes a batch releases it; the memory of the batch that came in is given back
// with the last of them. When emit reports false, the batch was not taken and its frames are counted as stopped.
func (p *Pipeline) Apply(in frame.Batch, emit func(output int, b frame.Batch) bool) {
	p.emit = emit
	if !p.judges || !p.whole(in) {
		p.frames(in)
	}
	p.emit = nil
	for _, a := range p.accounts {
		a.settle()
	}
}

// whole passes a batch on as it came when all its frames pass. Otherwise it reports false, with p.passed of them decided upon.
func (p *Pipeline) whole(in frame.Batch) bool {
	n := len(in.Frames)
	if p.passed = p.leading(in.Frames); p.passed < n || n == 0 {
		return false
	}
	p.settle()
	p.balance.acc.in += n
	p.hand(0, in)
	return true
}

// leading returns how many frames pass until one does not.
func (p *Pipeline) leading(frames []frame.Frame) int {
	if p.alone() {
		p.nearby.begin(frames)
		return p.nearbyPass(len(frames))
	}
	for i := range frames {
		if !p.matches(&frames[i]) {
			return i
		}
		p.it.load(&frames[i])
		if !p.passes() {
			return i
		}
	}
	return len(frames)
}

// alone reports whether nearby is all that there is to do.
func (p *Pipeline) alone() bool { return p.nearby != nil && p.filter == nil && len(p.steps) == 1 }

// nearbyPass has nearby look at what is left of a batch, n frames, and returns how many pass until one does not.
func (p *Pipeline) nearbyPass(n int) int {
	passed := p.nearby.pass()
	p.nearby.acc.in += min(passed+1, n)
	p.nearby.acc.out += passed
	return passed
}

// frames grooms the frames of a batch one by one. Of those that p.whole has seen the last one, if any, does not pass.
func (p *Pipeline) frames(in frame.Batch) {
	p.it.group = p.pool.begin(in)
	p.run(&in, 0, p.passed)
	from := 0
	if p.judges {
		from = min(p.passed+1, len(in.Frames))
	}
	p.passed = 0
	for p.alone() && from < len(in.Frames) {
		n := p.nearbyPass(len(in.Frames) - from)
		p.run(&in, from, from+n)
		from = min(from+n+1, len(in.Frames))
	}
	for i := range in.Frames[from:] {
		f := &in.Frames[from+i]
		if !p.matches(f) {
			continue
		}
		p.it.load(f)
		if p.repair != nil {
			p.repair.apply(&p.it, p.onward)
		} else {
			p.rest()
		}
	}
	p.settle()
	p.flush()
	p.it.group.release()
	p.it.group = nil
}

// settle ends a batch while its frames are still there.
func (p *Pipeline) settle() {
	if p.nearby != nil {
		p.nearby.finish()
	}
}

// matches asks the filter.
func (p *Pipeline) matches(f *frame.Frame) bool {
	if p.filter == nil {
		return true
	}
	p.filtered.in++
	if !p.filter(f) {
		return p.filtered.drop(dropFiltered)
	}
	p.filtered.out++
	return true
}

// passes takes the frame under way through the steps after repair.
func (p *Pipeline) passes() bool {
	for i, s := range p.steps {
		a := p.counts[i]
		a.in++
		if !s.apply(&p.it) {
			return false
		}
		a.out++
	}
	return true
}

// rest takes the frame under way through the steps after repair to its output.
func (p *Pipeline) rest() {
	if p.passes() {
		p.put(p.balance.pick(&p.it), &p.it.f)
	}
}

// longRun is how many frames in a row are worth a batch of their own.
const longRun = 32

// run passes on frames of a batch as they came.
func (p *Pipeline) run(in *frame.Batch, from, to int) {
	if to-from < longRun {
		for i := range in.Frames[from:to] {
			p.put(0, &in.Frames[from+i])
		}
		return
	}
	p.flush()
	p.balance.acc.in += to - from
	b := in.Part(from, to)
	b.Free = p.it.group.parcel().free
	p.hand(0, b)
}

// put adds a frame to what leaves through an output.
func (p *Pipeline) put(output int, f *frame.Frame) {
	p.balance.acc.in++
	c := p.parcels[output]
	if c == nil {
		c = p.it.group.parcel()
		p.parcels[output] = c
	}
	c.frames = append(c.frames, *f)
	if len(c.frames) == batchFrames {
		p.send(output)
	}
	if p.it.group.used >= groupBytes {
		p.turn()
	}
}

// send hands over what has gathered for an output.
func (p *Pipeline) send(output int) {
	c := p.parcels[output]
	if c == nil {
		return
	}
	p.parcels[output] = nil
	in := &c.group.src.batch
	p.hand(output, frame.Batch{Frames: c.frames, Records: in.Records, Notes: in.Notes, Free: c.free})
}

// hand gives a batch to an output.
func (p *Pipeline) hand(output int, b frame.Batch) {
	n := len(b.Frames)
	if p.emit(output, b) {
		p.balance.sent(output, n)
		return
	}
	b.Release()
	p.balance.acc.dropped[dropStopped] += n
}

func (p *Pipeline) flush() {
	for i := range p.parcels {
		p.send(i)
	}
}

// turn passes everything on and continues in fresh memory, so that a batch of super-frames with tiny segments cannot grow
// without bound.
func (p *Pipeline) turn() {
	p.flush()
	old := p.it.group
	p.it.group = p.pool.share(old.src)
	old.release()
}

// Run grooms the batches from in until in is closed or ctx ends, and sends what remains to outs, one channel
// for each output. It does not close outs.
func (p *Pipeline) Run(ctx context.Context, in <-chan frame.Batch, outs ...chan<- frame.Batch) error {
	if len(outs) != p.Outputs() {
		return fmt.Errorf("groom: %d channels for %d outputs", len(outs), p.Outputs())
	}
	emit := func(output int, b frame.Batch) bool {
		select {
		case outs[output] <- b:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		select {
		case b, ok := <-in:
			if !ok {
				return nil
			}
			p.Apply(b, emit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
