package groom

import (
	"fmt"

	"crosstap/internal/yamltext"

	"github.com/goccy/go-yaml/ast"
)

// ParseYAML reads a spec in the form of YAML: a mapping of steps. The error is an *Error or names the step.
func ParseYAML(text []byte) (Spec, error) {
	var s Spec
	file, err := yamltext.Parse(text)
	if err != nil {
		return s, fmt.Errorf("groom: %w", err)
	}
	root, err := yamltext.Root(file)
	if err != nil {
		return s, fmt.Errorf("groom: %w", err)
	}
	if root == nil {
		return s, nil
	}
	if err := s.UnmarshalYAML(root); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// UnmarshalYAML reads a spec from a node of a larger document.
func (s *Spec) UnmarshalYAML(n ast.Node) error {
	steps, err := stepNodes(n)
	if err != nil {
		return err
	}
	*s = Spec{}
	if err := s.read(steps); err != nil {
		return err
	}
	return s.Validate()
}

// stepNodes reads the mapping of steps.
func stepNodes(n ast.Node) ([]stepText, error) {
	pairs, err := mapping(n, "a mapping of steps")
	if err != nil {
		return nil, err
	}
	var steps []stepText
	for _, p := range pairs {
		st := stepText{setting: setting{name: nodeWord(p.Key)}}
		off, err := st.fill(p.Value)
		if err != nil {
			return nil, err
		}
		if !off {
			steps = append(steps, st)
		}
	}
	return steps, nil
}

// fill takes over what stands behind a step's name. off reports that the step is switched off.
func (st *stepText) fill(n ast.Node) (off bool, err error) {
	if b, ok := n.(*ast.BoolNode); ok {
		return !b.Value, nil
	}
	switch n.(type) {
	case nil, *ast.NullNode:
		return false, nil
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		st.parts, err = parts(n)
		return false, err
	}
	pairs, err := mapping(n, "a mapping of options")
	if err != nil {
		return false, err
	}
	def, _ := findStep(st.name.text)
	for _, p := range pairs {
		o := setting{name: nodeWord(p.Key)}
		if o.parts, err = parts(p.Value); err != nil {
			return false, err
		}
		if def != nil && def.key != "" && o.name.text == def.key {
			st.parts = o.parts
			continue
		}
		st.options = append(st.options, o)
	}
	return false, nil
}

// mapping returns the pairs of a mapping.
func mapping(n ast.Node, what string) ([]*ast.MappingValueNode, error) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, nil
	case nil:
		return nil, nil
	}
	return nil, nodeWord(n).errorf("must be %s", what)
}

// parts returns the texts of a scalar or a sequence of scalars.
func parts(n ast.Node) ([]word, error) {
	switch x := n.(type) {
	case nil, *ast.NullNode:
		return nil, nil
	case *ast.SequenceNode:
		var all []word
		for _, v := range x.Values {
			w, err := scalar(v)
			if err != nil {
				return nil, err
			}
			all = append(all, w)
		}
		return all, nil
	case ast.ScalarNode:
		return []word{nodeWord(n)}, nil
	}
	return nil, nodeWord(n).errorf("must be a value or a list of values")
}

// scalar returns the text of a part. "vlan: 100" and "regex: a+" are as good as "vlan:100" and "regex:a+".
func scalar(n ast.Node) (word, error) {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) == 1 {
		n = m.Values[0]
	}
	if p, ok := n.(*ast.MappingValueNode); ok {
		if _, ok := p.Value.(ast.ScalarNode); ok {
			w := nodeWord(p.Key)
			w.text += ":" + nodeWord(p.Value).text
			return w, nil
		}
	}
	if _, ok := n.(ast.ScalarNode); !ok {
		return word{}, nodeWord(n).errorf("must be a single value")
	}
	return nodeWord(n), nil
}

// nodeWord returns the text of a scalar and where a node stands.
func nodeWord(n ast.Node) word {
	w := word{}
	if t := n.GetToken(); t != nil {
		w.text = t.Value
		if t.Position != nil {
			w.line, w.column = t.Position.Line, t.Position.Column
		}
	}
	return w
}
