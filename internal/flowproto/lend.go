package flowproto

// All returns the session's templates of one protocol, in the order of domain and identifier. A template is not changed once it
// is made: others may read it later.
func (s *Session) All(p Protocol) []*Template {
	if p >= Unknown || s.protocols[p] == nil {
		return nil
	}
	if d, ok := s.protocols[p].(interface{ All() []*Template }); ok {
		return d.All()
	}
	return nil
}

// OnMissing makes the decoder of a protocol ask f for the templates that the session does not have, as a template from another
// session of the same exporter.
func (s *Session) OnMissing(p Protocol, f func(domain uint32, id uint16) *Template) {
	if d, ok := s.of(p).(interface {
		OnMissing(func(domain uint32, id uint16) *Template)
	}); ok {
		d.OnMissing(f)
	}
}
