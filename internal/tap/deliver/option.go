package deliver

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"crosstap/internal/nearest"
)

var errUnknown = errors.New("not known")

// eachOption calls set for each option of a URL's query. Values may have special characters as %XX; a plus sign stands for itself.
// names are those that there are.
func eachOption(query string, set func(name, value string) error, names ...string) error {
	given := map[string]bool{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		value, err := url.PathUnescape(value)
		if err == nil && given[name] {
			err = errors.New("is given twice")
		}
		if err == nil {
			err = set(name, value)
		}
		given[name] = true
		switch {
		case errors.Is(err, errUnknown):
			if near := nearest.Of(name, names); near != "" {
				return fmt.Errorf("option %q is not known; did you mean %q?", name, near)
			}
			return fmt.Errorf("option %q is not known, use %s", name, strings.Join(names, ", "))
		case err != nil:
			return fmt.Errorf("%s=%s: %w", name, value, err)
		}
	}
	return nil
}

// sizeUnits are the units of a number of bytes.
var sizeUnits = []struct {
	name string
	n    int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// parseSize reads a number of bytes, such as 16MiB.
func parseSize(s string, least, most int64) (int64, error) {
	digits, unit := s, int64(1)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(s, u.name); ok {
			digits, unit = d, u.n
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > most/unit || n*unit < least {
		return 0, fmt.Errorf("want %s to %s", sizeText(least), sizeText(most))
	}
	return n * unit, nil
}

func sizeText(n int64) string {
	for _, u := range sizeUnits {
		if n != 0 && n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
