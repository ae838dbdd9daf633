package main

import (
	"bytes"
	"math"
	"regexp"
	"strings"
	"testing"

	"crosstap/internal/agentapi"
)

// TestExposition writes what the text format asks to be escaped, by hand.
func TestExposition(t *testing.T) {
	var b bytes.Buffer
	m := tapMetric{gauge, "x_total", "one\nand \\ two", []string{"tap", "to"}}
	m.write(&b, nil)
	m.write(&b, []sample{{[]string{`a"b\c`, "d\ne\xff"}, 1.5}, {[]string{"", ""}, math.Inf(1)}, {[]string{"é", "f"}, 12345678901}})
	want := `# HELP x_total one\nand \\ two
# TYPE x_total gauge
x_total{tap="a\"b\\c",to="d\ne` + "\uFFFD" + `"} 1.5
x_total{tap="",to=""} +Inf
x_total{tap="é",to="f"} 1.2345678901e+10
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

// TestScrape sees that each metric is described once, with all its lines behind it, and that the process is told of.
func TestScrape(t *testing.T) {
	text := string(scrape([]agentapi.Tap{{Name: "one"}, {Name: "two", State: agentapi.StateRunning}}))
	line := regexp.MustCompile(`^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+]+$`)
	described, now := map[string]bool{}, ""
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if rest, ok := strings.CutPrefix(l, "# TYPE "); ok {
			now, _, _ = strings.Cut(rest, " ")
			if described[now] {
				t.Errorf("%s is there twice", now)
			}
			described[now] = true
		} else if !strings.HasPrefix(l, "# HELP ") && (!line.MatchString(l) || now == "" || !strings.HasPrefix(l, now)) {
			t.Errorf("behind %s: %s", now, l)
		}
	}
	for _, want := range []string{"crosstap_tap_running{tap=\"one\"} 0\ncrosstap_tap_running{tap=\"two\"} 1\n", "\nprocess_cpu_seconds_total ", "\nprocess_resident_memory_bytes ", "\ngo_goroutines "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
