package groom

import (
	"crosstap/internal/dissect"
	"crosstap/internal/frame"
	"crosstap/internal/wire"
)

// Notes of the strip step.
const (
	noteStripped   = iota // frames that lost headers
	noteFragment          // fragments whose tunnel stays: the packet inside is not all there
	noteUnpackable        // frames left alone as nothing could announce what would follow
)

// strip takes headers off.
type strip struct {
	acc  account
	spec Strip
	keep [dissect.MaxLayers]bool
	cuts []span          // what goes, in order
	ls   []dissect.Layer // the layers that stay, where they will be
	from []int           // and their indexes in the frame as it was
}

type span struct{ from, to int }

func newStrip(s Strip) *strip {
	return &strip{acc: newAccount("strip", nil, "frames stripped", "fragments of tunnelled packets left", "frames left (nothing can announce what would follow)"), spec: s}
}

func (s *strip) account() *account { return &s.acc }

func (s *strip) apply(it *item) bool {
	ls := it.layers()
	if !s.choose(it.f.Data, ls) {
		return true
	}
	lead, ok := s.join(ls)
	if !ok {
		s.acc.note(noteUnpackable)
		return true
	}
	s.acc.note(noteStripped)
	it.origin = s.origin(it, ls)
	s.build(it, ls, lead)
	return true
}

// origin tells the copies of different exporters apart that one interface received: by the tunnel's source, and the segment or session
// that it names.
func (s *strip) origin(it *item, ls []dissect.Layer) uint64 {
	o := it.origin
	for i, l := range ls {
		switch {
		case s.keep[i]:
		case l.Kind == dissect.KindIPv4 || l.Kind == dissect.KindIPv6:
			f := &it.pkt.Levels[l.Level]
			o = mix(o ^ fold(&f.Src))
		case l.Kind == dissect.KindERSPAN2 || l.Kind == dissect.KindERSPAN3:
			o = mix(o + uint64(wire.ERSPAN(it.f.Data[l.Off:]).Session()) + 1)
		case l.Kind == dissect.KindVXLAN || l.Kind == dissect.KindVXLANGPE || l.Kind == dissect.KindGeneve || l.Kind == dissect.KindGRE || l.Kind == dissect.KindNVGRE:
			o = mix(o + uint64(it.pkt.Levels[min(int(l.Level)+1, dissect.MaxLevels-1)].Segment) + 1)
		}
	}
	return o
}

// choose marks the layers that stay and reports whether any goes.
func (s *strip) choose(b []byte, ls []dissect.Layer) bool {
	for i := range ls {
		s.keep[i] = true
	}
	start, found, vlans := 0, false, 0
	for i := 0; i+1 < len(ls); i++ {
		l := ls[i]
		if isLink(l.Kind) {
			start = i
		}
		if tail(b, l) {
			if s.tunnelled(b, ls, i) {
				s.acc.note(noteFragment)
			}
			return found
		}
		h, whole := s.header(b, ls, i)
		if l.Kind == dissect.KindVLAN {
			if vlans++; vlans == 1 {
				h |= HeaderVLANOuter
			}
		}
		next := ls[i+1].Kind
		if h&s.spec.Headers != 0 {
			found = true
			first := i
			if whole || next == dissect.KindEthernet && !s.carrier(ls, start, i) {
				first = start
			}
			for k := first; k <= i; k++ {
				s.keep[k] = false
			}
		}
		if whole {
			start = i + 1
		}
	}
	return found
}

// carrier reports whether what stays in front of layer i in its packet can announce an Ethernet frame.
func (s *strip) carrier(ls []dissect.Layer, start, i int) bool {
	for i--; i >= start; i-- {
		if s.keep[i] {
			return announces(ls[i].Kind, dissect.KindEthernet)
		}
	}
	return false
}

// tunnelled reports whether a fragment holds what the step would have taken off.
func (s *strip) tunnelled(b []byte, ls []dissect.Layer, i int) bool {
	for k := i; k+1 < len(ls); k++ {
		if h, _ := s.header(b, ls, k); h&s.spec.Headers != 0 {
			return true
		}
	}
	return false
}

// tail reports whether l makes its packet a fragment.
func tail(b []byte, l dissect.Layer) bool {
	h := b[l.Off:]
	switch {
	case l.Kind == dissect.KindIPv4 && l.Len >= wire.IPv4Len:
		return wire.IPv4(h).MoreFragments() || wire.IPv4(h).FragOff() != 0
	case l.Kind == dissect.KindFragment && l.Len == wire.IPv6FragmentLen:
		return wire.IPv6Fragment(h).MoreFragments() || wire.IPv6Fragment(h).FragOff() != 0
	}
	return false
}

// header returns what layer i is, 0 for what cannot be taken off. whole reports that with it everything in front of it in
// its packet goes: it is the end of a tunnel's headers, and not a tag between link and network.
func (s *strip) header(b []byte, ls []dissect.Layer, i int) (h Header, whole bool) {
	next := ls[i+1].Kind
	switch k := ls[i].Kind; k {
	case dissect.KindVLAN:
		return HeaderVLAN, false
	case dissect.KindVNTag:
		return HeaderVNTag, false
	case dissect.KindETag:
		return HeaderETag, false
	case dissect.KindPBB:
		return HeaderPBB, false
	case dissect.KindNSH:
		return HeaderNSH, false
	case dissect.KindMPLS, dissect.KindControlWord:
		return stack(ls, i)
	case dissect.KindPPPoE:
		if next == dissect.KindPPP && i+2 < len(ls) {
			return HeaderPPPoE, false
		}
	case dissect.KindPPP:
		if ls[i-1].Kind == dissect.KindGRE {
			return HeaderGRE, true
		}
		return HeaderPPPoE, false
	case dissect.KindGRE, dissect.KindNVGRE:
		return generic(b, ls, i)
	case dissect.KindVXLAN, dissect.KindVXLANGPE:
		return HeaderVXLAN, true
	case dissect.KindGeneve:
		return HeaderGeneve, true
	case dissect.KindERSPAN2, dissect.KindERSPAN3:
		return HeaderERSPAN, true
	case dissect.KindTZSP:
		return HeaderTZSP, true
	case dissect.KindGTPU:
		return HeaderGTPU, true
	case dissect.KindEtherIP:
		return HeaderIPIP, true
	default:
		if isNetwork(k) && (next == dissect.KindIPv4 || next == dissect.KindIPv6 || next == dissect.KindEthernet) {
			return HeaderIPIP, true
		}
	}
	return 0, false
}

// stack tells a label stack between link and network from one that a tunnel carries.
func stack(ls []dissect.Layer, i int) (Header, bool) {
	first := i
	for first > 0 && (ls[first].Kind == dissect.KindMPLS || ls[first].Kind == dissect.KindControlWord) {
		first--
	}
	over := ls[first].Kind == dissect.KindUDP || isNetwork(ls[first].Kind)
	if next := ls[i+1].Kind; over && (next == dissect.KindMPLS || next == dissect.KindControlWord) {
		return 0, false // the last one takes all with it
	}
	return HeaderMPLS, over
}

// generic tells the uses of GRE apart.
func generic(b []byte, ls []dissect.Layer, i int) (Header, bool) {
	switch next := ls[i+1].Kind; {
	case next == dissect.KindERSPAN2 || next == dissect.KindERSPAN3, next == dissect.KindPPP && i+2 < len(ls):
		return 0, false // that header takes this one with it
	case next == dissect.KindPPP:
		return 0, false
	case next == dissect.KindEthernet && wire.GRE(b[ls[i].Off:]).Protocol() == wire.TypeERSPAN:
		return HeaderERSPAN, true
	}
	return HeaderGRE, true
}

func isLink(k dissect.Kind) bool {
	switch k {
	case dissect.KindEthernet, dissect.KindSLL, dissect.KindSLL2, dissect.KindNull:
		return true
	}
	return false
}

// isNetwork reports whether k is an IP header or an extension header of it.
func isNetwork(k dissect.Kind) bool { return k >= dissect.KindIPv4 && k <= dissect.KindAH }

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
		if !ok {
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
		if !ok {
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
