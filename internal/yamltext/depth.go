package yamltext

import "github.com/goccy/go-yaml/token"

// MaxDepth bounds how many lists and mappings may stand in each other.
const MaxDepth = 64

// tooDeep returns where a text is nested deeper than MaxDepth; nil when it is not.
func tooDeep(tokens token.Tokens) *token.Position {
	var d depth
	for _, t := range tokens {
		if t.Position != nil && d.take(t) > MaxDepth {
			return t.Position
		}
	}
	return nil
}

// depth follows the tokens of a text. What stands in each other is told by brackets, by the column where a line begins, and, within a line
// or between two commas, by every sign that begins something new in the same place: "- - a", "? ? a", "!a !b c".
type depth struct {
	brackets int
	columns  []int // where the lines begin that are around this one, outside of brackets
	line     int
	signs    int
}

func (d *depth) take(t *token.Token) int {
	if d.brackets == 0 && t.Position.Line != d.line && t.Type != token.CommentType {
		d.begin(t.Position.Column)
	}
	d.line = t.Position.Line
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		d.brackets++
		d.signs = 0
	case token.SequenceEndType, token.MappingEndType:
		d.brackets = max(d.brackets-1, 0)
	case token.CollectEntryType, token.DocumentHeaderType, token.DocumentEndType:
		d.signs = 0
	case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.TagType, token.AnchorType:
		d.signs++
	}
	return d.brackets + len(d.columns) + d.signs
}

// begin notes the first token of a line.
func (d *depth) begin(column int) {
	d.signs = 0
	n := len(d.columns)
	for n > 0 && d.columns[n-1] >= column {
		n--
	}
	d.columns = append(d.columns[:n], column)
}
