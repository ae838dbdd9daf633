package session

import (
	"sync"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
)

// offers are the templates that the sessions of one exporter may borrow from each other: after its restart an exporter speaks from
// another port, and an exporter with several processes may send templates from one of them only. Open vSwitch's bridges on the
// other hand share address, domain and template numbers, and differ in what the numbers mean: a template is lent only
// while all sessions that have one of that number in that domain agree, and to nobody who has one of his own.
type offers struct {
	mu      sync.Mutex
	byPlace map[place]*offer
	by      map[Key]map[place]bool // what each session has brought
}

// place is where a template holds, whatever the transport session.
type place struct {
	addr     flow.Addr
	protocol flowproto.Protocol
	domain   uint32
	id       uint16
}

// offer is the template of a place and who has it.
type offer struct {
	t        *flowproto.Template
	sessions int
	conflict bool
}

// maxOffers bounds the places; beyond it nothing more is lent.
const maxOffers = 1 << 17

// set replaces what a session brings for one address and protocol. It returns how many of its templates newly differ from
// those of others.
func (o *offers) set(k Key, addr flow.Addr, p flowproto.Protocol, all []*flowproto.Template) (conflicts int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byPlace == nil {
		o.byPlace, o.by = make(map[place]*offer), make(map[Key]map[place]bool)
	}
	mine := o.by[k]
	now := make(map[place]bool, len(all))
	for _, t := range all {
		at := place{addr, p, t.Domain, t.ID}
		if o.enter(at, t, mine[at], &conflicts) {
			now[at] = true
		}
	}
	for at := range mine {
		if !now[at] && at.protocol == p && at.addr == addr {
			o.leave(at)
		} else {
			now[at] = true
		}
	}
	o.by[k] = now
	return conflicts
}

// enter notes that a session has a template. It returns false when there is no room.
func (o *offers) enter(at place, t *flowproto.Template, had bool, conflicts *int) bool {
	x := o.byPlace[at]
	switch {
	case x == nil && len(o.byPlace) >= maxOffers:
		return false
	case x == nil:
		o.byPlace[at] = &offer{t: t, sessions: 1}
		return true
	case !had:
		x.sessions++
	}
	switch {
	case x.t.Same(t):
	case x.sessions == 1:
		x.t, x.conflict = t, false // its own session has changed it
	case !x.conflict:
		x.conflict = true
		*conflicts++
	}
	return true
}

func (o *offers) leave(at place) {
	if x := o.byPlace[at]; x != nil {
		if x.sessions--; x.sessions == 0 {
			delete(o.byPlace, at)
		}
	}
}

// forget takes back all that a session has brought.
func (o *offers) forget(k Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := range o.by[k] {
		o.leave(at)
	}
	delete(o.by, k)
}

// find returns the template that all sessions agree on, nil for none.
func (o *offers) find(at place) *flowproto.Template {
	o.mu.Lock()
	defer o.mu.Unlock()
	if x := o.byPlace[at]; x != nil && !x.conflict {
		return x.t
	}
	return nil
}

// Templates are looked through when a datagram has brought some; of a session with many of them only now and then, so that a
// flood of templates costs no more than its bytes.
const (
	manyTemplates = 128
	lookAgain     = int64(5e9) // nanoseconds
)

// templatesChanged takes in the templates of a session after a datagram brought or withdrew some. The session is locked.
func (t *Table) templatesChanged(s *session, e *exporter, recvNS int64) {
	if d := recvNS - s.lookedNS; s.dec.Templates() > manyTemplates && d >= 0 && d < lookAgain {
		return
	}
	s.lookedNS = recvNS
	p := e.key.protocol
	all := s.dec.All(p)
	conflicts := t.offers.set(s.key, e.key.addr, p, all)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Conflicts += uint64(conflicts)
	now := make(map[*flowproto.Template]traits, len(all))
	own := make(map[*flowproto.Template]traits)
	for _, x := range all {
		k, seen := s.traits[x]
		if x.Domain == e.key.domain {
			if !seen {
				k = e.fields.see(x)
			}
			own[x] = k
			seen = true
		}
		if seen {
			now[x] = k
		}
	}
	s.traits, e.join.silent = now, samplesSilently(own)
}

// borrow lets a session ask its siblings for templates of a protocol.
func (t *Table) borrow(s *session, addr flow.Addr, p flowproto.Protocol) {
	if s.asks[p] {
		return
	}
	s.asks[p] = true
	s.dec.OnMissing(p, func(domain uint32, id uint16) *flowproto.Template { return t.offers.find(place{addr, p, domain, id}) })
}
