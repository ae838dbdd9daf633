package decode

import "bytes"

// pending is a data set that waits for its template.
type pending struct {
	meta
	id   uint16
	body []byte
}

// wait keeps a copy of a data set. Where there is no room, the sets that wait longest are thrown away
// and counted.
func (s *Decoder) wait(m meta, id uint16, body []byte) {
	s.expire()
	if len(body) > s.lim.PendingBytes {
		s.Problem(PendingLimit, id, m.off, 0, 0)
		return
	}
	for len(s.waiting) > 0 && (len(s.waiting) >= s.lim.PendingSets || s.waitBytes+len(body) > s.lim.PendingBytes) {
		s.dropWaiting()
	}
	m.late = true
	s.waiting = append(s.waiting, pending{meta: m, id: id, body: bytes.Clone(body)})
	s.waitBytes += len(body)
}

func (s *Decoder) expire() {
	for len(s.waiting) > 0 && s.recvNS-s.waiting[0].recvNS > int64(s.lim.PendingAge) {
		s.dropWaiting()
	}
}

// dropWaiting throws away the set that waits longest.
func (s *Decoder) dropWaiting() {
	p := s.waiting[0]
	s.waiting[0] = pending{}
	s.waiting = s.waiting[1:]
	s.waitBytes -= len(p.body)
	s.Problem(PendingLimit, p.id, p.off, 0, 0)
}

// retry decodes the sets that waited for t, in the order in which they came. Sets of other domains that have
// no such template may borrow it.
func (s *Decoder) retry(t *Template) {
	if len(s.waiting) == 0 {
		return
	}
	lend := s.agreed(t.ID) == t
	keep := s.waiting[:0]
	var ready []pending
	for _, p := range s.waiting {
		own := p.id == t.ID && p.Domain == t.Domain
		p.borrowed = !own && p.id == t.ID && lend && t.fits(p.body)
		if !own && !p.borrowed {
			keep = append(keep, p)
			continue
		}
		s.waitBytes -= len(p.body)
		ready = append(ready, p)
	}
	clear(s.waiting[len(keep):])
	s.waiting = keep
	for _, p := range ready {
		s.records(t, p.meta, p.body)
	}
}
