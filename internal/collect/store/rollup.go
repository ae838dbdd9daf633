package store

import (
	"fmt"
	"strings"
	"time"
)

// A roll-up from rows, in the SQL of the views. Package segment makes the same in Go for sealed hours; a test compares the two.

// Column is a column of the stored rows or of a roll-up, as questions see it.
type Column struct{ Name, Type string }

// Zero is how the column says "not known", in the SQL of the views.
func (c Column) Zero() string {
	switch c.Type {
	case "VARCHAR":
		return "''"
	case "UUID":
		return ZeroAddr
	}
	return "0"
}

// ZeroAddr is an address that is not known, in the SQL of the views.
const ZeroAddr = "'00000000-0000-0000-0000-000000000000'::UUID"

// RollupColumns are the columns of the table that View.Rollup gives.
var RollupColumns = []Column{
	{"segment", "UBIGINT"}, {"src", "UUID"}, {"dst", "UUID"}, {"bucket", "TIMESTAMP"}, {"fabric", "VARCHAR"}, {"tenant", "VARCHAR"},
	{"src_tenant", "VARCHAR"}, {"dst_tenant", "VARCHAR"}, {"src_vm", "VARCHAR"}, {"src_vm_id", "VARCHAR"}, {"src_host", "VARCHAR"},
	{"dst_vm", "VARCHAR"}, {"dst_vm_id", "VARCHAR"}, {"dst_host", "VARCHAR"}, {"app", "VARCHAR"}, {"proto", "UTINYINT"}, {"service_port", "USMALLINT"},
	{"client", "UTINYINT"}, {"packets", "UBIGINT"}, {"octets", "UBIGINT"}, {"l2_octets", "UBIGINT"}, {"rows", "UBIGINT"}, {"flows", "UINTEGER"},
	{"first_seen", "TIMESTAMP"}, {"last_seen", "TIMESTAMP"}, {"marks", "USMALLINT"}, {"tcp_flags", "USMALLINT"}, {"port_votes", "BIGINT"},
	{"variance", "DOUBLE"}, {"sampled_rows", "UINTEGER"}, {"ambiguous_rows", "UINTEGER"}, {"min_len", "USMALLINT"}, {"max_len", "USMALLINT"},
	{"fragments", "UBIGINT"}, {"retransmits", "UBIGINT"}, {"zero_windows", "UBIGINT"}, {"rtt_n", "UINTEGER"}, {"rtt_sum", "UBIGINT"}, {"rtt_max", "UINTEGER"},
	{"outer_src", "UUID"}, {"outer_dst", "UUID"}, {"seen_by", "VARCHAR"}, {"other_rows", "UBIGINT"}, {"duplicates", "UBIGINT"}, {"seen_other", "VARCHAR"},
}

// rollupKey are the columns that a roll-up's row stands for, in the order of its files.
var rollupKey = []string{
	"segment", "src", "dst", "bucket", "fabric", "tenant",
	"src_tenant", "dst_tenant",
	"src_vm", "src_vm_id", "src_host",
	"dst_vm", "dst_vm_id", "dst_host",
	"app", "proto", "service_port", "client",
}

// pairKey are the columns that tell the pairs of workloads of a bucket apart.
const pairKey = "segment, src, dst, bucket, fabric, src_who, dst_who"

// RollupRows gives what the rows of a table expression add up to. A row's knowledge is filled from the latest row of its flow in the hour
// that has it (Recency).
func RollupRows(table, where string, step time.Duration) string {
	return rollupRows("NOT MATERIALIZED", "*", table, where, step, false)
}

// RollupFewRows is RollupManyRows for rows of which a condition leaves few: they are read once, and kept meanwhile.
func RollupFewRows(table, where string, step time.Duration, full bool) string {
	return rollupRows("MATERIALIZED", strings.Join(rolledFrom, ", "), table, where, step, full)
}

// RollupManyRows is RollupRows in the words of the embedded store's engine. Of full rows none lacks what another one of its flow in the hour knows.
func RollupManyRows(table, where string, step time.Duration, full bool) string {
	return rollupRows("NOT MATERIALIZED", strings.Join(rolledFrom, ", "), table, where, step, full)
}

// rolledFrom are the columns that a roll-up is made from.
var rolledFrom = []string{"segment", "src", "dst", "t_start", "t_end", "flow_id", "observer_id", "observer", "exporter", "domain", "fabric", "tenant", "src_tenant", "dst_tenant", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host",
	"app", "proto", "src_port", "dst_port", "client", "marks", "tcp_flags", "packets", "octets", "l2_octets", "direction", "sampling", "min_len", "max_len", "fragments", "retransmits", "zero_windows", "rtt_us", "outer_src", "outer_dst"}

func rollupRows(keep, columns, table, where string, step time.Duration, full bool) string {
	key, ports := strings.Join(rollupKey, ", "), "(src_port, dst_port)"
	fill := fmt.Sprintf("f AS MATERIALIZED (SELECT flow_id, at_hour%s FROM r WHERE flow_id <> 0 GROUP BY flow_id, at_hour HAVING %s),", rollupKnown(), rollupLacks())
	if columns != "*" {
		fill, ports = lackingFlows(full), "src_port::UINTEGER * 65536 + dst_port::UINTEGER"
	}
	return fmt.Sprintf(`(WITH r AS %[12]s (SELECT %[13]s, (epoch_ms(t_end) - (epoch_ms(t_end) %% 3600000 + 3600000) %% 3600000) AS at_hour, %[7]s AS recency FROM %[1]s WHERE %[2]s),
%[3]s
l0 AS NOT MATERIALIZED (%[5]s),
l AS NOT MATERIALIZED (SELECT *, (marks & 1) <> 0 AS can, make_timestamp_ms(epoch_ms(t_end) - (epoch_ms(t_end) %% %[6]d + %[6]d) %% %[6]d) AS bucket,
  CASE client WHEN 1 THEN dst_port WHEN 2 THEN src_port ELSE least(src_port, dst_port) END AS service_port,
  if(src_vm_id <> '', src_vm_id, src_vm) AS src_who, if(dst_vm_id <> '', dst_vm_id, dst_vm) AS dst_who,
  if(observer <> '', observer, concat(chr(31), exporter::VARCHAR, '/', domain)) AS seen FROM l0),
c AS MATERIALIZED (SELECT %[8]s, any_value(src_who) AS src_who, any_value(dst_who) AS dst_who,
  sum(packets)::UBIGINT AS packets, sum(octets)::UBIGINT AS octets, sum(l2_octets)::UBIGINT AS l2_octets, count(*)::UBIGINT AS rows,
  count(DISTINCT %[4]s)::UINTEGER AS flows, min(t_start) AS first_seen, max(t_end) AS last_seen,
  bit_or(marks) AS marks, bit_or(tcp_flags) AS tcp_flags, sum(sign(src_port::INTEGER - dst_port::INTEGER))::BIGINT AS port_votes,
  coalesce(sum(CASE WHEN sampling > 1 THEN octets::DOUBLE * octets::DOUBLE * (sampling - 1)::DOUBLE / greatest(packets, 1)::DOUBLE END), 0)::DOUBLE AS variance,
  count(*) FILTER ((marks & 2) <> 0)::UINTEGER AS sampled_rows, count(*) FILTER ((marks & 8) <> 0)::UINTEGER AS ambiguous_rows,
  coalesce(min(min_len) FILTER (min_len > 0), 0)::USMALLINT AS min_len, max(max_len) AS max_len, sum(fragments)::UBIGINT AS fragments,
  sum(retransmits)::UBIGINT AS retransmits, sum(zero_windows)::UBIGINT AS zero_windows,
  count(*) FILTER (rtt_us > 0)::UINTEGER AS rtt_n, sum(rtt_us)::UBIGINT AS rtt_sum, max(rtt_us) AS rtt_max,
  string_agg(DISTINCT seen, chr(10) ORDER BY seen) AS seen_by
  FROM l WHERE can GROUP BY %[8]s),
n AS MATERIALIZED (SELECT %[9]s, count(*)::UBIGINT AS other_rows, sum(packets)::UBIGINT AS duplicates, string_agg(DISTINCT seen, chr(10) ORDER BY seen) AS seen_other
  FROM l WHERE NOT can GROUP BY %[9]s),
v AS MATERIALIZED (SELECT segment, src, dst, bucket, fabric, src_host, dst_host, arg_max(outer_src, recency) FILTER (outer_src <> %[10]s) AS outer_src,
  arg_max(outer_dst, recency) FILTER (outer_dst <> %[10]s) AS outer_dst FROM l WHERE outer_src <> %[10]s OR outer_dst <> %[10]s GROUP BY ALL),
c1 AS NOT MATERIALIZED (SELECT *, row_number() OVER (PARTITION BY %[9]s ORDER BY %[8]s) = 1 AS first FROM c),
n1 AS NOT MATERIALIZED (SELECT *, true AS first FROM n)
SELECT %[11]s FROM (SELECT * FROM c1 FULL OUTER JOIN n1 USING (%[9]s, first)) LEFT JOIN v
  USING (segment, src, dst, bucket, fabric, src_host, dst_host))`,
		table, where, fill, ports, rowsFilled(full), step.Milliseconds(), Recency, key, pairKey, ZeroAddr, rollupOut(), keep, columns)
}

// Recency is greater the later a row ended. Of equally late rows that of the greatest observer is the latest; of those of one observer, flow, packets
// and direction decide, by their lowest 20 bits (elect.Rank). It is plain arithmetic, so that every engine gives the same number.
const Recency = "(least(greatest(epoch_ms(t_end), 0), 8000000000000)::HUGEINT * 19342813113834066795298816 + observer_id::HUGEINT * 1048576 + (xor(xor(flow_id, packets), direction::UBIGINT * 65536) & 1048575)::HUGEINT)"

// rollupFills are the columns that one observer may know and another not.
var rollupFills = []Column{{"segment", "UBIGINT"}, {"fabric", "VARCHAR"}, {"tenant", "VARCHAR"}, {"src_vm", "VARCHAR"}, {"dst_vm", "VARCHAR"},
	{"src_tenant", "VARCHAR"}, {"dst_tenant", "VARCHAR"}, {"src_host", "VARCHAR"}, {"dst_host", "VARCHAR"}, {"app", "VARCHAR"}}

// rollupFillIDs go with their names.
var rollupFillIDs = []struct{ name, with string }{{"src_vm_id", "src_vm"}, {"dst_vm_id", "dst_vm"}}

func rollupKnown() string {
	var b strings.Builder
	for _, c := range rollupFills {
		fmt.Fprintf(&b, ", arg_max(%[1]s, recency) FILTER (%[1]s <> %[2]s) AS %[1]s", c.Name, c.Zero())
	}
	for _, c := range rollupFillIDs {
		fmt.Fprintf(&b, ", arg_max(%[1]s, recency) FILTER (%[2]s <> '') AS %[1]s", c.name, c.with)
	}
	return b.String()
}

// rollupLacks is true for flows of which a row lacks what another has.
func rollupLacks() string {
	var all []string
	for _, c := range rollupFills {
		all = append(all, fmt.Sprintf("(bool_or(%[1]s = %[2]s) AND bool_or(%[1]s <> %[2]s))", c.Name, c.Zero()))
	}
	return strings.Join(all, " OR ")
}

// RowLacks is true for rows that lack something that another row of their flow may know.
func RowLacks() string {
	var all []string
	for _, c := range rollupFills {
		all = append(all, c.Name+" = "+c.Zero())
	}
	return strings.Join(all, " OR ")
}

// rowMask has a bit for each of these columns that a row lacks, and allLack has them all.
func rowMask() (mask string, allLack int) {
	var all []string
	for i, c := range rollupFills {
		all = append(all, fmt.Sprintf("if(%s = %s, %d, 0)", c.Name, c.Zero(), 1<<i))
		allLack |= 1 << i
	}
	return strings.Join(all, " + "), allLack
}

// rowsFilled are the rows of step r with what step f knows of their flows.
func rowsFilled(full bool) string {
	if full {
		return "SELECT * FROM r"
	}
	var all []string
	for _, c := range rollupFills {
		all = append(all, fmt.Sprintf("if(r.%[1]s <> %[2]s, r.%[1]s, coalesce(f.%[1]s, %[2]s)) AS %[1]s", c.Name, c.Zero()))
	}
	for _, c := range rollupFillIDs {
		all = append(all, fmt.Sprintf("if(r.%[2]s = '' AND r.%[1]s = '', coalesce(f.%[1]s, ''), r.%[1]s) AS %[1]s", c.name, c.with))
	}
	return "SELECT r.* REPLACE (" + strings.Join(all, ", ") + ") FROM r LEFT JOIN f ON r.flow_id = f.flow_id AND r.at_hour = f.at_hour"
}

// rollupOut gives the columns in their order; what a row made of others' rows alone lacks is zero.
func rollupOut() string {
	var all []string
	for _, c := range RollupColumns {
		switch from := c.Name; {
		case c.Type == "TIMESTAMP":
			all = append(all, fmt.Sprintf("coalesce(%[1]s, bucket) AS %[1]s", c.Name))
		case c.Name == "src_vm_id" || c.Name == "dst_vm_id":
			all = append(all, fmt.Sprintf("coalesce(%[1]s, %[2]s) AS %[1]s", c.Name, strings.TrimSuffix(from, "vm_id")+"who"))
		default:
			all = append(all, fmt.Sprintf("coalesce(%[1]s, %[2]s) AS %[1]s", from, c.Zero()))
		}
	}
	return strings.Join(all, ", ")
}

// LinkRows gives canonical rows one by one in the form of a roll-up, each filled by what other observers of its flow told in the hour, for questions that add them up
// by themselves and ask for no different flows, VTEPs or observers. Who is the client each row tells by itself. Full rows are those of RollupManyRows.
func LinkRows(table string, full bool) string { return linkRows("NOT MATERIALIZED", table, full) }

// LinkFewRows is LinkRows for few rows: they are read once, and kept meanwhile.
func LinkFewRows(table string, full bool) string { return linkRows("MATERIALIZED", table, full) }

func linkRows(keep, table string, full bool) string {
	return fmt.Sprintf(`(WITH r AS %[7]s (SELECT %[1]s, (epoch_ms(t_end) - (epoch_ms(t_end) %% 3600000 + 3600000) %% 3600000) AS at_hour, %[6]s AS recency FROM %[2]s),
%[3]s
l AS NOT MATERIALIZED (%[4]s)
SELECT %[5]s FROM l WHERE (marks & 1) <> 0)`,
		strings.Join(rolledFrom, ", "), table, lackingFlows(full), rowsFilled(full), linkOut(), Recency, keep)
}

// lackingFlows gives the step lack, flows of which a row lacks what another has, and f, what is known of these. They are few, so that they are found by one number for
// each row first. Of full rows there are none.
func lackingFlows(full bool) string {
	if full {
		return ""
	}
	mask, all := rowMask()
	return fmt.Sprintf(`lack AS MATERIALIZED (SELECT flow_id AS id, at_hour AS hr FROM (SELECT flow_id, at_hour, %s AS m FROM r WHERE flow_id <> 0) GROUP BY flow_id, at_hour HAVING (bit_or(m) & bit_or(xor(m, %d))) <> 0),
f AS MATERIALIZED (SELECT flow_id, at_hour%s FROM r JOIN lack ON flow_id = id AND at_hour = hr GROUP BY flow_id, at_hour),`, mask, all, rollupKnown())
}

// BareRows gives the rows of all observers in that form, as they told them.
func BareRows(table string) string {
	return fmt.Sprintf("(SELECT %s FROM (SELECT %s, 0::BIGINT AS at_hour FROM %s))", linkOut(), strings.Join(rolledFrom, ", "), table)
}

func linkOut() string {
	var out []string
	for _, c := range RollupColumns {
		expr, ok := linkFrom[c.Name]
		switch {
		case !ok:
			expr = c.Name
		case expr == "":
			expr = c.Zero() + "::" + c.Type
		}
		out = append(out, expr+" AS "+c.Name)
	}
	return strings.Join(out, ", ")
}

// linkFrom are the columns of a roll-up that are not those of a row; "" for what is left out.
var linkFrom = map[string]string{
	"bucket": "make_timestamp_ms(at_hour)", "service_port": "CASE client WHEN 1 THEN dst_port WHEN 2 THEN src_port ELSE least(src_port, dst_port) END", "rows": "1::UBIGINT", "flows": "1::UINTEGER",
	"first_seen": "t_start", "last_seen": "t_end", "port_votes": "sign(src_port::INTEGER - dst_port::INTEGER)::BIGINT",
	"variance":     "if(sampling > 1, octets::DOUBLE * octets::DOUBLE * (sampling - 1)::DOUBLE / greatest(packets, 1)::DOUBLE, 0)::DOUBLE",
	"sampled_rows": "((marks & 2) <> 0)::UINTEGER", "ambiguous_rows": "((marks & 8) <> 0)::UINTEGER", "fragments": "fragments::UBIGINT", "retransmits": "retransmits::UBIGINT", "zero_windows": "zero_windows::UBIGINT",
	"rtt_n": "(rtt_us > 0)::UINTEGER", "rtt_sum": "rtt_us::UBIGINT", "rtt_max": "rtt_us", "outer_src": "", "outer_dst": "", "seen_by": "", "other_rows": "", "duplicates": "", "seen_other": "",
}

// LinksOf adds rows in the form of a roll-up up to links: hours and the addresses of workloads without a name are left out, and who is the client is settled.
func LinksOf(table string) string {
	var out, by []string
	for _, c := range RollupColumns {
		expr, summed := linkSums[c.Name]
		switch {
		case !summed:
			if expr = linkKeys[c.Name]; expr == "" {
				expr = c.Name
			}
			by = append(by, expr)
		case expr == "":
			expr = c.Zero()
		}
		out = append(out, "("+expr+")::"+c.Type+" AS "+c.Name)
	}
	return "(SELECT " + strings.Join(out, ", ") + " FROM (SELECT *, CASE WHEN client <> 0 THEN client = 2 WHEN port_votes <> 0 THEN port_votes < 0 WHEN src <> dst THEN src > dst\n" +
		"  ELSE if(src_vm_id <> '', src_vm_id, src_vm) > if(dst_vm_id <> '', dst_vm_id, dst_vm) END AS turned FROM " + table + " WHERE rows > 0) GROUP BY " + strings.Join(by, ", ") + ")"
}

// linkKeys are the columns that a link stands for and that are not those of the rows, linkSums what these add up to; "" for what is left out.
var (
	linkKeys = map[string]string{
		"src": "if(src_vm <> '' OR src_vm_id <> '', src, " + ZeroAddr + ")", "dst": "if(dst_vm <> '' OR dst_vm_id <> '', dst, " + ZeroAddr + ")", "client": "if(turned, 2, 1)",
	}
	linkSums = map[string]string{
		"bucket": "min(bucket)", "packets": "sum(packets)", "octets": "sum(octets)", "l2_octets": "sum(l2_octets)", "rows": "sum(rows)", "flows": "sum(flows)", "first_seen": "min(first_seen)", "last_seen": "max(last_seen)",
		"marks": "bit_or(marks)", "tcp_flags": "bit_or(tcp_flags)", "port_votes": "", "variance": "sum(variance)", "sampled_rows": "sum(sampled_rows)", "ambiguous_rows": "sum(ambiguous_rows)",
		"min_len": "coalesce(min(min_len) FILTER (min_len > 0), 0)", "max_len": "max(max_len)", "fragments": "sum(fragments)", "retransmits": "sum(retransmits)", "zero_windows": "sum(zero_windows)",
		"rtt_n": "sum(rtt_n)", "rtt_sum": "sum(rtt_sum)", "rtt_max": "max(rtt_max)", "outer_src": "", "outer_dst": "", "seen_by": "", "other_rows": "", "duplicates": "", "seen_other": "",
	}
)

// CountRows gives all rows in the form of a roll-up, of which nothing is told but their number.
func CountRows(table string) string {
	var out []string
	for _, c := range RollupColumns {
		value := "NULL"
		if c.Name == "rows" || c.Name == "other_rows" {
			value = c.Zero()
		}
		if c.Name == "rows" {
			value = "1"
		}
		out = append(out, value+"::"+c.Type+" AS "+c.Name)
	}
	return "(SELECT " + strings.Join(out, ", ") + " FROM " + table + ")"
}
