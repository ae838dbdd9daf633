package report

import (
	"maps"
	"slices"
	"strings"
)

// pairTie and conversationTie are the orders that decide between rows with equal values: whole keys.
const (
	pairTie         = "fabric, segment, src_addr, src_vm, dst_addr, dst_vm, src_vm_id, dst_vm_id"
	conversationTie = pairTie + ", proto, src_port, dst_port"
)

// Columns to sort by: the JSON name and its expression. A name that is not here is no column.
var (
	endsSort = names("segment", "vni", "fabric", "tenant", "src_vtep", "src_host", "src_vm", "src_vm_id", "src_addr", "dst_addr", "dst_vm", "dst_vm_id", "dst_host",
		"dst_vtep", "same_host", "octets_fwd", "octets_rev", "packets_fwd", "packets_rev", "octets", "packets", "flows", "first_seen",
		"last_seen", "duplicates", "marks")
	countsSort = map[string]string{"octets_error": "variance", "share": "octets", "seen_by": "list_concat(seen_canonical, seen_other)"}
	pairSort   = merge(endsSort, countsSort, names("conversations", "apps"), map[string]string{"spark": "octets"})
	convSort   = merge(endsSort, countsSort, names("proto", "src_port", "dst_port", "app", "tcp_flags"))
)

func names(columns ...string) map[string]string {
	m := map[string]string{}
	for _, c := range columns {
		m[c] = c
	}
	return m
}

func merge(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, one := range all {
		maps.Copy(m, one)
	}
	return m
}

// order checks the column to sort by and gives the ORDER BY list.
func (a *ask) order(columns map[string]string, def, tie string) (string, error) {
	if a.Sort == "" {
		a.Sort = def
	}
	name, desc := strings.CutPrefix(a.Sort, "-")
	expr, ok := columns[name]
	if !ok {
		return "", &QueryError{"sort", "there is no column " + quoteName(name), "columns: " + strings.Join(slices.Sorted(maps.Keys(columns)), ", ")}
	}
	if desc {
		expr += " DESC"
	}
	return expr + ", " + tie, nil
}

// quoteName shows a name from outside, cut when it is long.
func quoteName(s string) string {
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return "\"" + s + "\""
}
