package serve

import (
	"context"
	"fmt"
	"slices"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/bus"
	"crosstap/internal/collect/output"
	"crosstap/internal/collect/replicate"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/about"
	"crosstap/internal/ledger"
	"crosstap/internal/serve/api"
	"crosstap/internal/serve/settings"
	"crosstap/internal/tap/export"
)

// addOutputs makes what the settings name beside the store. It opens nothing.
func (s *Server) addOutputs(cfg *collect.Config) error {
	list, err := s.cfg.OutputsInUse()
	if err != nil {
		return fmt.Errorf("outputs: %w", err)
	}
	for i := range list {
		o := &list[i]
		if o.Replicate != nil {
			c := *o.Replicate
			c.Log = s.cfg.Log
			r, err := replicate.New(c)
			if err != nil {
				return fmt.Errorf("outputs: %w", err)
			}
			cfg.Replicators = append(cfg.Replicators, r)
			continue
		}
		sink, err := s.sink(o)
		if err != nil {
			return fmt.Errorf("outputs: %s: %w", o.Config.Name, err)
		}
		out, err := output.New(o.Config, sink)
		if err != nil {
			return fmt.Errorf("outputs: %w", err)
		}
		cfg.Outputs = append(cfg.Outputs, out)
	}
	return nil
}

// sink makes the end of an output.
func (s *Server) sink(o *settings.Output) (output.Sink, error) {
	switch {
	case o.Export != nil:
		return s.reexport(*o.Export)
	case o.Lines != nil:
		return output.NewLines(*o.Lines)
	case o.Kafka != nil:
		return bus.NewKafka(*o.Kafka)
	case o.JetStream != nil:
		return bus.NewJetStream(*o.JetStream)
	}
	return nil, fmt.Errorf("an output of no kind")
}

// reexport is the exporting process of the tap line at the end of an output: what others receive from a tap, they receive from here.
type reexport struct{ e *export.Exporter }

func (s *Server) reexport(t export.Target) (output.Sink, error) {
	c := export.DefaultConfig()
	c.Targets, c.Logger, c.Queue = []export.Target{t}, s.cfg.Log, output.DefaultQueue
	c.SpoolDir = s.cfg.Data + "/spool"
	c.About = func(x *about.Exporter) { x.Domain = "crosstap" }
	e, err := export.New(c)
	return reexport{e}, err
}

// Run implements output.Sink.
func (r reexport) Run(ctx context.Context, in <-chan []flow.Record) error { return r.e.Run(ctx, in) }

// Book implements output.Sink.
func (r reexport) Book() ledger.Statement { return r.e.Books()[0].Read() }

// State implements output.Sink.
func (r reexport) State() output.State {
	st := r.e.Status()[0]
	out := output.State{Connected: st.Connected || st.Local != "", Error: st.LastError, ErrorAt: st.LastErrAt, Messages: st.Messages, Bytes: st.Bytes, Retries: st.Repeated}
	if st.Omitted > 0 {
		out.Detail = fmt.Sprintf("%d records without the addresses of their tunnel, for which the format has no place", st.Omitted)
	}
	return out
}

// outputRows are the outputs as the status shows them.
func outputRows(c *collect.Status) []api.Output {
	rows := []api.Output{}
	for _, o := range c.Outputs {
		row := api.Output{
			Name: o.Name, To: o.To, Unit: string(o.Book.Unit), In: o.Book.In, Sent: o.Book.Out, Held: o.Book.Held, Dropped: o.Book.Dropped, LagSeconds: o.Lag.Seconds(),
			Messages: o.State.Messages, Bytes: o.State.Bytes, Retries: o.State.Retries, Error: o.State.Error, Note: o.State.Detail,
		}
		if !o.State.ErrorAt.IsZero() {
			at := o.State.ErrorAt.UTC().Truncate(time.Millisecond)
			row.ErrorAt = &at
		}
		rows = append(rows, row)
	}
	for _, r := range c.Replicators {
		for _, t := range r.Targets {
			row := api.Output{
				Name: r.Name, To: "udp://" + t.Address, Unit: string(t.Book.Unit), In: t.Book.In, Sent: t.Book.Out, Held: t.Book.Held, Dropped: t.Book.Dropped,
				Messages: t.Book.Out, Bytes: t.Bytes, Error: t.Error, Note: "from our own address",
			}
			if t.Kept {
				row.Note = "from the exporters' addresses"
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// wanted are the reasons under which an output leaves out what it was told to.
var wanted = []string{"not_canonical", "filtered", "not_sampled"}

// outputFindings name the outputs that lose what they should send.
func outputFindings(rows []api.Output) []api.Finding {
	var out []api.Finding
	for _, r := range rows {
		var lost uint64
		for _, d := range r.Dropped {
			if !slices.Contains(wanted, d.Reason) {
				lost += d.N
			}
		}
		if lost == 0 {
			continue
		}
		why := fmt.Sprintf("%d %s were not delivered to %s", lost, r.Unit, r.To)
		if r.Error != "" {
			why += ": " + r.Error
		}
		out = append(out, api.Finding{Level: "warn", What: "output " + r.Name, Why: why, Action: "see crosstap status for the reasons; the store has them all"})
	}
	return out
}
