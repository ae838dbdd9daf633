package governor

import (
	"strings"
	"testing"
	"time"

	"crosstap/internal/tapspec"
)

// world is a tap whose cost is not quite what the governor believes.
type world struct {
	frames, size float64    // offered in a second, bytes of each
	cpu          [5]float64 // seconds for each offered frame at a level
	idle         float64    // processors that are taken without any frame
	tools        float64    // that get copies
	memory       func(Level) float64
}

func (w *world) load(c Config, l Level) Load {
	u := Usage{CPU: w.idle + w.frames*w.cpu[l]}
	bits := w.frames * w.size * 8 * w.tools
	cut := min(1, float64(c.Slice)/w.size)
	u.Mirror = map[Level]float64{Full: bits, Sliced: bits * cut, Sampled: bits * cut / float64(c.Sample)}[l]
	if w.memory != nil {
		u.Memory = w.memory(l)
	}
	return Load{Frames: w.frames, Bytes: w.frames * w.size, Used: u, Unseen: l == Off}
}

// lab runs a governor in synthetic time.
type lab struct {
	t     *testing.T
	g     *Governor
	now   time.Time
	taps  []*Tap
	world []*world
	steps []string
}

func newLab(t *testing.T, host string, budgets ...string) *lab {
	t.Helper()
	parse := func(text string) tapspec.Budget {
		if text == "" {
			return tapspec.Budget{}
		}
		b, err := tapspec.ParseBudget(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l := &lab{t: t, g: New(DefaultConfig(), parse(host)), now: time.Unix(1e9, 0)}
	for _, b := range budgets {
		l.taps = append(l.taps, l.g.Add(parse(b)))
		l.world = append(l.world, &world{size: 1000, tools: 1, cpu: [5]float64{1e-6, 0.6e-6, 0.1e-6, 0.08e-6, 0}})
	}
	return l
}

// run lets time pass.
func (l *lab) run(d time.Duration) {
	for end := l.now.Add(d); l.now.Before(end); {
		l.now = l.now.Add(Interval)
		for i, t := range l.taps {
			t.Measured(l.world[i].load(l.g.cfg, t.Level()))
		}
		for _, c := range l.g.Decide(l.now) {
			text := c.Step.From + ">" + c.Step.To + ":" + c.Step.Resource
			if c.Step.Host {
				text += "@host"
			}
			l.steps = append(l.steps, text)
		}
	}
}

func (l *lab) want(levels ...Level) {
	l.t.Helper()
	for i, t := range l.taps {
		if t.Level() != levels[i] {
			l.t.Errorf("tap %d is at %s, want %s; %s", i, t.Level(), levels[i], strings.Join(l.steps, " "))
		}
	}
}

// TestLevels asks for ever more: within two seconds the tap is at the level that fits, and there it stays.
func TestLevels(t *testing.T) {
	f := func(frames float64, budget string, want Level) {
		t.Helper()
		l := newLab(t, "", budget)
		l.world[0].frames = frames
		l.run(2 * time.Second)
		l.want(want)
		n := len(l.steps)
		l.run(time.Minute)
		l.want(want)
		if len(l.steps) != n {
			t.Errorf("%.0f frames: it goes on changing: %v", frames, l.steps)
		}
	}
	f(100e3, "cpu=20%", Full)             // 10 %
	f(250e3, "cpu=20%", Sliced)           // 25 %, 15 %
	f(1e6, "cpu=20%", Sampled)            // 60 %, 10 %
	f(20e6, "cpu=20%", Off)               // even the look at them is too much
	f(10e3, "mirror=100Mbit/s", Full)     // 80 Mbit/s
	f(50e3, "mirror=100Mbit/s", Sliced)   // 400, 64
	f(500e3, "mirror=100Mbit/s", Sampled) // 640 sliced, 40
	f(5e6, "mirror=100Mbit/s", Flows)     // 400 sampled
	f(50e6, "memory=100MiB,cpu=1000000%", Full)
}

// TestBurstAfterQuiet has a load come all at once behind a time with hardly a frame, in which the process took what it takes without any: that is not what
// a frame costs, and the level is that of the frames.
func TestBurstAfterQuiet(t *testing.T) {
	l := newLab(t, "", "cpu=20%")
	w := l.world[0]
	w.idle, w.frames = 0.01, 5
	l.run(10 * time.Second)
	w.frames = 1e6
	l.run(2 * time.Second)
	l.want(Sampled)
	if len(l.steps) != 1 {
		t.Errorf("%v", l.steps)
	}
}

// TestOffIsPutToTheTest has what a frame costs fall while nothing is taken, so that it cannot be measured.
func TestOffIsPutToTheTest(t *testing.T) {
	l := newLab(t, "", "cpu=20%")
	w := l.world[0]
	w.frames = 20e6
	l.run(10 * time.Second)
	l.want(Off)
	for i := range w.cpu {
		w.cpu[i] /= 50
	}
	l.run(5 * time.Minute)
	if l.taps[0].Level() == Off {
		t.Errorf("%v", l.steps)
	}
}

// TestRecovers ends an overload: within two seconds the tap is back at full.
func TestRecovers(t *testing.T) {
	for _, frames := range []float64{250e3, 1e6, 20e6} {
		l := newLab(t, "", "cpu=20%")
		l.world[0].frames = frames
		l.run(10 * time.Second)
		if l.taps[0].Level() == Full {
			t.Fatal("no overload")
		}
		l.world[0].frames = 1000
		l.run(2 * time.Second)
		l.want(Full)
		if last := l.steps[len(l.steps)-1]; !strings.HasSuffix(last, ">full:") {
			t.Errorf("%v", l.steps)
		}
	}
}

// TestHysteresis stays at the edge of the budget: what fits without room is no reason to go up.
func TestHysteresis(t *testing.T) {
	l := newLab(t, "", "cpu=20%")
	w := l.world[0]
	for range 50 {
		w.frames = 210e3 // just above at full
		l.run(time.Second)
		w.frames = 190e3 // just below: 19 % of 20 %
		l.run(time.Second)
	}
	if len(l.steps) != 1 {
		t.Errorf("%d steps: %v", len(l.steps), l.steps)
	}
	l.want(Sliced)
}

// TestBackOff has a load that is only there while it is measured at full: each attempt waits longer than the one before.
func TestBackOff(t *testing.T) {
	l := newLab(t, "", "cpu=20%")
	w := l.world[0]
	w.frames = 150e3
	w.cpu = [5]float64{2e-6, 0.1e-6, 0.1e-6, 0.1e-6, 0} // full costs far more than the governor can know from sliced
	l.run(5 * time.Minute)
	if n := len(l.steps); n < 4 || n > 24 {
		t.Errorf("%d steps in five minutes: %v", n, l.steps)
	}
}

// TestSpike ignores one measurement alone.
func TestSpike(t *testing.T) {
	l := newLab(t, "", "cpu=20%")
	l.world[0].frames = 100e3
	l.run(time.Second)
	l.world[0].frames = 900e3
	l.run(Interval)
	l.world[0].frames = 100e3
	l.run(time.Second)
	l.want(Full)
	if len(l.steps) != 0 {
		t.Errorf("%v", l.steps)
	}
}

// TestMemory goes down a step at a time until memory is within its limit.
func TestMemory(t *testing.T) {
	l := newLab(t, "", "memory=100MiB")
	l.world[0].frames = 1000
	l.world[0].memory = func(at Level) float64 { return []float64{200, 150, 90, 60, 10}[at] * (1 << 20) }
	l.run(2 * time.Second)
	l.want(Sampled)
	l.run(10 * time.Second)
	l.want(Sampled) // 90 of 100 is no room
	l.world[0].memory = func(Level) float64 { return 10 << 20 }
	l.run(5 * time.Second)
	l.want(Full)
}

// TestHost shares the host's budget: the tap that takes most gives way, the small one stays whole.
func TestHost(t *testing.T) {
	l := newLab(t, "mirror=100Mbit/s,cpu=50%", "", "", "cpu=1%")
	l.world[0].frames, l.world[1].frames, l.world[2].frames = 50e3, 2e3, 20e3 // 400, 16, 160 Mbit/s
	l.run(3 * time.Second)
	l.want(Sliced, Full, Sampled) // 64 + 16 + 1.6
	if all := strings.Join(l.steps, " "); !strings.Contains(all, ":mirror@host") || !strings.Contains(all, ":cpu") {
		t.Error(all)
	}
	l.world[0].frames = 0
	l.world[2].frames = 0
	l.run(3 * time.Second)
	l.want(Full, Full, Full)
}

func TestRemove(t *testing.T) {
	l := newLab(t, "cpu=10%", "", "")
	l.g.Remove(l.taps[0])
	l.taps[1].Measured(Load{Frames: 1, Used: Usage{CPU: 5}})
	l.g.Decide(l.now)
	l.taps[1].Measured(Load{Frames: 1, Used: Usage{CPU: 5}})
	if c := l.g.Decide(l.now.Add(Interval)); len(c) != 1 || c[0].Tap != l.taps[1] {
		t.Errorf("%+v", c)
	}
}
