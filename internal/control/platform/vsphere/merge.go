package vsphere

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"crosstap/internal/control/platform"
)

// merge joins the sessions of one policy that send the copies of one distributed switch to the same addresses, one for each host, into
// one. Such a session needs no host, goes with a machine that migrates, without a step and a gap, and is one of the few that a switch
// can have.
func merge(list []platform.Session) []platform.Session {
	var out []platform.Session
	at := map[string]int{}
	for _, s := range list {
		key, part, ok := mergeKey(&s)
		if !ok {
			out = append(out, s)
			continue
		}
		i, known := at[key]
		if !known {
			at[key] = len(out)
			s.Host, s.Mark.Part = "", part
			s.Sources = slices.Clone(s.Sources)
			out = append(out, s)
			continue
		}
		m := &out[i]
		m.Sources = append(m.Sources, s.Sources...)
		sum := sha256.Sum256([]byte(m.Mark.Digest + s.Mark.Digest))
		m.Mark.Digest = hex.EncodeToString(sum[:6])
	}
	for _, i := range at {
		slices.SortFunc(out[i].Sources, func(a, b platform.Source) int { return strings.Compare(a.Port, b.Port) })
	}
	return out
}

// mergeKey says which sessions are alike apart from their hosts. The part of a planned session is switch.host.destination; one of
// another form is left alone.
func mergeKey(s *platform.Session) (key, part string, ok bool) {
	words := strings.Split(s.Mark.Part, ".")
	if s.Method != platform.MethodRemoteMirror && s.Method != platform.MethodFlowsOnly || len(words) != 3 || s.Switch == "" || strings.Contains(s.Switch, "/") {
		return "", "", false
	}
	c := *s
	part = words[0] + "." + words[2]
	c.Host, c.Sources, c.Mark.Part, c.Mark.Digest = "", nil, part, ""
	b, err := json.Marshal(c)
	return string(b), part, err == nil
}
