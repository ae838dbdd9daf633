package filter

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
)

// value reads one value of a field.
func (p *parser) value(f *Field) (value, error) {
	t := p.take()
	switch f.Kind {
	case Text:
		if meantAsField(t) {
			return value{}, noField(t, `; text goes in quotes: "`+t.text+`"`)
		}
		return value{text: t.text}, nil
	case Addr:
		return addrValue(t)
	case MAC:
		return macValue(t)
	case Number:
		return numberValue(t, f, p.scale(t, countUnits))
	case Bytes:
		return numberValue(t, f, p.scale(t, byteUnits))
	case Duration:
		return numberValue(t, f, p.scale(t, timeUnits))
	case Micros:
		return numberValue(t, f, p.scale(t, microUnits))
	case Port:
		return namedValue(t, f, services, "port")
	case Proto:
		return namedValue(t, f, protocols, "protocol")
	case VNI:
		return numberValue(t, f, unit{})
	case Segment:
		return segmentValue(t)
	case Enum, Flag:
		return namedValue(t, f, f.Names, f.Name)
	case ID:
		return idValue(t)
	case Bool:
		return namedValue(t, f, map[string]uint64{"true": 1, "yes": 1, "false": 0, "no": 0}, f.Name)
	}
	return value{}, fail(t, "unexpected value", "")
}

// example shows what a value looks like.
func example(f *Field) string {
	text := map[Kind]string{Text: `"db-%"`, Addr: "10.1.0.0/16", MAC: "02:00:00:00:00:01", Number: "100", Port: "443", Bytes: "10 MB", Duration: "30 s", Micros: "20 ms",
		VNI: "5001", Segment: "vxlan:5001", Proto: "tcp", ID: "00000000000000ff", Bool: "true"}[f.Kind]
	if f.Kind == Text {
		text = `"web-1"`
	}
	if len(f.Names) > 0 {
		text = slices.Sorted(maps.Keys(f.Names))[0]
	}
	return "such as " + text
}

// parseAddr reads an address or a prefix; a single address has all bits.
func parseAddr(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.WithZone("").Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func addrValue(t token) (value, error) {
	p, err := parseAddr(t.text)
	if err != nil {
		return value{}, fail(t, quote(t.text)+" is no address", "such as 10.1.0.5, fd00::1 or 10.1.0.0/16; for names use vm or host")
	}
	return value{prefix: p}, nil
}

func macValue(t token) (value, error) {
	hex := strings.NewReplacer(":", "", "-", "", ".", "").Replace(t.text)
	n, err := strconv.ParseUint(hex, 16, 48)
	if err != nil || len(hex) != 12 {
		return value{}, fail(t, quote(t.text)+" is no Ethernet address", "such as 02:00:00:00:00:01")
	}
	return value{lo: n, hi: n}, nil
}

func idValue(t token) (value, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(t.text, "0x"), 16, 64)
	if err != nil {
		return value{}, fail(t, quote(t.text)+" is no flow id", "16 hexadecimal digits")
	}
	return value{lo: n, hi: n}, nil
}

// segmentKinds are the names of flow's kinds of segment.
var segmentKinds = func() map[string]flow.SegmentKind {
	m := map[string]flow.SegmentKind{}
	for _, k := range []flow.SegmentKind{flow.KindVXLAN, flow.KindNVGRE, flow.KindVLAN, flow.KindGeneve, flow.KindGRE} {
		m[k.String()] = k
	}
	return m
}()

func segmentValue(t token) (value, error) {
	if t.text == "" {
		return value{}, nil
	}
	name, number, found := strings.Cut(t.text, ":")
	k, known := segmentKinds[strings.ToLower(name)]
	n, err := strconv.ParseUint(number, 10, 32)
	switch {
	case !found:
		return value{}, fail(t, quote(t.text)+" is no segment", "such as vxlan:5001; for the number alone use vni")
	case !known:
		return value{}, fail(t, "there is no kind of segment "+quote(name), "kinds: "+strings.Join(slices.Sorted(maps.Keys(segmentKinds)), ", "))
	case err != nil:
		return value{}, fail(t, quote(number)+" is no number of a segment", "such as vxlan:5001")
	}
	s := uint64(flow.NewSegment(k, uint32(n)))
	return value{lo: s, hi: s}, nil
}

// unit is what a number is multiplied with. bad is a word behind the number that is no unit.
type unit struct {
	factor float64
	known  map[string]float64
	bad    *token
}

var (
	countUnits = map[string]float64{"k": 1e3, "m": 1e6, "g": 1e9}
	byteUnits  = map[string]float64{"b": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "byte": 1, "bytes": 1, "octets": 1}
	microUnits = map[string]float64{"us": 1, "µs": 1, "ms": 1e3, "s": 1e6, "sec": 1e6}
	timeUnits  = map[string]float64{"ms": 1, "s": 1e3, "sec": 1e3, "m": 60e3, "min": 60e3, "h": 3600e3, "d": 86400e3}
)

// scale finds the unit: the letters at the number's end, or the next word.
func (p *parser) scale(number token, units map[string]float64) unit {
	u := unit{known: units, factor: 1}
	if _, ok := units["s"]; ok {
		u.factor = 1e3 // a duration without a unit is in seconds, a round-trip time in milliseconds
	}
	if number.kind != tWord || strings.Trim(number.text, "0123456789.") != "" {
		return u
	}
	if next := p.peek(); next.kind == tWord {
		if f, ok := units[strings.ToLower(next.text)]; ok {
			p.take()
			u.factor = f
		} else if !next.is("and") && !next.is("or") {
			u.bad = &next
		}
	}
	return u
}

// numberValue reads "10", "1.5GB", "0x0800" or a range "1000-2000".
func numberValue(t token, f *Field, u unit) (value, error) {
	if u.bad != nil {
		return value{}, fail(*u.bad, quote(u.bad.text)+" is no unit", "units: "+unitNames(u))
	}
	lo, hi, isRange := t.text, t.text, false
	if a, b, found := strings.Cut(t.text, "-"); found && a != "" && b != "" {
		lo, hi, isRange = a, b, true
	}
	x, err := number(t, lo, f, u)
	if err != nil {
		return value{}, err
	}
	y, err := number(t, hi, f, u)
	if err != nil {
		return value{}, err
	}
	if isRange && y < x {
		return value{}, fail(t, "the range "+quote(t.text)+" is empty", "the smaller number comes first")
	}
	return value{lo: x, hi: y}, nil
}

func number(t token, s string, f *Field, u unit) (uint64, error) {
	n, err := strconv.ParseUint(s, 0, 64)
	if strings.HasPrefix(s, "0") && !strings.HasPrefix(strings.ToLower(s), "0x") {
		n, err = strconv.ParseUint(s, 10, 64) // no octal
	}
	if err != nil || u.factor > 1 {
		digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZµ")
		factor := u.factor
		if letters := strings.ToLower(s[len(digits):]); letters != "" {
			known, ok := u.known[letters]
			if !ok {
				return 0, badNumber(t, s, f, u)
			}
			factor = known
		}
		x, err := strconv.ParseFloat(digits, 64)
		if err != nil || strings.Trim(digits, "0123456789.") != "" {
			return 0, badNumber(t, s, f, u)
		}
		if x *= max(factor, 1); x >= math.MaxUint64 {
			return 0, fail(t, quote(t.text)+" is too large", "below 2^64")
		}
		n = uint64(math.Round(x))
	}
	if f.Max != 0 && n > f.Max {
		return 0, fail(t, fmt.Sprintf("%d is too large for %s", n, quote(f.Name)), fmt.Sprintf("at most %d", f.Max))
	}
	return n, nil
}

func badNumber(t token, s string, f *Field, u unit) error {
	hint := example(f)
	if len(u.known) > 0 {
		hint += "; units: " + unitNames(u)
	}
	return fail(t, quote(s)+" is no number", hint)
}

func unitNames(u unit) string { return strings.Join(slices.Sorted(maps.Keys(u.known)), ", ") }

// namedValue reads a number, a range, or a name from a table.
func namedValue(t token, f *Field, table map[string]uint64, what string) (value, error) {
	if n, ok := table[strings.ToLower(t.text)]; ok {
		return value{lo: n, hi: n}, nil
	}
	if t.text != "" && t.text[0] >= '0' && t.text[0] <= '9' && f.Kind != Flag && f.Kind != Bool {
		return numberValue(t, f, unit{})
	}
	known := slices.Sorted(maps.Keys(table))
	hint := "one of " + strings.Join(known, ", ")
	if near := nearestTo(t.text, known); near != "" {
		hint = `did you mean "` + near + `"?`
	} else if len(known) > 12 {
		hint = "a number, or one of " + strings.Join(known[:12], ", ") + ", …"
	}
	return value{}, fail(t, quote(t.text)+" is no "+what, hint)
}

// pattern: like "…" with % and _, or ~ "…" with a regular expression (RE2).
func (p *parser) pattern(name token, f *Field, op string, opToken token) (node, error) {
	if f.Kind != Text {
		return nil, fail(opToken, quote(opToken.text)+" does not go with "+quote(f.Name), operatorsOf(f))
	}
	t := p.peek()
	if t.kind != tWord && t.kind != tString {
		return nil, fail(t, "a pattern is expected after "+quote(opToken.text), `such as "db-%"`)
	}
	p.take()
	if op == "~" {
		if _, err := syntax.Parse(t.text, syntax.Perl); err != nil {
			return nil, fail(t, "bad regular expression: "+err.Error(), "RE2 syntax")
		}
	}
	return &compare{span{name.pos, p.end()}, f, op, []value{{text: t.text}}}, nil
}
