// Package ask puts a question to a crosstap server: the words a question is written in (times,
// ranges), the HTTP client, and the live ticks.
package ask

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// units of a relative time.
var units = map[byte]time.Duration{
	's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'y': 365 * 24 * time.Hour,
}

// ParseTime reads a moment as the API takes it: "now", "now-15m" or "now+1h30m" (units s, m, h, d, w, y = 365 days),
// RFC 3339, or seconds since the Unix epoch. The result is in UTC, whole milliseconds.
func ParseTime(s string, now time.Time) (time.Time, error) {
	t, err := parseTime(s, now)
	if err != nil {
		return time.Time{}, err
	}
	if y := t.Year(); y < 1970 || y > 2261 { // what int64 nanoseconds hold
		return time.Time{}, fmt.Errorf("time %q: the year must be 1970 to 2261", s)
	}
	return t.UTC().Truncate(time.Millisecond), nil
}

func parseTime(s string, now time.Time) (time.Time, error) {
	if rest, ok := strings.CutPrefix(s, "now"); ok {
		if rest == "" {
			return now, nil
		}
		d, err := ParseSpan(rest[1:])
		if err == nil && rest[0] == '-' {
			return now.Add(-d), nil
		}
		if err == nil && rest[0] == '+' {
			return now.Add(d), nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil && sec >= 0 && sec < math.MaxInt64/1e9 {
		whole, part := math.Modf(sec)
		return time.Unix(int64(whole), int64(part*1e9)), nil
	}
	return time.Time{}, fmt.Errorf(`time %q: expected "now", "now-15m", RFC 3339 such as 2026-01-02T15:04:05Z, or Unix seconds`, s)
}

// ParseSpan reads a length of time: numbers with the units s, m, h, d, w, y, greatest first or not: "90s", "1h30m", "2d".
// It is never negative and at most 100 years.
func ParseSpan(s string) (time.Duration, error) {
	bad := fmt.Errorf("duration %q: expected a number with s, m, h, d, w or y, such as 15m", s)
	if s == "" {
		return 0, bad
	}
	var sum float64
	for rest := s; rest != ""; {
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i <= 0 {
			return 0, bad
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		unit, ok := units[rest[i]]
		if err != nil || !ok {
			return 0, bad
		}
		sum += n * float64(unit)
		rest = rest[i+1:]
	}
	const century = 100 * 365.25 * 24 * float64(time.Hour)
	if sum > century {
		return 0, fmt.Errorf("duration %q: more than 100 years", s)
	}
	return time.Duration(math.Round(sum)), nil
}

// Moment turns what a person types after --since or --until into a time of the API: what
// ParseTime reads; a bare duration, which means "that long ago"; "today", "yesterday"; a local date
// or time such as "2026-01-02 15:04" or "15:04", which is the latest such time. Relative times stay relative.
func Moment(s string, now time.Time, loc *time.Location) (string, error) {
	if _, err := ParseSpan(s); err == nil {
		return "now-" + s, nil
	}
	if _, err := ParseTime(s, now); err == nil {
		return s, nil
	}
	here := now.In(loc)
	day := time.Date(here.Year(), here.Month(), here.Day(), 0, 0, 0, 0, loc)
	switch s {
	case "today":
		return day.UTC().Format(time.RFC3339), nil
	case "yesterday":
		return day.AddDate(0, 0, -1).UTC().Format(time.RFC3339), nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t.UTC().Format(time.RFC3339), nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			at := time.Date(here.Year(), here.Month(), here.Day(), t.Hour(), t.Minute(), t.Second(), 0, loc)
			if at.After(now) { // at 3 in the morning 22:00 was yesterday
				at = time.Date(here.Year(), here.Month(), here.Day()-1, t.Hour(), t.Minute(), t.Second(), 0, loc)
			}
			return at.UTC().Format(time.RFC3339), nil
		}
	}
	return "", fmt.Errorf(`time %q: expected a duration such as 1h, "today", "yesterday", "15:04", "2026-01-02 15:04", "now-15m", RFC 3339 or Unix seconds`, s)
}
