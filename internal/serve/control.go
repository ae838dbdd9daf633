package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/control"
	"crosstap/internal/control/plan"
	"crosstap/internal/control/platform"
	agentplatform "crosstap/internal/control/platform/agent"
	"crosstap/internal/flow"
	"crosstap/internal/serve/controlapi"
	"crosstap/internal/serve/desk"
	"crosstap/internal/state"
)

// controls is the control line of a server: what shall be seen, and the watch that keeps it so.
type controls struct {
	store *state.Store
	line  *control.Line
	api   http.Handler
}

// openControl opens the control line. Its file stands beside the flows.
func (s *Server) openControl(ctx context.Context, rates plan.Rates) (c controls, err error) {
	if c.store, err = state.Open(ctx, filepath.Join(s.cfg.Data, "control.db")); err != nil {
		return c, fmt.Errorf("serve: %w", err)
	}
	c.line, err = control.New(control.Config{
		Owner: s.cfg.ControlOwner, Store: c.store, Connect: controlapi.Connect(s.cfg.Log), Rates: rates, Log: s.cfg.Log,
	})
	if err != nil {
		return c, errors.Join(fmt.Errorf("serve: %w", err), c.store.Close())
	}
	c.api = controlapi.New(controlapi.Config{Line: c.line, Store: c.store, Log: s.cfg.Log})
	return c, nil
}

// own makes the server's agents a platform of the control line, when there may be any.
func (c *controls) own(a agents) error {
	if a.hub == nil {
		return nil
	}
	p, err := agentplatform.New(agentplatform.Config{Desk: desk.New(a.hub)})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return c.line.Own(p)
}

// control keeps platforms as they are wanted until ctx ends. What ends it before is said, and the rest of the server goes on.
func (s *Server) control(ctx context.Context) error {
	if err := s.controls.line.Run(ctx); err != nil {
		s.cfg.Log.Error("platforms are not watched any more", "err", err)
	}
	return nil
}

func (c *controls) close() error {
	if c.line == nil {
		return nil
	}
	return errors.Join(c.line.Close(), c.store.Close())
}

// rates tells what machines send and receive from stored flows.
type rates struct{ reports report.Reporter }

// ratesFrom is how far back rates are looked for, and ratesWait how long one may take.
const (
	ratesFrom = 24 * time.Hour
	ratesWait = 10 * time.Second
)

// Expect implements plan.Rates: the machines' flows of the last day, those under the filter when the flow language can say it.
func (r rates) Expect(vms []string, _ []flow.MAC, _ platform.Direction, packets string) (plan.Rate, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), ratesWait)
	defer cancel()
	filter := vmFilter(vms)
	if packets != "" {
		filter += " and (" + packets + ")"
		if report.CheckFilter(filter) != nil {
			return plan.Rate{}, false // said in words that flows have not
		}
	}
	now := time.Now()
	q := report.Query{Since: now.Add(-ratesFrom), Until: now, Filter: filter, By: []string{"proto"}, Limit: 100}
	t, err := r.reports.Top(ctx, q)
	if err != nil || len(t.Rows) == 0 {
		return plan.Rate{}, false
	}
	out := plan.Rate{Of: "flows of the last 24 h"}
	for _, row := range t.Rows {
		out.BPS += 8 * float64(max(row.L2Octets, row.Octets)) / ratesFrom.Seconds()
		out.PPS += float64(row.Packets) / ratesFrom.Seconds()
	}
	out.Peak = out.BPS
	q.By, q.Step, q.Metric, q.Limit = nil, time.Minute, "l2_octets", 0
	if series, err := r.reports.Series(ctx, q); err == nil {
		for _, line := range series.Lines {
			out.Peak = max(out.Peak, line.Max)
		}
	}
	return out, true
}

// vmFilter is the flow filter for machines by name. Many are asked for as they are few: a filter has its limits, and the first stand for all.
func vmFilter(vms []string) string {
	const most = 200
	names := slices.Clone(vms)
	slices.Sort(names)
	names = slices.Compact(names)
	text := "vm in ("
	for i, n := range names[:min(len(names), most)] {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%q", n)
	}
	return text + ")"
}
