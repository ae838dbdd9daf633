package collect

import (
	"context"
	"sync"
	"time"

	"crosstap/internal/collect/output"
	"crosstap/internal/flow"
)

// outputWait bounds how long outputs may take to deliver what they hold once the line is empty.
const outputWait = 10 * time.Second

// offer gives a batch to every output.
func (c *Collector) offer(recs []flow.Record) {
	if len(c.cfg.Outputs) == 0 {
		return
	}
	now := time.Now().UnixNano()
	for _, o := range c.cfg.Outputs {
		o.Offer(recs, now)
	}
}

// runOutputs runs the outputs until they have delivered what was offered before drained.
func (c *Collector) runOutputs(ctx context.Context, drained <-chan struct{}) error {
	if len(c.cfg.Outputs) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, o := range c.cfg.Outputs {
		wg.Go(func() { o.Run(ctx) })
	}
	<-drained
	for _, o := range c.cfg.Outputs {
		o.Close()
	}
	defer time.AfterFunc(outputWait, cancel).Stop()
	wg.Wait()
	return nil
}

// outputs returns the state of the outputs.
func (c *Collector) outputs(nowNS int64) []output.Status {
	var out []output.Status
	for _, o := range c.cfg.Outputs {
		out = append(out, o.Status(nowNS))
	}
	return out
}
