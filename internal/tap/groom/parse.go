package groom

import (
	"fmt"
	"strings"

	"crosstap/internal/nearest"
)

// Error is a mistake in a spec. Column counts bytes from 1; Line is 0 for flags.
type Error struct {
	Line, Column int
	Message      string
	Suggestion   string // "" for none
}

// Error gives "groom: column N: message; suggestion".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("groom: ")
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d, ", e.Line)
	}
	fmt.Fprintf(&b, "column %d: %s", e.Column, e.Message)
	if e.Suggestion != "" {
		b.WriteString("; " + e.Suggestion)
	}
	return b.String()
}

// word is a piece of a spec and where it stands.
type word struct {
	text         string
	line, column int
}

func (w word) errorf(format string, args ...any) *Error {
	return &Error{Line: w.line, Column: w.column, Message: fmt.Sprintf(format, args...)}
}

// advise is errorf with the way out.
func (w word) advise(suggestion, format string, args ...any) *Error {
	e := w.errorf(format, args...)
	e.Suggestion = suggestion
	return e
}

// setting is a name with a value of one or several parts; nil parts for a name alone.
type setting struct {
	name  word
	parts []word
}

// value returns a value whose parts belong together, such as l4+64.
func (s setting) value() word {
	if len(s.parts) == 0 {
		return word{line: s.name.line, column: s.name.column}
	}
	w := s.parts[0]
	for _, p := range s.parts[1:] {
		w.text += "+" + p.text
	}
	return w
}

// stepText is a step as it is written: its name with the main value, then its options.
type stepText struct {
	setting
	options []setting
}

// Parse reads a spec in the form of flags; the package's documentation has the grammar. The error is an *Error
// or names the step.
func Parse(text string) (Spec, error) {
	var s Spec
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	steps, err := split(text)
	if err != nil {
		return Spec{}, err
	}
	if err := s.read(steps); err != nil {
		return Spec{}, err
	}
	return s, s.Validate()
}

// split cuts a text into steps, options and parts. Quoted text is never cut.
func split(text string) ([]stepText, *Error) {
	all, err := cut(word{text: text, column: 1}, ',')
	if err != nil {
		return nil, err
	}
	var steps []stepText
	for _, w := range all {
		pieces, _ := cut(w, '/')
		var st stepText
		for i, p := range pieces {
			s, err := assignment(p)
			switch {
			case err != nil:
				return nil, err
			case i == 0:
				st.setting = s
			default:
				st.options = append(st.options, s)
			}
		}
		steps = append(steps, st)
	}
	return steps, nil
}

// assignment reads name or name=value.
func assignment(w word) (setting, *Error) {
	name, value, has := strings.Cut(w.text, "=")
	s := setting{name: word{text: name, column: w.column}}
	if s.name = trim(s.name); s.name.text == "" {
		return s, w.advise("steps are divided by commas, their options by slashes", "a name is missing")
	}
	if !has {
		return s, nil
	}
	parts, err := cut(word{text: value, column: w.column + len(name) + 1}, '+')
	if err != nil {
		return s, err
	}
	for _, p := range parts {
		s.parts = append(s.parts, unquote(p))
	}
	return s, nil
}

// cut splits a word at every sep that is not in double quotes. Within them \" and \\ stand for a quote and a
// backslash.
func cut(w word, sep byte) ([]word, *Error) {
	var all []word
	quoted, from, open := false, 0, 0
	for i := 0; i < len(w.text); i++ {
		switch c := w.text[i]; {
		case quoted && c == '\\' && i+1 < len(w.text):
			i++
		case c == '"':
			quoted, open = !quoted, i
		case c == sep && !quoted:
			all = append(all, trim(word{text: w.text[from:i], column: w.column + from}))
			from = i + 1
		}
	}
	if quoted {
		return nil, &Error{Column: w.column + open, Message: "the quoted text does not end", Suggestion: `add a "`}
	}
	return append(all, trim(word{text: w.text[from:], column: w.column + from})), nil
}

func trim(w word) word {
	left := strings.TrimLeft(w.text, " \t\n")
	w.column += len(w.text) - len(left)
	w.text = strings.TrimRight(left, " \t\n")
	return w
}

// unquote takes the quotes off; within them a backslash in front of a quote or backslash goes too.
func unquote(w word) word {
	if !strings.Contains(w.text, `"`) {
		return w
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(w.text); i++ {
		c := w.text[i]
		switch {
		case c == '"':
			quoted = !quoted
			continue
		case quoted && c == '\\' && i+1 < len(w.text) && (w.text[i+1] == '"' || w.text[i+1] == '\\'):
			i++
			c = w.text[i]
		}
		b.WriteByte(c)
	}
	w.text = b.String()
	return w
}

// read fills in the spec from steps as they are written.
func (s *Spec) read(steps []stepText) error {
	seen := map[string]bool{}
	for _, st := range steps {
		def, ok := findStep(st.name.text)
		if !ok {
			return unknown(st.name, "step", stepNames())
		}
		if seen[def.name] {
			return st.name.errorf("%s is there twice; each step has its fixed place, so give it once", def.name)
		}
		seen[def.name] = true
		if err := def.read(s, st); err != nil {
			return err
		}
	}
	return nil
}

// read fills in one step.
func (d *stepDef) read(s *Spec, st stepText) error {
	d.start(s)
	switch {
	case len(st.parts) > 0 && d.main == nil:
		return st.value().advise("its options follow a slash: "+strings.Join(d.optionNames(), ", "), "%s takes no value", d.name)
	case len(st.parts) == 0 && d.needs != "":
		return st.name.advise("such as "+d.needs, "%s needs a value", d.name)
	case len(st.parts) > 0:
		if err := d.main(s, st.setting); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, o := range st.options {
		set, ok := d.options[o.name.text]
		if !ok {
			return unknown(o.name, "option of "+d.name, d.optionNames())
		}
		if seen[o.name.text] {
			return o.name.errorf("%s is there twice", o.name.text)
		}
		seen[o.name.text] = true
		if err := set(s, o); err != nil {
			return err
		}
	}
	return nil
}

// unknown says that a name is not known and what was probably meant.
func unknown(w word, what string, names []string) *Error {
	e := w.errorf("%q is no %s", w.text, what)
	if len(names) == 0 {
		e.Suggestion = "there are none"
	} else if n := nearest.Of(w.text, names); n != "" {
		e.Suggestion = "did you mean " + n + "?"
	} else {
		e.Suggestion = "there are " + strings.Join(names, ", ")
	}
	return e
}
