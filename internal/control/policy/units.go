package policy

import (
	"strconv"
	"strings"
	"time"
)

// duration reads "90s", "4h", "7d"; "" is zero.
func (r *reader) duration(place, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := parseDuration(text)
	if err != nil || d <= 0 || d > 10*365*24*time.Hour {
		r.fail(place, "write it as 90s, 30m, 4h or 7d", "%q is no duration", text)
	}
	return d
}

func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * 24 * float64(time.Hour)), err
	}
	return time.ParseDuration(text)
}

// rate reads "200Mbit/s", also Mb/s and Mbps, in bits each second; "" is zero.
func (r *reader) rate(place, text string) float64 {
	if text == "" {
		return 0
	}
	word := strings.ToLower(strings.ReplaceAll(text, " ", ""))
	for _, unit := range []string{"bit/s", "bps", "b/s"} {
		number, ok := strings.CutSuffix(word, unit)
		if !ok {
			continue
		}
		factor := 1.0
		if n := len(number) - 1; n > 0 {
			if i := strings.IndexByte("kmgt", number[n]); i >= 0 {
				number = number[:n]
				for range i + 1 {
					factor *= 1000
				}
			}
		}
		if v, err := strconv.ParseFloat(number, 64); err == nil && v > 0 && v < 1e6 {
			return v * factor
		}
	}
	r.fail(place, "write it as 200Mbit/s", "%q is no rate", text)
	return 0
}

// part reads "3%" or "0.03"; "" is zero.
func (r *reader) part(place, text string) float64 {
	if text == "" {
		return 0
	}
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || v <= 0 || v > 64 {
		r.fail(place, "write it as 3%", "%q is no part of a core", text)
	}
	return v
}
