package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// exporterLabels is the number of exporters up to which each has lines of its own in the metrics. Above
// it there are only sums; the exporters document has the figures of each.
const exporterLabels = 200

// catalog is every metric that a scrape reads from the state.
var catalog = []*metric{
	build, healthy, stageIn, stageOut, stageHeld, stageDrop, socket, received, datagrams, records, lost, missing, failures, templates, skew, exporters, outputIn, outputSent, outputHeld, outputDrop, outputLag, outputBytes, outputRetries, flowsKnown, flowsForgotten, flowsRetimed, rows, pending, size, segments, rolls, rollSize, unmerged, newest, flushTime, agents, agentTaps,
}

// metrics reads a snapshot of the state at each scrape; only query times are kept here.
type metrics struct {
	status  func() Status
	agents  func() AgentCounts // nil for a server that has none
	queries *prometheus.HistogramVec
}

func newMetrics(reg *prometheus.Registry, status func() Status, agents func() AgentCounts) *metrics {
	m := &metrics{status: status, agents: agents, queries: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: queryDuration.Name, Help: queryDuration.Help,
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, queryDuration.Labels)}
	reg.MustRegister(m, m.queries, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func metricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Metric describes one metric for the generated reference page.
type Metric struct {
	Name, Type, Help string
	Labels           []string
}

// metric is a Metric with what the client library needs of it.
type metric struct {
	Metric
	desc *prometheus.Desc
}

func define(kind, name, help string, labels ...string) *metric {
	name = "crosstap_" + name
	return &metric{Metric{name, kind, help, labels}, prometheus.NewDesc(name, help, labels, nil)}
}

// Metrics lists the metrics of the server, without those of the Go runtime and the process that the
// client library brings.
func Metrics() []Metric {
	out := []Metric{queryDuration}
	for _, m := range catalog {
		out = append(out, m.Metric)
	}
	slices.SortFunc(out, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return out
}

var queryDuration = Metric{"crosstap_query_duration_seconds", "histogram", "Time that reports took, with waiting for their turn.", []string{"report"}}

var (
	build     = define("gauge", "build_info", "Version of this server; the value is always 1.", "version")
	healthy   = define("gauge", "healthy", "1 while nothing has failed.")
	stageIn   = define("counter", "stage_in_total", "Units that a stage of the collect line received.", "stage", "unit")
	stageOut  = define("counter", "stage_out_total", "Units that a stage passed on.", "stage", "unit")
	stageHeld = define("gauge", "stage_held", "Units that a stage keeps for later.", "stage", "unit")
	stageDrop = define("counter", "stage_dropped_total", "Units that a stage did not pass on, by reason.", "stage", "unit", "reason")
	socket    = define("counter", "collector_socket_dropped_datagrams_total", "Datagrams the kernel dropped because a receive buffer was full.", "listener")
	received  = define("counter", "collector_socket_datagrams_total", "Datagrams received.", "listener")

	datagrams = define("counter", "collector_datagrams_total", "Datagrams or messages decoded.", "protocol", "exporter", "domain")
	records   = define("counter", "collector_records_total", "Flow records decoded.", "protocol", "exporter", "domain")
	lost      = define("counter", "collector_sequence_lost_records_total", "Flow records missing by their sequence numbers.", "protocol", "exporter", "domain")
	missing   = define("counter", "collector_template_missing_records_total", "Data sets whose template was not known.", "protocol", "exporter", "domain")
	failures  = define("counter", "collector_errors_total", "Datagrams that could not be decoded.", "protocol", "exporter", "domain")
	templates = define("gauge", "collector_templates", "Templates known.", "protocol", "exporter", "domain")
	skew      = define("gauge", "collector_clock_skew_seconds", "Exporter's clock minus ours.", "protocol", "exporter", "domain")
	exporters = define("gauge", "collector_exporters", "Exporters ever seen, by state.", "state")

	agents    = define("gauge", "agents", "Agents that the server knows, by state.", "state")
	agentTaps = define("gauge", "agent_taps", "Taps of agents, by the state that they were reported in last.", "state")

	outputIn      = define("counter", "output_in_total", "Records or datagrams offered to an output.", "output", "to", "unit")
	outputSent    = define("counter", "output_sent_total", "Those that its receiver confirmed, or that the system took.", "output", "to", "unit")
	outputHeld    = define("gauge", "output_held", "Those that wait.", "output", "to", "unit")
	outputDrop    = define("counter", "output_dropped_total", "Those that an output did not send, by reason.", "output", "to", "unit", "reason")
	outputLag     = define("gauge", "output_lag_seconds", "How long the oldest that waits has waited.", "output", "to")
	outputBytes   = define("counter", "output_bytes_total", "Bytes sent, before compression.", "output", "to")
	outputRetries = define("counter", "output_retries_total", "Messages sent again, and connections tried again.", "output", "to")

	flowsKnown     = define("gauge", "flows_known", "Directions of flows that are remembered to find out which observer of each one counts.")
	flowsForgotten = define("counter", "flows_forgotten_total", "Directions forgotten to make room; what comes of them next may be counted twice.")
	flowsRetimed   = define("counter", "flows_retimed_total", "Records whose times could not be right; they are stored at the time of their receipt.")

	rows      = define("gauge", "store_rows", "Rows stored and not yet expired.")
	pending   = define("gauge", "store_pending_rows", "Rows accepted and not yet durable.")
	size      = define("gauge", "store_size_bytes", "Size of the store on disk.")
	segments  = define("gauge", "store_segments", "Files of the store.")
	rolls     = define("gauge", "store_rollup_rows", "Rows of roll-ups by the hour.")
	rollSize  = define("gauge", "store_rollup_size_bytes", "Size of the roll-ups on disk.")
	unmerged  = define("gauge", "store_unmerged_rollups", "Roll-ups of single hours; those of hours that are over for a day are merged in the background.")
	flushTime = define("histogram", "store_flush_seconds", "Time that batches of records took from full, or due, to durable.")
	newest    = define("gauge", "store_newest_timestamp_seconds", "Newest stored end of a flow, Unix time.")
)

// Describe sends nothing: the set of lines depends on what the server runs (an unchecked collector).
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the state once and sends its lines.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.status()
	counter := func(d *metric, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d.desc, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *metric, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, v, labels...)
	}
	gauge(build, 1, s.Version)
	gauge(healthy, float64(b2i(s.Healthy)))
	gauge(flowsKnown, float64(s.Flows.Known))
	counter(flowsForgotten, s.Flows.Forgotten)
	counter(flowsRetimed, s.Flows.Retimed)
	for _, st := range s.Stages {
		unit := string(st.Unit)
		counter(stageIn, st.In, st.Stage, unit)
		counter(stageOut, st.Out, st.Stage, unit)
		gauge(stageHeld, float64(st.Held), st.Stage, unit)
		for _, d := range st.Dropped {
			counter(stageDrop, d.N, st.Stage, unit, d.Reason)
		}
	}
	for _, l := range s.Listeners {
		if l.Name != "http" {
			counter(received, l.Datagrams, l.Address)
			counter(socket, l.DroppedDatagrams, l.Address)
		}
	}
	collectExporters(s.Exporters, counter, gauge)
	collectOutputs(s.Outputs, counter, gauge)
	gauge(rows, float64(s.Store.Rows))
	gauge(pending, float64(s.Store.Pending))
	gauge(size, float64(s.Store.SizeBytes))
	gauge(segments, float64(s.Store.Segments))
	gauge(rolls, float64(s.Store.RollupRows))
	gauge(rollSize, float64(s.Store.RollupBytes))
	gauge(unmerged, float64(s.Store.UnmergedRollups))
	if m.agents != nil {
		n := m.agents()
		for state, count := range n.Agents {
			gauge(agents, float64(count), state)
		}
		for state, count := range n.Taps {
			gauge(agentTaps, float64(count), state)
		}
	}
	if f := s.Store.Flushes; f != nil {
		below := map[float64]uint64{}
		for i, le := range FlushBuckets {
			below[le] = f.Below[i]
		}
		ch <- prometheus.MustNewConstHistogram(flushTime.desc, f.Batches, f.SumSeconds, below)
	}
	if s.Store.DataUntil != nil {
		gauge(newest, float64(s.Store.DataUntil.UnixMilli())/1000)
	}
}

func collectOutputs(list []Output, counter func(*metric, uint64, ...string), gauge func(*metric, float64, ...string)) {
	for _, o := range list {
		counter(outputIn, o.In, o.Name, o.To, o.Unit)
		counter(outputSent, o.Sent, o.Name, o.To, o.Unit)
		gauge(outputHeld, float64(o.Held), o.Name, o.To, o.Unit)
		for _, d := range o.Dropped {
			counter(outputDrop, d.N, o.Name, o.To, o.Unit, d.Reason)
		}
		gauge(outputLag, o.LagSeconds, o.Name, o.To)
		counter(outputBytes, o.Bytes, o.Name, o.To)
		counter(outputRetries, o.Retries, o.Name, o.To)
	}
}

func collectExporters(list []Exporter, counter func(*metric, uint64, ...string), gauge func(*metric, float64, ...string)) {
	states := map[string]int{"active": 0, "silent": 0}
	for _, e := range list {
		states[e.State]++
	}
	for state, n := range states {
		gauge(exporters, float64(n), state)
	}
	if len(list) > exporterLabels {
		list = sums(list)
	}
	for _, e := range list {
		labels := []string{e.Protocol, e.Address, strconv.FormatUint(uint64(e.Domain), 10)}
		if e.Address == "" {
			labels[2] = ""
		}
		counter(datagrams, e.Datagrams, labels...)
		counter(records, e.Records, labels...)
		counter(lost, e.LostRecords, labels...)
		counter(missing, e.TemplateMissingRecords, labels...)
		counter(failures, e.Errors, labels...)
		gauge(templates, float64(e.Templates), labels...)
		if e.ClockSkewSeconds != nil {
			gauge(skew, *e.ClockSkewSeconds, labels...)
		}
	}
}

// sums adds up the exporters of each protocol.
func sums(list []Exporter) []Exporter {
	var out []Exporter
	index := map[string]int{}
	for _, e := range list {
		i, ok := index[e.Protocol]
		if !ok {
			i = len(out)
			index[e.Protocol] = i
			out = append(out, Exporter{Protocol: e.Protocol})
		}
		t := &out[i]
		t.Datagrams += e.Datagrams
		t.Records += e.Records
		t.LostRecords += e.LostRecords
		t.TemplateMissingRecords += e.TemplateMissingRecords
		t.Errors += e.Errors
		t.Templates += e.Templates
	}
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
