package platform

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The number that was not copied is found whatever the traffic does, or is between the bounds.
func TestMissed(t *testing.T) {
	const missed = 37
	f := func(name string, exact bool, passed, copied func(time.Duration) int64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			least, most, err := Missed(t.Context(), func(context.Context) (int64, int64, error) {
				time.Sleep(150 * time.Microsecond)
				p := passed(time.Since(began))
				time.Sleep(150 * time.Microsecond)
				return p, copied(time.Since(began)), nil
			})
			if err != nil || least > missed || most < missed || exact != (least == most) {
				t.Errorf("%s: %d to %d, %v; want %d", name, least, most, err, missed)
			}
			if took := time.Since(began); took > missedFor+100*time.Millisecond {
				t.Errorf("%s: took %v", name, took)
			}
		})
	}
	every := func(d, late time.Duration) func(time.Duration) int64 {
		return func(now time.Duration) int64 { return max(int64((now-late)/d), 0) }
	}
	from := func(n int64, f func(time.Duration) int64) func(time.Duration) int64 {
		return func(now time.Duration) int64 { return n + f(now) }
	}
	quiet := func(time.Duration) int64 { return 0 }
	f("nothing passes any more", true, from(missed, quiet), quiet)
	f("one packet each 10 ms", true, from(missed, every(10*time.Millisecond, 0)), every(10*time.Millisecond, 0))
	f("copied half a millisecond later", true, from(missed, every(10*time.Millisecond, 0)), every(10*time.Millisecond, 500*time.Microsecond))
	f("copied half a millisecond before", true, from(missed, every(10*time.Millisecond, 500*time.Microsecond)), every(10*time.Millisecond, 0))
	f("in bursts of 20", true, from(missed, func(now time.Duration) int64 { return 20 * int64(now/(40*time.Millisecond)) }),
		func(now time.Duration) int64 { return 20 * int64((now-time.Millisecond)/(40*time.Millisecond)) })
	f("a last packet 0.7 s after the others, and no copy", true, from(missed-1, func(now time.Duration) int64 { return min(int64(now/(700*time.Millisecond)), 1) }), quiet)
	f("without a pause", false, from(missed, every(100*time.Microsecond, 0)), every(100*time.Microsecond, 0))
	f("a super-frame counts as its ten segments", false, from(missed, every(10*time.Millisecond, 0)), func(now time.Duration) int64 {
		return 10 * every(10*time.Millisecond, 0)(now)
	})
}

func TestMissedUnread(t *testing.T) {
	gone := errors.New("gone")
	if least, most, err := Missed(t.Context(), func(context.Context) (int64, int64, error) { return 0, 0, gone }); !errors.Is(err, gone) || most >= least {
		t.Errorf("%d to %d, %v", least, most, err)
	}
}
