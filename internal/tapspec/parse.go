package tapspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
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
	var probe struct {
		Taps any `yaml:"taps"`
	}
	if err := guarded(func() error { return yaml.Unmarshal(text, &probe) }); err != nil {
		return nil, fmt.Errorf("tapspec: %w", err)
	}
	doc := Document{Taps: []Spec{}}
	var err error
	if probe.Taps != nil {
		err = strictYAML(text, &doc)
	} else {
		doc.Taps = make([]Spec, 1)
		err = strictYAML(text, &doc.Taps[0])
	}
	if err != nil {
		return nil, fmt.Errorf("tapspec: %w", err)
	}
	return doc.Taps, Validate(doc.Taps)
}

func strictYAML(text []byte, v any) error {
	err := guarded(func() error { return yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(v) })
	if errors.Is(err, io.EOF) {
		return errors.New("the document is empty")
	}
	return err
}

// guarded runs f, and makes an error of its panic: the YAML library panics at some documents that are none, such as a tag without a value in
// a list's place.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("this is no YAML that can be read: %v", p)
		}
	}()
	return f()
}

// ParseJSON reads one spec. Unknown names are mistakes.
func ParseJSON(text []byte) (Spec, error) {
	var s Spec
	if len(text) > MaxDocument {
		return s, fmt.Errorf("tapspec: document of %d bytes: at most %d", len(text), MaxDocument)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("tapspec: %w", err)
	}
	return s, s.Validate()
}

// YAML writes specs as ParseYAML reads them.
func YAML(specs []Spec) ([]byte, error) { return yaml.Marshal(Document{Taps: specs}) }
