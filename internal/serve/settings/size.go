package settings

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var sizeUnits = []struct {
	suffix string
	factor float64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1}, {"", 1},
}

// ParseSize reads a number of bytes with a binary or SI unit: "128MiB", "20GB", "1024".
func ParseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || f < 0 || f*u.factor >= math.MaxInt64 || math.IsNaN(f) {
			break
		}
		return int64(f * u.factor), nil
	}
	return 0, fmt.Errorf("%q: expected a size such as 128MiB or 20GB", s)
}

// sizeText writes a size in the greatest unit that divides it.
func sizeText(n int64) string {
	for _, u := range sizeUnits {
		if f := int64(u.factor); n != 0 && f > 1 && n%f == 0 {
			return strconv.FormatInt(n/f, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}
