package yamltext

import (
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Position returns where a place such as "$.spec.budget.mirror" or "$.vms[2].nics[0].mac" stands below a node, or the nearest thing around
// it that is there; 0, 0 when the library cannot say.
func Position(root ast.Node, place string) (line, column int) {
	defer func() {
		if recover() != nil {
			line, column = 0, 0
		}
	}()
	for place != "$" && place != "" {
		if p, err := yaml.PathString(place); err == nil {
			if node, err := p.FilterNode(root); err == nil && node != nil && node.GetToken() != nil {
				return begin(node)
			}
		}
		place = place[:max(strings.LastIndexAny(place, ".["), 0)]
	}
	return begin(root)
}

// begin is where a node's text begins; a mapping's own token is its first colon.
func begin(node ast.Node) (line, column int) {
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
		node = m.Values[0]
	}
	if m, ok := node.(*ast.MappingValueNode); ok {
		node = m.Key
	}
	at := node.GetToken().Position
	return at.Line, at.Column
}
