package report

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
)

// addrText turns the text of a stored UUID into that of the address; "" when not known.
func addrText(uuid string) string {
	var a flow.Addr
	hex := strings.ReplaceAll(uuid, "-", "")
	if len(hex) != 2*len(a) {
		return ""
	}
	for i := range a {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			return ""
		}
		a[i] = byte(n)
	}
	return a.String()
}

// segmentText is such as "vxlan:5001", "" when not known.
func segmentText(s flow.Segment) string {
	if s == 0 {
		return ""
	}
	return s.Kind().String() + ":" + strconv.FormatUint(uint64(s.Number()), 10)
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

var marks = []struct {
	bit  flow.Mark
	name string
}{
	{flow.MarkSampled, "sampled"}, {flow.MarkAssumed, "assumed"}, {flow.MarkAmbiguous, "ambiguous"}, {flow.MarkTruncated, "truncated"},
	{flow.MarkFragments, "fragments"}, {flow.MarkGuess, "guess"}, {flow.MarkReverse, "reverse"}, {flow.MarkGap, "gap"}, {flow.MarkBorrowed, "borrowed"},
}

// markNames lists the names of the marks; being canonical is not one.
func markNames(m flow.Mark) []string {
	out := []string{}
	for _, k := range marks {
		if m&k.bit != 0 && k.bit != flow.MarkReverse {
			out = append(out, k.name)
		}
	}
	return out
}

func textList(doc string) ([]string, error) {
	out := []string{}
	err := json.Unmarshal([]byte(doc), &out)
	return out, err
}

// observers joins the names of the observers, those with canonical rows first.
func observers(canonical, other string) ([]string, error) {
	first, err := textList(canonical)
	if err != nil {
		return nil, err
	}
	rest, err := textList(other)
	if err != nil {
		return nil, err
	}
	return observerTexts(first, rest), nil
}

// observerTexts are the texts of names, the first ones first.
func observerTexts(first, rest []string) []string {
	for _, name := range rest {
		if !slices.Contains(first, name) {
			first = append(first, name)
		}
	}
	for i, name := range first {
		first[i] = observerText(name)
	}
	return first
}

// observerText gives an observer without a name its address and domain: "10.0.0.1/7".
func observerText(name string) string {
	id, ok := strings.CutPrefix(name, unnamed)
	if !ok {
		return name
	}
	addr, domain, _ := strings.Cut(id, "/")
	return addrText(addr) + "/" + domain
}

// sparkList reads [[part, octets], …] into all parts.
func sparkList(doc string) ([]uint64, error) {
	out := make([]uint64, sparkParts)
	if doc == "" {
		return out, nil
	}
	var some [][2]uint64
	if err := json.Unmarshal([]byte(doc), &some); err != nil {
		return nil, err
	}
	for _, p := range some {
		if p[0] < sparkParts {
			out[p[0]] = p[1]
		}
	}
	return out, nil
}
