package meter

import (
	"math"

	"crosstap/internal/dissect"
	"crosstap/internal/frame"
)

// size is what a frame counts for.
type size struct {
	packets        uint64
	octets         uint64 // IP total lengths
	l2Octets       uint64
	minLen, maxLen uint16 // IP total lengths of the shortest and the longest packet, 65535 for longer ones
}

// sizeOf counts the packet at level i of a frame as the wire would have carried it: a super-frame of
// segmentation offload as its segments, each with all its headers.
func sizeOf(f *frame.Frame, p *dissect.Packet, i int) size {
	lv := &p.Levels[i]
	end := max(f.OrigLen, len(f.Data)) // of the layer-2 frame of this level
	if i > 0 {
		if out := &p.Levels[i-1]; !out.MoreFrags {
			end = min(end, int(out.NetOff)+int(out.IPLen32))
		}
	}
	ip := int(lv.IPLen32)
	if p.Issues&dissect.Malformed != 0 {
		ip = min(ip, end-int(lv.NetOff))
	}
	l2 := end - int(lv.LinkOff)
	if i > 0 && p.Levels[i-1].MoreFrags {
		l2 = int(lv.NetOff-lv.LinkOff) + ip // the rest of the frame is in the other fragments
	}
	if f.VNet.Type != frame.GSONone && f.VNet.Segment != 0 {
		if s, ok := segmented(f, p, lv); ok {
			return s
		}
	}
	n := length(ip)
	return size{1, uint64(max(ip, 0)), uint64(max(l2, 0)), n, n}
}

// length returns an IP total length as a record holds it.
func length(n int) uint16 { return uint16(min(max(n, 0), math.MaxUint16)) }

// segmented counts a super-frame. The header that is cut and repeated may be that of lv, or of a
// level around it.
func segmented(f *frame.Frame, p *dissect.Packet, lv *dissect.Flow) (size, bool) {
	cut, headersEnd := cutLevel(f, p)
	if cut == nil {
		return size{}, false
	}
	payload := min(int(cut.NetOff)+int(cut.IPLen32), max(f.OrigLen, len(f.Data))) - headersEnd
	if payload <= 0 {
		return size{}, false
	}
	n := (payload + int(f.VNet.Segment) - 1) / int(f.VNet.Segment)
	headers := headersEnd - int(lv.NetOff)
	octets := payload + n*headers
	l2 := payload + n*(headersEnd-int(lv.LinkOff))
	if octets <= 0 {
		return size{}, false
	}
	longest, shortest := headers+min(int(f.VNet.Segment), payload), headers+payload-(n-1)*int(f.VNet.Segment)
	if headers < 0 { // the cut repeats headers around lv
		longest, shortest = octets/n, octets/n
	}
	return size{uint64(n), uint64(octets), uint64(l2), length(shortest), length(longest)}, true
}

// cutLevel returns the level whose payload the hardware would have cut, and the offset at which that
// payload begins. The checksum's place names the level when there is one; else it is the innermost of the right kind.
func cutLevel(f *frame.Frame, p *dissect.Packet) (*dissect.Flow, int) {
	proto, etherType := uint8(6), uint16(0x0800)
	switch f.VNet.Type &^ frame.GSOECN {
	case frame.GSOTCPv4:
	case frame.GSOTCPv6:
		etherType = 0x86dd
	case frame.GSOUDPL4, frame.GSOUDP:
		proto, etherType = 17, 0
	default:
		return nil, 0
	}
	for i := p.NLevels - 1; i >= 0; i-- {
		lv := &p.Levels[i]
		if lv.TransOff == 0 || lv.Proto != proto || etherType != 0 && lv.EtherType != etherType {
			continue
		}
		if f.VNet.NeedsCsum && i > 0 && lv.TransOff != f.VNet.CsumStart && levelAt(p, i, f.VNet.CsumStart) {
			continue
		}
		switch {
		case f.VNet.Type&^frame.GSOECN == frame.GSOUDP: // IP fragments, each with the IP header only
			return lv, int(lv.TransOff)
		case lv.PayloadOff != 0:
			return lv, int(lv.PayloadOff)
		case f.VNet.HdrLen > lv.TransOff: // the transport header is beyond the snap length
			return lv, int(f.VNet.HdrLen)
		}
		return nil, 0
	}
	return nil, 0
}

// levelAt reports whether a level outside i has its transport header at off.
func levelAt(p *dissect.Packet, i int, off uint16) bool {
	for j := range i {
		if p.Levels[j].TransOff == off {
			return true
		}
	}
	return false
}
