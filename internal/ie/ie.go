// Package ie holds the information elements of IPFIX (RFC 7012) as tables: the IANA
// registry, VMware's elements and those of a few other enterprises, and the reverse elements of RFC
// 5103. A lookup allocates nothing.
package ie

import (
	"sync"
)

// Enterprise numbers that the code speaks of by name.
const (
	IANA     uint32 = 0     // the registry of RFC 7012
	Cisco    uint32 = 9     // Cisco Systems; also what NetFlow v9 sends as types from 32768 on
	CERT     uint32 = 6871  // CERT Coordination Center; YAF and SiLK
	VMware   uint32 = 6876  // VMware, Inc.; NSX, the distributed switch and Open vSwitch
	SFlow    uint32 = 14706 // InMon Corp.; here the fields of sFlow's structures
	Reverse  uint32 = 29305 // the same elements counted in the other direction, RFC 5103, section 6.1
	PaloAlto uint32 = 25461 // Palo Alto Networks; its types of NetFlow v9
	Ntop     uint32 = 35632 // ntop; in NetFlow v9 types from 57472 on

	// NetFlow9Scope stands for the scope types of NetFlow v9 (RFC 3954, section 6.1). It is no enterprise: the
	// number is the last one of all.
	NetFlow9Scope uint32 = 1<<32 - 1
)

// Variable is the field length that stands in a template for "each record says how long", RFC 7011,
// section 7.
const Variable = 0xffff

// Element is one information element.
type Element struct {
	PEN       uint32
	ID        uint16
	Name      string
	Type      Type
	Semantics Semantics
	Unit      Unit
	Custom    bool // defined by the operator, see Define
}

// row is an element without its number, which is its place in the table.
type row struct {
	name      string
	typ       Type
	semantics Semantics
	unit      Unit
}

// book is the elements of one enterprise, by identifier. Names are unique in a book.
type book struct {
	pen  uint32
	name string
	rows func() map[uint16]row
}

// The elements of IANA and of other enterprises, and the names of all. They are made when they are first asked for: a program that only reads a capture
// starts without them.
var (
	iana  = sync.OnceValue(registry)
	byID  = sync.OnceValue(index)
	names = sync.OnceValue(nameSet)
)

type key struct {
	pen uint32
	id  uint16
}

// Lookup returns the element with that enterprise number (0 for IANA's) and identifier.
func Lookup(pen uint32, id uint16) (*Element, bool) {
	if pen == IANA {
		if all := iana(); int(id) < len(all) && all[id].Name != "" {
			return &all[id], true
		}
		return lookupCustom(pen, id)
	}
	if e, ok := byID()[key{pen, id}]; ok {
		return e, true
	}
	return lookupCustom(pen, id)
}

// Enterprise returns the short name of an enterprise with elements here, "" for others.
func Enterprise(pen uint32) string {
	switch pen {
	case IANA:
		return "IANA"
	case Reverse:
		return "reverse"
	}
	for _, b := range books {
		if b.pen == pen {
			return b.name
		}
	}
	return ""
}

// registry is IANA's as an array, so that the commonest lookup is one index.
func registry() *[ianaEnd]Element {
	t := new([ianaEnd]Element)
	for id := range t {
		r := ianaHigh[id]
		if id < len(ianaLow) {
			r = ianaLow[id]
		}
		if r.name != "" {
			t[id] = Element{PEN: IANA, ID: uint16(id), Name: r.name, Type: r.typ, Semantics: r.semantics, Unit: r.unit}
		}
	}
	return t
}

func index() map[key]*Element {
	m := make(map[key]*Element)
	for _, b := range books {
		for id, r := range b.rows() {
			m[key{b.pen, id}] = &Element{PEN: b.pen, ID: id, Name: r.name, Type: r.typ, Semantics: r.semantics, Unit: r.unit}
		}
	}
	for _, e := range iana() {
		if e.Name == "" || !reversible(e.ID) {
			continue
		}
		e.PEN, e.Name = Reverse, reverseName(e.Name)
		m[key{Reverse, e.ID}] = &e
	}
	return m
}

// nameSet is every name of the tables.
func nameSet() map[string]bool {
	m := make(map[string]bool)
	for _, e := range byID() {
		m[e.Name] = true
	}
	for _, e := range iana() {
		if e.Name != "" {
			m[e.Name] = true
		}
	}
	return m
}

// reverseName makes the name of a reverse element: "reverse" and the name with a capital first
// letter, RFC 5103, section 6.1.
func reverseName(name string) string {
	b := []byte(name)
	if b[0] >= 'a' && b[0] <= 'z' {
		b[0] -= 'a' - 'A'
	}
	return "reverse" + string(b)
}

// reversible reports whether an IANA element has a reverse one. RFC 5103, section 6.1, leaves out
// identifiers of the process and its configuration, and padding.
func reversible(id uint16) bool {
	switch id {
	case 137, 138, 141, 142, 143, 144, 145, 148, 149, // identifiers (RFC 5102, section 5.1)
		130, 131, 211, 212, 213, 214, 215, 216, 217, 173, // process configuration (section 5.2)
		40, 41, 42, 163, 164, 165, 166, 167, 168, // process statistics (section 5.3)
		210, 239: // padding, biflowDirection
		return false
	}
	return true
}
