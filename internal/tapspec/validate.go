package tapspec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of a spec.
const (
	maxName  = 128
	maxText  = 64 << 10 // of a filter or groom steps
	maxList  = 256      // interfaces, destinations
	maxLabel = 1024
)

var (
	roles = []string{"", "vnic", "port", "mirror", "tunnel", "underlay"}
	keys  = []string{"", "inner", "outer", "both"}
	paths = []string{"", "auto", "tcx", "clsact", "ring"}
)

// Validate reports the first mistake in a list of specs.
func Validate(specs []Spec) error {
	if len(specs) > MaxSpecs {
		return fmt.Errorf("tapspec: %d taps: at most %d", len(specs), MaxSpecs)
	}
	seen := map[string]bool{}
	for i := range specs {
		if err := specs[i].Validate(); err != nil {
			return err
		}
		if seen[specs[i].Name] {
			return fmt.Errorf("tapspec: tap %q is there twice", specs[i].Name)
		}
		seen[specs[i].Name] = true
	}
	return nil
}

// Validate reports the first mistake that can be found without knowing the host: expressions, groom steps and options of URLs are looked at
// where the tap is made.
func (s *Spec) Validate() error {
	if err := checkName(s.Name); err != nil {
		return fmt.Errorf("tapspec: %w", err)
	}
	for _, check := range []func() error{s.checkWords, s.Source.check, s.checkTo, s.Budget.check} {
		if err := check(); err != nil {
			return fmt.Errorf("tapspec: tap %q: %w", s.Name, err)
		}
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("a tap needs a name")
	case len(name) > maxName:
		return fmt.Errorf("tap %.20q…: a name of %d bytes: at most %d", name, len(name), maxName)
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:/@", r)) {
			return fmt.Errorf("tap %q: %q in the name: want letters, digits and - _ . : / @", name, r)
		}
	}
	return nil
}

func (s *Spec) checkWords() error {
	switch {
	case !slices.Contains(roles, s.Role):
		return fmt.Errorf("role %q: want %s", s.Role, strings.Join(roles[1:], ", "))
	case !slices.Contains(keys, s.Meter.Key):
		return fmt.Errorf("meter: key %q: want %s", s.Meter.Key, strings.Join(keys[1:], ", "))
	case len(s.Filter) > maxText || len(s.Groom) > maxText:
		return fmt.Errorf("filter of %d and groom steps of %d bytes: at most %d each", len(s.Filter), len(s.Groom), maxText)
	case s.Meter.MaxFlows < 0 || s.Meter.Workers < 0:
		return fmt.Errorf("meter: max_flows %d, workers %d: must not be negative", s.Meter.MaxFlows, s.Meter.Workers)
	case s.Lease > 0 && s.Lease < Duration(time.Second):
		return fmt.Errorf("lease %s: at least 1s", s.Lease)
	}
	for k, v := range s.Labels {
		if len(k)+len(v) > maxLabel || len(s.Labels) > maxList {
			return fmt.Errorf("label %.20q: at most %d labels of %d bytes", k, maxList, maxLabel)
		}
	}
	return nil
}

func (s *Source) check() error {
	var kinds []string
	for _, k := range []struct {
		there bool
		name  string
	}{{len(s.Interfaces) > 0, "interfaces"}, {s.Inline != nil, "inline"}, {len(s.Listen) > 0, "listen"}, {len(s.Remotes) > 0, "remotes"}, {s.File != "", "file"}} {
		if k.there {
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) == 0:
		return errors.New("source: nothing to tap: give interfaces, inline, listen, remotes or file")
	case len(kinds) > 1:
		return fmt.Errorf("source: %s at once: give one of them", strings.Join(kinds, " and "))
	case len(s.Interfaces)+len(s.Listen)+len(s.Remotes) > maxList:
		return fmt.Errorf("source: %d places: at most %d", len(s.Interfaces)+len(s.Listen)+len(s.Remotes), maxList)
	case s.Snap < 0:
		return fmt.Errorf("source: snap %d: must not be negative", s.Snap)
	case !slices.Contains(paths, s.Path):
		return fmt.Errorf("source: path %q: want %s", s.Path, strings.Join(paths[1:], ", "))
	case s.Path != "" && len(s.Interfaces) == 0 && s.Inline == nil:
		return fmt.Errorf("source: path %s: it is for interfaces of the host", s.Path)
	case s.Inline != nil && (s.IngressOnly || s.NoPromisc):
		return errors.New("source: ingress_only and no_promisc are not for an inline pair: all that comes in is passed on and copied")
	case s.Inline != nil:
		if err := s.Inline.Validate(); err != nil {
			return fmt.Errorf("source: %w", err)
		}
	}
	return nil
}

func (s *Spec) checkTo() error {
	if len(s.To) == 0 {
		return errors.New("to: no destination")
	}
	if len(s.To) > maxList {
		return fmt.Errorf("to: %d destinations: at most %d", len(s.To), maxList)
	}
	for i, t := range s.To {
		switch {
		case !strings.Contains(t.URL, ":"):
			return fmt.Errorf("to: destination %d: %q is no URL such as ipfix://HOST", i+1, t.URL)
		case len(t.URL)+len(t.Filter)+len(t.Groom) > maxText:
			return fmt.Errorf("to: destination %d: more than %d bytes", i+1, maxText)
		case !t.Frames() && (t.Filter != "" || t.Groom != ""):
			return fmt.Errorf("to: %s takes flow records: filter and groom are for destinations of frames; a collector's filter stands in its URL", t.URL)
		}
	}
	return nil
}

// Limits of a budget: less would stop a tap that does nothing.
const minMemory = 16 << 20

func (b Budget) check() error {
	if b.Memory > 0 && b.Memory < minMemory {
		return fmt.Errorf("budget: memory %s: at least %s", b.Memory, Size(minMemory))
	}
	return nil
}
