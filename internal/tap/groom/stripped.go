package groom

import (
	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Ways to begin a stripped frame.
type lead uint8

const (
	leadKept   lead   = iota // with a link header that was there
	leadRaw                  // with the IP header
	leadSynth                // with an Ethernet header that is made
	noAddress  = 0x02        // first byte of the addresses in it: locally administered
	synthBytes = wire.EthernetLen
)

// join looks at every place where something was taken out and makes sure that what stands in front can announce what
// follows; where it cannot, a link header that would have gone stays. It reports false when there is none.
func (s *strip) join(ls []dissect.Layer) (lead, bool) {
	how := leadKept
	before, link := -1, -1
	for i := range ls {
		if !s.keep[i] {
			if isLink(ls[i].Kind) {
				link = i
			}
			continue
		}
		if before == i-1 {
			before, link = i, -1
			continue
		}
		k := ls[i].Kind
		switch {
		case before < 0 && isLink(k), before >= 0 && announces(ls[before].Kind, k):
		case before < 0 && !s.spec.Ethernet && (k == dissect.KindIPv4 || k == dissect.KindIPv6):
			how = leadRaw
		case link >= 0 && announces(ls[link].Kind, k) && s.fits(ls, before, link):
			s.keep[link] = true
		case before < 0 && typeOf(k) != 0:
			how = leadSynth
		default:
			return 0, false
		}
		before, link = i, -1
	}
	return how, true
}

// fits reports whether a link header may stay behind layer before, or at the frame's start.
func (s *strip) fits(ls []dissect.Layer, before, link int) bool {
	if before >= 0 {
		return announces(ls[before].Kind, ls[link].Kind)
	}
	return !s.spec.Ethernet || ls[link].Kind == dissect.KindEthernet
}

// build makes the frame without the layers that go.
func (s *strip) build(it *item, ls []dissect.Layer, how lead) {
	b := it.f.Data
	s.plan(ls, how)
	stop := s.stop(b, ls, it.f.OrigLen)
	gone := it.f.OrigLen - stop
	for _, c := range s.cuts {
		gone += c.to - c.from
	}
	if how == leadSynth {
		gone -= synthBytes
	}
	total, old := it.f.OrigLen-gone, it.f
	b = b[:min(len(b), stop)]
	if len(s.cuts) == 1 && s.cuts[0].from == 0 && how != leadSynth && s.contiguous() {
		it.replace(b[s.cuts[0].to:], total, it.owned)
	} else {
		it.replace(s.copied(it, b, ls, how), total, true)
		s.mend(it, old, ls)
	}
	s.relink(it, ls, how)
	s.shift(&it.f.VNet, how)
}

// cookedLLC reports whether layer i is LLC behind a cooked header, which has no length.
func cookedLLC(ls []dissect.Layer, i int) bool {
	return i > 0 && ls[i].Kind == dissect.KindLLC && (ls[i-1].Kind == dissect.KindSLL || ls[i-1].Kind == dissect.KindSLL2)
}

// contiguous reports whether no layer that stays has another neighbour than before.
func (s *strip) contiguous() bool {
	for i := 1; i < len(s.from); i++ {
		if s.from[i] != s.from[i-1]+1 {
			return false
		}
	}
	return true
}

// plan lists what goes and where the rest will be.
func (s *strip) plan(ls []dissect.Layer, how lead) {
	s.cuts, s.ls, s.from = s.cuts[:0], s.ls[:0], s.from[:0]
	gone := 0
	if how == leadSynth {
		gone = -synthBytes
	}
	for i, l := range ls {
		if s.keep[i] {
			l.Off = uint16(int(l.Off) - gone)
			s.ls, s.from = append(s.ls, l), append(s.from, i)
			continue
		}
		to := end(l)
		if i+1 < len(ls) {
			to = int(ls[i+1].Off)
		}
		gone += to - int(l.Off)
		if n := len(s.cuts); n > 0 && s.cuts[n-1].to == int(l.Off) {
			s.cuts[n-1].to = to
		} else {
			s.cuts = append(s.cuts, span{int(l.Off), to})
		}
	}
}

// stop returns where the packet inside ends: behind it stand the padding and trailer of headers that go. They stay when
// a header with a length that stays is in front of them.
func (s *strip) stop(b []byte, ls []dissect.Layer, total int) int {
	stop := total
	for i, l := range ls {
		n, ok := length(b, l)
		if !ok || cookedLLC(ls, i) {
			continue
		}
		if s.keep[i] {
			break
		}
		stop = min(stop, max(int(l.Off)+n, end(l)))
	}
	return max(stop, end(ls[len(ls)-1]))
}

// copied returns the bytes that stay, in memory of our own, each header announcing the one that now follows.
func (s *strip) copied(it *item, b []byte, ls []dissect.Layer, how lead) []byte {
	n := len(b)
	for _, c := range s.cuts {
		n -= c.to - c.from
	}
	extra := 0
	if how == leadSynth {
		extra = synthBytes
	}
	out := it.group.take(n + extra)
	if extra > 0 {
		h := wire.Ethernet(out[:synthBytes])
		clear(h)
		h[0], h[6] = noAddress, noAddress
		h.SetType(announced(b, ls, s.from[0]))
	}
	at, from := extra, 0
	for _, c := range s.cuts {
		at += copy(out[at:], b[from:c.from])
		from = c.to
	}
	copy(out[at:], b[from:])
	for i := 1; i < len(s.from); i++ {
		if k := s.from[i]; k != s.from[i-1]+1 {
			announce(out, s.ls[i-1], ls[k].Kind, announced(b, ls, k))
		}
	}
	return out
}

// mend brings lengths and checksums of the headers that stay in front of what went up to date.
func (s *strip) mend(it *item, old frame.Frame, ls []dissect.Layer) {
	out, last := it.f.Data, s.cuts[len(s.cuts)-1].from
	n := 0
	for ; n < len(s.ls) && int(ls[s.from[n]].Off) < last; n++ {
		l := ls[s.from[n]]
		size, ok := length(old.Data, l)
		if !ok || cookedLLC(ls, s.from[n]) || cookedLLC(s.ls, n) {
			continue
		}
		gone := 0
		for _, c := range s.cuts {
			if c.from > int(l.Off) && c.from < int(l.Off)+size {
				gone += c.to - c.from
			}
		}
		if gone > 0 {
			setLength(out, s.ls[n], size-gone)
		}
	}
	follow(old.Data, ls, old.OrigLen, out, s.ls[:n], it.f.OrigLen, func(i int) int { return s.from[i] })
}

// relink sets the link type of the frame.
func (s *strip) relink(it *item, ls []dissect.Layer, how lead) {
	if how == leadSynth {
		it.f.Link = frame.LinkEthernet
		return
	}
	switch k := ls[s.from[0]].Kind; {
	case s.from[0] == 0: // the link header is still there
	case k == dissect.KindEthernet:
		it.f.Link = frame.LinkEthernet
	case k == dissect.KindIPv4 && it.f.Link == frame.LinkIPv4, k == dissect.KindIPv6 && it.f.Link == frame.LinkIPv6:
	case !isLink(k):
		it.f.Link = frame.LinkRaw
	}
}

// shift moves what a virtio header says of offsets.
func (s *strip) shift(v *frame.VNet, how lead) {
	if *v == (frame.VNet{}) {
		return
	}
	gone, lost := 0, false
	if how == leadSynth {
		gone = -synthBytes
	}
	for _, c := range s.cuts {
		switch at := int(v.CsumStart); {
		case c.to <= at:
			gone += c.to - c.from
		case c.from <= at:
			lost = true
		}
	}
	if v.NeedsCsum && lost {
		v.NeedsCsum, v.CsumStart, v.CsumOffset = false, 0, 0
	} else if v.NeedsCsum {
		v.CsumStart = uint16(int(v.CsumStart) - gone)
	}
	v.HdrLen = uint16(max(int(v.HdrLen)-gone, 0))
}
