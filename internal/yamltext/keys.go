package yamltext

import (
	"reflect"
	"slices"
	"strings"
)

// keys returns the keys that a value and all it can hold have, in order.
func keys(v any) []string {
	k := collector{seen: make(map[reflect.Type]bool)}
	k.collect(reflect.TypeOf(v))
	slices.Sort(k.keys)
	return slices.Compact(k.keys)
}

type collector struct {
	seen map[reflect.Type]bool
	keys []string
}

func (k *collector) collect(t reflect.Type) {
	if t == nil || k.seen[t] {
		return
	}
	k.seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		k.collect(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
				k.keys = append(k.keys, name)
			}
			k.collect(f.Type)
		}
	}
}
