package groom

import (
	"crosstap/internal/dissect"
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
