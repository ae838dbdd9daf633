package groom

// slicer cuts frames to their first bytes.
type slicer struct {
	acc   account
	spec  Slice
	look  bool // a later step asks for the layers, which must be found before the cut
	flows *flowTable
}

func newSlice(s Slice, look bool) *slicer {
	x := &slicer{acc: newAccount("slice", []string{"sliced_away"}, "frames cut", "conversations forgotten early (table full)"), spec: s, look: look}
	if s.tracks() {
		x.flows = newFlowTable(s.Flows, s.Idle)
	}
	return x
}

func (s *slicer) account() *account { return &s.acc }

func (s *slicer) apply(it *item) bool {
	if s.flows != nil && !s.due(it) {
		return true
	}
	if s.spec.Drop {
		return s.acc.drop(0)
	}
	if n := s.spec.At.find(it); n < len(it.f.Data) {
		s.acc.note(0)
		if s.look {
			it.packet()
		}
		it.whole = it.f.Data
		it.f.Data = it.f.Data[:n:n]
	}
	return true
}

// due counts the frame and reports whether those in front of it have used up what its conversation may keep.
func (s *slicer) due(it *item) bool {
	f, forgot := s.flows.find(HashPorts.of(it), it.f.TimeNS)
	if forgot {
		s.acc.note(1)
	}
	over := s.spec.AfterPackets > 0 && f.packets >= uint64(s.spec.AfterPackets) ||
		s.spec.AfterBytes > 0 && f.bytes >= uint64(s.spec.AfterBytes)
	f.packets++
	f.bytes += uint64(it.f.OrigLen)
	return over
}
