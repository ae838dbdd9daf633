package export

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"crosstap/internal/choose"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/nearest"
	"crosstap/internal/urlopt"
)

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

// readOptions sets the options of the URL s, which u is.
func readOptions(s string, o urlopt.Options, u *url.URL) error {
	if err := o.Read(u.RawQuery); err != nil {
		return fmt.Errorf("export: %s: %w", s, err)
	}
	return nil
}

func intOption(name string, p *int, least, most int, unit string) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want %d to %d %s", least, most, unit)
		}
		*p = n
		return nil
	}, Text: func() string { return positive(*p) }}
}

// rateOption is one in so many: 1 or more.
func rateOption(name string, p *uint32, what string) urlopt.Option {
	o := uint32Option(name, p, what)
	return urlopt.Option{Name: name, Set: func(s string) error {
		err := o.Set(s)
		if err == nil && *p == 0 {
			err = fmt.Errorf("want %s, 1 for all", what)
		}
		return err
	}, Text: o.Text}
}

func uint32Option(name string, p *uint32, what string) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			return fmt.Errorf("want %s", what)
		}
		*p = uint32(n)
		return nil
	}, Text: func() string { return positive(*p) }}
}

func uint64Option(name string, p *uint64) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		n, err := strconv.ParseUint(s, 0, 63)
		if err != nil {
			return fmt.Errorf("want a number")
		}
		*p = n
		return nil
	}, Text: func() string { return positive(*p) }}
}

func uint8Option(name string, p *uint8) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		n, err := strconv.ParseUint(s, 0, 8)
		if err != nil {
			return fmt.Errorf("want 0 to 255")
		}
		*p = uint8(n)
		return nil
	}, Text: func() string { return positive(*p) }}
}

// positive shows a number, "" for 0.
func positive[T int | uint8 | uint32 | uint64](n T) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func refreshOption(name string, d *time.Duration) urlopt.Option {
	return durationOption(name, d, DefaultRefresh, minRefresh, maxRefresh)
}

func durationOption(name string, d *time.Duration, usual, least, most time.Duration) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		v, err := time.ParseDuration(s)
		if err != nil || v < least || v > most {
			return fmt.Errorf("want a duration from %v to %v, such as %v", least, most, usual)
		}
		*d = v
		return nil
	}, Text: func() string {
		if *d == usual {
			return ""
		}
		return d.String()
	}}
}

func filterOption(name string, p *string) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		*p = s
		_, err := choose.NewFilter(s)
		return err
	}, Text: func() string { return *p }}
}

func profileOption(name string, p *ipfix.Profile) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		v, err := ipfix.ParseProfile(s)
		if err != nil {
			return fmt.Errorf("want ovs or vmware")
		}
		*p = v
		return nil
	}, Text: func() string {
		if *p == ipfix.OVS {
			return ""
		}
		return p.String()
	}}
}

// sizeOption is the bound of a spool: 0 for none.
func sizeOption(name string, p *int64) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		n, err := urlopt.ParseSize(s, 0, 1<<40)
		if err != nil || n != 0 && n < minSpool {
			return fmt.Errorf("want 0 for no spool, or at least 1MiB, such as 256MiB")
		}
		*p = n
		return nil
	}, Text: func() string {
		if *p == DefaultSpoolBytes {
			return ""
		}
		return urlopt.SizeText(*p)
	}}
}
