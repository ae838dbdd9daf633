package segment

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"crosstap/internal/collect/store"
)

// The engine keeps the state of some aggregates (median, quantiles, mode) and values that functions make (repeat) beside its limit. So the memory of the whole
// process is looked at while a question in SQL runs.
const (
	memoryLook  = 50 * time.Millisecond
	memorySlack = 256 << 20 // what ingest and reports may take meanwhile, at least
)

// boundMemory returns a context that ends, with its cause, once the process has grown by more than a question, the reports beside it and ingest may take.
// Call the function at the end.
func (s *Store) boundMemory(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	start, ok := residentBytes()
	if !ok {
		return ctx, func() { cancel(nil) }
	}
	most := s.cfg.QueryMemory + max(s.cfg.QueryMemory, memorySlack)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(memoryLook)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now, ok := residentBytes(); ok && now-start > most {
				cancel(&store.SQLError{Message: fmt.Sprintf("the question took more than %d MiB; narrow the time range, add conditions, or ask without aggregates that hold all values, such as median", most>>20)})
				return
			}
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

// residentBytes is the memory that the process occupies, and whether the kernel tells it.
func residentBytes() (int64, bool) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}
