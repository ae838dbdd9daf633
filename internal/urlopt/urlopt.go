// Package urlopt reads and writes the options behind the question mark of a source's or a destination's URL.
package urlopt

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"crosstap/internal/nearest"
)

// Each calls set for each option of a URL's query, in their order. names are those that there are. In values special characters stand as %XX (RFC 3986
// section 2.1); a plus sign stands for itself, which is not so in what forms of web pages send. Errors tell the option.
func Each(query string, names []string, set func(name, value string) error) error {
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		if !slices.Contains(names, name) {
			return unknown(name, names)
		}
		value, err := url.PathUnescape(value)
		if err == nil {
			err = set(name, value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

// Take calls set for the options of a URL's query that have one of these names, each at most once, and gives the rest of the query back, as it stands there.
func Take(query string, names []string, set func(name, value string) error) (rest string, err error) {
	var mine, others []string
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); slices.Contains(names, name) {
			mine = append(mine, part)
		} else {
			others = append(others, part)
		}
	}
	return strings.Join(others, "&"), Once(strings.Join(mine, "&"), names, set)
}

func unknown(name string, names []string) error {
	behind := nearest.Behind(name, names)
	if behind == "" {
		behind = ", use " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
	}
	return fmt.Errorf("option %q is not known%s", name, behind)
}

// Once is Each for options of which none may come again.
func Once(query string, names []string, set func(name, value string) error) error {
	given := map[string]bool{}
	return Each(query, names, func(name, value string) error {
		if given[name] {
			return errors.New("is given twice")
		}
		given[name] = true
		return set(name, value)
	})
}

// Option is one option that is kept in a field of what a URL describes.
type Option struct {
	Name string
	Set  func(text string) error
	Text func() string // "" at the default
}

// Options are those that a URL may have.
type Options []Option

// Read sets the options of a URL's query, each at most once.
func (o Options) Read(query string) error {
	names := make([]string, len(o))
	for i := range o {
		names[i] = o[i].Name
	}
	return Once(query, names, func(name, value string) error { return o[slices.Index(names, name)].Set(value) })
}

// Query writes the options that are not at their defaults, sorted by name, as Read reads them.
func (o Options) Query() string {
	var parts []string
	for _, x := range o {
		if v := x.Text(); v != "" {
			parts = append(parts, x.Name+"="+escape.Replace(v))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// escape writes what has a meaning of its own in an option.
var escape = strings.NewReplacer("%", "%25", "&", "%26", "#", "%23", " ", "%20")
