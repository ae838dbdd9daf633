package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/tap/governor"
)

// inUse is how long an address that is in use is asked for: a process that was killed may still be ending, and the one that takes its place begins at once.
const inUse = 5 * time.Second

// listenSoon listens at an address, and waits a moment for one that is in use.
func listenSoon(ctx context.Context, addr string, log *slog.Logger) (net.Listener, error) {
	const again = 50 * time.Millisecond
	tick := time.NewTicker(again)
	defer tick.Stop()
	began := time.Now()
	for told := false; ; told = true {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		switch {
		case err == nil && told:
			log.Info("the address for metrics is free now", "address", addr, "waited", time.Since(began).Round(time.Millisecond))
			return ln, nil
		case err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Since(began) > inUse:
			return ln, err
		case !told:
			log.Warn("the address for metrics is in use: trying again", "address", addr, "for", inUse)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// serveMetrics serves the metrics of taps until stop is called.
func serveMetrics(ctx context.Context, addr string, log *slog.Logger, taps func() []agentapi.Tap) (stop func(), err error) {
	ln, err := listenSoon(ctx, addr, log)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", exposition)
		_, _ = w.Write(scrape(taps()))
	})
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

// tapMetric is a metric of a tap, for the scrape and for the reference page.
type tapMetric struct {
	kind       string // counter or gauge
	name, help string
	labels     []string
}

// tapCatalog is every metric of a tap.
var tapCatalog []*tapMetric

func tapDesc(kind, name, help string, labels ...string) *tapMetric {
	m := &tapMetric{kind, "crosstap_tap_" + name, help, append([]string{"tap"}, labels...)}
	tapCatalog = append(tapCatalog, m)
	return m
}

const counter, gauge = "counter", "gauge"

var (
	tapRunning = tapDesc(gauge, "running", "1 while the tap captures.")
	tapPath    = tapDesc(gauge, "path", "1 for the path that frames of interfaces take: ring, tcx or clsact.", "path")
	tapIn      = tapDesc(counter, "stage_in_total", "Units that a stage of the tap line received.", "stage", "unit")
	tapMade    = tapDesc(counter, "stage_made_total", "Units that a stage made beyond those, such as segments of super-frames.", "stage", "unit")
	tapOut     = tapDesc(counter, "stage_out_total", "Units that a stage passed on.", "stage", "unit")
	tapHeld    = tapDesc(gauge, "stage_held", "Units that a stage keeps for later.", "stage", "unit")
	tapDropped = tapDesc(counter, "stage_dropped_total", "Units that a stage did not pass on, by reason.", "stage", "unit", "reason")

	tapLevel = tapDesc(gauge, "level", "How much of its work the tap does: 1 for the present level, 0 for the others.", "level")
	tapSteps = tapDesc(counter, "level_steps_total", "Changes of the level, by the level that followed.", "level")
	tapCPU   = tapDesc(gauge, "cpu_cores", "Processors that the tap takes, with what the kernel does for it.")
	tapMem   = tapDesc(gauge, "memory_bytes", "Memory that the tap takes, with its rings.")
	tapRate  = tapDesc(gauge, "mirror_bits_per_second", "Bits of copies that leave for other hosts.")

	tapSent   = tapDesc(counter, "destination_sent_total", "Units that a destination took.", "to", "unit")
	tapQueued = tapDesc(gauge, "destination_queued", "Units that wait for a destination.", "to", "unit")
	tapShed   = tapDesc(counter, "destination_shed_total", "Units that found no room, are beyond a rate or the budget, or that nobody took.", "to", "unit")
	tapErrors = tapDesc(counter, "destination_errors_total", "Units that could not be sent or written.", "to", "unit")
	tapUp     = tapDesc(gauge, "destination_up", "0 while a destination fails: a file cannot be written, a collector or a receiver is away; else 1.", "to")

	tapPairFrames   = tapDesc(counter, "inline_frames_total", "Frames that an inline pair passed on, by the interface that they came in by.", "from")
	tapPairSegments = tapDesc(counter, "inline_segments_total", "Wire segments of those.", "from")
	tapPairBytes    = tapDesc(counter, "inline_bytes_total", "Bytes of those.", "from")
	tapPairLink     = tapDesc(gauge, "inline_link_up", "1 while an interface of an inline pair has a signal.", "interface")
	tapPairHost     = tapDesc(counter, "inline_host_frames_total", "Frames that the host itself wanted to send into an inline pair, and that were held back.")
	tapPairAlone    = tapDesc(counter, "inline_unwatched_frames_total", "Frames that an inline pair passed on while its lease was not renewed.")
)

func collectTap(t *agentapi.Tap, send func(*tapMetric, float64, ...string)) {
	send(tapRunning, one(t.State == agentapi.StateRunning))
	if t.Path != "" {
		send(tapPath, 1, t.Path)
	}
	collectPair(t.Inline, send)
	seen := map[string]bool{}
	for _, b := range t.Books {
		unit, key := string(b.Unit), b.Stage
		for n := 2; seen[key+" "+unit]; n++ { // several queues, say
			key = fmt.Sprintf("%s_%d", b.Stage, n)
		}
		seen[key+" "+unit] = true
		send(tapIn, float64(b.In), key, unit)
		send(tapMade, float64(b.Made), key, unit)
		send(tapOut, float64(b.Out), key, unit)
		send(tapHeld, float64(b.Held), key, unit)
		for _, d := range b.Dropped {
			send(tapDropped, float64(d.N), key, unit, d.Reason)
		}
	}
	for _, l := range governor.Names() {
		send(tapLevel, one(t.Level == l), l)
		send(tapSteps, float64(t.Counts[l]), l)
	}
	send(tapCPU, t.CPU)
	send(tapMem, t.Memory)
	send(tapRate, t.Mirror)
	clear(seen)
	for i, d := range t.To {
		to, _, _ := strings.Cut(d.URL, "?")
		if seen[to] {
			to = fmt.Sprintf("%s #%d", to, i+1)
		}
		seen[to] = true
		send(tapSent, float64(d.Sent), to, d.Unit)
		send(tapQueued, float64(d.Queued), to, d.Unit)
		send(tapShed, float64(d.Shed), to, d.Unit)
		send(tapErrors, float64(d.Errors), to, d.Unit)
		send(tapUp, one(!d.Failing()), to)
	}
}

// collectPair sends what an inline pair has passed on; nothing without one.
func collectPair(p *agentapi.Inline, send func(*tapMetric, float64, ...string)) {
	if p == nil {
		return
	}
	for i, name := range []string{p.A, p.B} {
		send(tapPairFrames, float64(p.Frames[i]), name)
		send(tapPairSegments, float64(p.Segments[i]), name)
		send(tapPairBytes, float64(p.Bytes[i]), name)
		send(tapPairLink, one(p.Up[i]), name)
	}
	send(tapPairHost, float64(p.Host))
	send(tapPairAlone, float64(p.Unwatched))
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
