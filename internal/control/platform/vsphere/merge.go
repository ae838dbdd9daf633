package vsphere

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"crosstap/internal/control/platform"
)

// merge joins the sessions of one policy that send the copies of one distributed switch to the same addresses, one for each host, into
// one. Such a session needs no host, goes with a machine that migrates, without a step and a gap, and is one of the few that a switch
// can have.
//
// first tells, by Mark.Key of what was joined, that of the first session of each: steps are told as its.
func merge(list []platform.Session) (out []platform.Session, first map[string]string) {
	first = map[string]string{}
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
			was := s.Mark.Key()
			s.Host, s.Mark.Part = "", part
			s.Sources = slices.Clone(s.Sources)
			first[s.Mark.Key()] = was
			out = append(out, s)
			continue
		}
		out[i].Sources = append(out[i].Sources, s.Sources...)
	}
	for _, i := range at {
		slices.SortFunc(out[i].Sources, func(a, b platform.Source) int { return strings.Compare(a.Port, b.Port) })
		out[i].Mark.Digest = digest(out[i])
	}
	return out, first
}

// digest is of a session's content, where the host of a port says nothing.
func digest(s platform.Session) string {
	s.Mark, s.Lease.Expires = platform.Mark{}, time.Time{}
	sum := sha256.Sum256(platform.MustJSON(s))
	return hex.EncodeToString(sum[:6])
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
	return string(platform.MustJSON(c)), part, true
}
