package policy

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration bounds what may last: longer is a slip of the hand.
const maxDuration = 10 * 365 * 24 * time.Hour

// duration reads "90s", "4h", "7d"; "" is zero.
func (r *reader) duration(place, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := parseDuration(text)
	const form = "write it as 90s, 30m, 4h or 7d"
	switch {
	case err != nil:
		r.fail(place, form, "%q is no duration", text)
	case d > maxDuration:
		r.fail(place, form+", or leave it out", "%s is longer than ten years", text)
	case d < time.Second:
		r.fail(place, form+", or leave it out", "%s is shorter than a second", text)
	}
	return d
}

func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		switch {
		case err != nil || math.IsNaN(n):
			return 0, strconv.ErrSyntax
		case math.Abs(n) > 1e5: // more than fits
			return time.Duration(math.Copysign(1e18, n)), nil
		}
		return time.Duration(n * 24 * float64(time.Hour)), nil
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
