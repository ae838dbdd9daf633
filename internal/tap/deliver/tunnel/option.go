package tunnel

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/urlopt"
)

// options are the options that a target of this kind has.
func (t *Target) options() urlopt.Options {
	all := urlopt.Options{
		urlopt.Text("netns", &t.NetNS), choiceOption("mtu", &t.MTU, tooLong), rateOption("rate", &t.Rate),
	}
	if t.Kind == Interface {
		return all
	}
	all = append(all, urlopt.Addr("source", &t.Source), urlopt.Text("dev", &t.Device), numberOption("path", &t.Path, minPath, maxPath, 0),
		numberOption("ttl", &t.TTL, 1, 255, 0), numberOption("dscp", &t.DSCP, 0, 63, 0),
		choiceOption("absent", &t.Absent, absents), urlopt.Bool("probe", &t.Probe, true))
	if t.Kind.overUDP() {
		all = append(all, numberOption("ports", &t.Ports, 1, maxPorts, 16))
	}
	switch t.Kind {
	case VXLAN, Geneve:
		all = append(all, numberOption("vni", &t.VNI, 0, maxVNI, 0))
	case GRE:
		all = append(all, keyOption(t), urlopt.Bool("seq", &t.Seq, false))
	case ERSPAN2:
		all = append(all, numberOption("session", &t.Session, 1, maxSession, 0), numberOption("index", &t.Index, 1, maxIndex, 0))
	case ERSPAN3:
		all = append(all, numberOption("session", &t.Session, 1, maxSession, 0), choiceOption("granularity", &t.Granularity, granularities),
			numberOption("switch", &t.Switch, 0, 1<<10-1, 0), numberOption("sgt", &t.SGT, 0, 1<<16-1, 0), numberOption("hwid", &t.HardwareID, 0, 63, 0))
	}
	return all
}

func numberOption[T ~int | ~uint8 | ~uint16 | ~uint32](name string, p *T, least, most uint64, usual T) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		n, err := strconv.ParseUint(s, 0, 64)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want %d to %d", least, most)
		}
		*p = T(n)
		return nil
	}, Text: func() string {
		if *p == usual {
			return ""
		}
		return strconv.FormatUint(uint64(*p), 10)
	}}
}

func keyOption(t *Target) urlopt.Option {
	o := numberOption("key", &t.Key, 0, 1<<32-1, 0)
	set := o.Set
	o.Set = func(s string) error { t.HasKey = true; return set(s) }
	o.Text = func() string {
		if !t.HasKey {
			return ""
		}
		return strconv.FormatUint(uint64(t.Key), 10)
	}
	return o
}

func choiceOption[T ~uint8](name string, p *T, names []string) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		i := slices.Index(names, s)
		if i < 0 {
			return fmt.Errorf("want %s", strings.Join(names, ", "))
		}
		*p = T(i)
		return nil
	}, Text: func() string {
		if *p == 0 {
			return ""
		}
		return names[*p]
	}}
}

// rateUnits are the units of a rate, in bits each second.
var rateUnits = []struct {
	name string
	n    uint64
}{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}}

func rateOption(name string, p *uint64) urlopt.Option {
	return urlopt.Option{Name: name, Set: func(s string) error {
		digits, unit := s, uint64(1)
		for _, u := range rateUnits {
			if d, ok := strings.CutSuffix(s, u.name); ok {
				digits, unit = d, u.n
			}
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || n == 0 || n > 1e12/unit {
			return errors.New("want bits each second, such as 500M or 2G")
		}
		*p = n * unit
		return nil
	}, Text: func() string {
		if *p == 0 {
			return ""
		}
		for _, u := range rateUnits {
			if *p%u.n == 0 {
				return strconv.FormatUint(*p/u.n, 10) + u.name
			}
		}
		return strconv.FormatUint(*p, 10)
	}}
}
