package dialect

import (
	"strings"
)

// base is what writing must know of a value's type.
type base uint8

const (
	other base = iota
	address
	boolean
	moment
	chars
	signed   // 64 bits; narrower numbers mix with both
	unsigned // 64 bits
	floating
)

type kind struct {
	of   base
	list bool
}

func (k kind) typeName() string {
	if k.list {
		return ""
	}
	return map[base]string{address: "UUID", boolean: "BOOLEAN", moment: "TIMESTAMP"}[k.of]
}

func kindOf(sqlType string) kind {
	switch strings.ToUpper(sqlType) {
	case "UUID":
		return kind{of: address}
	case "BOOLEAN":
		return kind{of: boolean}
	case "TIMESTAMP":
		return kind{of: moment}
	case "VARCHAR":
		return kind{of: chars}
	case "UBIGINT":
		return kind{of: unsigned}
	case "BIGINT":
		return kind{of: signed}
	case "DOUBLE", "FLOAT":
		return kind{of: floating}
	}
	return kind{}
}

// or is the kind of what is one or the other.
func (k kind) or(l kind) kind {
	if k == (kind{}) {
		return l
	}
	return k
}

// column is one of a table or step.
type column struct {
	name string
	kind kind
}

// meets reports whether numbers of the two kinds have no type in common.
func (k kind) meets(l kind) bool {
	return k.of == signed && l.of == unsigned || k.of == unsigned && l.of == signed
}
