package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"crosstap/internal/agentapi"
	"crosstap/internal/tap/governor"
)

// serveMetrics serves the metrics of taps until stop is called.
func serveMetrics(addr string, taps func() []agentapi.Tap) (stop func(), err error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(tapMetrics{taps}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 2}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return // the tap matters more than who watches it
		}
	}()
	return func() { _ = srv.Close(); <-done }, nil
}

// tapMetrics reads the books of taps at each scrape.
type tapMetrics struct{ taps func() []agentapi.Tap }

func tapDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("crosstap_tap_"+name, help, append([]string{"tap"}, labels...), nil)
}

var (
	tapRunning = tapDesc("running", "1 while the tap captures.")
	tapIn      = tapDesc("stage_in_total", "Units that a stage of the tap line received.", "stage", "unit")
	tapMade    = tapDesc("stage_made_total", "Units that a stage made beyond those, such as segments of super-frames.", "stage", "unit")
	tapOut     = tapDesc("stage_out_total", "Units that a stage passed on.", "stage", "unit")
	tapHeld    = tapDesc("stage_held", "Units that a stage keeps for later.", "stage", "unit")
	tapDropped = tapDesc("stage_dropped_total", "Units that a stage did not pass on, by reason.", "stage", "unit", "reason")

	tapLevel = tapDesc("level", "How much of its work the tap does: 1 for the present level, 0 for the others.", "level")
	tapSteps = tapDesc("level_steps_total", "Changes of the level, by the level that followed.", "level")
	tapCPU   = tapDesc("cpu_cores", "Processors that the tap takes, with what the kernel does for it.")
	tapMem   = tapDesc("memory_bytes", "Memory that the tap takes, with its rings.")
	tapRate  = tapDesc("mirror_bits_per_second", "Bits of copies that leave for other hosts.")

	tapSent   = tapDesc("destination_sent_total", "Units that a destination took.", "to", "unit")
	tapQueued = tapDesc("destination_queued", "Units that wait for a destination.", "to", "unit")
	tapShed   = tapDesc("destination_shed_total", "Units that found no room, are beyond a rate or the budget, or that nobody took.", "to", "unit")
	tapErrors = tapDesc("destination_errors_total", "Units that could not be sent.", "to", "unit")
)

// Describe sends nothing: the set of lines depends on the taps (an unchecked collector).
func (tapMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends the lines of all taps.
func (m tapMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, t := range m.taps() {
		collectTap(&t, func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, append([]string{t.Name}, labels...)...)
		})
	}
}

func collectTap(t *agentapi.Tap, send func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	send(tapRunning, gauge, one(t.State == agentapi.StateRunning))
	seen := map[string]bool{}
	for _, b := range t.Books {
		unit, key := string(b.Unit), b.Stage
		for n := 2; seen[key+" "+unit]; n++ { // several queues, say
			key = fmt.Sprintf("%s_%d", b.Stage, n)
		}
		seen[key+" "+unit] = true
		send(tapIn, counter, float64(b.In), key, unit)
		send(tapMade, counter, float64(b.Made), key, unit)
		send(tapOut, counter, float64(b.Out), key, unit)
		send(tapHeld, gauge, float64(b.Held), key, unit)
		for _, d := range b.Dropped {
			send(tapDropped, counter, float64(d.N), key, unit, d.Reason)
		}
	}
	for _, l := range governor.Names() {
		send(tapLevel, gauge, one(t.Level == l), l)
		send(tapSteps, counter, float64(t.Counts[l]), l)
	}
	send(tapCPU, gauge, t.CPU)
	send(tapMem, gauge, t.Memory)
	send(tapRate, gauge, t.Mirror)
	clear(seen)
	for i, d := range t.To {
		to, _, _ := strings.Cut(d.URL, "?")
		if seen[to] {
			to = fmt.Sprintf("%s #%d", to, i+1)
		}
		seen[to] = true
		send(tapSent, counter, float64(d.Sent), to, d.Unit)
		send(tapQueued, gauge, float64(d.Queued), to, d.Unit)
		send(tapShed, counter, float64(d.Shed), to, d.Unit)
		send(tapErrors, counter, float64(d.Errors), to, d.Unit)
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
