package export

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/choose"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/nearest"
)

// options are the options that a URL may have after its question mark.
type options []option

type option struct {
	name  string
	value value
}

// value reads and shows one option.
type value struct {
	set  func(text string) error
	text func() string // "" at the default
}

// parseURL reads what all URLs of collectors have: scheme, host and port, which is 0 where none is given.
func parseURL(s string, schemes []string) (u *url.URL, port uint16, err error) {
	fail := func(format string, args ...any) (*url.URL, uint16, error) {
		return nil, 0, fmt.Errorf("export: %s: %s", s, fmt.Sprintf(format, args...))
	}
	u, err = url.Parse(s)
	switch {
	case err != nil:
		return fail("not a URL, want %s://HOST[:PORT]", schemes[0])
	case !slices.Contains(schemes, u.Scheme):
		if near := nearest.Of(u.Scheme, schemes); near != "" {
			return fail("scheme %q is not known here; did you mean %s://?", u.Scheme, near)
		}
		return fail("scheme %q is not known here, want %s", u.Scheme, strings.Join(schemes, ", "))
	case u.Hostname() == "":
		return fail("no host, want %s://HOST[:PORT]", u.Scheme)
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.Fragment != "":
		return fail("only a host, a port and options after ? are expected")
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fail("port %q: want 1 to 65535", p)
		}
		port = uint16(n)
	}
	return u, port, nil
}

// read sets the options of a URL.
func (o options) read(s string, u *url.URL) error {
	given, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("export: %s: options: %v", s, err)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if len(given[name]) > 1 {
			return fmt.Errorf("export: %s: %s is given %d times", s, name, len(given[name]))
		}
		i := slices.IndexFunc(o, func(x option) bool { return x.name == name })
		if i < 0 {
			return fmt.Errorf("export: %s: option %q is not known%s", s, name, o.instead(name))
		}
		if err := o[i].value.set(given[name][0]); err != nil {
			return fmt.Errorf("export: %s: %s %q: %w", s, name, given[name][0], err)
		}
	}
	return nil
}

// instead suggests a name for one that is not known.
func (o options) instead(name string) string {
	var names []string
	for _, x := range o {
		names = append(names, x.name)
	}
	slices.Sort(names)
	if near := nearest.Of(name, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ", use " + strings.Join(names, ", ")
}

// query returns the options that are not at their defaults.
func (o options) query() string {
	q := url.Values{}
	for _, x := range o {
		if v := x.value.text(); v != "" {
			q.Set(x.name, v)
		}
	}
	return q.Encode()
}

func addrOption(a *netip.Addr) value {
	return value{func(s string) (err error) {
		if *a, err = netip.ParseAddr(s); err != nil {
			err = fmt.Errorf("want an IP address")
		}
		return err
	}, func() string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}}
}

func intOption(p *int, least, most int, unit string) value {
	return value{func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want %d to %d %s", least, most, unit)
		}
		*p = n
		return nil
	}, func() string { return positive(*p) }}
}

// rateOption is one in so many: 1 or more.
func rateOption(p *uint32, what string) value {
	v := uint32Option(p, what)
	return value{func(s string) error {
		err := v.set(s)
		if err == nil && *p == 0 {
			err = fmt.Errorf("want %s, 1 for all", what)
		}
		return err
	}, v.text}
}

func uint32Option(p *uint32, what string) value {
	return value{func(s string) error {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			return fmt.Errorf("want %s", what)
		}
		*p = uint32(n)
		return nil
	}, func() string { return positive(*p) }}
}

func uint64Option(p *uint64) value {
	return value{func(s string) error {
		n, err := strconv.ParseUint(s, 0, 63)
		if err != nil {
			return fmt.Errorf("want a number")
		}
		*p = n
		return nil
	}, func() string { return positive(*p) }}
}

func uint8Option(p *uint8) value {
	return value{func(s string) error {
		n, err := strconv.ParseUint(s, 0, 8)
		if err != nil {
			return fmt.Errorf("want 0 to 255")
		}
		*p = uint8(n)
		return nil
	}, func() string { return positive(*p) }}
}

// positive shows a number, "" for 0.
func positive[T int | uint8 | uint32 | uint64](n T) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func refreshOption(d *time.Duration) value {
	return durationOption(d, DefaultRefresh, minRefresh, maxRefresh)
}

func durationOption(d *time.Duration, usual, least, most time.Duration) value {
	return value{func(s string) error {
		v, err := time.ParseDuration(s)
		if err != nil || v < least || v > most {
			return fmt.Errorf("want a duration from %v to %v, such as %v", least, most, usual)
		}
		*d = v
		return nil
	}, func() string {
		if *d == usual {
			return ""
		}
		return d.String()
	}}
}

func boolOption(p *bool) value {
	return value{func(s string) error {
		switch s {
		case "", "yes", "true", "1":
			*p = true
		case "no", "false", "0":
			*p = false
		default:
			return fmt.Errorf("want yes or no")
		}
		return nil
	}, func() string {
		if *p {
			return "yes"
		}
		return ""
	}}
}

func pathOption(p *string) value {
	return value{func(s string) error {
		if s == "" {
			return fmt.Errorf("is empty")
		}
		*p = s
		return nil
	}, func() string { return *p }}
}

func filterOption(p *string) value {
	return value{func(s string) error {
		*p = s
		_, err := choose.NewFilter(s)
		return err
	}, func() string { return *p }}
}

func profileOption(p *ipfix.Profile) value {
	return value{func(s string) error {
		v, err := ipfix.ParseProfile(s)
		if err != nil {
			return fmt.Errorf("want ovs or vmware")
		}
		*p = v
		return nil
	}, func() string {
		if *p == ipfix.OVS {
			return ""
		}
		return p.String()
	}}
}

// sizeUnits are the units of a number of bytes.
var sizeUnits = []struct {
	name string
	n    int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// sizeOption is the bound of a spool: 0 for none.
func sizeOption(p *int64) value {
	return value{func(s string) error {
		digits, unit := s, int64(1)
		for _, u := range sizeUnits {
			if d, ok := strings.CutSuffix(s, u.name); ok {
				digits, unit = d, u.n
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > 1<<40/unit || n != 0 && n*unit < minSpool {
			return fmt.Errorf("want 0 for no spool, or at least 1MiB, such as 256MiB")
		}
		*p = n * unit
		return nil
	}, func() string {
		if *p == DefaultSpoolBytes {
			return ""
		}
		for _, u := range sizeUnits {
			if *p != 0 && *p%u.n == 0 {
				return strconv.FormatInt(*p/u.n, 10) + u.name
			}
		}
		return strconv.FormatInt(*p, 10)
	}}
}
