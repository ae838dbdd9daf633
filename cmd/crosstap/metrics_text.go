package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"crosstap/internal/agentapi"
)

// exposition is the content type of the text format (https://prometheus.io/docs/instrumenting/exposition_formats/).
const exposition = "text/plain; version=0.0.4; charset=utf-8"

// sample is one line of a metric.
type sample struct {
	labels []string // values, in the order of the metric's
	v      float64
}

// scrape returns the metrics of taps, and those of the process, as text.
func scrape(taps []agentapi.Tap) []byte {
	lines := map[*tapMetric][]sample{}
	for _, t := range taps {
		collectTap(&t, func(m *tapMetric, v float64, labels ...string) {
			lines[m] = append(lines[m], sample{append([]string{t.Name}, labels...), v})
		})
	}
	var b bytes.Buffer
	for _, m := range tapCatalog {
		m.write(&b, lines[m])
	}
	processMetrics(&b)
	return b.Bytes()
}

// write appends a metric, unless it has no line.
func (m *tapMetric) write(b *bytes.Buffer, lines []sample) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", m.name, helpText.Replace(m.help), m.name, m.kind)
	for _, s := range lines {
		b.WriteString(m.name)
		for i, v := range s.labels {
			fmt.Fprintf(b, "%c%s=\"%s\"", "{,"[min(i, 1)], m.labels[i], labelText.Replace(strings.ToValidUTF8(v, "\uFFFD")))
		}
		if len(s.labels) > 0 {
			b.WriteByte('}')
		}
		b.WriteByte(' ')
		b.WriteString(number(s.v))
		b.WriteByte('\n')
	}
}

// What has to be escaped in texts.
var (
	helpText  = strings.NewReplacer("\\", `\\`, "\n", `\n`)
	labelText = strings.NewReplacer("\\", `\\`, "\n", `\n`, `"`, `\"`)
)

func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// started is about when the process began.
var started = time.Now()

// processMetrics appends what every exporter says of its process, under the usual names. What the system does not tell is left out.
func processMetrics(b *bytes.Buffer) {
	say := func(kind, name, help string, v float64) {
		(&tapMetric{kind: kind, name: name, help: help}).write(b, []sample{{nil, v}})
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	say(gauge, "go_goroutines", "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	say(gauge, "go_memstats_heap_alloc_bytes", "Bytes of heap objects.", float64(mem.HeapAlloc))
	say(gauge, "go_memstats_sys_bytes", "Bytes that the runtime has of the system.", float64(mem.Sys))
	say(counter, "go_memstats_alloc_bytes_total", "Bytes of heap objects since the start.", float64(mem.TotalAlloc))
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		say(counter, "process_cpu_seconds_total", "User and system time of the process in seconds.", float64(u.Utime.Nano()+u.Stime.Nano())/1e9)
	}
	say(gauge, "process_start_time_seconds", "When the process began, in seconds since the Unix epoch.", float64(started.UnixMilli())/1e3)
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		say(gauge, "process_open_fds", "Number of open file descriptors.", float64(len(fds)-1)) // but for the folder itself
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		say(gauge, "process_max_fds", "Most file descriptors that may be open.", float64(limit.Cur))
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 {
			pages := func(s string) float64 { n, _ := strconv.ParseFloat(s, 64); return n * float64(os.Getpagesize()) }
			say(gauge, "process_virtual_memory_bytes", "Virtual memory in bytes.", pages(f[0]))
			say(gauge, "process_resident_memory_bytes", "Resident memory in bytes.", pages(f[1]))
		}
	}
}
