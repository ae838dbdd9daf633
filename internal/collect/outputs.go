package collect

import (
	"context"
	"sync"
	"time"

	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/output"
	"crosstap/internal/collect/replicate"
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
	runUntil(ctx, c.cfg.Outputs, drained, c.outputWait)
	return nil
}

// replicate gives a datagram to every replicator.
func (c *Collector) replicate(d *listen.Datagram) {
	for _, r := range c.cfg.Replicators {
		r.Offer(replicate.Datagram{Data: d.Data, From: d.From, Protocol: d.Protocol, Stream: d.Via.Stream()})
	}
}

// runReplicators runs the replicators until they have sent what came before received.
func (c *Collector) runReplicators(ctx context.Context, received <-chan struct{}) error {
	runUntil(ctx, c.cfg.Replicators, received, c.outputWait)
	return nil
}

// runner is an output or a replicator: Run ends when Close was called and what had been offered before is done, or when ctx ends.
type runner interface {
	Run(ctx context.Context)
	Close()
}

// runUntil runs all until end, closes them, and gives them so long for what they hold.
func runUntil[R runner](ctx context.Context, all []R, end <-chan struct{}, wait time.Duration) {
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range all {
		wg.Go(func() { r.Run(ctx) })
	}
	<-end
	for _, r := range all {
		r.Close()
	}
	defer time.AfterFunc(wait, cancel).Stop()
	wg.Wait()
}

// bindReplicators opens what needs a permission, once the own addresses are known.
func (c *Collector) bindReplicators() error {
	if c.bound || len(c.cfg.Replicators) == 0 {
		return nil
	}
	for _, r := range c.cfg.Replicators {
		if err := r.Bind(c.Addrs()); err != nil {
			return err
		}
	}
	c.bound = true
	return nil
}

// replicators returns the state of the replicators.
func (c *Collector) replicators() []replicate.Status {
	var out []replicate.Status
	for _, r := range c.cfg.Replicators {
		out = append(out, r.Status())
	}
	return out
}

// outputs returns the state of the outputs.
func (c *Collector) outputs(nowNS int64) []output.Status {
	var out []output.Status
	for _, o := range c.cfg.Outputs {
		out = append(out, o.Status(nowNS))
	}
	return out
}
