package urlopt

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Text is an option of any text but none.
func Text(name string, p *string) Option {
	return Option{name, func(s string) error {
		if *p = s; s == "" {
			return errors.New("is empty")
		}
		return nil
	}, func() string { return *p }}
}

// Addr is an option of an IP address.
func Addr(name string, p *netip.Addr) Option {
	return Option{name, func(s string) (err error) {
		if *p, err = netip.ParseAddr(s); err != nil {
			return errors.New("want an IP address")
		}
		return nil
	}, func() string {
		if !p.IsValid() {
			return ""
		}
		return p.String()
	}}
}

// Bool is an option that is set by its name alone, or by yes or no. usual is its default.
func Bool(name string, p *bool, usual bool) Option {
	return Option{name, func(s string) error {
		switch s {
		case "", "yes", "true", "1":
			*p = true
		case "no", "false", "0":
			*p = false
		default:
			return errors.New("want yes or no")
		}
		return nil
	}, func() string {
		switch {
		case *p == usual:
			return ""
		case *p:
			return "yes"
		}
		return "no"
	}}
}

// sizeUnits are the units of a number of bytes.
var sizeUnits = []struct {
	name string
	n    int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseSize reads a number of bytes from least to most, such as 16MiB.
func ParseSize(s string, least, most int64) (int64, error) {
	digits, unit := s, int64(1)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(s, u.name); ok {
			digits, unit = d, u.n
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > most/unit || n*unit < least {
		return 0, fmt.Errorf("want %s to %s", SizeText(least), SizeText(most))
	}
	return n * unit, nil
}

// SizeText writes a number of bytes in the greatest unit that divides it.
func SizeText(n int64) string {
	for _, u := range sizeUnits {
		if n != 0 && n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
