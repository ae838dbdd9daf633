package agent

import (
	"context"
	"time"
)

// sweep removes what processes that were killed have left, as far as its lease has ended.
func (a *Agent) sweep() {
	if a.cfg.Sweep == nil {
		return
	}
	gone, err := a.cfg.Sweep()
	for _, what := range gone {
		a.cfg.Log.Warn("removed what was left in the kernel", "what", what)
	}
	if err != nil && a.unswept != err.Error() {
		a.unswept = err.Error()
		a.cfg.Log.Warn("not all interfaces could be swept", "error", err)
	}
}

// sweepInterval is longer than the lease of what is left in the kernel: what an agent did not find at its start, since it was started again at once, it
// finds then. Tests shorten it.
var sweepInterval = 20 * time.Second

func (a *Agent) sweepNowAndThen(ctx context.Context) {
	for sleep(ctx, sweepInterval); ctx.Err() == nil; sleep(ctx, sweepInterval) {
		a.sweep()
	}
}
