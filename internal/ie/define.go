package ie

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Definition is an element as an operator writes it, in YAML or CSV, to make readable what the tables do not name. Type and Unit are
// names of RFC 7012's registries; an empty Type is octetArray.
type Definition struct {
	PEN  uint32 `yaml:"pen" json:"pen"`
	ID   uint16 `yaml:"id" json:"id"`
	Name string `yaml:"name" json:"name"`
	Type string `yaml:"type" json:"type"`
	Unit string `yaml:"unit" json:"unit"`
}

// custom is the set of the operator's elements.
type custom struct {
	byID  map[key]*Element
	names map[string]bool
}

var defined atomic.Pointer[custom]

// Define makes the operator's definitions known to Lookup, in place of those given before. The tables' own elements
// stay as they are. When a definition is wrong nothing changes, and the error tells every mistake.
func Define(all []Definition) error {
	c, err := compile(all)
	if err != nil {
		return err
	}
	defined.Store(c)
	return nil
}

// compile makes the set of elements, or tells every mistake.
func compile(all []Definition) (*custom, error) {
	c := &custom{byID: make(map[key]*Element, len(all)), names: make(map[string]bool, len(all))}
	var errs []error
	for i, d := range all {
		e, err := d.element()
		if err == nil {
			err = c.add(e)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("definition %d (%d/%d %q): %w", i+1, d.PEN, d.ID, d.Name, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

func (d Definition) element() (*Element, error) {
	e := &Element{PEN: d.PEN, ID: d.ID, Name: d.Name, Custom: true}
	if d.Name == "" || strings.ContainsAny(d.Name, " \t\n=") {
		return nil, errors.New("the name is empty or has a space or = in it")
	}
	if d.PEN != IANA && d.ID == 0 {
		return nil, errors.New("identifier 0 stands for no element")
	}
	if d.Type != "" {
		i := slices.IndexFunc(types[:], func(t struct {
			name   string
			length int
		}) bool {
			return strings.EqualFold(t.name, d.Type)
		})
		if i < 0 {
			return nil, fmt.Errorf("type %q is not one of RFC 7012's, such as unsigned32, string or ipv4Address", d.Type)
		}
		e.Type = Type(i)
	}
	i := slices.IndexFunc(units[:], func(u string) bool { return strings.EqualFold(u, d.Unit) })
	if i < 0 {
		return nil, fmt.Errorf("unit %q is not one of: %s", d.Unit, strings.Join(units[1:], ", "))
	}
	e.Unit = Unit(i)
	return e, nil
}

func (c *custom) add(e *Element) error {
	k := key{e.PEN, e.ID}
	if old, ok := builtin(k); ok {
		return fmt.Errorf("it is %s already", old.Name)
	}
	if old, ok := c.byID[k]; ok {
		return fmt.Errorf("it is defined twice, as %s too", old.Name)
	}
	if names()[e.Name] || c.names[e.Name] {
		return errors.New("another element has this name")
	}
	c.byID[k], c.names[e.Name] = e, true
	return nil
}

func builtin(k key) (*Element, bool) {
	if k.pen == IANA {
		if all := iana(); int(k.id) < len(all) && all[k.id].Name != "" {
			return &all[k.id], true
		}
		return nil, false
	}
	e, ok := byID()[k]
	return e, ok
}

func lookupCustom(pen uint32, id uint16) (*Element, bool) {
	c := defined.Load()
	if c == nil {
		return nil, false
	}
	e, ok := c.byID[key{pen, id}]
	return e, ok
}

// ParseCSV reads definitions from a table whose first line names its columns: pen, id, name, type and unit, in any order; the last two
// may be missing. Lines that begin with # are comments.
func ParseCSV(r io.Reader) ([]Definition, error) {
	c := csv.NewReader(r)
	c.Comment, c.TrimLeadingSpace = '#', true
	head, err := c.Read()
	if err != nil {
		return nil, fmt.Errorf("ie: definitions: %w", err)
	}
	at := map[string]int{"pen": -1, "id": -1, "name": -1, "type": -1, "unit": -1}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("ie: definitions: column %q is not known, want pen, id, name, type, unit", name)
		}
		at[name] = i
	}
	if at["pen"] < 0 || at["id"] < 0 || at["name"] < 0 {
		return nil, errors.New("ie: definitions: the first line must name the columns pen, id and name")
	}
	var all []Definition
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ie: definitions: %w", err)
		}
		d, err := definition(row, at)
		if err != nil {
			line, _ := c.FieldPos(0)
			return nil, fmt.Errorf("ie: definitions: line %d: %w", line, err)
		}
		all = append(all, d)
	}
}

func definition(row []string, at map[string]int) (d Definition, err error) {
	text := func(name string) string {
		if i := at[name]; i >= 0 {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	pen, err := strconv.ParseUint(text("pen"), 10, 32)
	if err != nil {
		return d, fmt.Errorf("enterprise number %q is not a number up to 4294967295", text("pen"))
	}
	id, err := strconv.ParseUint(text("id"), 10, 16)
	if err != nil {
		return d, fmt.Errorf("identifier %q is not a number up to 65535", text("id"))
	}
	return Definition{uint32(pen), uint16(id), text("name"), text("type"), text("unit")}, nil
}
