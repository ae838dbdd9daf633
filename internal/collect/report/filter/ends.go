package filter

import "slices"

// Turn is the column of logical rows that says that a row goes against its conversation, from the server to the client:
// then the source of the conversation is the row's destination.
const Turn = "turn"

// ends says which end of a row src stands for.
type ends uint8

const (
	forward  ends = iota // who sent the row
	backward             // who received it
	byTurn               // who opened the conversation
)

// opposite gives the column of the other end.
var opposite = func() map[string]string {
	m := map[string]string{"src_tenant": "dst_tenant", "dst_tenant": "src_tenant"}
	for _, f := range fields {
		if f.Either() {
			m[f.Columns[0]], m[f.Columns[1]] = f.Columns[1], f.Columns[0]
		}
	}
	return m
}()

// OneEnd reports whether the field stands for one end of a conversation.
func (f *Field) OneEnd() bool { return !f.Either() && opposite[f.Columns[0]] != "" }

// SQL is the value of a field that does not stand for both ends, in logical rows; those of one end need the column Turn.
func (f *Field) SQL(d *Dialect) string { return byTurn.column(d, f, 0) }

// column gives a field's SQL expression.
func (e ends) column(d *Dialect, f *Field, i int) string {
	col := f.Columns[i]
	switch other := opposite[col]; {
	case e == forward || !f.OneEnd():
		return d.Column(col)
	case e == backward:
		return other
	default:
		return "if(" + Turn + ", " + other + ", " + col + ")"
	}
}

// OneEnd reports whether the filter says something of one end only.
func (e *Expr) OneEnd() bool { return !e.Empty() && oneEnd(e.root) }

func oneEnd(n node) bool {
	switch n := n.(type) {
	case *andNode:
		return slices.ContainsFunc(n.terms, oneEnd)
	case *orNode:
		return slices.ContainsFunc(n.terms, oneEnd)
	case *notNode:
		return oneEnd(n.term)
	case *compare:
		return n.field.OneEnd()
	case *compareFields:
		return n.left.OneEnd() || n.right.OneEnd()
	}
	return false
}
