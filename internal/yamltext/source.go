package yamltext

import (
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Sources returns, for each document of a text that has content, what was written: its lines with comments and layout, line ends as "\n".
// Comments before the first line of dashes belong to the document after them. Where the lines do not tell documents apart as the reader
// does, it returns nil.
func Sources(text []byte, f *ast.File) []string {
	parts := split(strings.TrimPrefix(string(text), "\ufeff"))
	var out []string
	for _, doc := range f.Docs {
		if !hasContent(doc.Body) {
			continue
		}
		line, _ := begin(doc.Body)
		for len(parts) > 0 && !parts[0].content {
			parts = join(parts)
		}
		if len(parts) == 0 || line < parts[0].from || line > parts[0].to {
			return nil
		}
		out = append(out, parts[0].text.String())
		parts = parts[1:]
	}
	for _, p := range parts {
		if p.content || len(out) == 0 {
			return nil
		}
		out[len(out)-1] += p.text.String()
	}
	for i := range out {
		out[i] = trimLines(out[i])
	}
	return out
}

func hasContent(body ast.Node) bool {
	switch body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return false
	}
	return true
}

// part is what stands between two marks of documents ("---", "..."; YAML 1.2.2, section 9.1.2).
type part struct {
	from, to int // lines
	text     *strings.Builder
	content  bool // more than comments
}

// split cuts a text at its marks. Nothing but a mark may begin a line with one, also within a value of many lines.
func split(text string) (parts []part) {
	parts = []part{{from: 1, text: &strings.Builder{}}}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		p := &parts[len(parts)-1]
		if rest, ok := mark(line); ok {
			parts = append(parts, part{from: i + 1, text: &strings.Builder{}})
			p = &parts[len(parts)-1]
			if line = rest; line == "" {
				p.to = i + 1
				continue
			}
		}
		p.to = i + 1
		switch word := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "%") && !p.content:
			continue // a directive, of which none means anything to the reader
		case word != "" && word[0] != '#':
			p.content = true
		}
		p.text.WriteString(line + "\n")
	}
	return parts
}

// mark reports whether a line begins or ends a document, and what else stands on it.
func mark(line string) (rest string, ok bool) {
	if !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "...") || len(line) > 3 && line[3] != ' ' && line[3] != '\t' {
		return "", false
	}
	return strings.TrimSpace(line[3:]), true
}

// join puts the first part before the second.
func join(parts []part) []part {
	if len(parts) > 1 {
		next := &parts[1]
		next.from = parts[0].from
		parts[0].text.WriteString(next.text.String())
		next.text = parts[0].text
	}
	return parts[1:]
}

// trimLines removes empty lines at both ends.
func trimLines(text string) string {
	for {
		line, rest, more := strings.Cut(text, "\n")
		if !more || strings.TrimSpace(line) != "" {
			return strings.TrimRight(text, " \t\n") + "\n"
		}
		text = rest
	}
}

// InLines writes a mapping anew, one key on each line, in their order.
func InLines(n ast.Node) (text string, err error) {
	defer recovered(&err)
	var v yaml.MapSlice
	if err := yaml.NodeToValue(n, &v, yaml.UseOrderedMap()); err != nil {
		return "", translate(err)
	}
	b, err := yaml.MarshalWithOptions(v, yaml.IndentSequence(true))
	return string(b), err
}
