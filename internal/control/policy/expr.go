package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
	"crosstap/internal/nearest"
)

// The expression of a selector:
//
//	or     = and { "or" and }
//	and    = not { "and" not }
//	not    = [ "not" ] ( "(" or ")" | test )
//	test   = field ( "=" | "!=" | "like" | "not" "like" | "~" ) value | field [ "not" ] "in" "(" value { "," value } ")"
//
// "like" takes % and _ as SQL does, "~" takes * and ?. Words are case-insensitive, values too.

// node is one part of an expression.
type node interface {
	match(t *Target) bool
	uses(field string) bool
}

type (
	conjunction []node
	disjunction []node
	negation    struct{ x node }
	test        struct {
		field string
		value func(t *Target) string
		holds func(got string) bool
		word  string // that it wants; "" of a pattern
	}
	within struct { // address in a network
		field string
		net   netip.Prefix
	}
)

func (c conjunction) match(t *Target) bool {
	for _, n := range c {
		if !n.match(t) {
			return false
		}
	}
	return true
}

func (d disjunction) match(t *Target) bool {
	return slices.ContainsFunc(d, func(n node) bool { return n.match(t) })
}
func (n negation) match(t *Target) bool { return !n.x.match(t) }
func (c test) match(t *Target) bool     { got := c.value(t); return got != "" && c.holds(got) } // what is not known is not equal to anything
func (w within) match(t *Target) bool {
	return slices.ContainsFunc(t.Port.Addrs, func(a flow.Addr) bool { return w.net.Contains(a.Netip()) })
}

func (c conjunction) uses(f string) bool {
	return slices.ContainsFunc(c, func(n node) bool { return n.uses(f) })
}

func (d disjunction) uses(f string) bool {
	return slices.ContainsFunc(d, func(n node) bool { return n.uses(f) })
}
func (n negation) uses(f string) bool { return n.x.uses(f) }
func (c test) uses(f string) bool     { return c.field == f }
func (w within) uses(f string) bool   { return w.field == f }

// fields are what an expression can ask for, and where it is.
var fields = map[string]func(t *Target) string{
	"vm": func(t *Target) string {
		if t.VM != nil {
			return t.VM.Name
		}
		return ""
	},
	"vm.id":    func(t *Target) string { return t.Port.VM },
	"tenant":   func(t *Target) string { return t.Tenant },
	"segment":  func(t *Target) string { return SegmentText(t.Port.Segment) },
	"vni":      func(t *Target) string { return numberOf(t, flow.KindVXLAN, flow.KindGeneve) },
	"vlan":     func(t *Target) string { return strconv.Itoa(int(t.Port.VLAN)) },
	"fabric":   func(t *Target) string { return t.Port.Fabric },
	"group":    func(t *Target) string { return t.Port.Group },
	"port":     func(t *Target) string { return t.Port.Name },
	"port.id":  func(t *Target) string { return t.Port.ID },
	"kind":     func(t *Target) string { return string(t.Port.Kind) },
	"mac":      func(t *Target) string { return t.Port.MAC.String() },
	"nic":      func(t *Target) string { return t.Port.NIC },
	"platform": func(t *Target) string { return t.Platform },
	"host": func(t *Target) string {
		if t.Host != nil {
			return t.Host.Name
		}
		return t.Port.Host
	},
	"cluster": func(t *Target) string {
		if t.Host != nil {
			return t.Host.Cluster
		}
		return ""
	},
	"switch": func(t *Target) string {
		if t.Switch != nil {
			return t.Switch.Name
		}
		return t.Port.Switch
	},
	"folder": func(t *Target) string {
		if t.VM != nil {
			return t.VM.Folder
		}
		return ""
	},
	"ip": nil, // several values: within
}

func numberOf(t *Target, kinds ...flow.SegmentKind) string {
	if s := t.Port.Segment; slices.Contains(kinds, s.Kind()) {
		return strconv.FormatUint(uint64(s.Number()), 10)
	}
	return ""
}

// tagOf looks for a tag of the machine, its port or its host.
func tagOf(key string) func(t *Target) string {
	return func(t *Target) string {
		if t.VM != nil {
			if v, ok := t.VM.Tags[key]; ok {
				return orTrue(v)
			}
		}
		if v, ok := t.Port.Tags[key]; ok {
			return orTrue(v)
		}
		if t.Host != nil {
			if v, ok := t.Host.Tags[key]; ok {
				return orTrue(v)
			}
		}
		return ""
	}
}

// orTrue gives a tag without a value one.
func orTrue(v string) string {
	if v == "" {
		return "true"
	}
	return v
}

// fieldNames lists the fields for messages.
func fieldNames() []string {
	out := []string{"tag.KEY"}
	for f := range fields {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// comparison makes a test of a field, an operator and a value.
func comparison(field, op, value string) (node, error) {
	field = strings.ToLower(field[:min(len(field), 4)]) + field[min(len(field), 4):]
	get, known := fields[strings.ToLower(field)]
	if key, ok := strings.CutPrefix(field, "tag."); ok && key != "" {
		get, known = tagOf(key), true
	} else {
		field = strings.ToLower(field)
	}
	if !known {
		return nil, fmt.Errorf("there is no field %q; %s", field, nearest.Hint(field, fieldNames(), "fields: "+strings.Join(fieldNames(), ", ")))
	}
	if field == "ip" {
		return addressTest(op, value)
	}
	if field == "segment" && op != "like" && !strings.ContainsAny(value, "*?") {
		if _, err := ParseSegment(value); err != nil {
			return nil, err
		}
	}
	want := strings.ToLower(value)
	switch op {
	case "like":
		want = strings.NewReplacer("*", "\\*", "?", "\\?", "%", "*", "_", "?").Replace(want)
		fallthrough
	case "~":
		word := value
		if op == "like" || strings.ContainsAny(value, "*?") {
			word = ""
		}
		return test{field, get, func(got string) bool { return glob(want, strings.ToLower(got)) }, word}, nil
	}
	return test{field, get, func(got string) bool { return strings.ToLower(got) == want }, value}, nil
}

func addressTest(op, value string) (node, error) {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		a, err := netip.ParseAddr(value)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network", value)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if op == "like" {
		return nil, fmt.Errorf("ip takes =, != and in, with addresses and networks")
	}
	return within{"ip", p.Masked()}, nil
}

// glob matches * (any run) and ? (one byte); a backslash takes the next byte as it is.
func glob(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		literal := p < len(pattern) && pattern[p] == '\\' && p+1 < len(pattern)
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case literal && pattern[p+1] == text[t]:
			p, t = p+2, t+1
		case p < len(pattern) && !literal && (pattern[p] == '?' || pattern[p] == text[t]):
			p, t = p+1, t+1
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
