package serve

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"crosstap/internal/serve/api"
)

const (
	// flushesKept and flushesFor bound what quantiles are of: the latest batches.
	flushesKept = 512
	flushesFor  = 10 * time.Minute
	// slowFlush is a disk that is hardly fast enough: with full batches records would soon be shed.
	slowFlush = time.Second
)

// flushes are the times that batches took from full, or due, to durable. It is safe for concurrent use.
type flushes struct {
	mu     sync.Mutex
	all    uint64
	sum    time.Duration
	counts [len(api.FlushBuckets)]uint64 // batches by the bucket they are in
	latest []flush                       // a ring
	next   int
}

type flush struct {
	when time.Time
	took time.Duration
}

// wrote is a store's hook.
func (f *flushes) wrote(_ int, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all++
	f.sum += took
	if i, _ := slices.BinarySearch(api.FlushBuckets[:], took.Seconds()); i < len(f.counts) {
		f.counts[i]++
	}
	one := flush{time.Now(), took}
	if len(f.latest) < flushesKept {
		f.latest = append(f.latest, one)
		return
	}
	f.latest[f.next] = one
	f.next = (f.next + 1) % flushesKept
}

// read gives the figures, nil for a store that tells no times.
func (f *flushes) read() *api.Flushes {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == 0 {
		return nil
	}
	out := &api.Flushes{Batches: f.all, SumSeconds: f.sum.Seconds()}
	var below uint64
	for i, n := range f.counts {
		below += n
		out.Below[i] = below
	}
	var took []time.Duration
	for _, one := range f.latest {
		if time.Since(one.when) < flushesFor {
			took = append(took, one.took)
		}
	}
	if len(took) == 0 {
		return out
	}
	slices.Sort(took)
	at := func(percent int) float64 { return took[(len(took)*percent+99)/100-1].Seconds() }
	out.Latest, out.P50Seconds, out.P99Seconds, out.MaxSeconds = len(took), at(50), at(99), at(100)
	return out
}

// flushFindings tells of a disk that does not keep up.
func flushFindings(f *api.Flushes) []api.Finding {
	if f == nil || f.P99Seconds < slowFlush.Seconds() {
		return nil
	}
	return []api.Finding{{Level: "warn", What: "store", Why: fmt.Sprintf("batches of records take up to %.1f s until they are durable (p99 of the last 10 minutes)", f.P99Seconds),
		Action: "the disk is slow or busy: records are shed and counted when it does not keep up"}}
}
