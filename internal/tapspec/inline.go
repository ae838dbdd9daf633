package tapspec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Inline is a pair of interfaces as a source: what comes in by the one leaves by the other, and is copied.
type Inline struct {
	A string `json:"a" yaml:"a"`
	B string `json:"b" yaml:"b"`
	// Fail says what becomes of the pair without the tap: open (the default) for passing everything, closed for passing nothing.
	Fail string `json:"fail,omitempty" yaml:"fail,omitempty"`
	// Lease is how long the tap may be silent before it counts as gone; 0 for 5s.
	Lease Duration `json:"lease,omitempty" yaml:"lease,omitempty"`
	// Links says whether a link that is down on one side is set down on the other: together (the default) or apart.
	Links string `json:"links,omitempty" yaml:"links,omitempty"`
}

// Words of Inline.
var (
	fails     = []string{"", "open", "closed"}
	linkWords = []string{"", "together", "apart"}
)

// Limits of Inline.Lease.
const (
	minInlineLease = time.Second
	maxInlineLease = 10 * time.Minute
)

// Closed reports whether the pair passes nothing without the tap.
func (p *Inline) Closed() bool { return p.Fail == "closed" }

// Apart reports whether the links do not follow each other.
func (p *Inline) Apart() bool { return p.Links == "apart" }

// Validate reports the first mistake.
func (p *Inline) Validate() error {
	switch {
	case p.A == "" || p.B == "":
		return errors.New("inline: want two interfaces, such as eth1,eth2")
	case p.A == p.B:
		return fmt.Errorf("inline: %s twice: a pair has two interfaces", p.A)
	case !slices.Contains(fails, p.Fail):
		return fmt.Errorf("inline: fail %q: want open or closed", p.Fail)
	case !slices.Contains(linkWords, p.Links):
		return fmt.Errorf("inline: links %q: want together or apart", p.Links)
	case p.Lease != 0 && (p.Lease < Duration(minInlineLease) || p.Lease > Duration(maxInlineLease)):
		return fmt.Errorf("inline: lease %s: want %s to %s", p.Lease, minInlineLease, maxInlineLease)
	}
	return nil
}

// ParseInline reads a pair as a flag has it: eth1,eth2 with options behind slashes, such as eth1,eth2/fail=closed/lease=2s/links=apart.
func ParseInline(text string) (*Inline, error) {
	parts := strings.Split(text, "/") // which no interface has in its name
	p := &Inline{}
	var ok bool
	if p.A, p.B, ok = strings.Cut(parts[0], ","); !ok || strings.Contains(p.B, ",") {
		return nil, fmt.Errorf("inline: %q: want two interfaces, such as eth1,eth2", parts[0])
	}
	seen := map[string]bool{}
	for _, o := range parts[1:] {
		name, value, _ := strings.Cut(o, "=")
		if seen[name] {
			return nil, fmt.Errorf("inline: %s is there twice", name)
		}
		seen[name] = true
		switch name {
		case "fail":
			p.Fail = value
		case "links":
			p.Links = value
		case "lease":
			if err := p.Lease.UnmarshalText([]byte(value)); err != nil {
				return nil, fmt.Errorf("inline: lease: %w", err)
			}
		default:
			return nil, fmt.Errorf("inline: option %q: want fail=open|closed, lease=5s or links=together|apart", o)
		}
		if value == "" {
			return nil, fmt.Errorf("inline: option %q: no value", o)
		}
	}
	return p, p.Validate()
}

// String writes the pair as ParseInline reads it.
func (p *Inline) String() string {
	text := p.A + "," + p.B
	for _, o := range []struct{ name, value string }{{"fail", p.Fail}, {"links", p.Links}} {
		if o.value != "" {
			text += "/" + o.name + "=" + o.value
		}
	}
	if p.Lease != 0 {
		text += "/lease=" + p.Lease.String()
	}
	return text
}
