package tapspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span that is written as 15s or 4h.
type Duration time.Duration

// Size is a number of bytes that is written as 32MiB.
type Size int64

// Rate is a number of bits in a second that is written as 100Mbit/s.
type Rate float64

// CPU is a share of one processor that is written as 20%; 200% are two processors.
type CPU float64

// unit is a suffix and what it multiplies by.
type unit struct {
	suffix string
	factor float64
}

var (
	sizeUnits = []unit{{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1}, {"", 1}}
	rateUnits = []unit{{"Gbit/s", 1e9}, {"Mbit/s", 1e6}, {"kbit/s", 1e3}, {"bit/s", 1}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"", 1}}
	cpuUnits  = []unit{{"%", 0.01}}
)

// parse reads a number with one of the units.
func parse(text, what, example string, units []unit) (float64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(strings.TrimSpace(text), u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || f < 0 || math.IsNaN(f) || f*u.factor >= 1<<62 {
			break
		}
		return f * u.factor, nil
	}
	return 0, fmt.Errorf("%q is no %s: want such as %s", text, what, example)
}

// format writes a number in the greatest unit that gives a whole number, else in the smallest.
func format(v float64, units []unit) string {
	for _, u := range units {
		if n := v / u.factor; u.suffix != "" && n >= 1 && n == math.Trunc(n) {
			return strconv.FormatFloat(n, 'f', -1, 64) + u.suffix
		}
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// ParseSize reads 32MiB, 20GB or a number of bytes.
func ParseSize(text string) (Size, error) {
	v, err := parse(text, "size", "200MiB", sizeUnits)
	return Size(v), err
}

// ParseRate reads 100Mbit/s, 1G or a number of bits in a second.
func ParseRate(text string) (Rate, error) {
	v, err := parse(text, "rate", "100Mbit/s", rateUnits)
	return Rate(v), err
}

// ParseCPU reads 20%, of one processor.
func ParseCPU(text string) (CPU, error) {
	v, err := parse(text, "share of a processor", "20%", cpuUnits)
	return CPU(v), err
}

func (d Duration) String() string { return time.Duration(d).String() }
func (s Size) String() string     { return format(float64(s), sizeUnits) }
func (r Rate) String() string     { return format(float64(r), rateUnits) }
func (c CPU) String() string {
	return strconv.FormatFloat(math.Round(float64(c)*1e4)/100, 'f', -1, 64) + "%"
}

// MarshalText writes the value as it is read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText writes the value as it is read.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText writes the value as it is read.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText writes the value as it is read.
func (c CPU) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the value.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no time span: want such as 15s or 4h", b)
	}
	*d = Duration(v)
	return nil
}

// UnmarshalText reads the value.
func (s *Size) UnmarshalText(b []byte) (err error) { *s, err = ParseSize(string(b)); return err }

// UnmarshalText reads the value.
func (r *Rate) UnmarshalText(b []byte) (err error) { *r, err = ParseRate(string(b)); return err }

// UnmarshalText reads the value.
func (c *CPU) UnmarshalText(b []byte) (err error) { *c, err = ParseCPU(string(b)); return err }

// ParseBudget reads limits as a flag has them: cpu=20%,memory=200MiB,mirror=100Mbit/s.
func ParseBudget(text string) (b Budget, err error) {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if seen[name] {
			return b, fmt.Errorf("budget: %s is there twice", name)
		}
		seen[name] = true
		switch name {
		case "cpu":
			err = b.CPU.UnmarshalText([]byte(value))
		case "memory":
			err = b.Memory.UnmarshalText([]byte(value))
		case "mirror":
			err = b.Mirror.UnmarshalText([]byte(value))
		default:
			return b, fmt.Errorf("budget: %q: want cpu=20%%, memory=200MiB or mirror=100Mbit/s, with commas between them", part)
		}
		if err != nil {
			return b, fmt.Errorf("budget: %s: %w", name, err)
		}
	}
	return b, b.check()
}

// String writes the budget as ParseBudget reads it; "" without limits.
func (b Budget) String() string {
	var parts []string
	if b.CPU > 0 {
		parts = append(parts, "cpu="+b.CPU.String())
	}
	if b.Memory > 0 {
		parts = append(parts, "memory="+b.Memory.String())
	}
	if b.Mirror > 0 {
		parts = append(parts, "mirror="+b.Mirror.String())
	}
	return strings.Join(parts, ",")
}
