package tap

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"

	"crosstap/internal/filter"
	"crosstap/internal/tap/capture"
	"crosstap/internal/tap/governor"
	"crosstap/internal/tapspec"
)

// Governor keeps the taps of this process inside budgets: each its own, and all together that of the host. Run measures and decides.
type Governor struct {
	cfg  governor.Config
	host tapspec.Budget
	log  *slog.Logger

	mu      sync.Mutex
	decides *governor.Governor
	taps    map[*governor.Tap]*governed
	process usage // at the last measurement
	at      time.Time
	used    governor.Usage // by all taps, in the last interval
}

// NewGovernor returns a governor with a budget for all taps together; the zero budget is none.
func NewGovernor(c governor.Config, host tapspec.Budget, log *slog.Logger) *Governor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Governor{cfg: c, host: host, log: log, decides: governor.New(c, host), taps: map[*governor.Tap]*governed{}}
}

// governed is a tap under a governor.
type governed struct {
	tap     *Tap
	seat    *governor.Tap
	last    reading
	share   float64 // of the frames at the interface, that match the filter
	avgSize float64

	mu    sync.Mutex
	level governor.Level
	load  governor.Load
	steps []governor.Step // the last ones
	count [5]uint64       // steps to each level
	since time.Time
}

// maxSteps bounds the steps that are remembered; all are counted.
const maxSteps = 64

// reading is what a tap has counted at one time.
type reading struct {
	frames, bytes uint64 // that match, as far as the kernel tells
	passed        uint64 // to the tap
	link          uint64 // packets at the interfaces
	sent          uint64 // bytes of copies for other hosts
	exact         bool
}

// makeGoverned prepares for a budget and for a handover.
func (t *Tap) makeGoverned() {
	s := &t.spec
	if s.Successor {
		t.window = newWindow()
		t.window.from.Store(never)
	}
	if s.Governor == nil && s.Budget.IsZero() || s.File != "" {
		return
	}
	t.governed, t.shedder, t.epochs = &governed{tap: t}, newShedder(), newEpochs()
}

// translator is what the source needs to have the kernel count what it leaves out: for a budget, or by the filter.
func (t *Tap) translator() func([]bpf.Instruction) (asm.Instructions, error) {
	if t.governed == nil && t.spec.Filter == "" {
		return nil
	}
	return filter.Translate
}

// govern has the governor watch the tap until the function that it returns is called.
func (t *Tap) govern() (stop func()) {
	if t.governed == nil {
		return func() {}
	}
	g, done, ended := t.spec.Governor, make(chan struct{}), make(chan struct{})
	if g == nil {
		g = NewGovernor(governor.DefaultConfig(), tapspec.Budget{}, t.spec.Log)
		go func() { defer close(ended); g.Run(done) }()
	} else {
		close(ended)
	}
	x := g.join(t)
	return func() {
		g.leave(x)
		close(done)
		<-ended
	}
}

// join takes a running tap in.
func (g *Governor) join(t *Tap) *governed {
	g.mu.Lock()
	defer g.mu.Unlock()
	x := t.governed
	x.seat = g.decides.Add(t.spec.Budget)
	x.last, x.since = t.reading(), time.Now()
	g.taps[x.seat] = x
	g.warnOfMemory(t)
	return x
}

// warnOfMemory tells of a tap whose rings and share of the process are beyond its memory before the first frame comes.
func (g *Governor) warnOfMemory(t *Tap) {
	takes := int64(t.ringBytes()) + processUsage().resident/int64(len(g.taps))
	if limit := int64(t.spec.Budget.Memory); limit > 0 && takes > limit {
		g.log.Warn("budget: before its first frame the tap takes more memory than it may, and will be off: give it more, or smaller rings",
			"tap", t.spec.Name, "memory", tapspec.Size(takes).String(), "rings", tapspec.Size(t.ringBytes()).String(), "budget", t.spec.Budget.Memory.String())
	}
}

// leave takes a tap out.
func (g *Governor) leave(x *governed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.decides.Remove(x.seat)
	delete(g.taps, x.seat)
}

// Run measures and decides until done is closed.
func (g *Governor) Run(done <-chan struct{}) {
	tick := time.NewTicker(governor.Interval)
	defer tick.Stop()
	g.mu.Lock()
	g.process, g.at = processUsage(), time.Now()
	g.mu.Unlock()
	for {
		select {
		case now := <-tick.C:
			g.look(now)
		case <-done:
			return
		}
	}
}

// look measures all taps and has those act whose level changes.
func (g *Governor) look(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	took := now.Sub(g.at).Seconds()
	if took < governor.Interval.Seconds()/4 { // a late tick came just before
		return
	}
	p := processUsage()
	cpu := (p.cpu - g.process.cpu).Seconds() / took
	g.process, g.at = p, now
	g.measure(took, cpu, float64(p.resident))
	for _, c := range g.decides.Decide(now) {
		if x := g.taps[c.Tap]; x != nil {
			x.act(c.Tap.Level(), c.Step, g.cfg, g.log)
		}
	}
}

// measure divides what the process costs among its taps: CPU by the frames that reach each, memory by rings and flows.
func (g *Governor) measure(took, cpu, resident float64) {
	type part struct {
		x           *governed
		now         reading
		passed      float64
		own, weight float64 // memory
	}
	var parts []part
	var passed, own, weight float64
	for _, x := range g.taps {
		p := part{x: x, now: x.tap.reading()}
		p.passed = float64(p.now.passed - x.last.passed)
		p.own, p.weight = float64(x.tap.ringBytes()), float64(x.tap.Stats().Flows)+1
		parts = append(parts, p)
		passed, own, weight = passed+p.passed, own+p.own, weight+p.weight
	}
	g.used = governor.Usage{}
	for _, p := range parts {
		l := p.x.offered(p.now, took)
		l.Used.CPU = p.x.tap.kernelCost(p.passed/took, l, p.x.current())
		if passed > 0 {
			l.Used.CPU += cpu * p.passed / passed
		}
		l.Used.Memory = p.own + max(resident-own, 0)*p.weight/weight
		l.Used.Mirror = float64(p.now.sent-p.x.last.sent) * 8 / took
		p.x.last = p.now
		p.x.seat.Measured(l)
		p.x.mu.Lock()
		p.x.load = l
		p.x.mu.Unlock()
		g.used.CPU, g.used.Memory, g.used.Mirror = g.used.CPU+l.Used.CPU, g.used.Memory+l.Used.Memory, g.used.Mirror+l.Used.Mirror
	}
}

func (x *governed) current() governor.Level {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.level
}

// offered returns what the tap was asked to take: what matched in the kernel; while nothing is taken, or where the kernel does not count, as much of the
// interfaces' packets as matched before.
func (x *governed) offered(now reading, took float64) (l governor.Load) {
	frames, bytes := float64(now.frames-x.last.frames), float64(now.bytes-x.last.bytes)
	link := float64(now.link - min(x.last.link, now.link))
	level := x.current()
	unseen := level == governor.Off || level == governor.Flows && x.tap.path.copies.Load() != nil
	known := level < governor.Sampled || now.exact && !unseen
	switch {
	case known && link > 0:
		x.share = frames / link
		if frames > 0 {
			x.avgSize = bytes / frames
		}
	case !known:
		frames = link * x.share
		bytes = frames * x.avgSize
	}
	return governor.Load{Frames: frames / took, Bytes: bytes / took, Unseen: unseen}
}

// act does what a level says. The kernel is told first: what it leaves out costs nobody anything.
func (x *governed) act(to governor.Level, step governor.Step, c governor.Config, log *slog.Logger) {
	x.mu.Lock()
	x.level, x.since = to, step.Time
	x.count[to]++
	if x.steps = append(x.steps, step); len(x.steps) > maxSteps {
		x.steps = x.steps[1:]
	}
	x.mu.Unlock()
	var shed capture.Shed
	rate := uint32(1)
	if to >= governor.Sliced {
		shed.Snap = c.Slice
	}
	if to >= governor.Sampled {
		shed.Sample, rate = c.Sample, uint32(c.Sample)
	}
	shed.Off = to == governor.Off
	x.tap.leaveOut(shed, rate, to >= governor.Flows)
	level := slog.LevelInfo
	if step.Resource != "" {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, "budget: the tap does more or less of its work", "tap", x.tap.spec.Name, "from", step.From, "to", step.To, "short_of", step.Resource, "host_budget", step.Host)
}

// leaveOut has the source leave out what shed says, the meter know from when on, and the destinations of frames get none when shut is
// said.
func (t *Tap) leaveOut(shed capture.Shed, rate uint32, shut bool) {
	t.shut.Store(shut)
	applied := func(from time.Time) { t.epochs.add(from.UnixNano(), rate) }
	if all := t.attached(); len(all) > 0 {
		t.leaveOutInKernel(all, shed, shut, applied)
		return
	}
	if t.live != nil {
		t.live.SetShed(shed, applied)
		return
	}
	t.shedder.set(shed, applied)
}

// reading returns what the tap has counted.
func (t *Tap) reading() (r reading) {
	if all := t.attached(); len(all) > 0 {
		r = t.readingInKernel(all)
		r.sent += t.away()
		return r
	}
	book := t.source.Book().Read()
	r.passed = book.Out
	if t.live != nil {
		k := t.live.Kernel()
		if r.exact = k.Exact; k.Exact {
			r.frames, r.bytes = k.Matched, k.Bytes
		} else {
			r.frames, r.bytes = book.Out, t.shedder.bytes.Load()
		}
		r.link = t.live.Traffic()
	} else {
		r.frames, r.bytes, r.exact = book.Out, t.shedder.bytes.Load(), true
		r.link = book.Out
	}
	r.sent = t.away()
	return r
}

// away returns the bytes that sinks for other hosts were given.
func (t *Tap) away() (n uint64) {
	for _, f := range t.frames {
		if b, ok := f.(*branch); ok && b.away {
			n += b.bytes.Load()
		}
	}
	return n
}

// Governing is what a governor says of a tap.
type Governing struct {
	Level  string            `json:"level"`
	Since  time.Time         `json:"since"`
	Steps  []governor.Step   `json:"steps"`  // the last ones
	Counts map[string]uint64 `json:"counts"` // steps to each level
	Load   governor.Load     `json:"load"`
}

// Governing returns the state of the tap's governor, false without one.
func (t *Tap) Governing() (Governing, bool) {
	x := t.governed
	if x == nil {
		return Governing{Level: governor.Full.String()}, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	out := Governing{Level: x.level.String(), Since: x.since, Steps: append([]governor.Step(nil), x.steps...), Counts: map[string]uint64{}, Load: x.load}
	for l, n := range x.count {
		out.Counts[governor.Level(l).String()] = n
	}
	return out, true
}

// BudgetLines says which levels the tap was at; none without a budget.
func (t *Tap) BudgetLines() (lines []string) {
	x, ok := t.Governing()
	if !ok {
		return nil
	}
	var parts []string
	for _, name := range governor.Names() {
		if n := x.Counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n, name))
		}
	}
	if len(parts) == 0 {
		return []string{t.spec.budgetText() + ": kept, at level full all the time"}
	}
	lines = append(lines, t.spec.budgetText()+": at the end "+x.Level+"; went to "+strings.Join(parts, ", "))
	for _, s := range x.Steps[max(0, len(x.Steps)-lastSteps):] {
		why := "there is room again"
		if s.Resource != "" {
			why = "short of " + s.Resource
		}
		lines = append(lines, fmt.Sprintf("%s %s → %s: %s", s.Time.Format("15:04:05.000"), s.From, s.To, why))
	}
	return lines
}

// lastSteps bounds the steps that a summary shows.
const lastSteps = 10

func (s *Spec) budgetText() string {
	if s.Budget.IsZero() {
		return "the host's"
	}
	return s.Budget.String()
}
