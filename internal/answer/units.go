package answer

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes gives three digits and an SI unit: "999 B", "3.15 GB", "527 GB".
func Bytes(n uint64) string { return si(float64(n), "B") }

// Bits gives a rate in SI units: "12.3 Mb/s".
func Bits(perSecond float64) string { return si(perSecond, "b/s") }

func si(f float64, unit string) string {
	const prefixes = "kMGTPE"
	if f < 999.5 {
		return strconv.FormatFloat(f, 'f', 0, 64) + " " + unit
	}
	i := -1
	for f >= 999.5 && i < len(prefixes)-1 {
		f /= 1000
		i++
	}
	digits := 2
	switch {
	case f >= 99.95:
		digits = 0
	case f >= 9.995:
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + " " + prefixes[i:i+1] + unit
}

// Count gives an integer with thousands separated by commas.
func Count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Plural gives "1 pair", "2 pairs", "1,500 pairs".
func Plural(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + one + "s"
}

// Percent gives a ratio of 0 to 1 with up to two digits after the point; a loss that is not zero
// never reads as 0.
func Percent(r float64) string {
	p := r * 100
	switch {
	case p == 0 || p == 100:
		return strconv.FormatFloat(p, 'f', 0, 64) + " %"
	case p > 0 && p < 0.01:
		return "< 0.01 %"
	case p > 99.99 && p < 100:
		return "> 99.99 %"
	case p >= 10:
		return strconv.FormatFloat(p, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(p, 'f', 2, 64) + " %"
}

// Span gives a duration in its largest units, at most two of them: "1h", "1h30m", "2d4h", "12s".
func Span(d time.Duration) string {
	d = d.Round(time.Second)
	if d < time.Second {
		return "0s"
	}
	units := []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	out, parts := "", 0
	for _, u := range units {
		n := d / u.of
		if n > 0 && parts < 2 {
			out += fmt.Sprintf("%d%s", n, u.name)
			parts++
		}
		d -= n * u.of
	}
	return out
}
