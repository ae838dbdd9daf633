package serve

import (
	"testing"
	"time"

	"crosstap/internal/serve/api"
)

func TestFlushes(t *testing.T) {
	var f flushes
	if f.read() != nil {
		t.Error("figures of nothing")
	}
	for i := range 100 {
		f.wrote(10, time.Duration(i+1)*time.Millisecond)
	}
	got := f.read()
	if got.Batches != 100 || got.Latest != 100 || got.P50Seconds != .05 || got.P99Seconds != .099 || got.MaxSeconds != .1 || got.SumSeconds < 5.049 || got.SumSeconds > 5.051 {
		t.Errorf("%+v", got)
	}
	for i, le := range api.FlushBuckets {
		want := uint64(100)
		if le < .1 {
			want = uint64(le*1000 + .5)
		}
		if got.Below[i] != want {
			t.Errorf("%d batches within %v s, want %d", got.Below[i], le, want)
		}
	}
	if len(flushFindings(got)) != 0 || len(flushFindings(nil)) != 0 {
		t.Error("a quick disk is no finding")
	}
	for range 3 * flushesKept {
		f.wrote(10, 90*time.Second)
	}
	got = f.read()
	if got.Latest != flushesKept || got.P50Seconds != 90 || got.Below[len(got.Below)-1] != 100 || got.Batches != 100+3*flushesKept {
		t.Errorf("%+v", got)
	}
	if len(flushFindings(got)) != 1 {
		t.Error("a slow disk is a finding")
	}
}
