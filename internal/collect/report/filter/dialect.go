package filter

import (
	"fmt"
	"net/netip"
	"strings"
)

// Dialect says what one engine's SQL calls things. A filter is emitted for one of them; the text for one engine is never
// given to another.
type Dialect struct {
	Name string
	// exprs are the columns that are worked out of stored ones.
	exprs map[string]string
	// addr is the text that stands for an address when it is bound, wrap turns its placeholder into an address.
	addr func(netip.Addr) string
	wrap func(placeholder string) string
	// like turns a pattern, in which only % and _ are special, into the engine's.
	like func(pattern string) string
	// match is a condition: a column matches a regular expression (RE2).
	match func(column, placeholder string) string
	// bits is a condition: one of the bits is set.
	bits func(column, placeholder string) string
	// text gives a value as text.
	text func(expr string) string
	// number is a whole number of 64 bits.
	number func(uint64) string
}

// DuckDB is the embedded engine. Addresses are UUID: 16 bytes in network order that compare as such.
var DuckDB = &Dialect{
	Name: "duckdb",
	exprs: map[string]string{
		"vni": "(segment & 4294967295)", "duration": "(epoch_ms(t_end) - epoch_ms(t_start))", "icmp_type": "(icmp >> 8)", "icmp_code": "(icmp & 255)",
		"dscp": "(tos >> 2)", "same_host": sameHost,
	},
	addr:  uuidText,
	wrap:  func(p string) string { return p + "::UUID" },
	like:  func(p string) string { return p },
	match: func(c, p string) string { return "regexp_matches(" + c + ", " + p + ")" },
	bits:  func(c, p string) string { return fmt.Sprintf("(%s & %s) <> 0", c, p) },
	text:  func(e string) string { return e + "::VARCHAR" },

	number: func(n uint64) string { return fmt.Sprintf("%d::UBIGINT", n) },
}

// ClickHouse is the engine of the scale-out store. Addresses are IPv6, those of IPv4 mapped.
var ClickHouse = &Dialect{
	Name: "clickhouse",
	exprs: map[string]string{
		"vni": "bitAnd(segment, 4294967295)", "duration": "(toUnixTimestamp64Milli(t_end) - toUnixTimestamp64Milli(t_start))",
		"icmp_type": "bitShiftRight(icmp, 8)", "icmp_code": "bitAnd(icmp, 255)", "dscp": "bitShiftRight(tos, 2)", "same_host": sameHost,
	},
	addr:  func(a netip.Addr) string { return netip.AddrFrom16(a.As16()).String() },
	wrap:  func(p string) string { return "toIPv6(" + p + ")" },
	like:  strings.NewReplacer(`\`, `\\`).Replace,
	match: func(c, p string) string { return "match(" + c + ", " + p + ")" },
	bits:  func(c, p string) string { return fmt.Sprintf("bitAnd(%s, %s) <> 0", c, p) },
	text:  func(e string) string { return "toString(" + e + ")" },

	number: func(n uint64) string { return fmt.Sprint(n) },
}

const sameHost = "(src_host = dst_host AND src_host <> '')"

// stored are the columns that a worked-out one reads.
var stored = map[string][]string{
	"vni": {"segment"}, "duration": {"t_start", "t_end"}, "icmp_type": {"icmp", "proto"}, "icmp_code": {"icmp", "proto"}, "dscp": {"tos"}, "same_host": {"src_host", "dst_host"},
}

// Column gives the expression of a column, stored or worked out.
func (d *Dialect) Column(name string) string {
	if e, ok := d.exprs[name]; ok {
		return e
	}
	return name
}

// Text gives a value as text.
func (d *Dialect) Text(expr string) string { return d.text(expr) }

// zero, mappedLo and mappedHi are the address that is not known and the range of those of IPv4 (RFC 4291, section 2.5.5.2).
var (
	zero     = netip.IPv6Unspecified()
	mappedLo = netip.AddrFrom16(netip.MustParseAddr("::ffff:0.0.0.0").As16())
	mappedHi = netip.AddrFrom16(netip.MustParseAddr("::ffff:255.255.255.255").As16())
)

// literal is an address as a constant of ours.
func (d *Dialect) literal(a netip.Addr) string { return d.wrap("'" + d.addr(a) + "'") }

// six is a condition: a column holds an IPv6 address.
func (d *Dialect) six(col string) string {
	return fmt.Sprintf("(%[1]s NOT BETWEEN %[2]s AND %[3]s AND %[1]s <> %[4]s)", col, d.literal(mappedLo), d.literal(mappedHi), d.literal(zero))
}

// four is a condition: a column holds an IPv4 address.
func (d *Dialect) four(col string) string {
	return fmt.Sprintf("(%s BETWEEN %s AND %s)", col, d.literal(mappedLo), d.literal(mappedHi))
}

// AddrText reads a single address and gives the text that stands for it when it is bound.
func AddrText(d *Dialect, s string) (string, bool) {
	p, err := parseAddr(s)
	if err != nil || !p.IsSingleIP() {
		return "", false
	}
	return d.addr(p.Addr()), true
}
