// Package governor decides how much of its work a tap may do, so that monitoring stays inside its budget of CPU, memory and mirror
// bandwidth: full → sliced → sampled by flow → flow records only → off. It only decides; the tap measures, and acts where the cost
// arises, in the kernel.
//
// Going down takes two measurements above the budget, and goes as far as the measured cost of a frame says that is needed. Going up
// takes a while of measurements that say the better level fits with room to spare; after a level that did not hold, the next attempt
// waits twice as long.
package governor

import (
	"fmt"
	"math"
	"time"

	"crosstap/internal/tapspec"
)

// Level is how much of its work a tap does.
type Level uint8

// The levels, from everything to nothing.
const (
	Full    Level = iota
	Sliced        // frames are cut behind their headers
	Sampled       // and only those of some conversations are copied
	Flows         // they are metered, and no longer sent anywhere
	Off           // nothing is captured
	levels
)

var names = [levels]string{"full", "sliced", "sampled", "flows_only", "off"}

// Names lists the levels in their order.
func Names() []string { return names[:] }

func (l Level) String() string {
	if l < levels {
		return names[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// Config says what the levels mean and how patient the governor is.
type Config struct {
	Slice  int // bytes that are kept of a frame from Sliced on
	Sample int // from Sampled on: one conversation in so many

	Down    int           // measurements above the budget before it goes down
	Up      time.Duration // for so long the better level must fit before it goes up
	Room    float64       // share of the budget that the better level may be predicted to take
	Relax   time.Duration // a level that is left again so soon did not hold
	Longest time.Duration // between two attempts to go up
}

// DefaultConfig keeps headers, and one conversation in 16.
func DefaultConfig() Config {
	return Config{Slice: tapspec.HeaderBytes, Sample: 16, Down: 2, Up: time.Second, Room: 0.8, Relax: 5 * time.Second, Longest: time.Minute}
}

// Interval is how often loads are to be measured.
const Interval = 250 * time.Millisecond

// Load is what was measured of a tap in one interval.
type Load struct {
	Frames float64 // in a second, that the tap is asked to take: before slicing, sampling and switching off
	Bytes  float64 // of them in a second
	Used   Usage
	Unseen bool // the tap took none of them: what it used says nothing of what they cost
}

// Usage is what a tap costs, in the units of a budget.
type Usage struct {
	CPU    float64 // processors, with what the kernel does for the tap
	Memory float64 // bytes
	Mirror float64 // bits in a second
}

// Resources of a budget.
const (
	ofCPU = iota
	ofMemory
	ofMirror
	resources
)

var resourceNames = [resources]string{"cpu", "memory", "mirror"}

// Step is a change of level and its reason.
type Step struct {
	Time     time.Time `json:"time"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	Resource string    `json:"resource"` // cpu, memory or mirror; "" when there is room again
	Host     bool      `json:"host"`     // the budget of the host, not the tap's own
}

// Governor watches the taps of one process. One goroutine at a time.
type Governor struct {
	cfg  Config
	host tapspec.Budget
	taps []*Tap
}

// New returns a governor with a budget for all taps together; the zero budget is none.
func New(c Config, host tapspec.Budget) *Governor { return &Governor{cfg: c, host: host} }

// Add takes a tap in, at level Full.
func (g *Governor) Add(b tapspec.Budget) *Tap {
	t := &Tap{g: g, budget: b, wait: g.cfg.Up}
	g.taps = append(g.taps, t)
	return t
}

// Remove takes a tap out.
func (g *Governor) Remove(t *Tap) {
	for i, x := range g.taps {
		if x == t {
			g.taps = append(g.taps[:i], g.taps[i+1:]...)
			return
		}
	}
}

// Tap is what the governor knows of one tap.
type Tap struct {
	g      *Governor
	budget tapspec.Budget
	level  Level

	load     Load
	perFrame quotient // CPU of a frame at level Full, as far as it is known
	perByte  quotient // mirrored bits for each byte, likewise: the number of tools and what their own filters leave

	over   int       // measurements above the budget in a row
	fits   time.Time // since when a better level fits; zero when none does
	better Level     // which
	wait   time.Duration
	raised time.Time // when it went up last
}

// Level returns the present level.
func (t *Tap) Level() Level { return t.level }

// Measured tells the load of the interval that has ended.
func (t *Tap) Measured(l Load) {
	t.load = l
	if l.Unseen {
		t.perFrame.part *= forget
	}
	if l.Unseen || l.Frames <= 0 {
		return
	}
	if c := t.g.cfg.cpu(t.level); c > 0 {
		t.perFrame.add(l.Used.CPU/c, l.Frames)
	}
	if m := t.g.cfg.mirror(t.level, &l); m > 0 && l.Bytes > 0 {
		t.perByte.add(l.Used.Mirror/m, l.Bytes)
	}
}

// forget is what is left, after an interval, of the belief in what a frame costs while none is taken: halved in 35 s, so that a wrong belief is put to the test.
const forget = 0.995

// quotient is a quotient of sums in which each value counts for half of the one behind it. A time with few frames, in which the process costs what it costs without any,
// says little of what a frame costs, and counts for little.
type quotient struct{ part, whole float64 }

func (q *quotient) add(part, whole float64) { q.part, q.whole = q.part/2+part, q.whole/2+whole }

func (q *quotient) value() float64 {
	if q.whole == 0 {
		return 0
	}
	return q.part / q.whole
}

// cpu is the share of the cost at level Full that a level has. Slicing saves the copy, sampling all but the look at the frame.
func (c *Config) cpu(l Level) float64 {
	const sliced, look = 0.7, 0.05
	switch l {
	case Full:
		return 1
	case Sliced:
		return sliced
	case Sampled:
		return look + sliced/float64(c.Sample)
	case Flows:
		return look + sliced/2/float64(c.Sample)
	}
	return 0
}

// mirror is the share of the bytes that are sent on.
func (c *Config) mirror(l Level, load *Load) float64 {
	cut := 1.0
	if load.Bytes > 0 {
		cut = math.Min(1, float64(c.Slice)*load.Frames/load.Bytes)
	}
	switch l {
	case Full:
		return 1
	case Sliced:
		return cut
	case Sampled:
		return cut / float64(c.Sample)
	}
	return 0
}

// at predicts the use at a level under the present load. Memory follows no level in time: it is taken as it is.
func (t *Tap) at(l Level) (u [resources]float64) {
	c := &t.g.cfg
	u[ofCPU] = t.perFrame.value() * t.load.Frames * c.cpu(l)
	u[ofMirror] = t.perByte.value() * t.load.Bytes * c.mirror(l, &t.load)
	if u[ofMemory] = t.load.Used.Memory; l == Off {
		u[ofMemory] = 0
	}
	return u
}

func limits(b tapspec.Budget) [resources]float64 {
	return [resources]float64{ofCPU: float64(b.CPU), ofMemory: float64(b.Memory), ofMirror: float64(b.Mirror)}
}

// exceeded returns the resource that is above its limit by the greatest factor, -1 for none.
func exceeded(used, limit [resources]float64) int {
	worst, by := -1, 1.0
	for r := range used {
		if limit[r] > 0 && used[r]/limit[r] > by {
			worst, by = r, used[r]/limit[r]
		}
	}
	return worst
}

func (u Usage) values() [resources]float64 {
	return [resources]float64{ofCPU: u.CPU, ofMemory: u.Memory, ofMirror: u.Mirror}
}
