package serve

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"crosstap/internal/collect"
	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/report"
	"crosstap/internal/collect/session"
	"crosstap/internal/collect/store"
	"crosstap/internal/ledger"
	"crosstap/internal/obs"
	"crosstap/internal/serve/api"
)

// Status returns how the server is.
func (s *Server) Status() api.Status {
	st := s.store.Stats()
	out := api.Status{
		Schema: report.SchemaVersion, Version: obs.Version().Version, Now: time.Now().UTC().Truncate(time.Millisecond), StartedAt: s.started.UTC().Truncate(time.Millisecond),
		Process: process(), Store: storeStatus(s.storeName(), st), Listeners: []api.Listener{}, Exporters: []api.Exporter{}, Findings: []api.Finding{}, Outputs: []api.Output{},
		Stages: []ledger.Statement{}, Inventory: s.inventory.get(),
	}
	if s.collector != nil {
		s.collecting(&out)
	}
	s.writing(&out)
	out.Stages = append(out.Stages, st.Book)
	out.Store.Flushes = s.flushes.read()
	out.Findings = append(out.Findings, storeFindings(st)...)
	out.Findings = append(out.Findings, flushFindings(out.Store.Flushes)...)
	out.Findings = append(out.Findings, s.agents.findings()...)
	out.Healthy = !slices.ContainsFunc(out.Findings, func(f api.Finding) bool { return f.Level == "fail" })
	return out
}

// collecting adds the state of the collect line.
func (s *Server) collecting(out *api.Status) {
	c := s.collector.Status()
	for _, l := range c.Listeners {
		row := listener(l)
		out.Listeners = append(out.Listeners, row)
		if row.DroppedDatagrams > 0 {
			out.Findings = append(out.Findings, api.Finding{Level: "warn", What: "socket " + l.Addr, Why: fmt.Sprintf("the kernel dropped %d datagrams", row.DroppedDatagrams),
				Action: fmt.Sprintf("raise net.core.rmem_max to %d, or spread exporters over several --flows", l.Wanted)})
		}
	}
	if s.http != nil {
		out.Listeners = append(out.Listeners, api.Listener{Name: "http", Network: "tcp", Address: s.http.String()})
	}
	out.Flows = api.FlowTable{Known: c.Flows.Flows, Forgotten: c.Flows.Evicted, Ambiguous: c.Flows.Ambiguous, Retimed: c.Flows.Times}
	if n := c.Flows.Evicted; n > 0 {
		out.Findings = append(out.Findings, api.Finding{Level: "warn", What: "flows", Why: fmt.Sprintf("%d were forgotten to make room; what came of them later may be counted twice", n),
			Action: fmt.Sprintf("raise --flows-remembered above %d; each takes some 350 bytes", s.cfg.FlowsRemembered)})
	}
	if n := c.Flows.Times; n > 0 {
		out.Findings = append(out.Findings, api.Finding{Level: "warn", What: "clocks", Why: fmt.Sprintf("records with times more than seven days back or an hour ahead: %d; they are stored at the time of receipt", n),
			Action: "set the exporters' clocks; crosstap exporters -o wide shows how far each is off"})
	}
	out.Stages = merged(c.Books)
	out.Outputs = outputRows(&c)
	out.Findings = append(out.Findings, outputFindings(out.Outputs)...)
	for _, e := range c.Exporters {
		out.Exporters = append(out.Exporters, exporter(&e))
	}
	out.Findings = append(out.Findings, exporterFindings(c.Exporters)...)
	if i := out.Inventory; i != nil && i.Error != "" {
		out.Findings = append(out.Findings, api.Finding{Level: "warn", What: "inventory", Why: i.Error, Action: "correct " + i.Path + "; the version before stays in use"})
	}
}

func listener(l listen.Status) api.Listener {
	out := api.Listener{
		Name: "flows", Network: l.Network, Address: l.Addr, Datagrams: l.Book.In, BufferBytes: uint64(l.ReceiveBuffer), Sockets: l.Sockets,
		Connections: l.Connections, Refused: l.Refused + l.Book.Dropped[listen.DropRefused].N, Error: l.TLSError,
	}
	if len(l.Book.Dropped) > listen.DropKernel {
		out.DroppedDatagrams = l.Book.Dropped[listen.DropKernel].N
	}
	return out
}

// merged adds up the books of stages of the same name, such as several sockets.
func merged(books []ledger.Statement) []ledger.Statement {
	out := []ledger.Statement{}
	for _, b := range books {
		i := slices.IndexFunc(out, func(o ledger.Statement) bool { return o.Stage == b.Stage && o.Unit == b.Unit })
		if i < 0 {
			b.Dropped = slices.Clone(b.Dropped)
			out = append(out, b)
			continue
		}
		t := &out[i]
		t.In, t.Out, t.Held = t.In+b.In, t.Out+b.Out, t.Held+b.Held
		for j := range b.Dropped {
			t.Dropped[j].N += b.Dropped[j].N
		}
	}
	return out
}

func exporter(e *collect.Exporter) api.Exporter {
	out := api.Exporter{
		Address: e.Address.String(), Domain: e.Domain, Name: cmp.Or(e.Name, e.Observer), Protocol: e.Protocol.String(), State: "active",
		FirstSeen: *moment(e.FirstNS), LastSeen: *moment(e.LastNS), Datagrams: e.Datagrams, Records: e.Records, OptionRecords: e.OptionRecords, LostRecords: e.LostRecords,
		Templates: e.Templates, TemplateMissingRecords: e.MissingSets, UnknownFields: e.UnknownFields, Errors: e.Errors,
		RecordsPerSecond: e.RecordsPerSecond, LossRatio: e.LossShare(), LossUnit: e.Unit.String(), ShedDatagrams: e.Shed, NotSent: e.NotSent,
		TemplatesMissing: e.PendingSets, TemplateConflicts: e.Conflicts, BorrowedRecords: e.Borrowed, Counters: e.CounterSamples,
		Sampling: max(e.Sampling.Rate, 1), SamplingSource: e.Sampling.Source.String(), SamplingNote: samplingNote(&e.Sampling),
		UnknownElements: strings.Join(e.Unknown, " "), Feeds: strings.Join(e.Feeds, ", "),
	}
	if e.Silent {
		out.State = "silent"
	}
	if e.Skewed {
		skew := -time.Duration(e.SkewNS).Seconds() // theirs minus ours
		out.ClockSkewSeconds = &skew
	}
	return out
}

// samplingNote says what an operator may want to do about how the sampling is known.
func samplingNote(s *session.Sampling) string {
	switch s.Source {
	case session.SamplingUnknown:
		return "a VMware distributed switch samples one packet in 4096 by default and does not tell: see samplingRate of the switch, and set sampling in the exporters file; until then its figures are as received"
	case session.SamplingAssumed:
		return "the rate is a guess of the exporters file: figures made from it carry a mark"
	case session.SamplingScaled:
		return "the exporter multiplies its counters itself: they are not multiplied again"
	}
	return ""
}

// exporterFindings name what an operator should look at, the sum over all exporters for each cause.
func exporterFindings(list []collect.Exporter) []api.Finding {
	var silent, missing, lost, wrong, unsampled, shed int
	for _, e := range list {
		unsampled += count(e.Sampling.Source == session.SamplingUnknown)
		shed += count(e.Shed > 0)
		silent += count(e.Silent)
		missing += count(e.PendingSets > 0)
		lost += count(e.LostRecords > 0)
		wrong += count(e.Errors > 0)
	}
	var out []api.Finding
	add := func(n int, why, action string) {
		if n > 0 {
			out = append(out, api.Finding{Level: "warn", What: "exporters", Why: fmt.Sprintf("%d of %d %s", n, len(list), why), Action: action})
		}
	}
	add(silent, "are silent", "see crosstap exporters; is the tap or switch still configured?")
	add(missing, "sent data whose template is not known yet", "wait for its refresh, or shorten the exporter's template interval")
	add(lost, "lost records on the way (sequence gaps)", "look at the exporter's and the path's drops, and at the socket's")
	add(unsampled, "sample packets by an unknown rate", "see crosstap exporters -o wide, and set sampling in the exporters file")
	add(shed, "sent more than was decoded; some of their datagrams were dropped", "give the collector more CPU, or sample more at the exporter")
	add(wrong, "sent datagrams that could not be decoded", "see crosstap exporters; keep one with tcpdump and try crosstap decode")
	return out
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func process() api.Process {
	rss, cpu := usage()
	return api.Process{PID: os.Getpid(), ResidentBytes: rss, CPUSeconds: cpu, Goroutines: runtime.NumGoroutine()}
}

func storeStatus(dir string, st store.Stats) api.Store {
	return api.Store{
		Dir: dir, Rows: st.Rows, Pending: uint64(st.PendingRows), Segments: uint64(st.Files), SizeBytes: st.Bytes,
		DataFrom: moment(st.OldestNS), DataUntil: moment(st.NewestNS), RollupRows: st.RollupRows, RollupBytes: st.RollupBytes,
		UnmergedRollups: st.UnmergedRollups,
	}
}

// moment converts nanoseconds since the epoch; 0 is none.
func moment(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := time.Unix(0, ns).UTC()
	return &t
}

func storeFindings(st store.Stats) []api.Finding {
	var out []api.Finding
	if st.LastError != "" {
		out = append(out, api.Finding{Level: "fail", What: "store", Why: st.LastError, Action: "make room or repair the disk; records are shed and counted until then"})
	}
	if st.SetAside > 0 {
		out = append(out, api.Finding{Level: "warn", What: "store", Why: fmt.Sprintf("%d damaged files were set aside", st.SetAside), Action: "look into the folder aside of the store; their rows are missing"})
	}
	return out
}
