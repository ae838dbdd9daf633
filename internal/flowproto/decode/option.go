package decode

import "iter"

// Option is one option record of NetFlow v9 or IPFIX: what an exporter says of itself, its interfaces, samplers and applications.
// It is valid until the function that got it returns.
type Option struct{ *Item }

// Scope yields the fields that say what the record is about. NetFlow v9's own scopes stand under the enterprise number
// ie.NetFlow9Scope.
func (o Option) Scope() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		n := 0
		for v := range o.Fields() {
			if n == o.Template.Scope || !yield(v) {
				return
			}
			n++
		}
	}
}

// Value returns the first value of an element, in the scope too.
func (it *Item) Value(pen uint32, id uint16) (Value, bool) {
	for v := range it.Fields() {
		if v.PEN == pen && v.ID == id {
			return v, true
		}
	}
	return Value{}, false
}

// Uint returns the first value of an element as a number.
func (it *Item) Uint(pen uint32, id uint16) (uint64, bool) {
	v, ok := it.Value(pen, id)
	if !ok || len(v.Bytes) == 0 || len(v.Bytes) > 8 {
		return 0, false
	}
	return be(v.Bytes), true
}

// Text returns the first value of an element as text, "" when there is none.
func (it *Item) Text(pen uint32, id uint16) string {
	v, _ := it.Value(pen, id)
	return string(appendString(nil, v.Bytes))
}
