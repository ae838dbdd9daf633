package output

import (
	"sync"
	"time"
)

// lag knows when records that are still waiting were offered, to a second.
type lag struct {
	mu    sync.Mutex
	total uint64 // records offered
	steps []step
}

// step says how many records had been offered at the end of a stretch of time.
type step struct {
	atNS  int64 // its begin
	total uint64
}

const maxSteps = 4096

// offered notes n more records; done of all are no longer waiting.
func (l *lag) offered(n int, nowNS int64, done uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total += uint64(n)
	l.prune(done)
	if k := len(l.steps); k > 0 && (nowNS-l.steps[k-1].atNS < int64(time.Second) || k == maxSteps) {
		l.steps[k-1].total = l.total
		return
	}
	l.steps = append(l.steps, step{nowNS, l.total})
}

func (l *lag) prune(done uint64) {
	n := 0
	for n < len(l.steps) && l.steps[n].total <= done {
		n++
	}
	l.steps = l.steps[:copy(l.steps, l.steps[n:])]
}

// read returns how long the oldest has waited.
func (l *lag) read(nowNS int64, done uint64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(done)
	if len(l.steps) == 0 {
		return 0
	}
	return max(time.Duration(nowNS-l.steps[0].atNS), 0)
}
