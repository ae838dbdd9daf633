package platformtest

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/control/platform"
)

// Followed counts the platforms of a lab that are followed.
type Followed struct{ n atomic.Int32 }

// Watch is the Watch of a platform, which is followed from its first update on.
func (f *Followed) Watch(ctx context.Context, p platform.Platform, update func(platform.Update)) error {
	var once sync.Once
	return p.Watch(ctx, func(u platform.Update) {
		update(u)
		once.Do(func() { f.n.Add(1) })
	})
}

// Are reports whether that many platforms are followed.
func (f *Followed) Are(n int) bool { return int(f.n.Load()) == n }

// Moves is how often a machine moves in a test: n times, or CROSSTAP_MOVES for measurements.
func Moves(t *testing.T, n int) int {
	t.Helper()
	text := os.Getenv("CROSSTAP_MOVES")
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A Move is what became of the frames of a machine that has moved, and what its platform says that the tool has missed of them.
type Move struct {
	Gap    platform.Gap
	Made   time.Time      // when its new port was about to be made
	Told   time.Time      // when the gap was told: what passes later is copied
	Frames [][]string     // that tcpdump saw at the machine since it has come: the time in seconds of its epoch, and what tells the frame from others
	Copies map[string]int // that tcpdump saw at the tool, by the same words
}

// Check compares what is missing at the tool with what is told, frame by frame: a number must be right, and bounds must hold and have their
// reason. It reports whether there is a number.
func (m *Move) Check(t *testing.T) (exact bool) {
	t.Helper()
	missing, which := int64(0), []string(nil)
	for _, f := range m.Frames {
		at, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		switch name := strings.Join(f[1:], " "); {
		case m.Copies[name] > 0:
			m.Copies[name]--
		case at < float64(m.Told.UnixNano())/1e9:
			missing++
			which = append(which, f[0][7:14]+" "+name)
		}
	}
	for name, n := range m.Copies {
		if n > 0 {
			t.Errorf("%d copies more than frames %q", n, name)
		}
	}
	g := &m.Gap
	t.Logf("to %s: %d frames missing at the tool, told are %d to %d; copied %v after the port was told, %v after it was made; %s",
		g.Platform, missing, g.Least, g.Packets, g.After.Round(time.Millisecond), g.At.Sub(m.Made).Round(time.Millisecond), g.Why)
	if missing < g.Least || missing > g.Packets || g.Exact() != (g.Why == "") {
		t.Errorf("%d frames are missing, told are %+v: %s", missing, g, strings.Join(which, ", "))
	}
	return g.Exact()
}
