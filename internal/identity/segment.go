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
