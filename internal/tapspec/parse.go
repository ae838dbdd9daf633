package tapspec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"crosstap/internal/yamltext"
)

// MaxDocument bounds a document of specs, and MaxSpecs their number.
const (
	MaxDocument = 8 << 20
	MaxSpecs    = 4096
)

// Steps are groom steps in the form of flags: repair,dedup=50ms,slice=l4+64. In documents they may also be a list of steps.
type Steps string

// UnmarshalYAML reads a text or a list of texts.
func (s *Steps) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if err := unmarshal(&one); err == nil {
		*s = Steps(one)
		return nil
	}
	var list []string
	if err := unmarshal(&list); err != nil {
		return errors.New(`groom steps are a text or a list of texts, such as [repair, "slice=l4+64"]`)
	}
	*s = Steps(strings.Join(list, ","))
	return nil
}

// UnmarshalJSON reads a text or a list of texts.
func (s *Steps) UnmarshalJSON(b []byte) error {
	return s.UnmarshalYAML(func(v any) error { return json.Unmarshal(b, v) })
}

// Document is a list of specs, as a file or an answer has them.
type Document struct {
	Taps []Spec `json:"taps" yaml:"taps"`
}

// ParseYAML reads a document of specs, or one spec alone; JSON is YAML, too. Mistakes are named with their line.
func ParseYAML(text []byte) ([]Spec, error) {
	if len(text) > MaxDocument {
		return nil, fmt.Errorf("tapspec: document of %d bytes: at most %d", len(text), MaxDocument)
	}
	specs, err := parseYAML(text)
	if err != nil {
		return nil, fmt.Errorf("tapspec: %w", err)
	}
	return specs, Validate(specs)
}

func parseYAML(text []byte) ([]Spec, error) {
	f, err := yamltext.Parse(text)
	if err != nil {
		return nil, err
	}
	root, err := yamltext.Root(f)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, errors.New("the document is empty")
	}
	var probe struct {
		Taps any `yaml:"taps"`
	}
	if err := yamltext.DecodeNode(root, &probe, false); err != nil {
		return nil, err
	}
	if probe.Taps == nil {
		specs := make([]Spec, 1)
		return specs, yamltext.DecodeNode(root, &specs[0], true)
	}
	doc := Document{Taps: []Spec{}}
	err = yamltext.DecodeNode(root, &doc, true)
	return doc.Taps, err
}
