package ovsdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// UUID names a row, in the usual text form with lower-case digits.
type UUID string

// NamedUUID stands for a row that the same transaction inserts under that name.
type NamedUUID string

// Set is a set of atoms: int64, float64, bool, string, UUID or NamedUUID. The order has no meaning.
type Set []any

// Map is a map from atoms to atoms.
type Map map[any]any

// Row is the columns of a row by name. A value is an atom, a Set or a Map. The wire form of a set with one element is the
// element, and columns at their default may be missing: the methods of Row read all forms alike.
type Row map[string]any

// elements returns the atoms of a value.
func elements(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case Set:
		return v
	case Map:
		return nil
	}
	return []any{v}
}

// only returns the atoms of a column that are of type T.
func only[T any](r Row, column string) (all []T) {
	for _, e := range elements(r[column]) {
		if v, ok := e.(T); ok {
			all = append(all, v)
		}
	}
	return all
}

// first returns the first of a column's atoms of type T.
func first[T any](r Row, column string) (v T, ok bool) {
	for _, e := range elements(r[column]) {
		if v, ok = e.(T); ok {
			return v, true
		}
	}
	return v, false
}

// Text returns a column's string, "" when it is empty.
func (r Row) Text(column string) string { s, _ := first[string](r, column); return s }

// Int returns a column's integer; false when it is empty.
func (r Row) Int(column string) (int64, bool) { return first[int64](r, column) }

// Bool returns a column's boolean; false when it is empty.
func (r Row) Bool(column string) bool { b, _ := first[bool](r, column); return b }

// Real returns a column's real number; false when it is empty.
func (r Row) Real(column string) (float64, bool) {
	if f, ok := first[float64](r, column); ok {
		return f, true
	}
	n, ok := first[int64](r, column) // 2 instead of 2.0 on the wire
	return float64(n), ok
}

// UUID returns a column's reference, "" when it is empty.
func (r Row) UUID(column string) UUID { u, _ := first[UUID](r, column); return u }

// Texts, Ints and UUIDs return all elements of a set.
func (r Row) Texts(column string) []string { return only[string](r, column) }

// Ints is described at Texts.
func (r Row) Ints(column string) []int64 { return only[int64](r, column) }

// UUIDs is described at Texts.
func (r Row) UUIDs(column string) []UUID { return only[UUID](r, column) }

// TextMap returns a map of strings, nil when the column is empty.
func (r Row) TextMap(column string) map[string]string { return mapOf[string, string](r, column) }

// IntMap returns a map from strings to integers, such as the statistics of an interface.
func (r Row) IntMap(column string) map[string]int64 { return mapOf[string, int64](r, column) }

func mapOf[K comparable, V any](r Row, column string) map[K]V {
	m, ok := r[column].(Map)
	if !ok || len(m) == 0 {
		return nil
	}
	out := make(map[K]V, len(m))
	for k, v := range m {
		if k, ok := k.(K); ok {
			if v, ok := v.(V); ok {
				out[k] = v
			}
		}
	}
	return out
}

// wire returns the JSON form of a value (RFC 7047, section 5.1). Besides the types of Row it takes int, []string, []UUID and
// map[string]string.
func wire(v any) (any, error) {
	switch v := v.(type) {
	case string, bool, int, int64:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("ovsdb: %v is not a number of JSON", v)
		}
		return v, nil
	case UUID:
		return [2]string{"uuid", string(v)}, nil
	case NamedUUID:
		return [2]string{"named-uuid", string(v)}, nil
	case Set:
		return wireSet(v)
	case []string:
		return wireSet(v)
	case []UUID:
		return wireSet(v)
	case Map:
		return wireMap(v)
	case map[string]string:
		return wireMap(v)
	}
	return nil, fmt.Errorf("ovsdb: a value cannot be a %T", v)
}

func wireSet[T any](set []T) (any, error) {
	out := make([]any, 0, len(set))
	for _, e := range set {
		w, err := wire(e)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return []any{"set", out}, nil
}

func wireMap[K comparable, V any](m map[K]V) (any, error) {
	out := make([]any, 0, len(m))
	for k, v := range m {
		wk, err := wire(k)
		if err != nil {
			return nil, err
		}
		wv, err := wire(v)
		if err != nil {
			return nil, err
		}
		out = append(out, [2]any{wk, wv})
	}
	slices.SortFunc(out, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return []any{"map", out}, nil
}

// MarshalJSON writes the row as the protocol has it.
func (r Row) MarshalJSON() ([]byte, error) {
	out := make(map[string]any, len(r))
	for column, v := range r {
		w, err := wire(v)
		if err != nil {
			return nil, fmt.Errorf("%w (column %s)", err, column)
		}
		out[column] = w
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads a row. null is no row.
func (r *Row) UnmarshalJSON(b []byte) error {
	var columns map[string]json.RawMessage
	if err := json.Unmarshal(b, &columns); err != nil {
		return err
	}
	if columns == nil {
		*r = nil
		return nil
	}
	*r = make(Row, len(columns))
	for column, raw := range columns {
		v, err := parseValue(raw)
		if err != nil {
			return fmt.Errorf("ovsdb: column %s: %w", column, err)
		}
		(*r)[column] = v
	}
	return nil
}

// parseValue reads a value: an atom, ["set", [atoms]] or ["map", [pairs]].
func parseValue(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return atom(v)
	}
	list, ok := pair[1].([]any)
	if !ok {
		return atom(v)
	}
	switch pair[0] {
	case "set":
		return parseSet(list)
	case "map":
		return parseMap(list)
	}
	return nil, fmt.Errorf("%.60s is not a value", raw)
}

func parseSet(list []any) (any, error) {
	set := make(Set, 0, len(list))
	for _, e := range list {
		a, err := atom(e)
		if err != nil {
			return nil, err
		}
		set = append(set, a)
	}
	return set, nil
}

func parseMap(list []any) (any, error) {
	m := make(Map, len(list))
	for _, e := range list {
		pair, ok := e.([]any)
		if !ok || len(pair) != 2 {
			return nil, errors.New("an entry of a map is not a pair")
		}
		k, err := atom(pair[0])
		if err != nil {
			return nil, err
		}
		if m[k], err = atom(pair[1]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// atom reads an atom: a string, a number, a boolean, ["uuid", text] or ["named-uuid", text].
func atom(v any) (any, error) {
	switch v := v.(type) {
	case string, bool:
		return v, nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case []any:
		if len(v) == 2 {
			kind, _ := v[0].(string)
			text, ok := v[1].(string)
			switch {
			case ok && kind == "uuid":
				return UUID(text), nil
			case ok && kind == "named-uuid":
				return NamedUUID(text), nil
			}
		}
	}
	return nil, fmt.Errorf("%.60s is not an atom", fmt.Sprint(v))
}

// equal reports whether two values are the same, whatever the order of sets.
func equal(a, b any) bool {
	ma, aMap := a.(Map)
	mb, bMap := b.(Map)
	if aMap || bMap {
		return len(ma) == len(mb) && (aMap || len(elements(a)) == 0) && (bMap || len(elements(b)) == 0) && maps.Equal(ma, mb)
	}
	ea, eb := elements(a), elements(b)
	if len(ea) != len(eb) {
		return false
	}
	for _, e := range ea {
		if !slices.Contains(eb, e) {
			return false
		}
	}
	return true
}

// Equal reports whether two rows say the same: the order of a set and the forms of an element, and of nothing, are no difference.
func (r Row) Equal(b Row) bool {
	a := r
	for column := range a {
		if !equal(a[column], b[column]) {
			return false
		}
	}
	for column := range b {
		if _, ok := a[column]; !ok && !equal(nil, b[column]) {
			return false
		}
	}
	return true
}
