package decode

import "bytes"

// OnMissing makes the decoder ask f for the template of a data set when no domain of the session has it: another session of
// the same exporter may. The template must fit the set to the byte, and its records are marked as decoded with a borrowed one. f is
// called within Decode.
func (s *Decoder) OnMissing(f func(domain uint32, id uint16) *Template) { s.onMissing = f }

// lent asks others for a template.
func (s *Decoder) lent(id uint16, body []byte) *Template {
	if s.onMissing == nil || len(body) == 0 {
		return nil
	}
	if t := s.onMissing(s.msg.Domain, id); t != nil && t.fits(body) {
		return t
	}
	return nil
}

// Same reports whether two templates describe the same records.
func (t *Template) Same(o *Template) bool {
	return t.protocol == o.protocol && t.options == o.options && t.Scope == o.Scope && bytes.Equal(t.def, o.def)
}
