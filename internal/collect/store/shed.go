package store

import "crosstap/internal/flow"

// Shed holds the gaps that records leave which are not stored, one for each reason, until they are noted. The store's mutex guards it.
type Shed struct {
	Reasons []string // the names of the reasons, by their numbers
	gaps    map[int]Gap
}

// Add enters n records, of which the earliest starts at fromNS and the latest ends at toNS.
func (s *Shed) Add(reason int, fromNS, toNS int64, n int) {
	s.put(reason, Gap{FromNS: fromNS, ToNS: toNS + 1, Scope: "store", Reason: s.Reasons[reason], LostRecords: uint64(n)})
}

// AddRecords enters records, of which there is one at least.
func (s *Shed) AddRecords(reason int, recs []flow.Record) {
	from, to := recs[0].StartNS, recs[0].EndNS
	for i := range recs {
		from, to = min(from, recs[i].StartNS), max(to, recs[i].EndNS)
	}
	s.Add(reason, from, to, len(recs))
}

func (s *Shed) put(reason int, g Gap) {
	if was, ok := s.gaps[reason]; ok {
		g.FromNS, g.ToNS, g.LostRecords = min(g.FromNS, was.FromNS), max(g.ToNS, was.ToNS), g.LostRecords+was.LostRecords
	}
	if s.gaps == nil {
		s.gaps = map[int]Gap{}
	}
	s.gaps[reason] = g
}

// Gaps returns what is held, in the order of the reasons.
func (s *Shed) Gaps() (out []Gap) {
	for reason := range s.Reasons {
		if g, ok := s.gaps[reason]; ok {
			out = append(out, g)
		}
	}
	return out
}

// Note forgets the gaps that note takes.
func (s *Shed) Note(note func(Gap) bool) {
	for reason := range s.Reasons {
		if g, ok := s.gaps[reason]; ok && note(g) {
			delete(s.gaps, reason)
		}
	}
}

// Take returns what is held, and holds nothing after; PutBack enters it again.
func (s *Shed) Take() Shed {
	taken := *s
	s.gaps = nil
	return taken
}

// PutBack enters what Take returned and could not be noted.
func (s *Shed) PutBack(taken Shed) {
	for reason, g := range taken.gaps {
		s.put(reason, g)
	}
}
