package identity

import (
	"fmt"
	"strconv"
	"strings"

	"crosstap/internal/flow"
)

// kinds lists the kinds of segment that a file can name, with the bits of their numbers.
var kinds = [...]struct {
	kind flow.SegmentKind
	bits int
}{{flow.KindVXLAN, 24}, {flow.KindNVGRE, 24}, {flow.KindVLAN, 12}, {flow.KindGeneve, 24}, {flow.KindGRE, 32}}

func segmentKinds() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.kind.String()
	}
	return out
}

// parseSegment reads the text form of a segment, "kind:number".
func parseSegment(text string) (flow.Segment, error) {
	name, number, ok := strings.Cut(text, ":")
	if !ok {
		return 0, fmt.Errorf("%q is no segment: the kind is missing", text)
	}
	for _, k := range kinds {
		if k.kind.String() != name {
			continue
		}
		n, err := strconv.ParseUint(number, 10, k.bits)
		if err != nil {
			return 0, fmt.Errorf("%q is no segment: the number of kind %s has %d bits", text, name, k.bits)
		}
		return flow.NewSegment(k.kind, uint32(n)), nil
	}
	return 0, fmt.Errorf("%q is no segment: unknown kind %q", text, name)
}

func roleNames() []string {
	var out []string
	for r := flow.RoleVNIC; r.String() != flow.RoleUnknown.String(); r++ {
		out = append(out, r.String())
	}
	return out
}

// fileKeys are the keys of an inventory file, for suggestions.
var fileKeys = []string{
	"apiVersion", "kind", "hosts", "tenants", "vms", "observers", "from", "to", "name", "vteps", "segments", "fabric",
	"id", "tenant", "nics", "mac", "addrs", "host", "port", "segment", "role", "exporter", "domain", "point",
}

// suggest names the candidate that was probably meant, "" when none is near.
func suggest(word string, candidates []string) string {
	best, least := "", max(len(word)/3, 1)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// suggestOr lists the candidates when none is near.
func suggestOr(word string, candidates []string) string {
	if s := suggest(word, candidates); s != "" {
		return s
	}
	return "one of: " + strings.Join(candidates, ", ")
}

// distance is the number of single-byte edits between two words (Levenshtein). Long words are
// not worth it.
func distance(a, b string) int {
	if len(a) > 32 || len(b) > 32 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
